"""Parts, number types and formats of an answer."""

import base64
import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from serve_apps.formats import (
    Chosen,
    answer_of,
    choose,
    from_npz,
    to_arrow_stream,
    to_body,
    to_npz,
    to_safetensors,
    to_table,
)
from serve_apps.http_errors import HttpError
from serve_apps.wire import ARROW, JSON, NPZ, SAFETENSORS, Level, redacted
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.inference.export import epoch_table


@pytest.mark.parametrize(
    ("levels", "parts"),
    [
        (["micro"], {"micro"}),
        (["macro"], {"macro"}),
        (["night"], {"night", "cycles"}),
        (["all"], {"micro", "macro", "night", "cycles"}),
        (["night", "macro"], {"macro", "night", "cycles"}),
    ],
)
def test_a_level_is_those_arrays_in_every_format(
    embedding: NightEmbedding, levels: list[Level], parts: set[str]
) -> None:
    chosen = choose(redacted(embedding), levels, "float32")
    answer = json.loads(to_body(chosen, JSON, "base64"))
    npz = np.load(io.BytesIO(to_body(chosen, NPZ, "base64")))
    tensors = safetensors.numpy.load(to_body(chosen, SAFETENSORS, "base64"))
    table = pa.ipc.open_stream(to_body(chosen, ARROW, "base64")).read_all()
    masks = {"epoch_valid", "modality_valid"}
    floats = {"micro", "macro", "cycles", "night", "second"}
    assert floats & set(answer) == parts
    assert set(npz.files) == parts | masks | {"info"}
    assert set(tensors) == parts | masks
    assert floats & set(table.column_names) == parts & {"micro", "macro"}
    assert (b"sleepmami.night" in table.schema.metadata) == ("night" in parts)


def test_a_table_of_everything_is_that_of_the_library(embedding: NightEmbedding) -> None:
    public = redacted(embedding)
    ours, theirs = to_table(choose(public, ["all"], "float32")), epoch_table(public)
    assert ours.equals(theirs)
    assert set(ours.schema.metadata.items()) - set(theirs.schema.metadata.items()) == {
        (b"sleepmami.dtype", b"float32")
    }


def test_half_precision_is_half_the_bytes_and_rounds_to_nearest(embedding: NightEmbedding) -> None:
    chosen = choose(redacted(embedding), ["macro"], "float16")
    answer = answer_of(chosen, "base64")
    assert answer.macro is not None
    assert answer.macro.dtype == "float16"
    data = base64.b64decode(answer.macro.data)  # type: ignore[arg-type]
    assert len(data) == embedding.macro.size * 2
    found = np.frombuffer(data, "<f2").reshape(embedding.macro.shape)
    assert np.abs(found - embedding.macro).max() <= np.abs(embedding.macro).max() * 2**-11


def test_a_number_too_large_for_half_precision_is_refused(embedding: NightEmbedding) -> None:
    embedding.night[0] = 70_000
    with pytest.raises(HttpError, match="dtype_unfit"):
        choose(redacted(embedding), ["night"], "float16")
    choose(redacted(embedding), ["macro"], "float16")


def test_seconds_that_the_model_does_not_give_are_refused(embedding: NightEmbedding) -> None:
    with pytest.raises(HttpError, match="request_invalid"):
        choose(redacted(embedding), ["second"], "float32")


def test_seconds_are_rows_of_json_and_thirty_of_them_a_row_of_a_table(
    embedding: NightEmbedding,
) -> None:
    second = np.arange(90 * 2, dtype=np.float32).reshape(90, 2)  # 3 epochs, two numbers a second
    chosen = dataclasses.replace(
        choose(redacted(embedding), [], "float32"), arrays={"second": second}
    )
    answer = answer_of(chosen, "float")
    assert answer.second is not None
    assert answer.second.shape == [90, 2]
    column = to_table(chosen).column("second")
    assert column[1].as_py() == second[30:60].reshape(-1).tolist()


def test_what_a_job_keeps_comes_back(embedding: NightEmbedding) -> None:
    public = redacted(embedding)
    back = from_npz(to_npz(choose(public, ["all"], "float32")))
    assert back.info == public.info
    for name in ("micro", "macro", "cycles", "night", "epoch_valid", "modality_valid"):
        assert np.array_equal(getattr(back, name), getattr(public, name))


@pytest.mark.parametrize("num_cycles", [0, 2])
def test_a_night_without_cycles_is_sent_too(embedding: NightEmbedding, num_cycles: int) -> None:
    short = dataclasses.replace(embedding, cycles=embedding.cycles[:num_cycles])
    chosen: Chosen = choose(redacted(short), ["all"], "float32")
    assert safetensors.numpy.load(to_safetensors(chosen))["cycles"].shape == (num_cycles, 4)
    metadata = pa.ipc.open_stream(to_arrow_stream(chosen)).schema.metadata
    assert len(base64.b64decode(metadata[b"sleepmami.cycles"])) == num_cycles * 16


def test_safetensors_carry_what_made_the_numbers(embedding: NightEmbedding) -> None:
    data = to_safetensors(choose(redacted(embedding), ["night"], "float32"))
    length = int.from_bytes(data[:8], "little")
    info = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["sleepmami.info"])
    assert info["weights_sha256"] == "ab" * 32
    assert b"JANE-DOE" not in data
