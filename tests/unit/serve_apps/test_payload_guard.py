"""Hostile arrays are refused before a value is touched; plain ones arrive as they were sent."""

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from serve_apps.arrow_guard import require_plain_stream
from serve_apps.http_errors import ERRORS, HttpError
from serve_apps.payload_guard import npy_array, refuse_pickle
from serve_apps.window_payload import WINDOW_TYPES, SentWindows, windows_of
from sleepmami.psg import MODALITIES
from tests.payload_corpus import (
    ARROW,
    NPZ,
    SAFETENSORS,
    Payload,
    attacks,
    columns,
    good_arrays,
    npy,
    npz,
    stream,
)

MAX = 64 * 2**20
CORPUS = list(attacks(Path("/nonexistent/canary")))


def encoded(arrays: dict[str, np.ndarray], content_type: str) -> bytes:
    if content_type == NPZ:
        return npz(arrays)
    if content_type == SAFETENSORS:
        return save(arrays)
    return stream(pa.table(columns(arrays)))


def code_of(body: bytes, content_type: str, max_bytes: int = MAX) -> str:
    with pytest.raises(HttpError) as caught:
        windows_of(body, content_type, max_bytes)
    return caught.value.code


def read(body: bytes, content_type: str) -> SentWindows | str:
    """What the service makes of a body: windows, or a code."""
    try:
        return windows_of(body, content_type, MAX)
    except HttpError as error:
        return error.code


@pytest.mark.parametrize("content_type", WINDOW_TYPES)
def test_windows_arrive_as_they_were_sent(content_type: str) -> None:
    arrays = good_arrays(3)
    arrays["valid"][1, 2, 0] = False
    arrays["valid"][2, 5] = False
    sent = windows_of(encoded(arrays, content_type), content_type, MAX)
    assert list(sent.batch.signals) == list(MODALITIES)
    for modality in MODALITIES:
        np.testing.assert_array_equal(sent.batch.signals[modality], arrays[modality.value])
    np.testing.assert_array_equal(sent.valid_BSE, arrays["valid"])
    np.testing.assert_array_equal(sent.batch.valid, arrays["valid"].any(2))
    assert sent.batch.valid[1, 2]
    assert not sent.batch.valid[2, 5]


