"""Which rows of segments.lance does each micro batch of each step read?

A step is made of lanes, one micro batch each: batch_size / micro_batch of them, or one per worker
when a worker's share is below micro_batch. Of W workers with A micro batches each, worker w has
lanes w * A to w * A + A - 1. What a lane reads at a step is a function of the seed, the lane and
the step alone. So neither the number of workers nor an interruption changes what a step is made of,
and a training that is resumed reads nothing again.

A pass draws an order of short runs of neighbouring rows: long enough to be read nearly as fast as a
scan, short enough that what is shuffled together comes from many nights. Each lane has an equal,
contiguous share of that order, cut to the row; what is left over, less than a batch, is another
remainder each pass. A lane reads its share in chunks, and each chunk is shuffled row by row. Lanes
begin new chunks at different steps, so that a worker of many lanes reads at a steady pace.

Knows row numbers only: no table, no Ray, no torch.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.config import MicroPretrainConfig
from sleepmami.errors import TableError

RUN_ROWS = 64  # 3.5 MB of six modalities; Lance reads 32 at three quarters of the speed

Rows = NDArray[np.int64]
Runs = NDArray[np.int64]  # [number of runs, (first row, row after the last)]

# First words of the seeds. numpy takes [s, p] and [s, p, 0, 0] for the same seed, so that numbers
# drawn for different purposes need one that is never zero and differs.
_OF_A_PASS, _OF_A_CHUNK = 1, 2


def runs_of(rows: Rows) -> Runs:
    """Ascending row numbers as runs of at most RUN_ROWS."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = [
        (part[first], part[min(first + RUN_ROWS, len(part)) - 1] + 1)
        for part in np.split(rows, breaks)
        for first in range(0, len(part), RUN_ROWS)
    ]
    return np.array(runs, dtype=np.int64).reshape(-1, 2)


def count_rows(runs: Runs) -> int:
    """Rows in all runs."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def rows_of(runs: Runs) -> Rows:
    """The row numbers of all runs, run after run."""
    return np.concatenate([np.empty(0, np.int64), *(np.arange(a, b) for a, b in runs)])


def digest_of(runs: Mapping[str, Runs]) -> str:
    """Equal when a training reads the same rows, of the same cohorts."""
    digest = hashlib.sha256()
    for cohort in sorted(runs):
        if len(runs[cohort]):
            digest.update(f"{cohort}\0{len(runs[cohort])}\0".encode())
            digest.update(runs[cohort].astype("<i8").tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Rows that one lane reads together.

    Attributes:
        lane: whose.
        first_step: the step that takes its first micro batch; the next step takes the second.
        rows: [micro batches, rows of one].
    """

    lane: int
    first_step: int
    rows: Rows

    @property
    def stop_step(self) -> int:
        """The step after its last."""
        return self.first_step + len(self.rows)


