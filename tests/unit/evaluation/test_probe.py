"""What a task asks, says and refuses, beside its figures."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleepmami.config import DISEASES, ApneaConfig, ProbeConfig, ProbeSplitConfig
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation.probe import run_probe
from sleepmami.evaluation.task_settings import with_effect
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings, write_npz

FOLDS = ProbeConfig(split=ProbeSplitConfig(kind="folds"), penalties=(0.1,), num_resamples=100)


def nights(num: int = 12, *, per_person: int = 1, **changes: Any) -> list[PlantedNight]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(num):
        stage = rng.integers(0, 5, 12).astype(np.int8)
        planted = PlantedNight(
            recording_id=f"r{number:02d}",
            subject_id=f"p{number // per_person:02d}",
            split=("test", "train", "train", "validation")[number // per_person % 4],
            macro=np.eye(5)[stage] + rng.normal(size=(12, 5)),
            night=rng.normal(size=3),
            hypnogram=stage,
            age_years=40.0 + number,
            sex="male" if number // per_person % 3 else "female",
        )
        made.append(replace(planted, **changes))
    return made


def test_the_result_is_json_and_says_how_it_was_made(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path, nights())
    result = run_probe("staging", out, [], FOLDS)
    again = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert again["model_id"] == "sleepmami-planted"
    assert again["config"]["split"]["kind"] == "folds"
    assert (again["config"]["seed"], again["num_subjects"], len(again["folds"])) == (0, 12, 5)
    first = again["figures"][0]
    assert first["name"] == "accuracy"
    assert 0 <= first["low"] <= first["value"] <= first["high"] <= 1
    assert run_probe("staging", out, [], FOLDS).to_dict() == result.to_dict()


def test_the_stored_split_tests_the_test_subjects_only(tmp_path: Path) -> None:
    config = replace(FOLDS, split=ProbeSplitConfig())
    result = run_probe("staging", write_embeddings(tmp_path, nights()), [], config)
    assert (result.num_subjects, result.num_rows, result.notes) == (3, 36, ())
    assert [(f.num_fit_subjects, f.num_fit_rows) for f in result.folds] == [(9, 108)]


def test_people_the_encoder_knows_are_told_of(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path, nights())
    assert (
        "6 of 12 tested subjects are in split train"
        in run_probe("staging", out, [], FOLDS).notes[0]
    )
    assert "DGCL may have seen their age" in run_probe("age", out, [], FOLDS).notes[0]
    assert "DGCL" not in run_probe("age", out, [], replace(FOLDS, level="micro")).notes[0]
    held_out = replace(FOLDS, split=ProbeSplitConfig(kind="folds", among="held_out", num_folds=3))
    result = run_probe("age", out, [], held_out)
    assert (result.num_subjects, result.notes, result.left_out) == (6, (), {"in split train": 6})


def test_predictions_are_of_every_tested_row_once(tmp_path: Path) -> None:
    out, rows = write_embeddings(tmp_path, nights()), []
    run_probe(
        "staging", out, [], FOLDS, lambda columns: rows.extend(zip(*columns.values(), strict=True))
    )
    assert len({(row[0], row[2]) for row in rows}) == len(rows) == 12 * 12
    chance = np.array([row[5:] for row in rows])
    np.testing.assert_allclose(chance.sum(1), 1, atol=1e-4)
    people: list[Any] = []
    run_probe(
        "age", out, [], FOLDS, lambda columns: people.extend(zip(*columns.values(), strict=True))
    )
    assert sorted(row[0] for row in people) == [f"r{n:02d}" for n in range(12)]
    assert sorted(row[3] for row in people) == [40.0 + n for n in range(12)]


def test_epochs_that_are_not_valid_are_not_asked(tmp_path: Path) -> None:
    valid = np.arange(12) > 2
    result = run_probe("staging", write_embeddings(tmp_path, nights(epoch_valid=valid)), [], FOLDS)
    assert result.num_rows == 12 * 9


def test_a_person_of_an_unknown_name_counts_as_one_and_that_is_said(tmp_path: Path) -> None:
    made = nights()
    table = tmp_path / "people.csv"
    rows = "".join(f"{n.recording_id},{n.age_years},{n.sex},25\n" for n in made)
    table.write_text("recording_id,age_years,sex,bmi\n" + rows)
    result = run_probe("age", write_npz(tmp_path / "n", made), [str(table)], FOLDS)
    assert result.notes[0] == "12 recordings without a known subject count as a person each"
    assert "is not known" in result.notes[1]


@pytest.mark.parametrize(
    ("task", "name", "odd"),
    [("age", "age_years", math.nan), ("bmi", "bmi", math.inf), ("ahi", "ahi", math.nan), ("sex", "sex", "other")],
)  # fmt: skip
def test_what_is_no_number_in_a_corpus_is_not_known(
    tmp_path: Path, task: Any, name: str, odd: object
) -> None:
    made = nights(bmi=None)
    for number, night in enumerate(made):
        night.bmi, night.ahi = 20.0 + number, 2.0 * number
    setattr(made[3], name, odd)
    out, corpus = write_embeddings(tmp_path / "o", made), write_corpus(tmp_path / "c", made)
    result = run_probe(task, out, [corpus], FOLDS)
    assert (result.num_subjects, result.left_out) == (11, {f"no {task}": 1})
    assert all(np.isfinite(figure.estimate.value) for figure in result.figures)


@pytest.mark.parametrize("odd", [{"time_days": math.nan}, {"event": None}])
def test_a_follow_up_without_a_time_or_an_end_is_none(tmp_path: Path, odd: dict[str, Any]) -> None:
    made = nights()
    for number, night in enumerate(made):
        stroke = {"name": "stroke", "event": bool(number % 2), "time_days": 100.0 + number}
        night.outcomes = [stroke | {"prevalent": False} | (odd if number == 5 else {})]
    out, corpus = write_embeddings(tmp_path / "o", made), write_corpus(tmp_path / "c", made)
    result = run_probe("survival", out, [corpus], replace(FOLDS, outcomes=("stroke",)))
    assert (result.num_subjects, result.num_events) == (11, {"stroke": 5})
    assert result.left_out == {"no follow-up of stroke": 1}


def test_follow_up_is_of_a_persons_first_night_and_of_nobody_who_had_it_before(
    tmp_path: Path,
) -> None:
    made = nights(24, per_person=2)
    for number, night in enumerate(made):
        stroke = {
            "name": "stroke",
            "event": number % 3 == 0,
            "time_days": 100.0 + number,
            "prevalent": number == 4,
        }
        night.outcomes = [stroke]
    out, corpus = write_embeddings(tmp_path / "o", made), write_corpus(tmp_path / "c", made)
    result = run_probe("survival", out, [corpus], replace(FOLDS, outcomes=("stroke",)))
    assert (result.num_subjects, result.num_nights) == (11, 11)
    assert result.num_events == {"stroke": 4}  # of the even ones 0, 6, 12, 18
    assert result.left_out == {
        "later night of a person followed for stroke": 12,
        "stroke before the night": 1,
    }


def test_an_outcome_without_events_is_told_of_and_leaves_the_others(tmp_path: Path) -> None:
    made = nights(16)
    for number, night in enumerate(made):
        night.outcomes = [
            {"name": name, "event": happened, "time_days": 100.0 + number, "prevalent": False}
            for name, happened in (("mi", number % 2 == 0), ("chf", False))
        ]
    out, corpus = write_embeddings(tmp_path / "o", made), write_corpus(tmp_path / "c", made)
    result = run_probe("survival", out, [corpus], FOLDS)  # Table 3's six
    assert [(f.name, f.group) for f in result.figures] == [("c_index", "mi")]
    assert any(note.startswith("chf: found no event") for note in result.notes)
    assert sum(note.split(":")[0] in DISEASES for note in result.notes) == 5


@pytest.mark.parametrize(
    ("task", "changes", "complaint"),
    [
        ("staging", {"hypnogram": None}, "no hypnogram"),
        ("staging", {"hypnogram": np.zeros(12, np.int8)}, "no sleep"),
        ("staging", {"hypnogram": np.full(12, 2, np.int8)}, "1 class among"),
        ("staging", {"epoch_valid": np.zeros(12, np.bool_)}, "no valid epoch"),
        ("age", {"age_years": None}, "no age"),
        ("age", {"age_years": 50.0}, "same value 50"),
        ("age", {"subject_id": "one"}, "found 1 subjects"),
        ("sex", {"sex": "male"}, "1 class among"),
        ("ahi", {}, "no ahi"),
        ("apnea", {}, "no scored events"),
        ("survival", {}, "no follow-up of"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, task: Any, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(TableError, match=complaint):
        run_probe(task, write_embeddings(tmp_path, nights(**changes)), [], FOLDS)


@pytest.mark.parametrize(
    ("task", "changes", "complaint"),
    [
        ("staging", {"level": "night"}, "level='night'"),
        ("age", {"class_weights": "none"}, "class_weights has no effect on age"),
        ("age", {"wake_min": 10.0}, "wake_min has no effect"),
        ("age", {"max_choice_epochs": 2000}, "max_choice_epochs has no effect on age"),
        ("staging", {"apnea": ApneaConfig(unit="second")}, r"apnea\.unit has no effect"),
        ("staging", {"outcomes": ("mi",)}, "outcomes has no effect"),
    ],
)
def test_a_setting_that_does_nothing_is_refused(
    tmp_path: Path, task: Any, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run_probe(task, str(tmp_path), [], replace(FOLDS, **changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("few_shot.num_subjects", [5, 5]),
        ("few_shot.num_subjects", []),
        ("few_shot.num_draws", 0),
        ("penalties", [0.0, 1.0]),
        ("confidence", 1.0),
        ("num_resamples", 0),
        ("outcomes", ["mi", "mi"]),
        ("wake_min", -1.0),
        ("level", "cycle"),
        ("split.num_folds", 1),
        ("apnea.min_overlap_s", 31.0),
        ("split.kind", "fold"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        replace_at(ProbeConfig(), {name: value})


def test_predictions_of_few_shot_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="many probes"):
        run_probe("few-shot", str(tmp_path), [], FOLDS, lambda _: None)


def test_cohorts_restrict_who_is_fitted_and_tested(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path / "out", nights())
    corpus = write_corpus(tmp_path / "corpus", nights())
    same = run_probe("age", out, [corpus], replace(FOLDS, cohorts=("planted",)))
    assert same.figures == run_probe("age", out, [corpus], FOLDS).figures
    with pytest.raises(TableError, match=r"12 nights: of other cohorts"):
        run_probe("age", out, [corpus], replace(FOLDS, cohorts=("elsewhere",)))
    files = write_npz(tmp_path / "npz", nights())
    with pytest.raises(TableError, match="the cohort is not known"):
        run_probe("age", files, [], replace(FOLDS, cohorts=("planted",)))


def test_a_config_of_many_tasks_loses_what_a_task_does_not_look_at() -> None:
    config = replace(FOLDS, wake_min=10.0, outcomes=("mi",))
    assert with_effect("age", config) == FOLDS
    assert with_effect("staging", config) == replace(FOLDS, wake_min=10.0)
    assert with_effect("survival", config) == replace(FOLDS, outcomes=("mi",))
