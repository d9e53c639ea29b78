import base64
import io
import json

import numpy as np
import pyarrow as pa
import pytest

from serve_apps.formats import choose, to_body
from serve_apps.wire import ARROW, JSON, NPZ, SAFETENSORS, encode_array, negotiate, redacted
from sleepmami.inference.embedder import NightEmbedding


def embedding_body(embedding: NightEmbedding, answer_type: str, encoding: str) -> bytes:
    return to_body(choose(embedding, ["all"], "float32"), answer_type, encoding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/x-npz", NPZ),
        ("APPLICATION/X-NPZ", NPZ),
        ("application/vnd.safetensors", SAFETENSORS),
        ("text/html, application/vnd.apache.arrow.stream;q=0.5", ARROW),
        ("application/json;q=0.5, application/x-npz", NPZ),
        ("*/*;q=0.1, application/x-npz;q=0.9", NPZ),
        ("application/json;q=0, */*", ARROW),  # a specific 0 excludes what the wildcard allows
        ("application/json;q=0", None),
        ("application/octet-stream", None),
        ("text/html", None),
        ("application/json;q=often", None),
    ],
)
def test_accept_is_negotiated_by_quality_then_our_preference(
    accept: str | None, answer: str | None
) -> None:
    assert negotiate(accept) == answer


def test_base64_is_little_endian_float32() -> None:
    encoded = encode_array(np.array([[1.0, -2.0]], np.float32), "base64")
    # IEEE 754: 1.0 is 0x3F800000 and -2.0 is 0xC0000000, low byte first.
    assert base64.b64decode(encoded.data).hex() == "0000803f" + "000000c0"  # type: ignore[arg-type]
    assert encoded.shape == [1, 2]


def test_float_lists_give_back_every_bit() -> None:
    array = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    sent = json.loads(encode_array(array, "float").model_dump_json())
    assert np.array_equal(np.asarray(sent["data"], np.float32), array)


@pytest.mark.parametrize("answer_type", [JSON, ARROW, NPZ, SAFETENSORS])
def test_no_format_carries_a_label_or_recording_id(
    embedding: NightEmbedding, answer_type: str
) -> None:
    body = embedding_body(redacted(embedding), answer_type, "base64")
    text = body.replace(b"\0", b"")  # npz holds text as UTF-32
    assert b"rereferenced" in text
    assert b"JANE-DOE" not in text


def test_info_added_later_stays_inside(embedding: NightEmbedding) -> None:
    embedding.info["patient"] = "JANE-DOE"
    assert "patient" not in redacted(embedding).info


def test_all_formats_carry_the_same_numbers(embedding: NightEmbedding) -> None:
    public = redacted(embedding)
    answer = json.loads(embedding_body(public, JSON, "base64"))
    micro = np.frombuffer(base64.b64decode(answer["micro"]["data"]), "<f4").reshape(3, 12)
    arrow = pa.ipc.open_stream(embedding_body(public, ARROW, "base64")).read_all()
    npz = np.load(io.BytesIO(embedding_body(public, NPZ, "base64")), allow_pickle=False)
    assert np.array_equal(micro, embedding.micro)
    assert np.array_equal(np.array(arrow["micro"].to_pylist(), np.float32), embedding.micro)
    assert np.array_equal(npz["micro"], embedding.micro)


def test_every_format_names_the_model_channels_and_missing(embedding: NightEmbedding) -> None:
    public = redacted(embedding)
    answer = json.loads(embedding_body(public, JSON, "base64"))
    arrow = pa.ipc.open_stream(embedding_body(public, ARROW, "base64")).read_all()
    npz = np.load(io.BytesIO(embedding_body(public, NPZ, "base64")))
    assert public.info == {key: answer[key] for key in public.info}
    assert public.info == json.loads(arrow.schema.metadata[b"sleepmami.info"])
    assert public.info == json.loads(str(npz["info"]))
