"""What `probe -o` writes can be read again, and what it did not write is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleepmami.config import ProbeConfig
from sleepmami.errors import TableError
from sleepmami.evaluation.probe import run_probe
from sleepmami.evaluation.stored_results import read_predictions, read_results
from tests.unit.evaluation.planted import PlantedNight, write_embeddings


def write(folder: Path, name: str, values: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(values))


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nights = [
        PlantedNight(
            recording_id=f"r{number}",
            subject_id=f"s{number}",
            split="test" if number % 2 else "train",
            night=rng.normal(size=3),
            age_years=float(rng.uniform(20, 80)),
        )
        for number in range(12)
    ]
    found = run_probe("age", write_embeddings(tmp_path / "out", nights), [], ProbeConfig())
    write(tmp_path / "results", "age.json", found.to_dict())
    (stored,), _ = read_results(str(tmp_path / "results"))
    assert stored.figures == found.figures
    assert (stored.task, stored.level, stored.model_id) == ("age", "night", found.model_id)
    assert (stored.num_subjects, stored.notes) == (found.num_subjects, found.notes)
    assert stored.predictions is None


def test_a_figure_that_is_not_defined_is_not_a_number(tmp_path: Path) -> None:
    figure = {"name": "auroc", "group": "", "value": 0.5, "low": None, "high": None}
    write(tmp_path, "sex.json", {"task": "sex", "figures": [figure]})
    (stored,), _ = read_results(str(tmp_path))
    estimate = stored.find("auroc")
    assert estimate is not None
    assert estimate.value == 0.5
    assert math.isnan(estimate.low)
    assert stored.find("accuracy") is None


def test_predictions_are_the_table_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "a", "sex.json", {"task": "sex"})
    write(tmp_path / "b", "sex.json", {"task": "sex"})
    (tmp_path / "b" / "sex.csv").write_text("recording_id,subject_id,truth\nr,s,male\n")
    (without, with_table), _ = read_results(str(tmp_path))
    assert read_predictions(with_table).texts["truth"].names == ("male",)
    with pytest.raises(TableError, match="no predictions beside it"):
        read_predictions(without)


def test_cells_of_a_matrix_are_pairs(tmp_path: Path) -> None:
    figures = [
        {"name": "recall_at_1", "group": group, "value": value}
        for group, value in (("EEG->ECG", 0.5), ("ECG->EEG", 0.25), ("mean", 0.375))
    ]
    write(tmp_path, "retrieval.json", {"task": "retrieval", "figures": figures})
    (stored,), _ = read_results(str(tmp_path))
    cells = {pair: found.value for pair, found in stored.crossed("recall_at_1").items()}
    assert cells == {("EEG", "ECG"): 0.5, ("ECG", "EEG"): 0.25}
    assert stored.is_matrix


def test_a_subset_of_modalities_keeps_its_levels(tmp_path: Path) -> None:
    entry = {"modalities": ["EEG"], "num_epochs": 3, "macro": {"macro_f1": {"value": 0.5}}}
    write(tmp_path, "missing.json", {"task": "staging", "subsets": [entry]})
    (stored,), _ = read_results(str(tmp_path))
    (subset,) = stored.subsets
    assert subset.modalities == ("EEG",)
    assert subset.figures["macro"]["macro_f1"].value == 0.5


def test_json_of_something_else_is_named_and_not_read(tmp_path: Path) -> None:
    write(tmp_path, "missing_config.json", {"preset": "tiny"})
    write(tmp_path, "list.json", [1])
    found, others = read_results(str(tmp_path))
    assert found == []
    assert [Path(file).name for file in others] == ["list.json", "missing_config.json"]


@pytest.mark.parametrize(
    "values",
    [
        {"task": "age", "figures": [{"value": 1}]},
        {"task": "staging", "confusion": {"classes": ["a"], "counts": [[1, 2]]}},
        {"task": "staging", "subsets": [{"macro": {}}]},
        {"task": "age", "folds": [{"group": ""}]},
        {"task": "age", "figures": [{"name": "mae", "value": "many"}]},
    ],
)
def test_what_is_no_result_is_refused_by_its_name(tmp_path: Path, values: Any) -> None:
    write(tmp_path, "odd.json", values)
    with pytest.raises(TableError, match=r"odd\.json: found no result"):
        read_results(str(tmp_path))


def test_no_folder_and_a_table_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="found nothing"):
        read_results(str(tmp_path / "nowhere"))
    write(tmp_path, "age.json", {"task": "age"})
    (tmp_path / "age.csv").write_text("a,b\n1,2\n")
    (stored,), _ = read_results(str(tmp_path))
    with pytest.raises(TableError, match="expected predictions"):
        read_predictions(stored)


@pytest.mark.parametrize(
    "odd", [{"unit": "../x"}, {"num_subjects": "many"}, {"num_events": {"mi": None}}]
)
def test_parts_of_another_kind_are_refused(tmp_path: Path, odd: dict[str, Any]) -> None:
    write(tmp_path, "sex.json", {"task": "sex", **odd})
    with pytest.raises(TableError, match=r"sex\.json: found no result of a task"):
        read_results(str(tmp_path))


@pytest.mark.parametrize("table", [b"\xff\xfe", b"", b"recording_id,subject_id\n"])
def test_predictions_that_are_none_are_refused(tmp_path: Path, table: bytes) -> None:
    write(tmp_path, "sex.json", {"task": "sex"})
    (tmp_path / "sex.csv").write_bytes(table)
    (stored,), _ = read_results(str(tmp_path))
    with pytest.raises(TableError, match="expected predictions"):
        read_predictions(stored)
