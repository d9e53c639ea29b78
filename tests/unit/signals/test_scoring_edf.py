"""Scorings in EDF: annotation texts, hypnogram channels, and clocks that must agree."""

from collections.abc import Sequence
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.errors import RecordingError
from sleepmami.psg import EventKind, ScoredEvent, Stage
from sleepmami.signals.edf import Annotation, open_edf
from sleepmami.signals.scorings import (
    Scoring,
    hypnogram_from_annotations,
    read_scoring,
    scoring_in,
)
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal, int16

UNKNOWN, WAKE, N1, N2, N3, REM = (int(stage) for stage in Stage)


def hypnogram(*events: tuple[float, float, str], num_epochs: int) -> list[int] | None:
    stages = hypnogram_from_annotations([Annotation(*event) for event in events], num_epochs)
    return None if stages is None else stages.tolist()


def scored(tals: bytes) -> bytes:
    """An EDF+ of annotations only."""
    signal = annotation_signal(b"+0\x14\x14\0" + tals)
    return RawEdf([signal], reserved="EDF+C", record_duration="0").to_bytes()


def stages_of(source: str | Path | bytes, num_epochs: int) -> list[int]:
    stages = read_scoring(source, num_epochs).hypnogram
    assert stages is not None
    assert stages.dtype == np.int8
    return stages.tolist()


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("Sleep stage W", WAKE),
        ("Sleep stage 1", N1),
        ("Sleep stage 2", N2),
        ("Sleep stage 3", N3),
        ("Sleep stage 4", N3),
        ("Sleep stage R", REM),
        ("Sleep stage N1", N1),
        ("Sleep stage N3", N3),
        ("sleep stage n2@@EEG F4-A1", N2),
        ("Sleep stage ?", UNKNOWN),
        ("Sleep stage M", UNKNOWN),
        ("Movement time", UNKNOWN),
        ("Stage REM", REM),
        ("NREM 2", N2),
        ("N3", N3),
        ("Wake", WAKE),
    ],
)
def test_stage_names_of_scorers(text: str, stage: int) -> None:
    assert hypnogram((0, 30, text), num_epochs=1) == [stage]


@pytest.mark.parametrize(
    "text", ["QRS", "Lights off@@EEG F4-A1", "Stage shift", "2", "Arousal", "Artifact", "?"]
)
def test_other_events_are_no_stages(text: str) -> None:
    assert hypnogram((0, 30, text), num_epochs=1) is None


def test_a_momentary_r_is_a_heart_beat() -> None:
    assert hypnogram((3.2, 0, "R"), num_epochs=1) is None


def test_one_run_fills_many_epochs_and_the_night_cuts_it() -> None:
    events = [(0, 90, "Sleep stage W"), (90, 1e6, "Sleep stage 2")]
    assert hypnogram(*events, num_epochs=5) == [WAKE, WAKE, WAKE, N2, N2]


def test_a_stage_without_duration_lasts_one_epoch() -> None:
    events = [(0, 0, "Sleep stage 1"), (60, 0, "Sleep stage R")]
    assert hypnogram(*events, num_epochs=4) == [N1, UNKNOWN, REM, UNKNOWN]


def test_an_epoch_takes_the_stage_that_covers_most_of_it() -> None:
    # 5-s steps: epoch 0 is 10 s W, 20 s N2; epoch 1 is 15 s REM then 15 s N2
    events = [(0, 10, "Sleep stage W"), (10, 20, "Sleep stage 2")]
    events += [(30 + 5 * i, 5, "Sleep stage R") for i in range(3)] + [(45, 15, "Sleep stage 2")]
    assert hypnogram(*events, num_epochs=2) == [N2, N2]  # the tie goes to the lighter stage


def test_an_epoch_scored_for_less_than_half_is_unknown() -> None:
    assert hypnogram((-20, 64, "Sleep stage 2"), num_epochs=2) == [N2, UNKNOWN]  # 30 s and 14 s


