"""/v1/encode: the windows of a night give the vectors of that night, in every format."""

import base64
import dataclasses
import io
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from serve_apps.encoder import LocalEncoder
from sleepmami.inference.embedder import Embedder
from sleepmami.inference.windows import night_epochs, night_windows
from sleepmami.psg import (
    MODALITIES,
    SEGMENT_S,
    STORED_RATE_HZ,
    ChannelStatistics,
    Modality,
    Night,
    segment_start_epochs,
)
from tests.bundles import random_bundle
from tests.payload_corpus import ARROW, NPZ, SAFETENSORS, columns, good_arrays, npz, stream
from tests.unit.serve_apps.windows_app import WindowsBackend, call, error_of

EMBEDDER = Embedder(random_bundle(), windows_per_batch=4)
ANSWERS = ("application/json", NPZ, ARROW, SAFETENSORS)


@pytest.fixture(scope="module")
def backend() -> Iterator[WindowsBackend]:
    encoder = LocalEncoder(EMBEDDER, threads=1)
    yield WindowsBackend(encoder)
    encoder.close()


def night_of(num_epochs: int, absent: Modality = Modality.SPO2) -> Night:
    """Noise; one modality absent, one epoch of EEG unusable and, as then stored, zero."""
    rng = np.random.default_rng(num_epochs)
    starts = segment_start_epochs(num_epochs)
    usable = {m: np.ones(num_epochs, bool) for m in MODALITIES if m is not absent}
    usable[Modality.EEG][1] = False
    signals = {
        m: (1000 * rng.standard_normal((len(starts), SEGMENT_S * STORED_RATE_HZ[m]))).astype(
            np.int16
        )
        for m in usable
    }
    signals[Modality.EEG][0, 3000:] = 0
    statistics = {m: ChannelStatistics(mean=0.0, std=1.0, unit="uV") for m in usable}
    return Night(
        recording_id="n",
        num_epochs=num_epochs,
        signals=signals,
        usable=usable,
        statistics=statistics,
    )


def arrays_of(response: httpx.Response) -> dict[str, np.ndarray]:
    """`micro` and `modality_valid` of an answer of any type."""
    kind = response.headers["content-type"]
    if kind == NPZ:
        return dict(np.load(io.BytesIO(response.content)))
    if kind == SAFETENSORS:
        return load(response.content)
    if kind == ARROW:
        table = pa.ipc.open_stream(response.content).read_all()
        rows = {n: np.stack(table[n].to_numpy()) for n in table.column_names}
        shape = (len(table), 2, 6)
        return {
            "micro": rows["micro"].reshape(*shape, -1),
            "modality_valid": rows["modality_valid"].reshape(shape),
        }
    answer = response.json()
    micro = answer["micro"]
    if isinstance(micro, dict):
        data = base64.b64decode(micro["data"])
        micro = np.frombuffer(data, "<f4").reshape(micro["shape"])
    return {"micro": np.array(micro), "modality_valid": np.array(answer["modality_valid"])}


def post(
    backend: WindowsBackend,
    body: bytes,
    kind: str = NPZ,
    accept: str = NPZ,
    query: str = "",
    **options: int,
) -> httpx.Response:
    headers = {"content-type": kind, "accept": accept}
    answer: httpx.Response = call(
        backend, lambda c: c.post(f"/v1/encode{query}", content=body, headers=headers), **options
    )
    return answer


@pytest.mark.parametrize("num_epochs", [2, 7, 8])
def test_the_windows_of_a_night_give_the_vectors_of_the_night(
    backend: WindowsBackend, num_epochs: int
) -> None:
    night = night_of(num_epochs)
    expected = EMBEDDER.epochs(night)
    found = arrays_of(post(backend, npz(night_windows(night))))
    micro = night_epochs(found["micro"], num_epochs)
    assert np.abs(micro - expected.micro_LMD).max() <= 1e-5
    valid = night_epochs(found["modality_valid"], num_epochs)
    np.testing.assert_array_equal(valid, expected.modality_valid_LM)
    assert not micro[1, 0].any()  # the unusable epoch


