import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.config import SimulateConfig
from sleepmami.psg import Stage
from sleepmami.simulation.cohort import write_cohort
from sleepmami.simulation.events import EventKind, NightEvent, NightPlan
from sleepmami.simulation.follow_up import (
    EVENTS_PER_YEAR,
    OUTCOMES,
    RISK_FACTORS,
    FollowUp,
    simulate_follow_up,
    visible_log_hazard,
)
from sleepmami.simulation.measures import NightMeasures, desaturation_area, measure_night
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.respiration import simulate_saturation
from sleepmami.simulation.subjects import Subject, simulate_subject
from sleepmami.tables.people.reader import read_people

YEARS = 11.0
TYPICAL = NightMeasures(
    sleep_h=6.0,
    latency_min=15.0,
    waso_min=60.0,
    n1_share=0.1,
    n2_share=0.59,
    n3_share=0.12,
    rem_share=0.19,
    arousals_per_h=25.0,
    ahi_per_h=10.0,
    hypoxic_burden=15.0,
)


def people(count: int) -> list[tuple[Subject, NightMeasures]]:
    """Sleepers whose measures vary independently of each other: every ratio can be told apart."""
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(count):
        night = dataclasses.replace(
            TYPICAL,
            n3_share=float(rng.uniform(0.0, 0.25)),
            rem_share=float(rng.uniform(0.05, 0.3)),
            arousals_per_h=float(rng.uniform(5, 60)),
            hypoxic_burden=float(2 ** rng.uniform(0, 8) - 1),
        )
        pairs.append((simulate_subject(index, seed=3), night))
    return pairs


@pytest.fixture(scope="module")
def cohort() -> list[tuple[Subject, NightMeasures, FollowUp]]:
    return [(s, n, simulate_follow_up(s, n, YEARS, 3)) for s, n in people(6000)]


def column(
    cohort: list[tuple[Subject, NightMeasures, FollowUp]], outcome: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(event, years) of everybody."""
    at = OUTCOMES.index(outcome)
    found = [after.outcomes[at] for _, _, after in cohort]
    event = np.array([o.event for o in found], float)
    return event, np.array([o.time_days for o in found]) / 365.25


def test_the_reference_person_has_no_log_hazard() -> None:
    subject = dataclasses.replace(
        simulate_subject(0, seed=3), age_years=60.0, bmi=27.5, heart_rate_bpm=62.0, sex="male"
    )
    assert visible_log_hazard(subject, TYPICAL) == pytest.approx(math.log(1.5) / 2)
    older = dataclasses.replace(subject, age_years=80.0)
    assert visible_log_hazard(older, TYPICAL) - visible_log_hazard(
        subject, TYPICAL
    ) == pytest.approx(2 * math.log(1.6))


def fit(
    design_NF: NDArray[np.float64],
    event_N: NDArray[np.float64],
    years_N: NDArray[np.float64],
    offset_N: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients of an exponential survival model and their standard errors, by Newton's steps."""
    beta = np.zeros(design_NF.shape[1])
    beta[-1] = math.log(event_N.sum() / years_N.sum())
    for _ in range(30):
        mean_N = years_N * np.exp(design_NF @ beta + offset_N)
        information = design_NF.T @ (design_NF * mean_N[:, None])
        beta = beta + np.linalg.solve(information, design_NF.T @ (event_N - mean_N))
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


@pytest.mark.parametrize("outcome", ["all_cause_death", "chf", "stroke"])
def test_every_stated_hazard_ratio_can_be_recovered(
    cohort: list[tuple[Subject, NightMeasures, FollowUp]], outcome: str
) -> None:
    event, years = column(cohort, outcome)
    values = [[f.value(s, n) / f.unit for f in RISK_FACTORS] + [1.0] for s, n, _ in cohort]
    design = np.array(values)
    frailty = np.array([after.frailty for _, _, after in cohort])
    found, error = fit(design, event, years, frailty)
    planted = np.log([factor.hazard_ratio for factor in RISK_FACTORS])
    assert np.abs((found[:-1] - planted) / error[:-1]).max() < 3.3  # eight factors, 3 outcomes
    assert error[0] < 0.06  # so that a test of age at least says something
    assert found[0] > 5 * error[0]


def test_the_frailty_is_of_its_size_and_hidden_from_the_night(
    cohort: list[tuple[Subject, NightMeasures, FollowUp]],
) -> None:
    frailty = np.array([after.frailty for _, _, after in cohort])
    visible = np.array([visible_log_hazard(s, n) for s, n, _ in cohort])
    assert frailty.std() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(frailty, visible)[0, 1]) < 0.04
    total = np.array([after.log_hazard for _, _, after in cohort])
    np.testing.assert_allclose(total, frailty + visible)


