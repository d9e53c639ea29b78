import base64
import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sleepmami.inference.embedder import NightEmbedding
from sleepmami.inference.export import (
    to_arrow_stream_bytes,
    to_npz_bytes,
    to_parquet_bytes,
)

NAMES = ("micro", "macro", "epoch_valid", "modality_valid")


@pytest.fixture
def embedding() -> NightEmbedding:
    rng = np.random.default_rng(5)
    return NightEmbedding(
        micro=rng.standard_normal((3, 12)).astype(np.float32),
        macro=rng.standard_normal((3, 4)).astype(np.float32),
        cycles=rng.standard_normal((2, 4)).astype(np.float32),
        night=rng.standard_normal(4).astype(np.float32),
        epoch_valid=np.array([True, False, True]),
        modality_valid=rng.random((3, 6)) > 0.5,
        info={"model_id": "m-1", "channels_used": [{"modality": "EEG", "label": "C4-M1"}]},
    )


def read(kind: str, data: bytes) -> pa.Table:
    return (
        pq.read_table(io.BytesIO(data))
        if kind == "parquet"
        else pa.ipc.open_stream(data).read_all()
    )


def test_npz_gives_back_every_array_without_pickle(embedding: NightEmbedding) -> None:
    archive = np.load(io.BytesIO(to_npz_bytes(embedding)), allow_pickle=False)
    assert set(archive) == {*NAMES, "cycles", "night", "info"}
    for name in (*NAMES, "cycles", "night"):
        assert np.array_equal(archive[name], getattr(embedding, name))
        assert archive[name].dtype == getattr(embedding, name).dtype
    assert json.loads(str(archive["info"])) == embedding.info


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_tables_hold_one_row_per_epoch(embedding: NightEmbedding, kind: str) -> None:
    write = {"arrow": to_arrow_stream_bytes, "parquet": to_parquet_bytes}[kind]
    table = read(kind, write(embedding))
    assert table["epoch"].to_pylist() == [0, 1, 2]
    assert table["start_s"].to_pylist() == [0, 30, 60]
    for name in NAMES:
        there = getattr(embedding, name)
        assert np.array_equal(np.array(table[name].to_pylist(), there.dtype), there)


@pytest.mark.parametrize("kind", ["npz", "arrow", "parquet"])
def test_seconds_are_in_every_form_where_they_were_asked_for(
    embedding: NightEmbedding, kind: str
) -> None:
    second = np.random.default_rng(6).standard_normal((90, 12)).astype(np.float32)
    with_seconds = dataclasses.replace(embedding, second=second)
    if kind == "npz":
        found = np.load(io.BytesIO(to_npz_bytes(with_seconds)), allow_pickle=False)["second"]
    else:
        write = {"arrow": to_arrow_stream_bytes, "parquet": to_parquet_bytes}[kind]
        assert "second" not in read(kind, write(embedding)).column_names
        rows = read(kind, write(with_seconds))["second"].to_pylist()
        assert [len(row) for row in rows] == [30 * 12] * 3
        found = np.array(rows, np.float32).reshape(90, 12)
    assert np.array_equal(found, second)


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_the_night_vector_and_info_travel_as_metadata(embedding: NightEmbedding, kind: str) -> None:
    write = {"arrow": to_arrow_stream_bytes, "parquet": to_parquet_bytes}[kind]
    metadata = read(kind, write(embedding)).schema.metadata
    night = np.frombuffer(base64.b64decode(metadata[b"sleepmami.night"]), "<f4")
    assert np.array_equal(night, embedding.night)
    cycles = np.frombuffer(base64.b64decode(metadata[b"sleepmami.cycles"]), "<f4")
    assert np.array_equal(cycles.reshape(-1, len(night)), embedding.cycles)
    assert json.loads(metadata[b"sleepmami.info"]) == embedding.info
    assert json.loads(metadata[b"sleepmami.modalities"])[0] == "EEG"
