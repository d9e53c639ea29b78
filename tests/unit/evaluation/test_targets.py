"""Which epochs are asked, and what of: by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sleepmami.config import ApneaConfig
from sleepmami.evaluation.embeddings import ProbeNight
from sleepmami.evaluation.targets import breathing, overlaps_s, stages
from sleepmami.psg import EventKind, ScoredEvent


def event(start_s: float, duration_s: float, kind: EventKind = EventKind.HYPOPNEA) -> ScoredEvent:
    return ScoredEvent(start_s=start_s, duration_s=duration_s, kind=kind)


def test_wake_is_kept_for_thirty_minutes_on_either_side() -> None:
    hypnogram = np.zeros(400, np.int8)
    hypnogram[150:200] = 2
    hypnogram[160] = -1  # not scored
    target = stages(hypnogram, wake_min=30)[:, 0]
    assert np.flatnonzero(target >= 0)[[0, -1]].tolist() == [90, 259]
    assert target[160] == -1
    assert (target >= 0).sum() == 60 + 50 + 60 - 1


def test_a_night_without_sleep_asks_nothing() -> None:
    assert (stages(np.zeros(50, np.int8), 30) == -1).all()


def test_an_event_on_a_border_marks_the_epoch_with_most_of_it() -> None:
    night = ProbeNight(recording_id="r", num_epochs=4, events=(event(24, 11), event(61, 3)))
    assert breathing(night, ApneaConfig())[:, 0].tolist() == [1, 1, 0, 0]  # 6 s, 5 s, 3 s, 0 s
    assert breathing(night, ApneaConfig(min_overlap_s=6))[:, 0].tolist() == [1, 0, 0, 0]


def test_a_second_belongs_to_the_event_over_its_middle() -> None:
    night = ProbeNight(recording_id="r", num_epochs=2, events=(event(28.4, 3.2),))
    marks = breathing(night, ApneaConfig(unit="second")).ravel()
    assert np.flatnonzero(marks).tolist() == [28, 29, 30, 31]


def test_arousals_and_desaturations_are_no_apneas() -> None:
    others = tuple(
        event(0, 30, kind) for kind in (EventKind.AROUSAL, EventKind.DESATURATION, EventKind.RERA)
    )
    night = ProbeNight(recording_id="r", num_epochs=1, events=others)
    assert breathing(night, ApneaConfig()).tolist() == [[0]]


@given(st.lists(st.tuples(st.floats(-20, 300), st.floats(0, 90)), max_size=12))
def test_overlap_is_that_of_the_union_of_events(parts: list[tuple[float, float]]) -> None:
    found = overlaps_s([event(*part) for part in parts], 8)
    centres = (np.arange(24_000) + 0.5) / 100
    inside = np.zeros(len(centres), np.bool_)
    for start_s, duration_s in parts:
        inside |= (centres >= start_s) & (centres < start_s + duration_s)
    np.testing.assert_allclose(
        found, inside.reshape(8, -1).sum(1) / 100, atol=0.01 * (1 + len(parts))
    )
