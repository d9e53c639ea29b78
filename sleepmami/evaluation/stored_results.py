"""Results of probes as they were written: `probe ... -o x.json --csv x.csv`, a folder of them.

A result's predictions are the file of the same name that ends in .csv. `missing-modalities` writes
`subsets` in place of `figures`; figures of a matrix have groups such as "EEG->ECG".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.predictions import Predictions, read_predictions_csv
from sleepmami.evaluation.results import Confusion, Figure

ARROW = "->"
QUANTITIES = ("age", "bmi", "ahi")  # tasks whose truth is a number
UNITS = ("", "night", "epoch", "second", "query")
_TEXTS = ("level", "name", "unit", "model_id")
_COUNTS = ("num_subjects", "num_nights", "num_rows")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetFigures:
    """Figures of one set of modalities, by its level and its name."""

    modalities: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredResult:
    """One result; see ProbeResult.

    Attributes:
        file: where it was read.
        predictions: its table of predictions; None where there is none.
        name: of the model, where whoever wrote the result gave one.
        subsets: of modalities; empty for a probe.
        fit_subjects: of each group, the mean over folds.
    """

    file: str
    predictions: str | None
    task: str
    level: str = ""
    name: str = ""
    unit: str = ""
    model_id: str = ""
    num_subjects: int = 0
    num_nights: int = 0
    num_rows: int = 0
    confidence: float = 0.95
    figures: tuple[Figure, ...] = ()
    num_events: Mapping[str, int] = field(default_factory=dict)
    confusion: Confusion | None = None
    subsets: tuple[SubsetFigures, ...] = ()
    fit_subjects: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def crossed(self, name: str) -> dict[tuple[str, str], Estimate]:
        """A figure's cells of a matrix, by what stands before and behind the arrow of its group."""
        cells = {}
        for figure in self.figures:
            first, arrow, second = figure.group.partition(ARROW)
            if arrow and figure.name == name:
                cells[first, second] = figure.estimate
        return cells

    @property
    def is_matrix(self) -> bool:
        """Whether its figures are of pairs."""
        return any(ARROW in figure.group for figure in self.figures)

    def find(self, name: str, group: str = "") -> Estimate | None:
        """A figure of it, None where it has none of that name."""
        found = (f.estimate for f in self.figures if (f.name, f.group) == (name, group))
        return next(found, None)


def read_results(folder: str) -> tuple[list[StoredResult], list[str]]:
    """All results in a folder and the folders in it, by their path; and other .json files.

    Raises:
        TableError: a .json file that is damaged, or a result with other parts than results have;
            or there is no such folder.
    """
    if not storage.exists(folder):
        raise TableError(f"{folder}: found nothing; expected a folder of `probe ... -o FILE.json`")
    tables = set(storage.list_files(folder, (".csv",)))
    found, others = [], []
    for file in sorted(storage.list_files(folder, (".json",))):
        table = file.removesuffix(".json") + ".csv"
        result = _read(file, table if table in tables else None)
        if result is None:
            others.append(file)
        else:
            found.append(result)
    return found, others


def read_predictions(result: StoredResult, *, likelihoods: bool = False) -> Predictions:
    """A result's table of predictions; TableError where there is none, or it is not one.

    Args:
        result: of any task that has some.
        likelihoods: also read the probability of each class.
    """
    if result.predictions is None:
        raise TableError(f"{result.file}: found no predictions beside it; expected a .csv")
    with storage.reading(result.predictions) as stream:
        return read_predictions_csv(
            stream,
            result.predictions,
            quantities=result.task in QUANTITIES,
            likelihoods=likelihoods,
        )


def _read(file: str, predictions: str | None) -> StoredResult | None:
    """None for what is JSON and says of no task."""
    try:
        values = json.loads(storage.read_bytes(file))
        if not isinstance(values, dict) or "task" not in values:
            return None
        plain: dict[str, Any] = {
            name: kind(values[name])
            for kind, names in (
                (str, _TEXTS),
                (int, _COUNTS),
                (_counted, ("num_events", "left_out")),
            )
            for name in names
            if values.get(name) is not None
        }
        if plain.get("unit", "") not in UNITS:  # a part of the names of pictures
            raise ValueError(f"unit {plain['unit']!r}")
        confusion = values.get("confusion")
        return StoredResult(
            file=file,
            predictions=predictions,
            task=str(values["task"]),
            confidence=float((values.get("config") or {}).get("confidence", 0.95)),
            figures=tuple(_figure(item) for item in values.get("figures", ())),
            confusion=None if confusion is None else _confusion(confusion),
            subsets=tuple(_subset(entry) for entry in values.get("subsets", ())),
            fit_subjects=_fit_subjects(values.get("folds", ())),
            notes=tuple(map(str, values.get("notes", ()))),
            **plain,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(
            f"{file}: found no result of a task ({type(error).__name__}: {error}); expected what "
            "`probe ... -o FILE.json` writes"
        ) from error


def _counted(item: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(number) for name, number in item.items()}


def _figure(item: Mapping[str, Any]) -> Figure:
    return Figure(str(item["name"]), str(item.get("group", "")), _estimate(item))


def _estimate(item: Mapping[str, Any]) -> Estimate:
    return Estimate(
        value=_number(item["value"]),
        low=_number(item.get("low")),
        high=_number(item.get("high")),
        num_undefined=int(item.get("num_undefined", 0)),
    )


def _number(value: Any) -> float:  # Any: a number, or null for one that is not defined
    return math.nan if value is None else float(value)


def _confusion(item: Mapping[str, Any]) -> Confusion:
    classes = tuple(map(str, item["classes"]))
    counts = tuple(tuple(map(int, row)) for row in item["counts"])
    if any(len(row) != len(classes) for row in (counts, *counts)):
        raise ValueError(f"counts of {len(counts)} rows for {len(classes)} classes")
    return Confusion(classes=classes, counts=counts)


def _subset(entry: Mapping[str, Any]) -> SubsetFigures:
    levels = {name: value for name, value in entry.items() if isinstance(value, Mapping)}
    return SubsetFigures(
        modalities=tuple(map(str, entry["modalities"])),
        figures={
            level: {name: _estimate(item) for name, item in figures.items()}
            for level, figures in levels.items()
        },
    )


def _fit_subjects(folds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    sizes: dict[str, list[int]] = {}
    for fold in folds:
        sizes.setdefault(str(fold["group"]), []).append(int(fold["num_fit_subjects"]))
    return {group: sum(found) / len(found) for group, found in sizes.items()}
