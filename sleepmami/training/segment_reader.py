"""How do the rows of an order become the micro batches of a training's steps?

Chunks are read ahead, by Ray Data (`pipelines.segment_source`) or without Ray by `read_ahead`
below; both call `read_chunk` and give the same tables. `step_batches` gathers micro batches from
them. A chunk stays as it was read until its last row is gathered, so that a row is copied once
between Lance and the tensor.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sleepmami import storage
from sleepmami.tables import lance_io
from sleepmami.tables.lance_io import OpenTable
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS
from sleepmami.training.batches import (
    SEGMENT_BATCH_COLUMNS,
    SegmentBatch,
    SegmentRows,
    StoredSegments,
)
from sleepmami.training.segment_order import Chunk, Rows, Runs, runs_of

READ_ROWS = 256  # at once: of 1024, the memory of each read would be new and cost as much again
READ_AHEAD = 2  # chunks that `read_ahead` has ready or is reading

ReadChunk = tuple[Chunk, pa.Table]


def training_runs(corpus: str, *, version: int) -> dict[str, Runs]:
    """By cohort, the rows of one version of segments.lance that are of the train split."""
    recordings = lance_io.read_table(
        storage.join(corpus, "recordings.lance"),
        columns=["recording_id", "cohort"],
        filter="rejected_code IS NULL AND split = 'train'",
        schema=RECORDINGS,
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
    """A chunk's rows as they are read: ascending, each once."""
    return np.unique(chunk.rows)


def read_chunk(table: OpenTable, chunk: Chunk) -> pa.Table:
    """The columns that training needs of `stored_rows(chunk)`, in that order."""
    rows = stored_rows(chunk)
    firsts = range(0, len(rows), READ_ROWS)
    parts = [table.take(rows[n : n + READ_ROWS].tolist(), SEGMENT_BATCH_COLUMNS) for n in firsts]
    return pa.concat_tables(parts)


def read_ahead(table: OpenTable, chunks: Iterable[Chunk]) -> Iterator[ReadChunk]:
    """Read chunks in a thread, before they are asked for; for where there is no Ray."""
    source = iter(chunks)
    reading: deque[tuple[Chunk, Future[pa.Table]]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        for chunk in source:
            reading.append((chunk, thread.submit(read_chunk, table, chunk)))
            if len(reading) > READ_AHEAD:
                done, future = reading.popleft()
                yield done, future.result()
        for done, future in reading:
            yield done, future.result()


class _OpenChunk:
    def __init__(self, chunk: Chunk, table: pa.Table) -> None:
        self.stop_step = chunk.stop_step
        self._first_step = chunk.first_step
        self._rows = SegmentRows(table)
        self._places = np.searchsorted(stored_rows(chunk), chunk.rows)

    def take(self, step: int, pinned: bool) -> StoredSegments:
        return self._rows.take(self._places[step - self._first_step], pinned=pinned)


def step_batches(
    read: Iterator[ReadChunk],
    lanes: Sequence[int],
    start: int,
    stop: int,
    device: torch.device,
) -> Iterator[list[SegmentBatch]]:
    """The micro batches of each step from `start` to before `stop`, one per lane, on `device`.

    Args:
        read: from `read_ahead` or its like, of `SegmentOrder.chunks` with the same arguments.
        lanes: this worker's.
        start: a step.
        stop: a step.
        device: where the model is.
    """
    pinned = device.type == "cuda"
    open_chunks: dict[int, _OpenChunk] = {}
    for step in range(start, stop):
        while any(lane not in open_chunks for lane in lanes):
            chunk, table = next(read)
            open_chunks[chunk.lane] = _OpenChunk(chunk, table)
        yield [open_chunks[lane].take(step, pinned).to_batch(device) for lane in lanes]
        for lane in lanes:
            if open_chunks[lane].stop_step == step + 1:
                del open_chunks[lane]
