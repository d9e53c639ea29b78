"""How sleep is built by groups of people: stages over the night (Figs. 4, 8, 9), and their shares.

Time begins with the first epoch of sleep, because recordings begin at any time before it; the paper
does not say where its axis begins. A group is drawn for as long as half of its nights last.
Shapes: N nights, L epochs, T bins of 15 minutes, 5 stages in the order of STAGE_ORDER.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.evaluation.bootstrap import Estimate, estimate, resampled_counts
from sleepmami.psg import EPOCH_S, Stage

STAGE_ORDER = (Stage.WAKE, Stage.REM, Stage.N1, Stage.N2, Stage.N3)
BIN_EPOCHS = 30
BIN_H = BIN_EPOCHS * EPOCH_S / 3600
NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
EARLY_H = 3.0  # "early": N3 lies there, and REM after it


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredNight:
    """A night with a hypnogram, and what is known of its person; None is unknown."""

    subject_id: str
    hypnogram: NDArray[np.int8]
    age_years: float | None
    sex: str | None
    bmi: float | None
    ahi: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """One way to part people.

    Attributes:
        name: field of ScoredNight.
        labels: of the groups.
        edges: from the lowest value of the first group to the end of the last, which is open; empty
            where the value itself is the group.
    """

    name: str
    labels: tuple[str, ...]
    edges: tuple[float, ...] = ()

    def group(self, night: ScoredNight) -> str | None:
        """Label of the group that a night is of; None where it is in none."""
        value = getattr(night, self.name)
        if value is None or not self.edges:
            return value if value in self.labels else None
        place = int(np.searchsorted(self.edges, value, side="right")) - 1
        return self.labels[place] if 0 <= place < len(self.labels) else None


SEX = Factor(name="sex", labels=("female", "male"))
AGE_2 = Factor(name="age_years", labels=("18-59 y", "60 y and over"), edges=(18, 60, np.inf))
AGE_3 = Factor(name="age_years", labels=("18-44 y", "45-64 y", "65 y and over"),
               edges=(18, 45, 65, np.inf))  # fmt: skip
OBESE = Factor(name="bmi", labels=("BMI < 30", "BMI \u2265 30"), edges=(0, 30, np.inf))
BMI_3 = Factor(name="bmi", labels=("BMI < 25", "BMI 25-30", "BMI \u2265 30"),
               edges=(0, 25, 30, np.inf))  # fmt: skip
AHI = Factor(name="ahi", labels=("AHI < 15", "AHI \u2265 15"), edges=(0, 15, np.inf))


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """One picture: groups by rows and columns."""

    key: str
    title: str
    rows: tuple[Factor, ...]
    column: Factor


GRIDS = (
    Grid(key="fig4", title="age and BMI by sex (Fig. 4)", rows=(AGE_2, OBESE), column=SEX),
    Grid(key="fig8a", title="age by sex (Fig. 8a)", rows=(AGE_3,), column=SEX),
    Grid(key="fig8b", title="BMI by sex (Fig. 8b)", rows=(BMI_3,), column=SEX),
    Grid(key="fig8c", title="AHI by sex (Fig. 8c)", rows=(AHI,), column=SEX),
    Grid(key="fig9a", title="BMI and age (Fig. 9a)", rows=(BMI_3,), column=AGE_3),
    Grid(key="fig9b", title="BMI and AHI (Fig. 9b)", rows=(BMI_3,), column=AHI),
    Grid(key="fig9c", title="age and AHI (Fig. 9c)", rows=(AGE_3,), column=AHI),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupedNights:
    """The nights of one group.

    Attributes:
        label: of the group.
        shares: [T, 5] mean share of each stage; T is 0 where nobody is in the group.
    """

    label: str
    num_nights: int
    num_subjects: int
    shares: NDArray[np.float64]

    def early_n3(self) -> float:
        """Mean share of N3 in the first hours; NaN where nobody is in the group."""
        early = self.shares[: round(EARLY_H / BIN_H), STAGE_ORDER.index(Stage.N3)]
        return float(early.mean()) if len(early) else float("nan")


def grouped(nights: Sequence[ScoredNight], grid: Grid) -> list[list[GroupedNights]]:
    """Groups of a grid, row by row."""
    rows: list[tuple[str, ...]] = [()]
    for factor in grid.rows:
        rows = [(*row, label) for row in rows for label in factor.labels]
    return [[_group(nights, grid, row, column) for column in grid.column.labels] for row in rows]


def _group(
    nights: Sequence[ScoredNight], grid: Grid, row: tuple[str, ...], column: str
) -> GroupedNights:
    own = [
        night
        for night in nights
        if grid.column.group(night) == column
        and tuple(factor.group(night) for factor in grid.rows) == row
    ]
    return GroupedNights(
        label=", ".join((*row, column)),
        num_nights=len(own),
        num_subjects=len({night.subject_id for night in own}),
        shares=stage_shares([night.hypnogram for night in own]),
    )


def stage_shares(hypnograms: Sequence[NDArray[np.int8]]) -> NDArray[np.float64]:
    """Mean share [T, 5] of each stage among the scored epochs of each bin, from the onset of sleep.

    A night without sleep has no onset and is left out.
    """
    binned = [bins for hypnogram in hypnograms if (bins := _binned(hypnogram)) is not None]
    if not binned:
        return np.zeros((0, len(STAGE_ORDER)))
    lengths = sorted((len(one) for one in binned), reverse=True)
    length = lengths[(len(lengths) - 1) // 2]  # as far as half of the nights last
    padded = np.full((len(binned), length, len(STAGE_ORDER)), np.nan)
    for place, one in enumerate(binned):
        padded[place, : len(one)] = one[:length]
    known = np.isfinite(padded)
    total, num = np.where(known, padded, 0).sum(0), known.sum(0)
    return np.asarray(np.divide(total, num, out=np.zeros(total.shape), where=num > 0))


def _binned(hypnogram: NDArray[np.int8]) -> NDArray[np.float64] | None:
    """Shares [T, 5] of one night; NaN in a bin without a scored epoch."""
    asleep = np.flatnonzero(hypnogram > Stage.WAKE)
    if not len(asleep):
        return None
    own = hypnogram[asleep[0] :]
    length = len(own) // BIN_EPOCHS
    if not length:
        return None
    bins = own[: length * BIN_EPOCHS].reshape(length, BIN_EPOCHS)
    counts = np.stack([(bins == stage).sum(1) for stage in STAGE_ORDER], axis=1).astype(float)
    total = counts.sum(1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    return np.asarray(np.divide(counts, total, out=shares, where=total > 0))


def sleep_shares(
    nights: Sequence[ScoredNight], factor: Factor, stage: Stage
) -> dict[str, tuple[Estimate, int]]:
    """Share of sleep in a stage by group: mean over people with an interval, and their number."""
    found = {}
    for label in factor.labels:
        people: dict[str, list[float]] = {}
        for night in nights:
            asleep = night.hypnogram[night.hypnogram > Stage.WAKE]
            if factor.group(night) == label and len(asleep):
                people.setdefault(night.subject_id, []).append(float((asleep == stage).mean()))
        if people:
            values_S = np.array([np.mean(shares) for shares in people.values()])
            drawn_BS = resampled_counts(len(values_S), NUM_RESAMPLES, 0)
            means_B = drawn_BS @ values_S / len(values_S)
            found[label] = estimate(means_B, CONFIDENCE), len(values_S)
    return found