def test_several_batches_of_a_stream_are_one() -> None:
    table = pa.table(columns(good_arrays(5)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    sent = windows_of(sink.getvalue().to_pybytes(), ARROW, MAX)
    np.testing.assert_array_equal(sent.batch.signals[MODALITIES[0]], good_arrays(5)["EEG"])


def test_compressed_archives_are_read() -> None:
    sent = windows_of(npz(good_arrays(), compressed=True), NPZ, MAX)
    assert len(sent.batch.valid) == 2


@pytest.mark.parametrize("content_type", WINDOW_TYPES)
def test_without_flags_all_that_is_sent_is_usable(content_type: str) -> None:
    arrays = {"RESP": good_arrays()["RESP"]}
    sent = windows_of(encoded(arrays, content_type), content_type, MAX)
    assert sent.valid_BSE.tolist() == [[[m == "RESP"] * 2 for m in MODALITIES]] * 2


@pytest.mark.parametrize("attack", CORPUS, ids=lambda a: f"{a.content_type[-6:]} {a.name}")
def test_hostile_bodies_are_refused_by_name(attack: object) -> None:
    name, content_type, body = attack  # type: ignore[misc]  # pytest hides the type
    found = read(body, content_type)
    if isinstance(found, SentWindows):  # a word that nobody reads was changed
        assert name.startswith(("batch with", "schema with"))
        assert found.batch.signals[MODALITIES[0]].shape == (2, 6000)
    elif name.startswith("extension type"):
        assert found == "extension_type_forbidden"
    else:
        assert found in ERRORS


def test_each_kind_of_pickle_is_called_one() -> None:
    named = {a.name: code_of(a.body, a.content_type) for a in CORPUS if "objects" in a.name}
    assert named == dict.fromkeys(named, "pickle_forbidden") | {
        "npy of objects": "payload_invalid"  # no archive, no stream
    }
    with pytest.raises(HttpError, match="pickle_forbidden"):
        refuse_pickle(pickle.dumps(Payload(Path("/nonexistent"))))


def test_the_corpus_would_run_in_a_careless_reader(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    body = next(a.body for a in attacks(canary) if a.name == "npy of objects")
    with pytest.raises(AttributeError):  # mkdir gives None, which is no Payload for numpy's repr
        _ = np.load(io.BytesIO(body), allow_pickle=True)[0].canary
    assert canary.is_dir()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(EEG=a["EEG"][:, :100]),
        lambda a: a.update(EEG=a["EEG"][:1]),
        lambda a: a.update(EEG=a["EEG"].reshape(-1)),
        lambda a: a.update(EEG=np.full_like(a["EEG"], np.nan)),
        lambda a: a.update(EEG=np.full_like(a["EEG"], np.inf)),
        lambda a: a.update(EEG=a["EEG"] * 100),  # microvolts
        lambda a: a.update(valid=a["valid"][:1]),
        lambda a: a.update(valid=a["valid"][:, :5]),
        lambda a: a.pop("SPO2"),  # and valid says that it is there
        lambda a: [a.pop(m.value) for m in MODALITIES],
    ],
)
def test_what_is_no_window_is_refused(change: object) -> None:
    arrays = good_arrays()
    change(arrays)  # type: ignore[operator]  # pytest hides the type
    assert code_of(npz(arrays), NPZ) == "windows_invalid"


def test_the_largest_archive_is_the_largest_body() -> None:
    body = npz(good_arrays())
    size = sum(a.nbytes + 128 for a in good_arrays().values())  # with npy's header
    assert windows_of(body, NPZ, size).batch.valid.all()
    assert code_of(body, NPZ, size - 1) == "payload_too_large"


def test_an_npy_header_by_hand() -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
    array = npy_array(npy(header, np.float32([1, 2]).tobytes()), np.dtype(np.float32))
    assert array.tolist() == [[1.0, 2.0]]
    assert not array.flags.writeable


def message(kind: int, body_length: int) -> bytes:
    """A stream of one message whose header is a table without fields; every offset by hand."""
    metadata = struct.pack(
        "<I 6H  i h B x I 4x q  2H i",
        *(16, 12, 24, 4, 6, 8, 16),  # the table is at 16; its vtable at 4: sizes, places of fields
        *(12, 4, kind, 20, body_length),  # the vtable is 12 before; the header 20 after its field
        *(4, 4, 4),  # the header's vtable at 40, and at 44 the header
    )
    assert len(metadata) == 48
    return struct.pack("<4si", b"\xff" * 4, len(metadata)) + metadata + struct.pack("<ii", -1, 0)


def test_a_schema_message_by_hand() -> None:
    require_plain_stream(message(1, 0))
    for kind, length in ((3, 0), (2, 0), (1, 1000), (1, -1)):
        with pytest.raises(HttpError, match="payload_invalid"):
            require_plain_stream(message(kind, length))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_mutated_body_is_read_or_refused(data: st.DataObject) -> None:
    content_type = data.draw(st.sampled_from(WINDOW_TYPES))
    body = bytearray(SMALL[content_type])
    for _ in range(data.draw(st.integers(1, 4))):
        # headers and the archive's list lie at the ends
        span = st.integers(0, 1500) | st.integers(len(body) - 400, len(body) - 1)
        body[data.draw(span) % len(body)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(body)) | st.integers(0, len(body)))
    found = read(bytes(body[:cut]), content_type)
    assert found in ERRORS if isinstance(found, str) else found.batch.valid.shape[1] == 6


SMALL = {t: encoded({"SPO2": good_arrays()["SPO2"], "valid": np.zeros((2, 6), bool)}, t) for t in WINDOW_TYPES}  # fmt: skip
