"""Chunks through Ray Data itself: the same as without Ray, from any step, across datasets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import segment_source
from pipelines.segment_source import stream
from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.lance_io import OpenTable
from sleepmami.training.segment_order import Chunk, SegmentOrder
from sleepmami.training.segment_reader import read_ahead, training_runs
from tests.corpora import write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

LANES, STOP = [0, 1], 35  # passes of 15 steps


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, num_train=3, num_test=0, num_epochs=80)


def chunks(corpus: str, start: int) -> Iterator[Chunk]:
    version = lance_io.version(f"{corpus}/segments.lance")
    order = SegmentOrder(
        training_runs(corpus, version=version),
        mixing={},
        batch_size=8,
        num_lanes=2,
        shuffle_buffer=12,
        seed=3,
    )
    return order.chunks(LANES, start, STOP)


@pytest.mark.parametrize("per_dataset", [256, 5])
def test_ray_data_gives_what_a_plain_thread_gives(
    corpus: str, per_dataset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_source, "CHUNKS_PER_DATASET", per_dataset)
    uri = f"{corpus}/segments.lance"
    ours = stream(uri, lance_io.version(uri), chunks(corpus, 7))
    plain = read_ahead(OpenTable(uri), chunks(corpus, 7))
    count = 0
    for (chunk, table), (expected, rows) in zip(ours, plain, strict=True):  # reads are whole chunks
        assert (chunk.lane, chunk.first_step) == (expected.lane, expected.first_step)
        assert table.equals(rows)
        count += 1
    assert count == len(list(chunks(corpus, 7))) > 5


def test_a_read_that_fails_says_so_in_the_tables_own_words(corpus: str) -> None:
    uri = f"{corpus}/segments.lance"
    with pytest.raises(TableError, match="found no table"):
        next(stream(uri, 999, chunks(corpus, 0)))
