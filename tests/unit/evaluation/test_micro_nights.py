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
WEIGHTS = "0123456789ab" + 52 * "c"


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
                split="test" if number > 3 else "train",
                source_hash=None,
                micro=micro,
                modality_valid=valid,
                demographics=Demographics(subject_id=f"p{number}", age_years=50.0, sex="male"),
                hypnogram=(np.arange(length) % 2 * 2).astype(np.int8),
                model_id=model_id,
                weights_sha256=WEIGHTS,
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
    assert embeddings.weights_sha256 == WEIGHTS
    first = embeddings.nights[0]
    assert (first.recording_id, first.cohort, first.split) == ("r0", "c", "train")


@pytest.mark.parametrize("level", ["macro", "night"])
def test_another_level_is_refused(tmp_path: Path, level: str) -> None:
    embeddings = open_embeddings(write(tmp_path, ["sleepmami-0123456789ab"]))
    with pytest.raises(ConfigError, match="a Micro-Encoder alone; expected micro"):
        next(embeddings.read([0], level))  # type: ignore[arg-type]  # any text, as a setting may be


def test_a_table_that_knows_the_weights_by_12_digits_is_refused_by_its_name(tmp_path: Path) -> None:
    stored = lance_io.read_table(write(tmp_path, ["sleepmami-0123456789ab"]))
    old = stored.drop_columns(["weights_sha256"])
    identity = {b"schema_name": b"micro_nights", b"schema_version": b"2"}
    uri, schema = str(tmp_path / "old" / "micro_nights.lance"), old.schema.with_metadata(identity)
    lance_io.commit(uri, lance_io.write_fragments(old, uri, schema), schema, metadata={})
    with pytest.raises(
        TableError, match=r"old/micro_nights\.lance: found .*version 2; .*version 3"
    ):
        open_embeddings(uri)


def test_a_kept_probe_knows_its_encoder_by_the_whole_hash(tmp_path: Path) -> None:
    uri, kept = write(tmp_path, ["sleepmami-0123456789ab"] * 6), []
    config = ProbeConfig(level="micro", penalties=(0.1,), num_resamples=100)
    run_probe("staging", uri, [], config, keep=kept.append)
    (probe,) = kept
    assert (probe.weights_sha256, probe.level) == (WEIGHTS, "micro")


def test_nights_of_two_models_are_refused(tmp_path: Path) -> None:
    uri = write(tmp_path, ["sleepmami-a", "sleepmami-b"])
    with pytest.raises(TableError, match="found model_id sleepmami-a, sleepmami-b; expected one"):
        open_embeddings(uri)
