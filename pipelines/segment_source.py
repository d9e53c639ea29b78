"""Ray Data's view of segments.lance: every pass reads the rows to train on in a new order.

Rows of one night lie together, so the unit that is shuffled is a short run of them: long enough to
be read at the speed of a scan, short enough that a worker's shuffle buffer holds many nights. The
order is drawn before anything is read, so rows stream; Ray's own shuffles, of rows or of blocks,
first read the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.context import DataContext

from sleepmami.psg import MODALITIES, SEGMENT_S, STORED_RATE_HZ
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import SEGMENTS
from sleepmami.training.batches import SEGMENT_BATCH_COLUMNS

RUN_ROWS = 32
RUNS_PER_READ = 16
ROW_BYTES = sum(2 * SEGMENT_S * STORED_RATE_HZ[modality] for modality in MODALITIES)

Runs = NDArray[np.int64]  # [number of runs, (first row, row after the last)]


def rows_of(uri: str, recording_ids: Sequence[str], *, version: int) -> Runs:
    """The rows of these recordings in one version of a table, as runs of at most RUN_ROWS."""
    table = lance_io.read_table(uri, columns=["recording_id"], schema=SEGMENTS, version=version)
    wanted = pa.array(list(recording_ids), pa.string())
    return runs_of(np.flatnonzero(pc.is_in(table.column("recording_id"), value_set=wanted)))


def runs_of(rows: NDArray[np.int64]) -> Runs:
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


class SegmentSource(Datasource):
    """Segments of all modalities, in an order of its own each time it is read.

    The n-th reading after a start has the same order whenever it is started: that is what lets a
    resumed training take up the pass it left.

    Args:
        uri: segments.lance.
        version: its version; commits made later are not seen.
        runs: from `rows_of`.
        seed: of the orders.
    """

    def __init__(self, uri: str, version: int, runs: Runs, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's own
        self._uri = uri
        self._version = version
        self._runs = runs
        self._seed = seed
        self._num_reads = 0

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of one pass."""
        return count_rows(self._runs) * ROW_BYTES

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        """About `parallelism` tasks that read equally many runs, drawn without replacement."""
        order = np.random.default_rng([self._seed, self._num_reads]).permutation(len(self._runs))
        self._num_reads += 1
        parts = np.array_split(self._runs[order], min(parallelism, max(len(order), 1)))
        return [
            ReadTask(
                partial(_read, self._uri, self._version, part),
                BlockMetadata(
                    num_rows=count_rows(part),
                    size_bytes=count_rows(part) * ROW_BYTES,
                    input_files=None,
                    exec_stats=None,
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for part in parts
        ]


def _read(uri: str, version: int, runs: Runs) -> Iterator[pa.Table]:
    columns = list(SEGMENT_BATCH_COLUMNS)
    for first in range(0, len(runs), RUNS_PER_READ):
        rows = [
            row for start, stop in runs[first : first + RUNS_PER_READ] for row in range(start, stop)
        ]
        yield lance_io.take_rows(uri, rows, columns, version=version)
