import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.simulation.events import (
    APNEAS,
    RESPIRATORY,
    EventKind,
    NightEvent,
    NightPlan,
    of_kind,
)
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.subjects import Subject, simulate_subject


def plans(count: int, **traits: float) -> list[NightPlan]:
    changes: dict[str, Any] = dict(traits)  # Any: replace() takes fields of every type
    subjects = [dataclasses.replace(simulate_subject(i, seed=2), **changes) for i in range(count)]
    return [plan_night(subject, 7.5, seed=2) for subject in subjects]


@pytest.mark.parametrize("ahi_per_h", [2.0, 15.0, 50.0])
def test_the_scored_index_is_near_the_subjects_own(ahi_per_h: float) -> None:
    scored = [plan.ahi_per_h or 0.0 for plan in plans(40, ahi_per_h=ahi_per_h)]
    assert np.mean(scored) == pytest.approx(ahi_per_h, rel=0.15)


def test_index_counts_apneas_and_hypopneas_per_hour_of_sleep() -> None:
    hypnogram = np.array([0] * 60 + [2] * 60, np.int8)  # half an hour asleep
    events = tuple(
        NightEvent(kind=kind, start_s=start_s, duration_s=12.0)
        for kind, start_s in (
            (EventKind.HYPOPNEA, 2000.0),
            (EventKind.CENTRAL_APNEA, 2100.0),
            (EventKind.OBSTRUCTIVE_APNEA, 2200.0),
            (EventKind.AROUSAL, 2300.0),
            (EventKind.DESATURATION, 2110.0),
        )
    )
    assert NightPlan(hypnogram=hypnogram, events=events).ahi_per_h == 6.0


def test_a_night_without_sleep_has_no_index_and_no_events() -> None:
    plan = plan_night(simulate_subject(0, seed=2), 0.01, seed=2)  # two epochs, both awake
    assert plan.hypnogram.tolist() == [0, 0]
    assert plan.events == ()
    assert plan.ahi_per_h is None


def test_breathing_stops_only_asleep_and_resumes_between_events() -> None:
    for plan in plans(20, ahi_per_h=60.0):
        events = of_kind(plan.events, *RESPIRATORY)
        for event in events:
            epochs = slice(int(event.start_s // EPOCH_S), int(event.end_s // EPOCH_S) + 1)
            assert (plan.hypnogram[epochs] != Stage.WAKE).all()
            assert 10.0 <= event.duration_s <= 60.0
        gaps = [b.start_s - a.end_s for a, b in itertools.pairwise(events)]
        assert min(gaps) >= 8.0 - 1e-6


def test_every_apnea_has_a_desaturation_beginning_ten_to_forty_seconds_later() -> None:
    for plan in plans(10, ahi_per_h=30.0):
        starts = np.array([e.start_s for e in of_kind(plan.events, EventKind.DESATURATION)])
        for apnea in of_kind(plan.events, *APNEAS):
            delay_s = starts - apnea.start_s
            assert ((delay_s > 10) & (delay_s < 40)).any()


def test_apnea_is_rarer_in_n3_than_in_n2() -> None:
    counts, hours = np.zeros(5), np.zeros(5)
    for plan in plans(60, ahi_per_h=30.0, age_years=25.0):
        hours += np.bincount(plan.hypnogram, minlength=5) * EPOCH_S / 3600
        for event in of_kind(plan.events, *RESPIRATORY):
            counts[plan.hypnogram[int(event.start_s // EPOCH_S)]] += 1
    rate = counts[1:] / hours[1:]
    assert rate[Stage.N3 - 1] < 0.6 * rate[Stage.N2 - 1]


def test_spontaneous_arousals_follow_the_published_rates_by_age() -> None:
    for age_years, per_h in ((25.0, 14.7), (70.0, 27.1)):
        nights = plans(40, ahi_per_h=0.2, age_years=age_years)
        hours = sum((p.hypnogram != Stage.WAKE).sum() for p in nights) * EPOCH_S / 3600
        count = sum(len(of_kind(p.events, EventKind.AROUSAL)) for p in nights)
        # Arousals closer than 10 s merge, so the count falls a little short.
        assert 0.8 * per_h < count / hours < 1.05 * per_h


def test_desaturations_deepen_with_bmi() -> None:
    def mean_depth(bmi: float) -> float:
        events = [e for p in plans(20, ahi_per_h=30.0, bmi=bmi) for e in of_kind(p.events, *APNEAS)]
        return float(np.mean([e.depth for e in events]))

    assert mean_depth(40.0) > 1.2 * mean_depth(25.0)


def test_events_lie_inside_the_recording_in_time_order(sleeper: Subject) -> None:
    plan = plan_night(sleeper, 3.2, seed=7)
    starts = [event.start_s for event in plan.events]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert max(event.end_s for event in plan.events) <= plan.num_seconds
