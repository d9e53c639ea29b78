"""A corpus to the baseline's table, in this process, and a probe that reads it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import embed_band_powers
from sleepmami.config import BandPowersConfig, Level, ProbeConfig, ProbeSplitConfig
from sleepmami.errors import TableError
from sleepmami.evaluation.probe import run_probe
from sleepmami.tables import lance_io
from sleepmami.tables.rows import read_night_embeddings
from tests.corpora import write_corpus


@pytest.fixture(autouse=True)
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nights are worked on in this process; returns their names as they come."""
    names: list[str] = []

    def map_each(items: Sequence[Any], function: Callable[..., Any], **_: object) -> Iterator[Any]:
        for item in items:
            names.append(item.recording_id)
            yield function(item)

    monkeypatch.setattr(embed_band_powers, "map_each", map_each)
    monkeypatch.setattr(embed_band_powers, "require_cluster", lambda *_, **__: None)
    return names


def test_a_probe_reads_the_baseline_as_any_embeddings(tmp_path: Path, worked: list[str]) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_train=4, num_test=2, num_epochs=9)
    table = embed_band_powers.embed_band_powers(corpus, str(tmp_path / "out"), BandPowersConfig())
    nights = read_night_embeddings(lance_io.read_table(table))
    assert len(nights) == 6
    assert {n.model_id for n in nights} == {embed_band_powers.baseline_id(BandPowersConfig())[0]}
    (few,) = [n for n in nights if n.recording_id == "night0"]
    assert not few.modality_valid[:, 1].any()
    people = tmp_path / "people.csv"
    people.write_text(
        "recording_id,age_years,sex,bmi\n" + "".join(f"night{n},{40 + n},,\n" for n in range(6))
    )
    config = ProbeConfig(
        split=ProbeSplitConfig(kind="folds", num_folds=2), penalties=(1.0,), num_resamples=100
    )
    levels: tuple[Level, ...] = ("micro", "macro", "night")
    for level in levels:
        own = replace(config, level=level)
        result = run_probe("age", str(tmp_path / "out"), [str(people)], own)
        assert result.num_subjects == 6
        assert np.isfinite(result.figures[0].estimate.value)
    embed_band_powers.embed_band_powers(corpus, str(tmp_path / "out"), BandPowersConfig())
    assert len(worked) == 6  # the second run found all of them


def test_other_settings_are_another_model(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_train=2, num_test=0, num_epochs=4)
    out = str(tmp_path / "out")
    embed_band_powers.embed_band_powers(corpus, out, BandPowersConfig())
    with pytest.raises(TableError, match="use a new folder"):
        embed_band_powers.embed_band_powers(corpus, out, BandPowersConfig(scale="physical"))
