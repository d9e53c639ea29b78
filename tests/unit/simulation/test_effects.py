"""Published sizes are recovered from the truth of many nights; the numbers are typed in again."""

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation import heart, respiration
from sleepmami.simulation.effects import PLAIN, PUBLISHED
from sleepmami.simulation.events import RESPIRATORY, NightPlan, of_kind
from sleepmami.simulation.measures import NightMeasures, measure_night
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.subjects import Subject, expected_ahi, simulate_subject

Cohort = list[tuple[Subject, NightPlan, NightMeasures]]


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    made = []
    for index in range(500):
        subject = simulate_subject(index, 11, PUBLISHED)
        plan = plan_night(subject, 7.5, 11)
        night = measure_night(plan)
        assert night is not None
        made.append((subject, plan, night))
    return made


def regress(
    design_NF: NDArray[np.float64], value_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and standard errors of least squares with a constant, which is left out."""
    design = np.column_stack([design_NF, np.ones(len(design_NF))])
    found = np.linalg.lstsq(design, value_N, rcond=None)[0]
    spread = (value_N - design @ found).var(ddof=design.shape[1])
    return found[:-1], np.sqrt(spread * np.diag(np.linalg.inv(design.T @ design)))[:-1]


def by_decade_and_sex(
    cohort: Cohort, measure: str, oldest_years: float = 90.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(change in a decade, men less women) of a measure, and their standard errors."""
    kept = [(s, n) for s, _, n in cohort if s.age_years <= oldest_years]
    design = np.array([[s.age_years / 10, s.sex == "male"] for s, _ in kept], float)
    return regress(design, np.array([getattr(night, measure) for _, night in kept]))


def test_slow_wave_sleep_falls_by_two_points_a_decade_until_sixty(cohort: Cohort) -> None:
    found, error = by_decade_and_sex(cohort, "n3_share", oldest_years=60.0)
    assert error[0] < 0.003
    assert found[0] == pytest.approx(-0.02, abs=3 * error[0])


def test_men_of_the_age_of_shhs_have_three_points_less_slow_wave_sleep(cohort: Cohort) -> None:
    middle = [(s, p, n) for s, p, n in cohort if 45 <= s.age_years <= 80]
    found, error = by_decade_and_sex(middle, "n3_share")
    assert error[1] < 0.008
    assert found[1] == pytest.approx(-0.03, abs=3 * error[1])


def test_rem_sleep_falls_by_six_tenths_of_a_point_a_decade(cohort: Cohort) -> None:
    found, error = by_decade_and_sex(cohort, "rem_share")
    assert error[0] < 0.0012
    assert found[0] == pytest.approx(-0.006, abs=3 * error[0] + 0.001)  # apnea takes some too


def test_wake_after_onset_grows_by_ten_minutes_a_decade_and_sleep_shrinks(cohort: Cohort) -> None:
    wake, error = by_decade_and_sex(cohort, "waso_min")
    assert wake[0] == pytest.approx(10.0, abs=3 * error[0] + 0.5)
    sleep, _ = by_decade_and_sex(cohort, "sleep_h")
    assert -14 < 60 * sleep[0] < -8


def test_latency_grows_by_less_than_ten_minutes_in_a_life(cohort: Cohort) -> None:
    found, error = by_decade_and_sex(cohort, "latency_min")
    assert 3 * error[0] < 6 * found[0] < 10


def test_a_tenth_more_weight_means_a_third_more_scored_events(cohort: Cohort) -> None:
    # by what is known before the night; scored indices of 60 and more would be crowded together
    expected = [expected_ahi(s.age_years, s.sex, s.bmi) for s, _, _ in cohort]
    rows = [(s, n) for (s, _, n), e in zip(cohort, expected, strict=True) if 3 < e < 20]
    design = np.array(
        [[math.log(s.bmi), s.sex == "male", min(s.age_years, 60.0)] for s, _ in rows], float
    )
    found, error = regress(design, np.log([max(n.ahi_per_h, 0.15) for _, n in rows]))
    assert error[0] < 0.4
    assert found[0] == pytest.approx(math.log(1.32) / math.log(1.1), abs=3 * error[0])
    assert found[1] == pytest.approx(math.log(14.9 / 6.9), abs=3 * error[1])


def test_womens_events_gather_in_rem(cohort: Cohort) -> None:
    excess = {}
    for sex in ("female", "male"):
        events, hours = np.zeros(5), np.zeros(5)
        for subject, plan, _ in cohort:
            if subject.sex == sex:
                hours += np.bincount(plan.hypnogram, minlength=5) / 120
                starts = [int(e.start_s // 30) for e in of_kind(plan.events, *RESPIRATORY)]
                events += np.bincount(plan.hypnogram[starts], minlength=5)
        rate = events[1:] / hours[1:]
        excess[sex] = rate[Stage.REM - 1] / rate[Stage.N2 - 1]
    assert excess["female"] > 1.4 * excess["male"]


def test_alpha_slows_as_koepruner_found(cohort: Cohort) -> None:
    age = np.array([[s.age_years] for s, _, _ in cohort])
    found, error = regress(age, np.array([s.alpha_hz for s, _, _ in cohort]))
    assert found[0] == pytest.approx(-0.053, abs=3 * error[0])
    at_20 = np.mean([s.alpha_hz + 0.053 * (s.age_years - 20) for s, _, _ in cohort])
    assert at_20 == pytest.approx(11.95 - 0.053 * 20, abs=0.08)


def test_spindles_shrink_with_age_and_are_larger_in_women() -> None:
    assert PUBLISHED.spindle_gain(20.0, "male") == 1.0
    assert PUBLISHED.spindle_gain(70.0, "male") == pytest.approx(math.exp(-0.3))
    assert PUBLISHED.spindle_gain(70.0, "female") == pytest.approx(1.15 * math.exp(-0.3))
    assert PLAIN.spindle_gain(70.0, "female") == 1.0


def test_beat_to_beat_variability_halves_from_the_twenties_to_the_sixties() -> None:
    """Umetani et al. 1998: RMSSD of 43 ms in the twenties and 22 ms in the sixties."""
    plan = NightPlan(hypnogram=np.full(20, Stage.N2, np.int8), events=())

    def rmssd(age_years: float) -> float:
        values = []
        for index in range(8):
            subject = dataclasses.replace(simulate_subject(index, 3), age_years=age_years)
            rng = np.random.default_rng(index)
            breathing = respiration.simulate_breathing(subject, plan, rng)
            rr = np.diff(heart.simulate_heart(subject, plan, breathing.phase, rng).beat_s)
            values.append(np.sqrt(np.mean(np.diff(rr) ** 2)))
        return float(np.mean(values))

    assert rmssd(65.0) / rmssd(25.0) == pytest.approx(22 / 43, abs=0.08)
