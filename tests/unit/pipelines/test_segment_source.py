"""Which rows a pass reads, in which order: Ray's own part is left out, tasks are called here."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.segment_source import RUN_ROWS, SegmentSource, count_rows, rows_of, runs_of
from sleepmami.psg import MODALITIES, Modality
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import segment_column
from sleepmami.training.batches import SEGMENT_BATCH_COLUMNS
from tests.corpora import write_corpus

ALL = ["night0", "night1", "night2"]


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three nights of 40 segments; the third is held out."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus = write_corpus(folder, num_train=2, num_test=1, num_epochs=80)
    return f"{corpus}/segments.lance"


def source(uri: str, recordings: list[str]) -> SegmentSource:
    version = lance_io.version(uri)
    return SegmentSource(uri, version, rows_of(uri, recordings, version=version), seed=7)


def beginnings(reader: SegmentSource, num_tasks: int) -> list[tuple[int, ...]]:
    """The first EEG samples of each row, in the order read; noise makes them unique."""
    column = segment_column(Modality.EEG)
    return [
        tuple(row[:8])
        for task in reader.get_read_tasks(num_tasks)
        for table in task()
        for row in table.column(column).to_pylist()
    ]


def test_neighbouring_rows_make_runs_of_at_most_the_length_allowed() -> None:
    rows = np.array([0, 1, 2, 5, *range(10, 10 + RUN_ROWS + 1)])
    last = 10 + RUN_ROWS
    assert runs_of(rows).tolist() == [[0, 3], [5, 6], [10, last], [last, last + 1]]


def test_no_rows_make_no_runs() -> None:
    assert runs_of(np.array([], dtype=np.int64)).shape == (0, 2)


def test_only_rows_of_the_recordings_asked_for_are_read(segments: str) -> None:
    version = lance_io.version(segments)
    around = rows_of(segments, ["night0", "night2"], version=version)
    assert around.tolist() == [[0, 32], [32, 40], [80, 112], [112, 120]]
    assert rows_of(segments, ["night1"], version=version).tolist() == [[40, 72], [72, 80]]
    # segments that an interrupted ingest left without a recording belong to nobody's train split
    assert count_rows(rows_of(segments, [], version=version)) == 0


@pytest.mark.parametrize("num_tasks", [1, 3, 100])
def test_a_pass_reads_every_row_once_however_many_tasks_share_it(
    segments: str, num_tasks: int
) -> None:
    read = beginnings(source(segments, ["night0", "night1"]), num_tasks)
    table = lance_io.read_table(segments, filter="recording_id <> 'night2'")
    expected = [tuple(row[:8]) for row in table.column(segment_column(Modality.EEG)).to_pylist()]
    assert sorted(read) == sorted(expected)
    assert len(set(read)) == 80


def test_every_pass_has_another_order_and_a_seed_has_the_same_ones(segments: str) -> None:
    first, again = source(segments, ALL), source(segments, ALL)
    orders = [beginnings(first, 2) for _ in range(2)]
    assert orders[0] != orders[1]
    assert [beginnings(again, 2) for _ in range(2)] == orders


def test_a_modality_that_a_night_lacks_stays_null(segments: str) -> None:
    (task,) = source(segments, ["night0"]).get_read_tasks(1)
    (table,) = task()
    assert tuple(table.column_names) == SEGMENT_BATCH_COLUMNS
    nulls = {m.value: table.column(segment_column(m)).null_count for m in MODALITIES}
    assert nulls == {"EEG": 0, "EOG": 40, "EMG": 0, "ECG": 0, "RESP": 0, "SPO2": 40}


def test_rows_committed_after_the_start_are_not_read(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, num_train=1, num_test=0, num_epochs=80)
    uri = f"{corpus}/segments.lance"
    reader = source(uri, ["night0"])
    lance_io.delete_rows(uri, "segment_index < 30")
    assert len(beginnings(reader, 1)) == 40


def test_the_size_it_states_is_the_size_it_reads(segments: str) -> None:
    reader = source(segments, ["night1", "night2"])
    tables = [table for task in reader.get_read_tasks(1) for table in task()]
    stated = reader.get_read_tasks(1)[0].metadata
    assert stated.num_rows == sum(table.num_rows for table in tables) == 80
    assert stated.size_bytes == reader.estimate_inmemory_data_size()
    assert stated.size_bytes == pytest.approx(sum(table.nbytes for table in tables), rel=0.01)
