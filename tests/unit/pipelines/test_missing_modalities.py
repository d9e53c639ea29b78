"""Whose signals and vectors the matrix of missing modalities may mix."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.missing_modalities import _source_hashes
from sleepmami.errors import TableError
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings


def test_a_night_that_was_ingested_again_is_not_tested_by_its_old_vectors(tmp_path: Path) -> None:
    nights = [
        PlantedNight(recording_id=f"r{n}", subject_id=f"s{n}", source_hash=f"{n}{n}")
        for n in range(3)
    ]
    corpus = write_corpus(tmp_path / "corpus", nights)
    names = [night.recording_id for night in nights]
    table = write_embeddings(tmp_path / "same", nights) + "/night_embeddings.lance"
    assert _source_hashes(corpus, table, names) == {"r0": "00", "r1": "11", "r2": "22"}
    older = [replace(night, source_hash="old") if n else night for n, night in enumerate(nights)]
    table = write_embeddings(tmp_path / "older", older) + "/night_embeddings.lance"
    with pytest.raises(TableError, match="2 nights such as r1"):
        _source_hashes(corpus, table, names)
    assert _source_hashes(corpus, table, names[:1]) == {"r0": "00"}
