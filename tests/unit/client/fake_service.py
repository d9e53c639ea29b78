"""A service in memory for httpx.MockTransport: uploads as tus has them, and faults on demand."""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from sleepmami.client import AsyncClient, Client, Retries

URL = "http://service"
WEIGHTS = "ab" * 32
INFO = {"model_id": "m-1", "weights_sha256": WEIGHTS}
AT_ONCE = Retries(count=5, first_s=0.0)
Answer = httpx.Response | Exception | None  # None: as if there were no fault


def error(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"error": {"code": code, "message": f"It is {code}.", "request_id": "r-1"}}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=sent)


def npz(value: float = 1.0, weights: str = WEIGHTS) -> bytes:
    """An embedding of two epochs with a night vector of that value."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        night=np.full(4, value, np.float32),
        epoch_valid=np.ones(2, bool),
        modality_valid=np.ones((2, 6), bool),
        info=np.array(json.dumps(INFO | {"weights_sha256": weights})),
    )
    return buffer.getvalue()


@dataclass
class FakeService:
    """Answers every request, after `faults` have had their turn.

    Attributes:
        faults: asked first, one per request; what is not None is the answer.
        uploads: bytes by id.
        seen: every request, in order.
        embedded: recordings that were embedded, in order.
    """

    faults: Callable[[httpx.Request], Answer] = lambda request: None
    uploads: dict[str, bytearray] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    seen: list[httpx.Request] = field(default_factory=list)
    embedded: list[bytes] = field(default_factory=list)
    begun: int = 0
    weights: str = WEIGHTS

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        fault = self.faults(request)
        if isinstance(fault, Exception):
            raise fault
        return self.answer(request) if fault is None else fault

    def answer(self, request: httpx.Request) -> httpx.Response:
        path, _, upload_id = request.url.path.rpartition("/")
        if request.url.path == "/v1/uploads":
            return self._begin(request)
        if path == "/v1/uploads":
            return self._upload(request, upload_id)
        if request.url.path == "/v1/embeddings":
            return self._embed(request)
        if request.url.path == "/info":
            model = {"name": "default", "default": True, "weights_sha256": self.weights}
            return httpx.Response(200, json={"models": [model]})
        return error(404, "not_found")

    def put(self, upload_id: str, offset: int, data: bytes) -> None:
        """What a PATCH does once it has arrived."""
        assert offset == len(self.uploads[upload_id])
        self.uploads[upload_id] += data

    def methods(self) -> list[str]:
        return [request.method for request in self.seen]

    def _begin(self, request: httpx.Request) -> httpx.Response:
        self.begun += 1
        upload_id = f"upload{self.begun}"
        self.uploads[upload_id] = bytearray()
        self.lengths[upload_id] = int(request.headers["upload-length"])
        return httpx.Response(201, headers={"location": f"/v1/uploads/{upload_id}"})

    def _upload(self, request: httpx.Request, upload_id: str) -> httpx.Response:
        assert request.headers["tus-resumable"] == "1.0.0"
        if upload_id not in self.uploads:
            return error(404, "upload_not_found")
        held = self.uploads[upload_id]
        if request.method == "DELETE":
            del self.uploads[upload_id]
            return httpx.Response(204)
        if request.method == "PATCH":
            if int(request.headers["upload-offset"]) != len(held):
                return error(409, "offset_conflict")
            algorithm, _, digest = request.headers["upload-checksum"].partition(" ")
            assert algorithm == "sha256"
            if hashlib.sha256(request.content).digest() != base64.b64decode(digest):
                return error(460, "checksum_mismatch")
            held += request.content
        status = 204 if request.method == "PATCH" else 200
        length = str(self.lengths[upload_id])
        return httpx.Response(
            status, headers={"upload-offset": str(len(held)), "upload-length": length}
        )

    def _embed(self, request: httpx.Request) -> httpx.Response:
        body = request.content
        if request.headers["content-type"] == "application/json":
            upload_id = json.loads(body)["upload_id"]
            if upload_id not in self.uploads:
                return error(404, "upload_not_found")
            if len(self.uploads[upload_id]) != self.lengths[upload_id]:
                return error(409, "upload_incomplete")
            body = bytes(self.uploads[upload_id])
        if body.startswith(b"bad"):
            return error(400, "not_an_edf")
        self.embedded.append(body)
        return httpx.Response(200, content=npz(float(len(body)), self.weights))


def faults_of(*faults: Answer) -> Callable[[httpx.Request], Answer]:
    """One fault for each of the first requests."""
    waiting = list(faults)
    return lambda request: waiting.pop(0) if waiting else None


def client_of(service: FakeService, **settings: Any) -> Client:
    """A client of it that does not wait between attempts."""
    transport = httpx.MockTransport(service)
    return Client(URL, transport=transport, **({"retries": AT_ONCE} | settings))


def async_client_of(service: FakeService, **settings: Any) -> AsyncClient:
    transport = httpx.MockTransport(service)
    return AsyncClient(URL, transport=transport, **({"retries": AT_ONCE} | settings))