@pytest.mark.parametrize("accept", ANSWERS)
@pytest.mark.parametrize("kind", [NPZ, ARROW, SAFETENSORS])
def test_every_format_says_the_same(backend: WindowsBackend, kind: str, accept: str) -> None:
    arrays = good_arrays()
    bodies = {NPZ: npz(arrays), ARROW: stream(pa.table(columns(arrays))), SAFETENSORS: save(arrays)}
    found = arrays_of(post(backend, bodies[kind], kind, accept))
    reference = arrays_of(post(backend, npz(arrays)))
    assert found["micro"].shape == (2, 2, 6, EMBEDDER.dim)
    np.testing.assert_array_equal(found["micro"], reference["micro"])
    np.testing.assert_array_equal(found["modality_valid"], reference["modality_valid"])


def test_the_answer_names_its_model(backend: WindowsBackend) -> None:
    answer = post(backend, npz(good_arrays()), accept="application/json").json()
    assert answer["model_id"] == EMBEDDER.bundle.model_id
    assert answer["weights_sha256"] == EMBEDDER.bundle.weights_sha256
    assert answer["num_windows"] == 2
    archive = np.load(io.BytesIO(post(backend, npz(good_arrays())).content))
    assert json.loads(str(archive["info"]))["weights_sha256"] == EMBEDDER.bundle.weights_sha256


def test_encoding_float_answers_numbers(backend: WindowsBackend) -> None:
    body = npz(good_arrays())
    numbers = post(backend, body, accept="application/json", query="?encoding=float").json()
    found = np.array(numbers["micro"], np.float32)
    np.testing.assert_array_equal(found, arrays_of(post(backend, body))["micro"])


def test_only_what_is_sent_is_heard(backend: WindowsBackend) -> None:
    found = arrays_of(post(backend, npz({"RESP": good_arrays()["RESP"]})))
    heard = np.abs(found["micro"]).sum(axis=(0, 1, 3)) > 0
    assert heard.tolist() == [m is Modality.RESP for m in MODALITIES]
    assert np.isfinite(found["micro"]).all()


@pytest.mark.parametrize(
    ("kind", "accept", "query", "body", "expected"),
    [
        ("application/json", NPZ, "", b"{}", (415, "unsupported_media_type")),
        ("application/vnd.apache.parquet", NPZ, "", b"PAR1", (415, "unsupported_media_type")),
        ("", NPZ, "", b"x", (415, "unsupported_media_type")),
        (NPZ, "text/html", "", b"x", (406, "not_acceptable")),
        (NPZ, NPZ, "?encoding=float", b"x", (422, "request_invalid")),
        (NPZ, NPZ, "?modle=default", b"x", (422, "request_invalid")),
        (NPZ, NPZ, "", b"", (400, "empty_body")),
        (NPZ, NPZ, "", b"x", (400, "payload_invalid")),
        (NPZ, NPZ, "", bytes(9 * 2**20), (413, "payload_too_large")),
        (NPZ, NPZ, "?model=other", npz(good_arrays()), (404, "model_unknown")),
    ],
)
def test_wrong_requests_have_their_codes(
    backend: WindowsBackend,
    kind: str,
    accept: str,
    query: str,
    body: bytes,
    expected: tuple[int, str],
) -> None:
    assert error_of(post(backend, body, kind, accept, query)) == expected


def test_a_compressed_archive_may_not_be_larger_than_a_body(backend: WindowsBackend) -> None:
    body = npz(
        {"EEG": np.random.default_rng(0).integers(0, 2, (60, 6000)).astype(np.float32)}, True
    )
    assert len(body) < 2**20
    assert error_of(post(backend, body, max_body_mb=1)) == (413, "payload_too_large")


def test_an_odd_nights_last_window_gives_its_second_epoch() -> None:
    windows = np.arange(6).reshape(3, 2)  # of epochs 0 1, 2 3 and 3 4
    assert night_epochs(windows, 5).tolist() == [0, 1, 2, 3, 5]
    assert night_epochs(windows, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_night_windows_are_z_scores_and_flags() -> None:
    night = night_of(3)
    windows = night_windows(night)
    assert set(windows) == {"EEG", "EOG", "EMG", "ECG", "RESP", "valid"}
    assert windows["RESP"].shape == (2, 3000)
    eeg = night.signals[Modality.EEG].astype(np.float64) / 1000
    np.testing.assert_allclose(windows["EEG"], eeg, atol=3e-6)
    assert windows["valid"][:, 0].tolist() == [[True, False], [False, True]]
    gone = dataclasses.replace(night, signals={}, usable={})
    assert not night_windows(gone)["valid"].any()
