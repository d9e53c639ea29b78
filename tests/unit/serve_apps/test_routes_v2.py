"""/v2, the Open Inference Protocol: JSON and bytes, worked by hand, and as /v1/encode."""

import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from serve_apps.encoder import LocalEncoder
from serve_apps.http_errors import HttpError
from serve_apps.tensors_v2 import parse_request
from sleepmami.inference.embedder import Embedder
from tests.bundles import random_bundle
from tests.payload_corpus import NPZ, good_arrays, npz
from tests.unit.serve_apps.windows_app import WindowsBackend, call

EMBEDDER = Embedder(random_bundle(), windows_per_batch=4)
URL = "/v2/models/default/infer"
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def backend() -> Iterator[WindowsBackend]:
    encoder = LocalEncoder(EMBEDDER, threads=1)
    yield WindowsBackend(encoder)
    encoder.close()


def post(
    backend: WindowsBackend, body: bytes, json_bytes: int | None = None, url: str = URL
) -> httpx.Response:
    headers = {} if json_bytes is None else {LENGTH: str(json_bytes)}
    answer: httpx.Response = call(backend, lambda c: c.post(url, content=body, headers=headers))
    return answer


def binary_request(arrays: dict[str, np.ndarray], **extra: Any) -> tuple[bytes, int]:
    """As Triton's client writes it."""
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": "BOOL" if array.dtype == bool else "FP32",
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in arrays.items()
    ]
    head = json.dumps({"inputs": inputs, **extra}, separators=(",", ":")).encode()
    return head + b"".join(a.tobytes() for a in arrays.values()), len(head)


def test_a_binary_request_by_hand() -> None:
    """Two tensors of two and one bytes of flags: where each lies is counted out."""
    head = (
        b'{"id":"7","inputs":['
        b'{"name":"SPO2","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},'
        b'{"name":"valid","shape":[1,3],"datatype":"BOOL","parameters":{"binary_data_size":3}}]}'
    )
    tail = bytes.fromhex("0000803f000000c0010001")  # 1.0, -2.0, and three flags
    request, arrays = parse_request(head + tail, str(len(head)))
    assert request.id == "7"
    assert arrays["SPO2"].tolist() == [[1.0, -2.0]]
    assert arrays["valid"].tolist() == [[True, False, True]]
    for wrong in (len(head) - 1, len(head) + 1, len(head) + 99):
        with pytest.raises(HttpError):
            parse_request(head + tail, str(wrong))
    for body in (head + tail + b"\0", head + tail[:-1], head + tail[:-1] + b"\2"):
        with pytest.raises(HttpError, match="payload_invalid"):
            parse_request(body, str(len(head)))


def test_a_binary_answer_by_hand(backend: WindowsBackend) -> None:
    """One window of SPO2: what follows the JSON is 2 x 6 x D floats and 12 flags."""
    arrays = {"SPO2": good_arrays(1)["SPO2"]}
    wanted = [{"name": n, "parameters": {"binary_data": True}} for n in ("micro", "modality_valid")]
    body, size = binary_request(arrays, outputs=wanted, id="a-1")
    response = post(backend, body, size)
    assert response.headers["content-type"] == "application/octet-stream"
    head_size = int(response.headers[LENGTH])
    head, tail = json.loads(response.content[:head_size]), response.content[head_size:]
    floats = 2 * 6 * EMBEDDER.dim
    assert head == {
        "model_name": "default",
        "model_version": EMBEDDER.bundle.weights_sha256,
        "id": "a-1",
        "outputs": [
            {
                "name": "micro",
                "shape": [1, 2, 6, EMBEDDER.dim],
                "datatype": "FP32",
                "parameters": {"binary_data_size": 4 * floats},
            },
            {
                "name": "modality_valid",
                "shape": [1, 2, 6],
                "datatype": "BOOL",
                "parameters": {"binary_data_size": 12},
            },
        ],
    }
    assert len(tail) == 4 * floats + 12
    assert tail[4 * floats :] == bytes([0, 0, 0, 0, 0, 1] * 2)
    vectors = np.array(struct.unpack(f"<{floats}f", tail[: 4 * floats])).reshape(2, 6, -1)
    assert not vectors[:, :5].any()
    assert vectors[:, 5].any()


