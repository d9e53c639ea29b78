"""Probes find what is in the vectors, as much as there is of it, and nothing where nothing is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from sleepmami.config import ApneaConfig, FewShotConfig, ProbeConfig, ProbeSplitConfig
from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.cox import CoxLoss
from sleepmami.evaluation.linear_probe import minimise
from sleepmami.evaluation.metrics import concordance, earlier_event_first
from sleepmami.evaluation.probe import run_probe
from sleepmami.evaluation.results import ProbeResult
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings

FOLDS = ProbeSplitConfig(kind="folds")
PENALTIES = (1e-3, 1e-1, 10.0)


def config(**changes: Any) -> ProbeConfig:
    return ProbeConfig(split=FOLDS, penalties=PENALTIES, num_resamples=400, **changes)


def figure(result: ProbeResult, name: str, group: str = "") -> Estimate:
    return next(f.estimate for f in result.figures if (f.name, f.group) == (name, group))


def people(num: int, *, seed: int = 0) -> list[PlantedNight]:
    """Night vectors: age in the first number, sex in the second, risk in the third, three of noise."""
    rng = np.random.default_rng(seed)
    nights = []
    for number in range(num):
        age, male, risk = 55 + 15 * rng.normal(), rng.random() < 0.5, rng.normal()
        time, censored = rng.exponential(1000 * np.exp(-0.9 * risk)), rng.exponential(2000)
        outcomes = [
            {"name": "stroke", "event": time < censored, "time_days": min(time, censored), "prevalent": False},
            {"name": "mi", "event": rng.random() < 0.5, "time_days": rng.exponential(900), "prevalent": False},
        ]  # fmt: skip
        night = rng.normal(size=6)
        night[0] = age / 10 + 0.3 * night[0]
        night[1] += 1.5 * male
        night[2] = risk
        nights.append(
            PlantedNight(
                recording_id=f"r{number:03d}",
                subject_id=f"p{number:03d}",
                night=night,
                age_years=age,
                sex="male" if male else "female",
                bmi=27 + 4 * rng.normal(),
                outcomes=outcomes,
            )
        )
    return nights


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder, nights = tmp_path_factory.mktemp("planted"), people(200)
    return write_embeddings(folder / "out", nights), write_corpus(folder / "corpus", nights)


def test_age_is_found_as_exactly_as_the_noise_allows(cohort: tuple[str, str]) -> None:
    result = run_probe("age", cohort[0], [], config())
    # noise of 3 years and a population of 15: the best guess errs by 2.94 * sqrt(2 / pi)
    best = np.sqrt(1 / (1 / 9 + 1 / 225)) * np.sqrt(2 / np.pi)
    mae = figure(result, "mae")
    assert mae.low < best < mae.high
    assert mae.high < figure(result, "mae_of_median").low
    assert figure(result, "r2").value == pytest.approx(1 - 2.94**2 / 15**2, abs=0.02)
    assert (result.level, result.unit, result.num_subjects) == ("night", "night", 200)


def test_sex_is_told_apart_as_well_as_the_difference_allows(cohort: tuple[str, str]) -> None:
    auroc = figure(run_probe("sex", cohort[0], [], config()), "auroc")
    assert auroc.low < norm.cdf(1.5 / np.sqrt(2)) < auroc.high


def test_where_nothing_is_nothing_is_found(cohort: tuple[str, str]) -> None:
    bmi = run_probe("bmi", cohort[0], [], config())
    assert figure(bmi, "r2").low < 0
    assert figure(bmi, "mae").low < figure(bmi, "mae_of_median").value
    mi = figure(
        run_probe("survival", *_with_corpus(cohort), config(outcomes=("mi",))), "c_index", "mi"
    )
    assert mi.low < 0.5 < mi.high


def _with_corpus(cohort: tuple[str, str]) -> tuple[str, list[str]]:
    return cohort[0], [cohort[1]]


def test_a_risk_is_ranked_as_well_as_the_planted_hazard_ranks_it(cohort: tuple[str, str]) -> None:
    result = run_probe("survival", *_with_corpus(cohort), config(outcomes=("stroke", "mi")))
    nights = people(200)
    stroke = [night.outcomes[0] for night in nights if night.outcomes]
    time = np.array([o["time_days"] for o in stroke])
    event = np.array([o["event"] for o in stroke])
    pairs = earlier_event_first(time, event, np.zeros(200, np.int64))
    best = concordance(np.array([n.night[2] for n in nights]), pairs, np.ones((1, 200)))[0]
    found = figure(result, "c_index", "stroke")
    assert found.low < best < found.high
    assert found.low > 0.6
    alone = run_probe("survival", *_with_corpus(cohort), config(outcomes=("stroke",)))
    assert figure(alone, "c_index", "stroke") == found  # other outcomes change nothing


def test_the_hazard_ratio_is_recovered() -> None:
    nights = people(600, seed=1)
    x = np.stack([night.night for night in nights])
    stroke = [night.outcomes[0] for night in nights if night.outcomes]
    time = np.array([o["time_days"] for o in stroke])
    event = np.array([o["event"] for o in stroke])
    weight, _ = minimise(x, np.arange(600), CoxLoss(time, event), 1e-6)
    standard_error = 1 / np.sqrt(event.sum())  # of a feature of deviation 1
    assert weight[2, 0] == pytest.approx(0.9, abs=2.5 * standard_error)
    assert np.abs(weight[3:, 0]).max() < 3.5 * standard_error


def scored(num: int, *, length: int = 60, seed: int = 0) -> list[PlantedNight]:
    """Macro vectors that show the stage within noise; apnea of 20 s in every fourth epoch."""
    rng = np.random.default_rng(seed)
    nights = []
    for number in range(num):
        stage = rng.integers(0, 5, length).astype(np.int8)
        apnea = np.arange(length) % 4 == 1
        macro = 2 * np.eye(5)[stage] + rng.normal(size=(length, 5))
        second = rng.normal(size=(length, 1)) + 3 * apnea[:, None]
        nights.append(
            PlantedNight(
                recording_id=f"r{number:03d}",
                subject_id=f"p{number // 2:03d}",  # two nights each
                split="test" if number // 2 % 3 == 0 else "train",
                macro=np.concatenate([macro, second], axis=1),
                hypnogram=stage,
                events=[
                    {"start_s": 30.0 * epoch + 5, "duration_s": 20.0, "kind": "hypopnea"}
                    for epoch in np.flatnonzero(apnea)
                ],
            )
        )
    return nights


def test_stages_are_told_apart_as_well_as_bayes_can(tmp_path: Path) -> None:
    nights = scored(60)
    result = run_probe("staging", write_embeddings(tmp_path, nights), [], config())
    truth = np.concatenate([night.hypnogram for night in nights if night.hypnogram is not None])
    bayes = np.concatenate([night.macro[:, :5].argmax(1) for night in nights])
    found = figure(result, "accuracy")
    assert found.low < (bayes == truth).mean() < found.high
    assert (result.num_subjects, result.num_nights, result.num_rows) == (30, 60, 3600)
    assert result.confusion is not None
    assert np.sum(result.confusion.counts) == 3600


def test_more_subjects_to_learn_from_help(tmp_path: Path) -> None:
    few = FewShotConfig(num_subjects=(1, 4, 99), num_draws=3)
    result = run_probe(
        "few-shot", write_embeddings(tmp_path, scored(24, length=12)), [], config(few_shot=few)
    )
    one, four, every = (figure(result, "macro_f1", group).value for group in ("n=1", "n=4", "all"))
    assert one < four < every
    assert {f.group for f in result.figures} == {"n=1", "n=4", "all"}  # there are no 99
    assert result.notes[0].startswith("n = 99 left out")
    sizes = {(f.group, f.num_fit_subjects, f.penalty_chosen) for f in result.folds}
    assert ("n=1", 1, False) in sizes
    assert ("n=4", 4, True) in sizes


def test_a_draw_of_people_who_show_one_stage_is_named(tmp_path: Path) -> None:
    alike = [
        replace(night, hypnogram=np.full(12, 2 + number // 2 % 2 * 2, np.int8))
        for number, night in enumerate(scored(12, length=12))
    ]
    few = FewShotConfig(num_subjects=(1,), num_draws=1)
    with pytest.raises(TableError, match="probe of n=1, draw 0: found 1 class"):
        run_probe("few-shot", write_embeddings(tmp_path, alike), [], config(few_shot=few))


@pytest.mark.parametrize("unit", ["epoch", "second"])
def test_apneas_are_found_by_epoch_and_by_second(tmp_path: Path, unit: Any) -> None:
    nights = scored(12, length=24)
    embeddings, corpus = (
        write_embeddings(tmp_path / "o", nights),
        write_corpus(tmp_path / "c", nights),
    )
    result = run_probe("apnea", embeddings, [corpus], config(apnea=ApneaConfig(unit=unit)))
    assert result.unit == unit
    assert result.num_rows == 12 * 24 * (30 if unit == "second" else 1)
    assert figure(result, "macro_f1").low > 0.8  # the best: 3 deviations apart, a quarter positive
    assert result.confusion is not None
    disordered = np.sum(result.confusion.counts, axis=1)[1]
    assert disordered == 12 * 6 * (20 if unit == "second" else 1)


def test_epochs_of_a_thinned_fit_set_are_fewer_and_all_are_tested(tmp_path: Path) -> None:
    result = run_probe(
        "staging", write_embeddings(tmp_path, scored(60)), [], config(max_fit_epochs=1000)
    )
    assert sum(f.num_fit_rows for f in result.folds) == pytest.approx(4 * 1000, rel=0.05)
    assert result.num_rows == 3600
    assert "27.8%" in result.notes[0]