def test_twenty_second_scoring_lands_on_thirty_second_epochs() -> None:
    names = ["W", "W", "1", "2", "2", "2"]
    events = [(20 * i, 20, f"Sleep stage {name}") for i, name in enumerate(names)]
    assert hypnogram(*events, num_epochs=4) == [WAKE, N1, N2, N2]  # epoch 1: 10 s W, 20 s N1


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["W", "1", "2", "3", "R", "?"]), min_size=1, max_size=40))
def test_merging_equal_epochs_into_runs_changes_nothing(names: list[str]) -> None:
    each = [(30.0 * i, 30.0, f"Sleep stage {name}") for i, name in enumerate(names)]
    runs: list[tuple[float, float, str]] = []
    for start, duration, text in each:
        if runs and runs[-1][2] == text:
            runs[-1] = (runs[-1][0], runs[-1][1] + duration, text)
        else:
            runs.append((start, duration, text))
    assert hypnogram(*runs, num_epochs=45) == hypnogram(*each, num_epochs=45)


def test_a_hypnogram_edf_is_read_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "night.xml").write_bytes(scored(b"+0\x1560\x14Sleep stage 4\x14\0"))
    assert stages_of(tmp_path / "night.xml", 3) == [N3, N3, UNKNOWN]


def test_an_edf_without_stages_is_invalid() -> None:
    with pytest.raises(RecordingError) as caught:
        read_scoring(scored(b"+1\x14QRS\x14\0"), 4)
    error = caught.value
    assert error.code == "annotation_invalid"
    assert error.found == "1 annotations, none of them a sleep stage or event"


def test_texts_of_events_are_events_and_need_no_stages() -> None:
    tals = (
        b"+12.5\x1510\x14Obstructive Apnea\x14\0+40\x1512\x14Hypopnea@@Nasal\x14\0"
        b"+45\x14EEG arousal\x14\0+50\x14Recording starts\x14\0+70\x155\x14SpO2 artifact\x14\0"
    )
    scoring = read_scoring(scored(tals), 3)
    assert scoring.hypnogram is None
    assert scoring.events == (
        ScoredEvent(start_s=12.5, duration_s=10.0, kind=EventKind.OBSTRUCTIVE_APNEA),
        ScoredEvent(start_s=40.0, duration_s=12.0, kind=EventKind.HYPOPNEA),
        ScoredEvent(start_s=45.0, duration_s=0.0, kind=EventKind.AROUSAL),
    )


def test_stages_alone_say_nothing_about_events() -> None:
    assert read_scoring(scored(b"+0\x1560\x14Sleep stage 4\x14\0"), 3).events is None


# --------------------------------------------------------------------------- hypnogram channels


def with_channel(
    codes: Sequence[int], top: str = "9", label: str = "Hypnogram", period_s: str = "10"
) -> bytes:
    """An EDF with one code per period."""
    signal = RawSignal(
        [int16(code) for code in codes],
        label=label,
        unit="",
        physical_min="0",
        physical_max=top,
        digital_min="0",
        digital_max=top,
    )
    return RawEdf([signal], record_duration=period_s).to_bytes()


def test_a_hypnogram_channel_of_the_edf_convention_counts_as_rechtschaffen_and_kales_do() -> None:
    codes = [0, 0, 0, 1, 2, 2, 4, 4, 4, 5, 5, 6, 6, 9, 9]  # epochs of three 10-s codes
    assert stages_of(with_channel(codes), 5) == [WAKE, N2, N3, REM, UNKNOWN]


@pytest.mark.parametrize(
    ("codes", "stages"),
    [
        ([0, 1, 2, 3, 5, 5], [WAKE, N1, N2, N3, REM, REM]),  # no 4: only the NSRR's way is left
        ([0, 1, 2, 3, 4, 4], None),  # 4 is S4 for some, REM for others
        ([0, 1, 2, 3, 4, 5], None),  # 1 may be REM
        ([0, 50, 0, 50, 0, 50], None),  # no codes
    ],
)
def test_a_channel_of_other_range_is_believed_when_its_codes_can_mean_one_thing(
    codes: list[int], stages: list[int] | None
) -> None:
    raw = with_channel(codes, top="100", label="Sleep stage", period_s="30")
    hypnogram = scoring_in(open_edf(raw), 6).hypnogram
    assert (None if hypnogram is None else hypnogram.tolist()) == stages