def test_json_and_bytes_and_v1_say_the_same(backend: WindowsBackend) -> None:
    arrays = good_arrays()
    v1 = call(
        backend,
        lambda c: c.post(
            "/v1/encode", content=npz(arrays), headers={"content-type": NPZ, "accept": NPZ}
        ),
    )
    expected = np.load(io.BytesIO(v1.content))["micro"]
    binary = post(backend, *binary_request(arrays, parameters={"binary_data_output": True}))
    head_size = int(binary.headers[LENGTH])
    of_bytes = np.frombuffer(binary.content[head_size : head_size + expected.nbytes], "<f4")
    np.testing.assert_array_equal(of_bytes.reshape(expected.shape), expected)
    nested, flat = (
        {
            "inputs": [
                {
                    "name": name,
                    "shape": list(array.shape),
                    "datatype": "BOOL" if array.dtype == bool else "FP32",
                    "data": (array if deep else array.reshape(-1)).tolist(),
                }
                for name, array in arrays.items()
            ]
        }
        for deep in (True, False)
    )
    for request in (nested, flat):
        answer = post(backend, json.dumps(request).encode()).json()
        micro = next(o for o in answer["outputs"] if o["name"] == "micro")
        found = np.array(micro["data"], np.float32).reshape(micro["shape"])
        np.testing.assert_array_equal(found, expected)


def test_only_the_outputs_that_are_asked_for_are_sent(backend: WindowsBackend) -> None:
    body, size = binary_request(good_arrays(1), outputs=[{"name": "modality_valid"}])
    outputs = post(backend, body, size).json()["outputs"]
    assert [(o["name"], o["data"]) for o in outputs] == [("modality_valid", [True] * 12)]


def spo2(**change: Any) -> bytes:
    tensor = {"name": "SPO2", "shape": [1, 60], "datatype": "FP32", "data": [0.5] * 60} | change
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"{", 422, "request_invalid"),
        (b'{"inputs":[]}', 422, "request_invalid"),
        (spo2(name="JANE-DOE"), 422, "windows_invalid"),
        (spo2(datatype="BYTES"), 422, "windows_invalid"),
        (spo2(datatype="FP64"), 422, "windows_invalid"),
        (spo2(shape=[2, 60]), 400, "payload_invalid"),
        (spo2(shape=[-1, 60]), 422, "request_invalid"),
        (spo2(shape=[2**31, 2**31, 2**31, 2**31]), 400, "payload_invalid"),
        (spo2(shape=[60]), 422, "windows_invalid"),
        (spo2(data=["JANE-DOE"] * 60), 400, "payload_invalid"),
        (spo2(data=[True] * 60), 400, "payload_invalid"),
        (spo2(data=[1e300] * 60), 422, "windows_invalid"),
        (spo2(data=[10**400] * 60), 400, "payload_invalid"),
        (spo2(data=[[[[[[0.5]]]]]] * 60), 400, "payload_invalid"),
        (spo2(data={"JANE-DOE": 1}), 422, "request_invalid"),
        (spo2(data=[97.0] * 60), 422, "windows_invalid"),  # percent
        (spo2(data=None), 422, "request_invalid"),
        (spo2(parameters={"shared_memory_region": "r"}), 422, "request_invalid"),
        (b'{"inputs":' + b"[" * 100_000, 422, "request_invalid"),
    ],
)
def test_wrong_requests_are_one_string_without_a_quotation(
    backend: WindowsBackend, body: bytes, status: int, code: str
) -> None:
    response = post(backend, body)
    assert response.status_code == status
    assert response.json()["error"].startswith(f"{code}: ")
    assert set(response.json()) == {"error"}
    assert "JANE-DOE" not in response.text


@pytest.mark.parametrize("value", ["-1", "1e3", "JANE-DOE", "99999999999", ""])
def test_a_length_that_is_none_is_refused(backend: WindowsBackend, value: str) -> None:
    body, _ = binary_request(good_arrays(1))
    headers = {LENGTH: value}
    response = call(backend, lambda c: c.post(URL, content=body, headers=headers))
    assert response.json()["error"].startswith("request_invalid")


def test_a_model_that_is_not_there(backend: WindowsBackend) -> None:
    assert post(backend, spo2(), url="/v2/models/JANE-DOE/infer").status_code == 404
    for path in ("/v2/models/JANE-DOE", "/v2/models/JANE-DOE/ready"):
        response = call(backend, lambda c, path=path: c.get(path))
        assert response.status_code == 404
        assert response.json()["error"].startswith("model_unknown: ")
        assert "JANE-DOE" not in response.text


def test_what_the_server_says_of_itself(backend: WindowsBackend) -> None:
    paths = ("", "/health/live", "/health/ready", "/models/default/ready", "/models/default")

    async def steps(client: httpx.AsyncClient) -> list[Any]:
        return [(await client.get(f"/v2{path}")).json() for path in paths]

    server, live, ready, model_ready, model = call(backend, steps)
    assert server["extensions"] == ["binary_tensor_data"]
    assert (live, ready) == ({"live": True}, {"ready": True})
    assert model_ready == {"name": "default", "ready": True}
    inputs = {tensor["name"]: tensor for tensor in model["inputs"]}
    assert inputs["RESP"] == {"name": "RESP", "datatype": "FP32", "shape": [-1, 3000]}
    assert inputs["valid"]["shape"] == [-1, 6, 2]
    assert model["outputs"][0]["shape"] == [-1, 2, 6, EMBEDDER.dim]
