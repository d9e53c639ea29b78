"""How much of a pass is padding, and how like the whole cohort each of its batches is.

What section 3.2 asks of stratified batches ("balanced demographic distributions and similar
sequence lengths within each batch"), in numbers that a run prints before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleepmami.training.stratified import CLASSES, Indices, strata

CHANCE_DRAWS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PassBalance:
    """One pass over the nights.

    Attributes:
        num_batches: of the pass.
        padding: share of the epochs of all padded batches that are padding, 0..1.
        padding_by_chance: the same for random batches of the same size.
        sex, age, bmi: the largest difference, over batches and classes (tertiles of age and BMI),
            between a class's share of a batch and its share of all nights, 0..1.
        twice: nights drawn a second time.
        left_out: nights not drawn.
    """

    num_batches: int
    padding: float
    padding_by_chance: float
    sex: float
    age: float
    bmi: float
    twice: int
    left_out: int

    def __str__(self) -> str:
        return (
            f"{self.num_batches} batches, {self.padding:.1%} padding "
            f"({self.padding_by_chance:.1%} by chance); a batch differs from all nights by at most "
            f"{self.sex:.2f} in its share of a sex, {self.age:.2f} of an age tertile, "
            f"{self.bmi:.2f} of a BMI tertile; {self.twice} nights twice, {self.left_out} left out"
        )


def pass_balance(
    batches: Sequence[Indices],
    lengths: ArrayLike,
    age: ArrayLike,
    bmi: ArrayLike,
    female: ArrayLike,
) -> PassBalance:
    """Of the batches that `stratified_batches` drew; the other arguments are the ones it had."""
    length = np.asarray(lengths, np.int64)
    code = strata(age, bmi, female)
    rng = np.random.default_rng(0)
    size = len(batches[0])
    chance = [
        np.array_split(rng.permutation(len(length)), max(1, len(length) // size))
        for _ in range(CHANCE_DRAWS)
    ]
    drawn = np.bincount(np.concatenate(batches), minlength=len(length))
    return PassBalance(
        num_batches=len(batches),
        padding=_padding(batches, length),
        padding_by_chance=float(np.mean([_padding(draw, length) for draw in chance])),
        sex=_largest_difference(batches, code // CLASSES**2),
        age=_largest_difference(batches, code // CLASSES % CLASSES),
        bmi=_largest_difference(batches, code % CLASSES),
        twice=int((drawn > 1).sum()),
        left_out=int((drawn == 0).sum()),
    )


def _padding(batches: Sequence[Indices], length: Indices) -> float:
    padded = sum(len(batch) * int(length[batch].max()) for batch in batches)
    return 1 - sum(int(length[batch].sum()) for batch in batches) / padded


def _largest_difference(batches: Sequence[Indices], class_of: Indices) -> float:
    shares: NDArray[np.float64] = np.stack(
        [np.bincount(class_of[batch], minlength=CLASSES) / len(batch) for batch in batches]
    )
    overall = np.bincount(class_of, minlength=CLASSES) / len(class_of)
    return float(np.abs(shares - overall).max())