def test_a_channel_by_another_name_is_no_hypnogram() -> None:
    assert scoring_in(open_edf(with_channel([0, 1, 2], label="Position")), 1).hypnogram is None


def test_what_a_recording_holds_may_be_nothing() -> None:
    scoring = scoring_in(open_edf(with_channel([1, 1, 1], label="EEG")), 1)
    assert scoring == Scoring(hypnogram=None, events=None)


# --------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    ("clock_s", "taken"),
    [(81_005, True), (81_006, True), (None, True), (50_405, False), (0, False)],
)
def test_a_scoring_of_another_time_of_day_is_refused(clock_s: int | None, taken: bool) -> None:
    text = b"+0\x14\x14\x00+0\x1530\x14Sleep stage W\x14\x00".ljust(64, b"\x00")
    signal = RawSignal([text], label="EDF Annotations", samples_per_record="32")
    scoring = RawEdf([signal], reserved="EDF+C", record_duration="0", clock=b"22.30.05").to_bytes()
    if taken:
        assert read_scoring(scoring, 2, clock_s=clock_s).hypnogram.tolist() == [0, -1]
    else:
        with pytest.raises(RecordingError, match=r"a scoring that starts \d+ s (after|before)"):
            read_scoring(scoring, 2, clock_s=clock_s)


# ----------------------------------------------------------------------------------- real files


def test_sleep_edf_hypnograms_equal_a_reading_by_hand(shared_data: Path) -> None:
    codes = {"W": WAKE, "1": N1, "2": N2, "3": N3, "4": N3, "R": REM}
    files = sorted((shared_data / "annotations" / "sleep-edf").glob("*.edf"))
    assert len(files) == 20
    for file in files:
        expected = np.full(2880, UNKNOWN)
        for a in edfio.read_edf(file).annotations:
            first, last = int(a.onset // 30), int((a.onset + (a.duration or 0)) // 30)
            expected[first:last] = codes.get(a.text[-1], UNKNOWN)
        np.testing.assert_array_equal(stages_of(file, 2880), expected)


def test_hmc_scoring_counts(shared_data: Path) -> None:
    stages = stages_of(shared_data / "psg" / "test_edfann.edf", 854)
    counts = {code: stages.count(code) for code in (WAKE, N1, N2, N3, REM)}
    assert counts == {WAKE: 151, N1: 109, N2: 430, N3: 23, REM: 141}


def test_bdf_and_edf_of_one_hypnogram_agree(shared_data: Path) -> None:
    edf = stages_of(shared_data / "psg" / "SC4001EC-Hypnogram.edf", 2880)
    bdf = stages_of(shared_data / "psg" / "SC4001EC-Hypnogram.bdf", 2880)
    np.testing.assert_array_equal(edf, bdf)


def test_cpap_machines_mark_events_without_stages(shared_data: Path) -> None:
    scoring = read_scoring(shared_data / "resmed/DATALOG/20241017/20241018_055249_EVE.edf", 1000)
    assert scoring.hypnogram is None
    assert scoring.events is not None
    assert [event.kind for event in scoring.events] == [
        EventKind.OBSTRUCTIVE_APNEA,
        EventKind.CENTRAL_APNEA,
        EventKind.HYPOPNEA,
    ]


def test_a_real_hypnogram_channel(shared_data: Path) -> None:
    scoring = scoring_in(open_edf(shared_data / "psg" / "Osas2002plusQRS.edf"), 40)
    assert scoring.hypnogram is not None
    # 120 codes of 10 s, all in threes: 36 are 3, 42 are 2, 42 are 5
    counts = {code: int((scoring.hypnogram == code).sum()) for code in (N2, N3, REM)}
    assert counts == {N2: 14, N3: 12, REM: 14}
    assert scoring.events is None  # 1,556 annotations of heart beats
