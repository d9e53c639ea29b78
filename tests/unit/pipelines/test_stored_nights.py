"""Nights found by their position: whole, of one version, and without a search for each."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.stored_nights import corpus_versions, find_nights, read_night
from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.psg import MODALITIES, Modality
from sleepmami.tables import lance_io
from tests.corpora import sine_night, write_corpus
from tests.unit.tables.nights import assert_same_night


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """Three nights of 6 epochs; the first has no EOG and no SPO2."""
    return write_corpus(tmp_path / "corpus", num_train=2, num_test=1, num_epochs=6)


def test_every_night_comes_back_as_it_was_stored(corpus: str) -> None:
    versions = corpus_versions(corpus)
    found = find_nights(corpus, versions)
    assert list(found) == ["night0", "night1", "night2"]
    few = [m for m in MODALITIES if m not in (Modality.EOG, Modality.SPO2)]
    for number, stored in enumerate(found.values()):
        row, night = read_night(corpus, versions, stored)
        assert row["subject_id"] == f"subject{number}"
        assert_same_night(night, sine_night(stored.recording_id, 6, number, MODALITIES if number else few))  # fmt: skip


def test_positions_hold_though_the_tables_change(corpus: str) -> None:
    versions = corpus_versions(corpus)
    stored = find_nights(corpus, versions)["night2"]
    for table in ("recordings.lance", "segments.lance"):
        lance_io.delete_recordings(storage.join(corpus, table), ["night0"])
    assert_same_night(read_night(corpus, versions, stored)[1], sine_night("night2", 6, 2))
    newer = corpus_versions(corpus)
    moved = find_nights(corpus, newer)
    assert (moved["night2"].recording_row, list(moved)) == (1, ["night1", "night2"])
    assert_same_night(read_night(corpus, newer, moved["night2"])[1], sine_night("night2", 6, 2))


def test_a_night_without_its_segments_is_found_and_refused_when_read(corpus: str) -> None:
    lance_io.delete_recordings(storage.join(corpus, "segments.lance"), ["night1"])
    versions = corpus_versions(corpus)
    with pytest.raises(TableError, match=r"^night1: found 0 segments"):
        read_night(corpus, versions, find_nights(corpus, versions)["night1"])


def test_reading_a_night_searches_no_table(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at every night, so that reading all would be quadratic in their number."""
    versions = corpus_versions(corpus)
    found = find_nights(corpus, versions)

    def read_table(*_: Any, **__: Any) -> Any:
        raise AssertionError("a whole table was read")

    monkeypatch.setattr(lance_io, "read_table", read_table)
    assert [read_night(corpus, versions, s)[1].num_epochs for s in found.values()] == [6, 6, 6]
