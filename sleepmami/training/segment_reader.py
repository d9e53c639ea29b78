"""How do the rows of an order become the micro batches of a training's steps?

A reader, Ray Data (`pipelines.segment_source`) or `read_ahead` below, gives the rows of one chunk
after another as Arrow tables, ascending. `step_batches` puts them where training
wants them, which is their only copy between Arrow and a tensor, and lets go of the tables.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sleepmami import storage
from sleepmami.tables import lance_io
from sleepmami.tables.lance_io import OpenTable
from sleepmami.tables.schemas import ANY_RECORDINGS, SEGMENTS
from sleepmami.training.batches import (
    SEGMENT_BATCH_COLUMNS,
    SegmentBatch,
    SegmentBuffer,
    StoredSegments,
)
from sleepmami.training.prefetch import prefetched
from sleepmami.training.segment_order import Chunk, Rows, Runs, runs_of

READ_ROWS = 128  # at once: what they hold is then still in cache when it is copied
READ_AHEAD = 4  # reads that `read_ahead` has ready or is at

Read = tuple[Chunk, pa.Table]  # some or all of a chunk's `stored_rows`, in order


def split_runs(corpus: str, split: str, *, version: int) -> dict[str, Runs]:
    """By cohort, the rows of one version of segments.lance that are of one split."""
    recordings = lance_io.read_table(
        storage.join(corpus, "recordings.lance"),
        columns=["recording_id", "cohort"],
        filter=f"rejected_code IS NULL AND split = '{split}'",
        schema=ANY_RECORDINGS,
    )
    segments = lance_io.read_table(
        storage.join(corpus, "segments.lance"),
        columns=["recording_id"],
        schema=SEGMENTS,
        version=version,
    )
    ids, cohorts = recordings.column("recording_id"), recordings.column("cohort")
    # null, and so of no cohort, are rows of other splits and of an interrupted ingest
    whose = pc.index_in(segments.column("recording_id"), value_set=ids.combine_chunks())
    cohort = pc.take(cohorts, whose)
    return {
        name: runs_of(np.flatnonzero(pc.equal(cohort, name).fill_null(False)))
        for name in sorted(set(cohorts.to_pylist()))
    }


def stored_rows(chunk: Chunk) -> Rows:
    """A chunk's rows as they are read: ascending; twice what `mixing` draws twice."""
    return np.sort(chunk.rows, axis=None)


def read_chunk(table: OpenTable, chunk: Chunk) -> Iterator[pa.Table]:
    """The columns that training needs of `stored_rows(chunk)`, a part at a time."""
    rows = stored_rows(chunk)
    for first in range(0, len(rows), READ_ROWS):
        yield table.take(rows[first : first + READ_ROWS].tolist(), SEGMENT_BATCH_COLUMNS)


def read_ahead(table: OpenTable, chunks: Iterable[Chunk]) -> Iterator[Read]:
    """Read chunks in a thread, before they are asked for; for where there is no Ray."""
    reads = ((chunk, part) for chunk in chunks for part in read_chunk(table, chunk))
    return prefetched(reads, depth=READ_AHEAD)


def step_batches(
    reads: Iterator[Read],
    lanes: Sequence[int],
    start: int,
    stop: int,
    device: torch.device,
) -> Iterator[list[SegmentBatch]]:
    """The micro batches of each step from `start` to before `stop`, one per lane, on `device`.

    Args:
        reads: from `read_ahead` or its like, of `SegmentOrder.chunks` with the same arguments.
        lanes: this worker's.
        start: a step.
        stop: a step.
        device: where the model is.
    """
    for stored in stored_batches(reads, lanes, start, stop, pinned=device.type == "cuda"):
        yield [micro_batch.to_batch(device) for micro_batch in stored]


def stored_batches(
    reads: Iterator[Read], lanes: Sequence[int], start: int, stop: int, *, pinned: bool
) -> Iterator[list[StoredSegments]]:
    """`step_batches` before they go to a device, which is what a GPU leaves to the CPU.

    Memory that is not pinned is used again: it holds these batches until the next are asked for.
    """
    free: list[SegmentBuffer] = []
    filled: dict[int, _FilledChunk] = {}
    for step in range(start, stop):
        while any(lane not in filled for lane in lanes):
            chunk = _FilledChunk(reads, free, pinned)
            filled[chunk.lane] = chunk
        yield [filled[lane].segments(step) for lane in lanes]
        for lane in lanes:
            if filled[lane].stop_step == step + 1:
                done = filled.pop(lane)
                if not pinned:  # else the GPU may still be fetching; torch knows when it is done
                    free.append(done.buffer)


class _FilledChunk:
    """The next chunk of a reader, in training order."""

    def __init__(self, reads: Iterator[Read], free: list[SegmentBuffer], pinned: bool) -> None:
        chunk, table = next(reads)
        self.lane, self.stop_step = chunk.lane, chunk.stop_step
        self._first_step, self._micro_batch = chunk.first_step, chunk.rows.shape[1]
        self.buffer = _large_enough(free, chunk.rows.size) or SegmentBuffer(
            chunk.rows.size, pinned=pinned
        )
        places = np.argsort(chunk.rows, axis=None, kind="stable")
        done = 0
        while True:
            self.buffer.put(table, places[done : done + table.num_rows])
            done += table.num_rows
            if done == len(places):
                return
            _, table = next(reads)

    def segments(self, step: int) -> StoredSegments:
        first = (step - self._first_step) * self._micro_batch
        return self.buffer.segments(first, first + self._micro_batch)


def _large_enough(free: list[SegmentBuffer], num_rows: int) -> SegmentBuffer | None:
    """A free buffer; those that are too small, from the ends of passes, are given up."""
    while free:
        if (buffer := free.pop()).num_rows >= num_rows:
            return buffer
    return None
