"""Stratified batches of subjects for the Macro-Encoder, section 3.2.

"... a stratified batch sampling strategy, maintaining balanced demographic distributions and
similar sequence lengths within each batch."

Recordings are sorted by length and cut into buckets of a few batches; inside a bucket each stratum
(age tertile x BMI tertile x sex, where unknown is a class of its own) is dealt evenly to the
batches, whichever of them the loss compares. Two recordings of one subject
never share a batch: they would be a pair of distance zero. numpy only, and without state: batches
depend on the arguments alone, so every worker and every restart draws the same ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleepmami.errors import TrainingError

Indices = NDArray[np.int64]
CLASSES = 4  # of age and of BMI: tertiles, and unknown
NUM_STRATA = 3 * CLASSES * CLASSES  # female, male, unknown


def stratified_batches(
    lengths: ArrayLike,
    age: ArrayLike,
    bmi: ArrayLike,
    female: ArrayLike,
    batch_subjects: int,
    seed: int,
    pass_index: int,
    *,
    subject_ids: Sequence[Hashable] | None = None,
) -> list[Indices]:
    """Indices of the recordings of each batch of one pass.

    There are ceil(recordings / batch_subjects) batches in every pass, all full. What is missing
    for that is filled with recordings drawn a second time. A recording is left out of a pass only
    where its subject already sits in every batch with a free place.

    Args:
        lengths: epochs of each recording, best after the cap of `max_epochs`.
        age: in any unit, only the tertiles matter; NaN where unknown.
        bmi: as `age`.
        female: bool, or 1 and 0 with NaN where unknown.
        batch_subjects: recordings of one batch, each of another subject.
        seed: of the whole training.
        pass_index: which pass; another one gives other batches.
        subject_ids: subject of each recording; None if all are of different subjects.

    Raises:
        TrainingError: fewer subjects than one batch needs.
    """
    length = np.asarray(lengths, dtype=np.int64)
    subject = _codes(range(len(length)) if subject_ids is None else subject_ids)
    num_subjects = len(set(subject))
    if num_subjects < batch_subjects:
        raise TrainingError(
            f"{num_subjects} subjects to compare in {len(length)} recordings; one batch "
            f"needs batch_subjects={batch_subjects} different ones"
        )
    stratum = strata(age, bmi, female)
    rng = np.random.default_rng([seed, pass_index])
    draw = _Draw(length, stratum, subject, batch_subjects)
    for bucket, num_batches in _buckets(length, batch_subjects, rng):
        draw.deal(bucket, num_batches, rng)
    draw.fill(rng)
    order = rng.permutation(len(draw.batches))  # else lengths would rise from step to step
    return [np.array(rng.permutation(draw.batches[b]), dtype=np.int64) for b in order]


def strata(age: ArrayLike, bmi: ArrayLike, female: ArrayLike) -> Indices:
    """Sex x age tertile x BMI tertile of each recording, as 0..47; unknown is the last class."""
    sex = np.asarray(female, dtype=np.float64)
    code = np.where(np.isnan(sex), 2, sex).astype(np.int64)
    for values in (age, bmi):
        code = CLASSES * code + _tertiles(np.asarray(values, dtype=np.float64))
    return code


def _tertiles(value: NDArray[np.float64]) -> Indices:
    known = np.isfinite(value)
    tertile = np.full(len(value), CLASSES - 1)
    if known.any():
        edges = np.quantile(value[known], [1 / 3, 2 / 3])
        tertile[known] = np.searchsorted(edges, value[known])
    return tertile


def _margins(stratum: int) -> tuple[int, int, int, int]:
    """One number each for a stratum, its sex, its age tertile and its BMI tertile."""
    sex, age, bmi = stratum // CLASSES**2, stratum // CLASSES % CLASSES, stratum % CLASSES
    return stratum, NUM_STRATA + sex, NUM_STRATA + 3 + age, NUM_STRATA + 3 + CLASSES + bmi


def _codes(subject_ids: Sequence[Hashable]) -> list[int]:
    known: dict[Hashable, int] = {}
    return [known.setdefault(name, len(known)) for name in subject_ids]


def _buckets(
    length: Indices, batch_subjects: int, rng: np.random.Generator
) -> list[tuple[Indices, int]]:
    """Recordings of similar length, and how many batches they are for.

    About as many buckets as batches in each: finer ones would leave the strata nothing to choose.
    """
    num_batches = -(-len(length) // batch_subjects)
    shares = np.array_split(np.arange(num_batches), math.isqrt(num_batches))
    sizes = np.array([len(share) * batch_subjects for share in shares])
    sizes[rng.integers(len(sizes))] -= num_batches * batch_subjects - len(length)
    by_length = np.lexsort([rng.random(len(length)), length])
    buckets = np.split(by_length, np.cumsum(sizes)[:-1])
    return [(bucket, len(share)) for bucket, share in zip(buckets, shares, strict=True)]


class _Draw:
    """The batches of one pass while they are being filled."""

    def __init__(
        self, length: Indices, stratum: Indices, subject: list[int], batch_subjects: int
    ) -> None:
        self.length, self.stratum, self.subject = length, stratum, subject
        self.batch_subjects = batch_subjects
        self.batches: list[list[int]] = []
        self.subjects: list[set[int]] = []  # of each batch
        self.counts: list[Counter[int]] = []  # of each batch, of strata and of their margins
        self.uses = np.zeros(len(length), dtype=np.int64)

    def _put(self, recording: int, batch: int) -> None:
        self.batches[batch].append(recording)
        self.subjects[batch].add(self.subject[recording])
        self.counts[batch].update(_margins(int(self.stratum[recording])))
        self.uses[recording] += 1

    def _crowd(self, batch: int, stratum: int) -> tuple[int, int, int]:
        """How many of a batch are of a stratum, share a tertile or the sex with it, are there."""
        same, *margins = (self.counts[batch][kind] for kind in _margins(stratum))
        return same, sum(margins), len(self.batches[batch])

    def deal(self, bucket: Indices, num_batches: int, rng: np.random.Generator) -> None:
        """New batches for a bucket; each recording goes where its stratum is rarest."""
        new = range(len(self.batches), len(self.batches) + num_batches)
        for _ in new:
            self.batches.append([])
            self.subjects.append(set())
            self.counts.append(Counter())
        recordings_of = Counter(self.subject[r] for r in bucket)
        tie = rng.random(num_batches + len(bucket)).tolist()
        place = dict(zip(new, tie, strict=False))
        luck = dict(zip(bucket.tolist(), tie[num_batches:], strict=True))

        def turn(recording: int) -> tuple[int, int, float]:
            # Subjects with several recordings first, while every batch still has room.
            several = recordings_of[self.subject[recording]]
            return -several, int(self.stratum[recording]), luck[recording]

        for recording in sorted(bucket.tolist(), key=turn):
            stratum, subject = int(self.stratum[recording]), self.subject[recording]
            free = [
                b
                for b in new
                if len(self.batches[b]) < self.batch_subjects and subject not in self.subjects[b]
            ]
            if free:
                rarity = {b: (*self._crowd(b, stratum), place[b]) for b in free}
                self._put(recording, min(free, key=rarity.__getitem__))

    def fill(self, rng: np.random.Generator) -> None:
        """Free places go to the least used recordings, of those to the rarest strata nearby."""
        for b in rng.permutation(len(self.batches)).tolist():
            while len(self.batches[b]) < self.batch_subjects:
                taken = np.array([s in self.subjects[b] for s in self.subject])
                distance = np.abs(self.length - np.median(self.length[self.batches[b]]))
                near = distance <= np.quantile(distance[~taken], 0.25)
                crowd = np.array([self._crowd(b, s)[:2] for s in range(NUM_STRATA)])
                luck = rng.random(len(taken))
                same, margins = crowd[self.stratum].T
                best = np.lexsort([luck, distance, margins, same, ~near, self.uses, taken])[0]
                self._put(int(best), b)
