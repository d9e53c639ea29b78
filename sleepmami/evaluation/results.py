"""What a probe says: figures with intervals, and everything needed to ask again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sleepmami import __version__
from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.config_edit import to_dict
from sleepmami.evaluation.bootstrap import Estimate

Cell = str | int | float
# Takes columns of equal length, once for each night or fold; None where nobody wants predictions
PredictionSink = Callable[[Mapping[str, Sequence[Cell]]], None] | None


class Figure(NamedTuple):
    """One number with its interval.

    Attributes:
        name: such as "macro_f1".
        group: what of the task it is of: a disease, or "n=5" subjects; empty where it is of all.
        estimate: value and interval.
    """

    name: str
    group: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldResult:
    """One fitted probe.

    Attributes:
        group: as Figure's.
        num_fit_subjects: of the fit set.
        num_fit_rows: epochs, or nights.
        num_test_subjects: of the test set.
        penalty: of half the squared weights.
        penalty_chosen: False where there was nobody to choose it on.
    """

    group: str
    num_fit_subjects: int
    num_fit_rows: int
    num_test_subjects: int
    penalty: float
    penalty_chosen: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Counts over all tested epochs: rows are the truth, columns the guess."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """The answer of one task on one set of embeddings.

    Attributes:
        unit: what a row is: night, epoch or second.
        num_subjects: that were tested.
        num_nights: that were tested.
        num_rows: that were tested, in `unit`.
        num_events: of each outcome, among the tested subjects.
        left_out: nights that were not used, by the reason.
        notes: what a reader of the figures has to know.
    """

    task: Task
    level: Level
    unit: str
    embeddings: str
    labels: tuple[str, ...]
    model_id: str
    weights_sha256: str
    num_subjects: int
    num_nights: int
    num_rows: int
    figures: tuple[Figure, ...]
    num_events: Mapping[str, int]
    confusion: Confusion | None
    folds: tuple[FoldResult, ...]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    config: ProbeConfig

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Plain JSON types; a figure that is not defined is null."""
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("figures", "confusion", "folds", "config")
        }
        return {
            **plain,
            "left_out": dict(self.left_out),
            "num_events": dict(self.num_events),
            "code_version": __version__,
            "figures": [
                {
                    "name": figure.name,
                    "group": figure.group,
                    **{
                        name: _finite(value)
                        for name, value in dataclasses.asdict(figure.estimate).items()
                    },
                }
                for figure in self.figures
            ],
            "confusion": None if self.confusion is None else dataclasses.asdict(self.confusion),
            "folds": [dataclasses.asdict(fold) for fold in self.folds],
            "config": to_dict(self.config),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
