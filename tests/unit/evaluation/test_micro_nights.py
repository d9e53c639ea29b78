"""micro_nights.lance as embeddings: what `embed micro` stored is what a probe reads."""

from pathlib import Path

import numpy as np
import pytest

from sleepmami.config import ProbeConfig
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.evaluation.probe import run_probe
from sleepmami.psg import MODALITIES
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import micro_night_row, rows_table
from sleepmami.tables.schemas import micro_nights_schema, provenance

WIDTH = 3


def write(folder: Path, model_ids: list[str]) -> str:
    """A night for each model; the last epoch of each has no modality."""
    rng = np.random.default_rng(2)
    rows = []
    for number, model_id in enumerate(model_ids):
        length = 4 + number
        valid = np.ones((length, len(MODALITIES)), np.bool_)
        valid[0, 2:] = False
        valid[-1] = False
        micro = rng.integers(-8, 8, (length, len(MODALITIES), WIDTH)) / 4  # exact in half precision
        rows.append(
            micro_night_row(
                recording_id=f"r{number}",
                subject_id=f"p{number}",
                cohort="c",
                split="train",
                source_hash=None,
                micro=micro,
                modality_valid=valid,
                demographics=Demographics(subject_id=f"p{number}", age_years=50.0, sex="male"),
                hypnogram=np.zeros(length, np.int8),
                model_id=model_id,
            )
        )
    uri, schema = str(folder / "micro_nights.lance"), micro_nights_schema()
    fragments = lance_io.write_fragments(rows_table(rows, schema), uri, schema)
    lance_io.commit(uri, fragments, schema, metadata=provenance({}))
    return uri


def test_an_epoch_is_its_six_vectors_side_by_side(tmp_path: Path) -> None:
    uri = write(tmp_path, ["sleepmami-0123456789ab"] * 3)
    embeddings = open_embeddings(uri)
    rng = np.random.default_rng(2)
    wanted = [rng.integers(-8, 8, (n, len(MODALITIES), WIDTH)) / 4 for n in (4, 5, 6)]
    found = list(embeddings.read([2, 0], "micro"))
    assert [night.place for night in found] == [0, 2]
    for night in found:
        expected = wanted[night.place].reshape(-1, len(MODALITIES) * WIDTH)
        np.testing.assert_array_equal(night.x_LF, expected)
        assert night.valid_L.tolist() == [True] * (len(expected) - 1) + [False]
    assert embeddings.weights_sha256 == "0123456789ab"
    first = embeddings.nights[0]
    assert (first.recording_id, first.cohort, first.split) == ("r0", "c", "train")


@pytest.mark.parametrize("level", ["macro", "night"])
def test_another_level_is_refused(tmp_path: Path, level: str) -> None:
    embeddings = open_embeddings(write(tmp_path, ["sleepmami-0123456789ab"]))
    with pytest.raises(ConfigError, match="a Micro-Encoder alone; expected micro"):
        next(embeddings.read([0], level))  # type: ignore[arg-type]  # any text, as a setting may be


def test_a_probe_of_vectors_known_by_a_short_hash_is_not_kept(tmp_path: Path) -> None:
    uri = write(tmp_path, ["sleepmami-0123456789ab"] * 3)
    config = ProbeConfig(level="micro")
    with pytest.raises(ConfigError, match="known by sleepmami-0123456789ab alone"):
        run_probe("staging", uri, [], config, keep=lambda probe: None)


def test_nights_of_two_models_are_refused(tmp_path: Path) -> None:
    uri = write(tmp_path, ["sleepmami-a", "sleepmami-b"])
    with pytest.raises(TableError, match=r"found models \['sleepmami-a', 'sleepmami-b'\]"):
        open_embeddings(uri)
