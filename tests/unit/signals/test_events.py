"""Words of scored events, and the seconds that events cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.psg import EventKind, ScoredEvent
from sleepmami.signals.events import event_mask, event_of_text, kept_events

RESPIRATORY = {EventKind.APNEA, EventKind.HYPOPNEA}


def event(start_s: float, duration_s: float, kind: EventKind = EventKind.APNEA) -> ScoredEvent:
    return ScoredEvent(start_s=start_s, duration_s=duration_s, kind=kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Hypopnea|Hypopnea", "hypopnea"),
        ("Obstructive apnea|Obstructive Apnea", "obstructive_apnea"),
        ("Central apnea|Central Apnea", "central_apnea"),
        ("Mixed apnea|Mixed Apnea", "mixed_apnea"),
        ("Arousal|Arousal ()", "arousal"),
        ("Arousal resulting from respiratory effort|Arousal (ARO RES)", "arousal"),
        ("Spontaneous arousal|Arousal (ARO SPONT)", "arousal"),
        ("ASDA arousal|Arousal (ASDA)", "arousal"),
        ("SpO2 desaturation|SpO2 desaturation", "desaturation"),
        ("RERA", "rera"),
        ("Respiratory effort related arousal|RERA", "rera"),
        ("SDO:HypopneaFinding", "hypopnea"),
        ("SDO:ObstructiveApneaFinding", "obstructive_apnea"),
        ("SDO:HemoglobinOxygenDesaturationFinding", "desaturation"),
        ("SDO:SleepArousalFinding", "arousal"),
        ("Obstructive Apnea", "obstructive_apnea"),
        ("EEG arousal", "arousal"),
        ("Arousal@@EEG C4-A1", "arousal"),
        ("Central Apnea", "central_apnea"),
        ("Apnea", "apnea"),
        ("apnea_obstructive", "obstructive_apnea"),
        ("desat", "desaturation"),
        ("HYP-C", "hypopnea"),
        ("APNEA-O", "obstructive_apnea"),
        ("APNEA-M", "mixed_apnea"),
        ("Hypopnea with arousal", "hypopnea"),
        ("Arousal after hypopnea", "arousal"),
        ("Obstructive hypopnea", "hypopnea"),
        ("Obstruktive Apnoe", "obstructive_apnea"),
        ("Zentrale Apnoe", "central_apnea"),
        ("Gemischte Apnoe", "mixed_apnea"),
        ("Hypopnoe", "hypopnea"),
        ("Entsättigung", "desaturation"),
        ("Apnée centrale", "central_apnea"),
        ("Hypopnée", "hypopnea"),
        ("Micro-éveil", "arousal"),
        ("A. Obstructiva", "obstructive_apnea"),
        ("Apnea mixta", "mixed_apnea"),
        ("Hipopnea", "hypopnea"),
        ("Apneia obstrutiva", "obstructive_apnea"),
        ("Hipopneia", "hypopnea"),
        ("Microdespertar", "arousal"),
        ("Hypoapnea", "hypopnea"),
        ("Hypopnea 4%", "hypopnea"),
        ("Obstructive Apnea (Manual)", "obstructive_apnea"),
    ],
)
def test_words_of_scorers(text: str, kind: str) -> None:
    assert event_of_text(text) == EventKind(kind)


@pytest.mark.parametrize(
    "text",
    [
        "", "SpO2 artifact|SpO2 artifact", "artifact_SpO2", "Post-apnea breath", "Periodic breathing|Periodic Breathing",
        "Recording starts", "QRS", "Lights off", "Sleep stage R", "Limb movement", "Snore", "No apnea", "Apnea?",
        "Apnea-Hypopnea Index 12", "apnea_hypopnea", "A. Meier", "Obstructive", "Central",
        "patient says he had an apnea during the war", "keine Apnoe", "sans apnée", "normal", "Nothing", "x" * 500 + "apnea",
    ],
)  # fmt: skip
def test_other_texts_are_no_events(text: str) -> None:
    assert event_of_text(text) is None


# ---------------------------------------------------------------------------------------- masks


def mask(*events: ScoredEvent, num_seconds: int = 6) -> list[int]:
    return np.flatnonzero(event_mask(events, RESPIRATORY, num_seconds)).tolist()


@pytest.mark.parametrize(
    ("start_s", "duration_s", "seconds"),
    [
        (2.0, 2.0, [2, 3]),  # an event at second s covers mask[s]
        (1.5, 1.0, [1, 2]),  # half of each
        (1.6, 1.0, [2]),  # 0.4 of second 1, 0.6 of second 2
        (1.4, 0.6, [1]),
        (1.7, 0.5, [1]),  # half of neither; its middle is 1.95
        (1.8, 0.5, [2]),
        (3.0, 0.0, [3]),  # a moment
        (-5.0, 6.0, [0]),
        (4.0, 100.0, [4, 5]),
        (6.0, 3.0, []),
        (-2.0, 1.0, []),
    ],
)
def test_a_second_counts_when_half_of_it_is_covered(
    start_s: float, duration_s: float, seconds: list[int]
) -> None:
    assert mask(event(start_s, duration_s)) == seconds


def test_events_cover_a_second_together_but_overlaps_only_once() -> None:
    assert mask(event(0.0, 1.3), event(1.7, 1.3)) == [0, 1, 2]  # 0.3 and 0.3 of second 1
    assert mask(event(0.0, 1.3), event(0.5, 0.8)) == [0]  # the same 0.3 twice


def test_only_the_kinds_asked_for_count() -> None:
    events = [event(0, 1), event(2, 1, EventKind.AROUSAL), event(4, 1, EventKind.HYPOPNEA)]
    assert mask(*events) == [0, 4]


spans = st.tuples(st.integers(-30, 90), st.integers(5, 90)).map(lambda t: event(t[0] / 10, t[1] / 10))  # fmt: skip


@settings(max_examples=50)
@given(st.lists(spans, max_size=6))
def test_a_mask_is_that_of_counting_tenths_of_a_second(events: list[ScoredEvent]) -> None:
    tenths = np.zeros(60, dtype=bool)
    for e in events:
        first, last = round(e.start_s * 10), round((e.start_s + e.duration_s) * 10)
        tenths[max(first, 0) : max(last, 0)] = True
    expected = tenths.reshape(6, 10).sum(axis=1) >= 5
    found = event_mask(events, RESPIRATORY, 6)
    assert (found | expected == found).all()
    extra = np.flatnonzero(found & ~expected).tolist()  # events that cover half of no second
    for second in extra:
        assert any(
            e.duration_s < 1 and second <= e.start_s + e.duration_s / 2 < second + 1 for e in events
        )


# -------------------------------------------------------------------------------- what is kept


def test_events_are_cut_to_the_recording_and_sorted() -> None:
    events = [event(55, 20), event(-5, 10), event(10, 5)]
    assert kept_events(events, 60.0) == (event(0, 5), event(10, 5), event(55, 5))


@pytest.mark.parametrize(
    ("start_s", "duration_s"),
    [(60.0, 5.0), (-9.0, 9.0), (5.0, -1.0), (float("nan"), 1.0), (1.0, float("inf")), (-1.0, 0.0)],
)
def test_events_outside_or_without_a_sane_time_are_dropped(
    start_s: float, duration_s: float
) -> None:
    assert kept_events([event(start_s, duration_s)], 60.0) == ()


def test_an_event_whose_duration_nobody_gave_is_kept() -> None:
    assert kept_events([event(5.0, 0.0)], 60.0) == (event(5.0, 0.0),)
