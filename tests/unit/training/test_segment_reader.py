"""From an order to the micro batches of steps, read in a thread: the path without Ray."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from sleepmami.errors import TableError
from sleepmami.psg import MODALITIES
from sleepmami.tables import lance_io
from sleepmami.tables.lance_io import OpenTable
from sleepmami.tables.schemas import segment_column
from sleepmami.training import segment_reader
from sleepmami.training.batches import SEGMENT_BATCH_COLUMNS, SegmentBatch, segment_batch
from sleepmami.training.segment_order import Chunk, SegmentOrder
from sleepmami.training.segment_reader import (
    read_ahead,
    read_chunk,
    step_batches,
    training_runs,
)
from tests.corpora import write_corpus

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four nights of 40 segments; cohorts a, b, a, b; the last night is held out."""
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, num_train=3, num_test=1, num_epochs=80, cohorts=("a", "b"))


def opened(corpus: str) -> OpenTable:
    return OpenTable(f"{corpus}/segments.lance")


def order_of(corpus: str, mixing: dict[str, float]) -> SegmentOrder:
    version = lance_io.version(f"{corpus}/segments.lance")
    runs = training_runs(corpus, version=version)
    return SegmentOrder(runs, mixing=mixing, batch_size=8, num_lanes=2, shuffle_buffer=12, seed=3)


def batches(
    corpus: str, order: SegmentOrder, lanes: Sequence[int], start: int, stop: int
) -> Iterator[list[SegmentBatch]]:
    read = read_ahead(opened(corpus), order.chunks(lanes, start, stop))
    return step_batches(read, lanes, start, stop, CPU)


def chunk(rows: list[list[int]]) -> Chunk:
    return Chunk(lane=0, first_step=0, rows=np.array(rows))


def test_only_rows_of_the_train_split_are_read_and_each_counts_for_its_cohort(corpus: str) -> None:
    version = lance_io.version(f"{corpus}/segments.lance")
    runs = {name: part.tolist() for name, part in training_runs(corpus, version=version).items()}
    assert runs == {"a": [[0, 40], [80, 120]], "b": [[40, 80]]}


def test_segments_that_no_recording_owns_are_not_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, num_train=2, num_test=0, num_epochs=80)
    lance_io.delete_rows(f"{corpus}/recordings.lance", "recording_id = 'night0'")
    runs = training_runs(corpus, version=lance_io.version(f"{corpus}/segments.lance"))
    assert runs["made-up"].tolist() == [[40, 80]]


def test_rows_come_ascending_in_small_reads_with_the_columns_that_training_needs(
    corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_reader, "READ_ROWS", 3)
    parts = list(read_chunk(opened(corpus), chunk([[50, 7], [7, 110], [3, 8]])))
    table = pa.concat_tables(parts)
    rows = [3, 7, 7, 8, 50, 110]
    expected = lance_io.take_rows(f"{corpus}/segments.lance", rows, SEGMENT_BATCH_COLUMNS)
    assert [part.num_rows for part in parts] == [3, 3]
    assert table.column_names == list(SEGMENT_BATCH_COLUMNS)
    assert table.combine_chunks().equals(expected.combine_chunks())


def test_a_modality_that_a_night_lacks_stays_null(corpus: str) -> None:
    (table,) = read_chunk(opened(corpus), chunk([[0, 1, 2, 50]]))
    nulls = {m.value: table.column(segment_column(m)).null_count for m in MODALITIES}
    assert nulls == {"EEG": 0, "EOG": 3, "EMG": 0, "ECG": 0, "RESP": 0, "SPO2": 3}


def test_rows_committed_after_the_start_are_not_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, num_train=1, num_test=0, num_epochs=80)
    table = opened(corpus)
    lance_io.delete_rows(f"{corpus}/segments.lance", "segment_index < 30")
    assert [part.num_rows for part in read_chunk(table, chunk([[39]]))] == [1]


@pytest.mark.parametrize("start", [0, 4, 17])
@pytest.mark.parametrize("mixing", [{}, {"b": 2.5}])
def test_a_micro_batch_holds_the_rows_that_the_order_gives_its_lane(
    corpus: str, start: int, mixing: dict[str, float]
) -> None:
    order, stop = order_of(corpus, mixing), 24
    rows = {
        (one.first_step + number, one.lane): part
        for one in order.chunks([0, 1], 0, stop)
        for number, part in enumerate(one.rows)
    }
    uri = f"{corpus}/segments.lance"
    found = list(batches(corpus, order, [0, 1], start, stop))
    assert len(found) == stop - start
    for step, micro_batches in enumerate(found, start):
        for lane, batch in enumerate(micro_batches):
            taken = lance_io.take_rows(uri, rows[step, lane].tolist(), SEGMENT_BATCH_COLUMNS)
            expected = segment_batch(taken)
            assert torch.equal(batch.signal_SBT, expected.signal_SBT)
            assert torch.equal(batch.valid_SBE, expected.valid_SBE)


def test_two_workers_get_the_micro_batches_of_one(corpus: str) -> None:
    order = order_of(corpus, {})
    one = batches(corpus, order, [0, 1], 5, 20)
    two = [batches(corpus, order, [lane], 5, 20) for lane in (0, 1)]
    for both, (first,), (second,) in zip(one, *two, strict=True):
        assert torch.equal(both[0].signal_SBT, first.signal_SBT)
        assert torch.equal(both[1].signal_SBT, second.signal_SBT)


def test_what_a_read_raises_is_raised_where_its_rows_are_wanted(corpus: str) -> None:
    read = read_ahead(opened(corpus), iter([chunk([[0, 1]]), chunk([[999, 1000]])]))
    assert next(read)[1].num_rows == 2
    with pytest.raises(TableError, match="has no such rows"):
        next(read)
