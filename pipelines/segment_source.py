"""Chunks of segments.lance through Ray Data: read anywhere on the cluster, in the order needed.

Each training worker runs a dataset of its own that begins at the step wanted. So nothing is dealt
out between workers, which Ray Data would do as they happen to ask, and a worker that is started
again needs nothing of what it was before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import ray.data
from ray.data import Datasource, ExecutionResources, ReadTask
from ray.data.block import BlockMetadata
from ray.data.context import DataContext
from ray.exceptions import RayTaskError

from pipelines.ray_data import as_ours, quiet
from sleepmami.models.cpu import keep_freed_memory
from sleepmami.psg import MODALITIES, SEGMENT_S, STORED_RATE_HZ
from sleepmami.tables.lance_io import OpenTable
from sleepmami.training.segment_order import Chunk
from sleepmami.training.segment_reader import Read, read_chunk

ROW_BYTES = sum(2 * SEGMENT_S * STORED_RATE_HZ[modality] for modality in MODALITIES)
CHUNKS_PER_DATASET = 256  # at 55 MB each; Ray Data plans a dataset as a whole, and a run is longer
NEXT_BEGINS = 32  # chunks before a dataset's end: Ray Data needs a second, a GPU 0.1 s for a chunk
CHUNKS_AHEAD = 4  # read or being read while the worker still has the one before


class ChunkSource(Datasource):
    """Some chunks of one version of segments.lance, a read task and a block each."""

    def __init__(self, uri: str, version: int, chunks: Sequence[Chunk]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's own
        self._uri = uri
        self._version = version
        self._chunks = chunks

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all chunks."""
        return sum(_num_bytes(chunk) for chunk in self._chunks)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """One for each chunk, whatever parallelism is asked for."""
        return [
            ReadTask(
                partial(_read, self._uri, self._version, chunk),
                BlockMetadata(
                    num_rows=chunk.rows.size,
                    size_bytes=_num_bytes(chunk),
                    input_files=None,
                    exec_stats=None,
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for chunk in self._chunks
        ]


def _num_bytes(chunk: Chunk) -> int:
    return chunk.rows.size * ROW_BYTES


def _read(uri: str, version: int, chunk: Chunk) -> list[pa.Table]:
    keep_freed_memory()  # of the chunk before, which this process has read
    return [pa.concat_tables(read_chunk(OpenTable(uri, version), chunk))]


def stream(uri: str, version: int, chunks: Iterator[Chunk]) -> Iterator[Read]:
    """Read chunks by Ray Data, some ahead of being asked for; `read_ahead` is its twin without Ray.

    Args:
        uri: segments.lance.
        version: its version; commits made later are not seen.
        chunks: in the order in which they are needed.

    Raises:
        SleepMaMiError: what a read raised.
    """
    quiet()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-dataset") as beside:
        begun = beside.submit(_begin, uri, version, chunks)
        while dataset := begun.result():
            for number, read in enumerate(dataset):
                if number == max(len(dataset) - NEXT_BEGINS, 0):
                    begun = beside.submit(_begin, uri, version, chunks)
                yield read


class _Dataset:
    """Some chunks that Ray Data has begun to read."""

    def __init__(self, uri: str, version: int, chunks: list[Chunk]) -> None:
        self._chunks = chunks
        source = ChunkSource(uri, version, chunks)
        dataset = ray.data.read_datasource(source, override_num_blocks=len(chunks))
        context = dataset.context
        context.target_max_block_size = None  # neither split nor joined: a chunk stays a block
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            cpu=CHUNKS_AHEAD, object_store_memory=2 * CHUNKS_AHEAD * max(map(_num_bytes, chunks))
        )
        tables = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        self._tables = iter(tables)
        self._first = self._next()

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[Read]:
        yield self._chunks[0], self._first
        for chunk in self._chunks[1:]:
            yield chunk, self._next()

    def _next(self) -> pa.Table:
        try:
            return next(self._tables)
        except RayTaskError as error:
            raise as_ours(error.cause, "a read task of segments.lance") from error


def _begin(uri: str, version: int, chunks: Iterator[Chunk]) -> _Dataset | None:
    part = list(itertools.islice(chunks, CHUNKS_PER_DATASET))
    return _Dataset(uri, version, part) if part else None