def test_deaths_nest_and_end_every_follow_up(
    cohort: list[tuple[Subject, NightMeasures, FollowUp]],
) -> None:
    by_name = {name: column(cohort, name) for name in OUTCOMES}
    chd, cvd, dead = (by_name[name][0] for name in ("chd_death", "cvd_death", "all_cause_death"))
    assert (chd <= cvd).all()
    assert (cvd <= dead).all()
    assert 0 < chd.sum() < cvd.sum() < dead.sum()
    end = by_name["all_cause_death"][1]
    for name, (event, years) in by_name.items():
        assert (years <= end + 1e-9).all(), name
        assert (years[event == 0] == end[event == 0]).all(), name
    assert end.max() <= YEARS + 1 / 365
    lost_early = (dead == 0) & (end < 0.8 * YEARS)
    assert 0.03 < lost_early.mean() < 0.10  # a hundredth a year


def test_earlier_events_are_commoner_in_those_at_risk_and_never_deaths(
    cohort: list[tuple[Subject, NightMeasures, FollowUp]],
) -> None:
    risk = np.array([after.log_hazard for _, _, after in cohort])
    for at, name in enumerate(OUTCOMES):
        before = np.array([after.outcomes[at].prevalent for _, _, after in cohort])
        if name not in EVENTS_PER_YEAR:
            assert not before.any()
            continue
        expected = 1 - np.exp(-5 * EVENTS_PER_YEAR[name] * np.exp(risk))
        assert before.sum() == pytest.approx(expected.sum(), rel=0.15)
        assert risk[before].mean() > risk[~before].mean() + 0.3


def test_burden_is_the_area_of_the_saturation_that_is_drawn(sleeper: Subject) -> None:
    event = NightEvent(kind=EventKind.OBSTRUCTIVE_APNEA, start_s=300.0, duration_s=30.0, depth=10.0)
    quiet = NightPlan(hypnogram=np.full(20, Stage.N2, np.int8), events=())
    apnea = dataclasses.replace(quiet, events=(event,))
    levels = [
        simulate_saturation(sleeper, plan, np.random.default_rng(0)).astype(np.float64)
        for plan in (quiet, apnea)
    ]
    area = (levels[0] - levels[1]).sum() / 60
    # 10 % x (30 s / 2.3 + 10 s x 0.886) = 219 % s
    assert desaturation_area(10.0, 30.0) == pytest.approx(219.06 / 60, rel=1e-3)
    assert area == pytest.approx(219.06 / 60, rel=0.04)
    measured = measure_night(apnea)
    assert measured is not None
    assert measured.hypoxic_burden == pytest.approx(6 * 219.06 / 60, rel=1e-3)  # in 10 min


def test_measures_of_a_night_by_hand() -> None:
    night = measure_night(
        NightPlan(hypnogram=np.array([0, 0, 1, 2, 3, 0, 2, 4, 4, 2, 0], np.int8), events=())
    )
    assert night is not None
    assert (night.latency_min, night.waso_min) == (1.0, 0.5)
    assert night.sleep_h == pytest.approx(7 / 120)
    shares = (night.n1_share, night.n2_share, night.n3_share, night.rem_share)
    assert shares == pytest.approx((1 / 7, 3 / 7, 1 / 7, 2 / 7))
    assert measure_night(NightPlan(hypnogram=np.zeros(4, np.int8), events=())) is None


def test_the_ingests_reader_takes_the_outcomes_of_the_table(tmp_path: Path) -> None:
    config = SimulateConfig(num_subjects=4, duration_h=0.2, seed=8, follow_up_years=11.0)
    write_cohort(tmp_path, config)
    found = read_people(str(tmp_path / "metadata.csv"))
    with (tmp_path / "truth.csv").open(newline="") as stream:
        truth = {row["recording_id"]: row for row in csv.DictReader(stream)}
    assert len(truth) == 4
    for index in range(4):
        subject = simulate_subject(index, seed=8)
        person = found.of(subject.subject_id)
        assert person is not None
        assert person.outcomes is not None
        night = measure_night(plan_night(subject, 0.2, 8))
        assert night is not None
        assert person.outcomes == simulate_follow_up(subject, night, 11.0, 8).outcomes
        terms = [float(v) for k, v in truth[subject.subject_id].items() if k.endswith("_term")]
        frailty = float(truth[subject.subject_id]["frailty"])
        assert float(truth[subject.subject_id]["log_hazard"]) == pytest.approx(
            sum(terms) + frailty, abs=1e-4
        )
