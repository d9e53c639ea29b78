"""Which segments are held out to validate the Micro-Encoder, and how workers get them.

The same rows each time, drawn over all nights of the validation split so that a batch holds many of
them; workers take theirs from Lance by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sleepmami.config import MicroPretrainConfig
from sleepmami.tables import lance_io
from sleepmami.training import collectives
from sleepmami.training.batches import SEGMENT_BATCH_COLUMNS, SegmentBatch, segment_batch
from sleepmami.training.micro_validation import VALIDATION_SEED
from sleepmami.training.segment_order import Runs, rows_of


def held_out_rows(runs: Mapping[str, Runs], config: MicroPretrainConfig) -> list[int]:
    """Rows to validate on, the same on every call: whole batches, at most `loop.validate_rows`.

    A split that holds less than one batch is used as it is, in one batch of its own size; [] where
    `loop.validate_every` is 0 or there is nothing to validate on.

    Args:
        runs: rows of the validation split, by cohort.
        config: how many, for how many workers.
    """
    if not config.loop.validate_every:
        return []
    rows = np.concatenate([np.empty(0, np.int64), *map(rows_of, runs.values())])
    most = min(config.loop.validate_rows, len(rows))
    unit = config.batch_size if most >= config.batch_size else config.workers.num_workers
    chosen = np.random.default_rng(VALIDATION_SEED).permutation(rows)[: most // unit * unit]
    numbers: list[int] = chosen.tolist()
    return numbers


def held_out_steps(
    uri: str, rows: Sequence[int], config: MicroPretrainConfig, *, version: int
) -> Callable[[], Iterator[list[SegmentBatch]]]:
    """This worker's micro batches of each batch of `rows`, dealt out as a training step is."""
    batch_size = min(config.batch_size, len(rows))
    share = batch_size // config.workers.num_workers

    def lane(first: int, stop: int) -> SegmentBatch:
        ordered = sorted(rows[first:stop])
        columns = list(SEGMENT_BATCH_COLUMNS)
        return segment_batch(lance_io.take_rows(uri, ordered, columns, version=version))

    def steps() -> Iterator[list[SegmentBatch]]:
        for batch in range(0, len(rows), batch_size):
            first = batch + collectives.rank() * share
            stop, size = first + share, config.engine.micro_batch
            yield [lane(place, min(place + size, stop)) for place in range(first, stop, size)]

    return steps