class SegmentOrder:
    """The order of a whole training.

    Args:
        runs: rows to train on, by cohort.
        mixing: how often a pass reads the rows of a cohort; 1 where none is given. Of 2.25, every
            row comes twice and a quarter of them, drawn in each pass, once more.
        batch_size: rows of a step.
        num_lanes: micro batches of a step.
        shuffle_buffer: rows of a chunk, rounded up to whole micro batches.
        seed: of everything drawn.

    Raises:
        TableError: `mixing` names a cohort that `runs` does not have.
    """

    def __init__(
        self,
        runs: Mapping[str, Runs],
        *,
        mixing: Mapping[str, float],
        batch_size: int,
        num_lanes: int,
        shuffle_buffer: int,
        seed: int,
    ) -> None:
        unknown = sorted(set(mixing) - set(runs))
        if unknown:
            raise TableError(f"mixing: found cohorts {unknown}; expected some of {sorted(runs)}")
        self._cohorts = [(runs[cohort], mixing.get(cohort, 1.0)) for cohort in sorted(runs)]
        self._micro_batch = batch_size // num_lanes
        self._num_lanes = num_lanes
        self._chunk_steps = max(1, -(-shuffle_buffer // self._micro_batch))
        self._seed = seed
        self.rows_per_pass = 0
        for part, weight in self._cohorts:
            whole, drawn = _repeats(weight, count_rows(part))
            self.rows_per_pass += whole * count_rows(part) + drawn
        self.steps_per_pass = self.rows_per_pass // batch_size

    @classmethod
    def of(cls, config: MicroPretrainConfig, runs: Mapping[str, Runs]) -> "SegmentOrder":
        """The order that a config asks for."""
        return cls(
            runs,
            mixing=dict(config.mixing),
            batch_size=config.batch_size,
            num_lanes=config.workers.num_workers * _lanes_per_worker(config),
            shuffle_buffer=config.shuffle_buffer,
            seed=config.loop.seed,
        )

    def chunks(self, lanes: Sequence[int], start: int, stop: int) -> Iterator[Chunk]:
        """What some lanes read from step `start` to before `stop`, in the order it is needed."""
        for pass_index in itertools.count(start // self.steps_per_pass):
            begin = pass_index * self.steps_per_pass
            if begin >= stop:
                return
            runs = self._runs_of_pass(pass_index)
            ends = np.cumsum(runs[:, 1] - runs[:, 0])
            bounds = sorted(bound for lane in lanes for bound in self._bounds(lane))
            for first, lane, number, last in bounds:
                skipped = max(start - begin - first, 0)
                kept = min(last, stop - begin) - first
                if skipped < kept:
                    lane_begin = lane * self.steps_per_pass
                    places = [(lane_begin + step) * self._micro_batch for step in (first, last)]
                    rows = _rows_between(runs, ends, places[0], places[1])
                    yield Chunk(
                        lane=lane,
                        first_step=begin + first + skipped,
                        rows=self._shuffled(rows, pass_index, lane, number)[skipped:kept],
                    )

    def _runs_of_pass(self, pass_index: int) -> Runs:
        rng = np.random.default_rng([_OF_A_PASS, self._seed, pass_index])
        parts = []
        for runs, weight in self._cohorts:
            whole, drawn = _repeats(weight, count_rows(runs))
            parts += [runs] * whole + [_draw(runs, drawn, rng)]
        return rng.permutation(np.concatenate(parts))

    def _bounds(self, lane: int) -> Iterator[tuple[int, int, int, int]]:
        """(first step of the pass, lane, number, step after the last) of a lane's chunks."""
        first = 0
        last = self._chunk_steps - lane * self._chunk_steps // self._num_lanes
        for number in itertools.count():
            last = min(last, self.steps_per_pass)
            yield first, lane, number, last
            if last == self.steps_per_pass:
                return
            first, last = last, last + self._chunk_steps

    def _shuffled(self, rows: Rows, pass_index: int, lane: int, number: int) -> Rows:
        rng = np.random.default_rng([_OF_A_CHUNK, self._seed, pass_index, lane, number])
        return rng.permutation(rows).reshape(-1, self._micro_batch)


def lanes_of(rank: int, config: MicroPretrainConfig) -> range:
    """The lanes of one worker."""
    count = _lanes_per_worker(config)
    return range(rank * count, (rank + 1) * count)


def _lanes_per_worker(config: MicroPretrainConfig) -> int:
    rows = config.batch_size // config.workers.num_workers
    return rows // min(rows, config.engine.micro_batch)


def _repeats(weight: float, num_rows: int) -> tuple[int, int]:
    """How often a pass reads all of a cohort's rows, and how many it draws on top."""
    whole = int(weight)
    return whole, round((weight - whole) * num_rows)


def _draw(runs: Runs, num_rows: int, rng: np.random.Generator) -> Runs:
    """Runs at random that hold exactly so many rows; the last one is cut to fit."""
    if not num_rows:
        return runs[:0]
    order = rng.permutation(runs)
    ends = np.cumsum(order[:, 1] - order[:, 0])
    last = int(np.searchsorted(ends, num_rows))
    drawn = order[: last + 1]
    drawn[-1, 1] -= ends[last] - num_rows
    return drawn


def _rows_between(runs: Runs, ends: Rows, start: int, stop: int) -> Rows:
    """Rows at places `start:stop` of the runs laid end to end."""
    first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(ends, stop)
    touched = runs[first : last + 1]
    skipped = start - (ends[first] - (runs[first, 1] - runs[first, 0]))
    return rows_of(touched)[skipped : skipped + stop - start]
