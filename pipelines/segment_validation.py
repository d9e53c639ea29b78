"""Which segments are held out to validate the Micro-Encoder, and how workers get them.

The same rows each time, drawn over all nights of the validation split so that a batch holds many of
them; workers take theirs from Lance by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sleepmami.config import MicroPretrainConfig
from sleepmami.errors import TrainingError
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import SEGMENTS
from sleepmami.training import collectives
from sleepmami.training.batches import SEGMENT_BATCH_COLUMNS, SegmentBatch, segment_batch
from sleepmami.training.micro_validation import VALIDATION_SEED


def held_out_rows(
    uri: str, recording_ids: Sequence[str], config: MicroPretrainConfig, *, version: int
) -> list[int]:
    """Rows to validate on, a whole number of batches, at most `loop.validate_rows`; [] for never.

    Raises:
        TrainingError: the recordings hold too few segments for one batch.
    """
    if not config.loop.validate_every:
        return []
    table = lance_io.read_table(uri, columns=["recording_id"], schema=SEGMENTS, version=version)
    wanted = pa.array(list(recording_ids), pa.string())
    rows = np.flatnonzero(pc.is_in(table.column("recording_id"), value_set=wanted))
    if len(rows) < config.batch_size:
        raise TrainingError(
            f"{uri}: found {len(rows)} segments in the validation split, expected at least "
            f"batch_size={config.batch_size}; add nights, or set loop.validate_every=0"
        )
    most = min(config.loop.validate_rows, len(rows)) // config.batch_size * config.batch_size
    chosen: list[int] = np.random.default_rng(VALIDATION_SEED).permutation(rows)[:most].tolist()
    return chosen


def held_out_steps(
    uri: str, rows: Sequence[int], config: MicroPretrainConfig, *, version: int
) -> Callable[[], Iterator[list[SegmentBatch]]]:
    """This worker's micro batches of each batch of `rows`, dealt out as a training step is."""
    share = config.batch_size // config.workers.num_workers
    micro_batch = min(share, config.engine.micro_batch)

    def lane(first: int) -> SegmentBatch:
        ordered = sorted(rows[first : first + micro_batch])
        columns = list(SEGMENT_BATCH_COLUMNS)
        return segment_batch(lance_io.take_rows(uri, ordered, columns, version=version))

    def steps() -> Iterator[list[SegmentBatch]]:
        for batch in range(0, len(rows), config.batch_size):
            first = batch + collectives.rank() * share
            yield [lane(place) for place in range(first, first + share, micro_batch)]

    return steps
