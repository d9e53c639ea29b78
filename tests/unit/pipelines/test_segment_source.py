"""What Ray Data is told to read; tasks are called here, without Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.segment_source import ChunkSource
from sleepmami.tables import lance_io
from sleepmami.tables.lance_io import OpenTable
from sleepmami.training.segment_order import Chunk
from sleepmami.training.segment_reader import read_chunk
from tests.corpora import write_corpus

CHUNKS = [
    Chunk(lane=lane, first_step=0, rows=np.arange(lane, 80, 2).reshape(-1, 4)) for lane in (0, 1)
]


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("corpus")
    corpus = write_corpus(folder, num_train=2, num_test=1, num_epochs=80)
    return f"{corpus}/segments.lance"


@pytest.mark.parametrize("parallelism", [1, 100])
def test_every_chunk_is_one_block_whatever_parallelism_ray_asks_for(
    segments: str, parallelism: int
) -> None:
    source = ChunkSource(segments, lance_io.version(segments), CHUNKS)
    blocks = [list(task()) for task in source.get_read_tasks(parallelism)]
    assert [len(tables) for tables in blocks] == [1, 1]
    for (table,), chunk in zip(blocks, CHUNKS, strict=True):
        assert table.equals(pa.concat_tables(read_chunk(OpenTable(segments), chunk)))


def test_the_size_it_states_is_the_size_it_reads(segments: str) -> None:
    chunk = Chunk(lane=0, first_step=0, rows=np.arange(40, 80).reshape(-1, 4))  # all modalities
    source = ChunkSource(segments, lance_io.version(segments), [chunk])
    (task,) = source.get_read_tasks(1)
    (table,) = task()
    assert task.metadata.num_rows == table.num_rows == 40
    assert task.metadata.size_bytes == source.estimate_inmemory_data_size()
    assert task.metadata.size_bytes == pytest.approx(table.nbytes, rel=0.01)
