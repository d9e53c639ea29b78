"""A backend that answers what it is told to, and an application around it: no Ray, no model."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from serve_apps.admission import Admission
from serve_apps.backend import (
    EmbedOptions,
    InspectedChannel,
    Inspection,
    Progress,
    Recording,
    Refusal,
    WindowBatch,
)
from serve_apps.http_app import create_app
from serve_apps.http_errors import HttpError
from serve_apps.state_folder import StateFolder
from serve_apps.wire import Limits, ModelInfo
from sleepmami.inference.embedder import EpochEmbedding, NightEmbedding
from sleepmami.report.night_overview import Overview

EDF = {"content-type": "application/edf"}
TUS = {"tus-resumable": "1.0.0"}
MODEL = ModelInfo(
    model_id="m-1",
    weights_sha256="ab" * 32,
    modalities=["EEG"],
    micro_dim=2,
    macro_dim=4,
    night_dim=4,
)
INSPECTION = Inspection(
    ok=True,
    code=None,
    duration_s=120.0,
    gaps=((3.0, 4.5),),
    modalities=("EEG",),
    channels=(
        InspectedChannel(
            label="C4-M1",
            modality="EEG",
            unit="uV",
            sample_rate_hz=256.0,
            decision="used",
            confidence="certain",
            reason="used_as_recorded",
        ),
    ),
)
Outcome = NightEmbedding | Refusal | Exception


class FakeBackend:
    """Answers `outcome`; waits at `gate` when there is one.

    Attributes:
        outcomes: of the next jobs, before `outcome` is taken.
        bodies: what it was given, read where it was a path.
        recordings: as they came.
        steps: told before the outcome of a job.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.outcomes: list[Outcome] = []
        self.bodies: list[bytes] = []
        self.recordings: list[Recording] = []
        self.options: list[EmbedOptions] = []
        self.steps: Sequence[Progress | Overview] = ()
        self.closed_early = 0
        self.loaded = True
        self.gate: asyncio.Event | None = None

    async def embed(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> NightEmbedding | Refusal:
        self._heard(recording, options)
        if self.gate is not None:
            await self.gate.wait()
        return self._answer()

    async def embed_steps(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncIterator[Progress | Overview | NightEmbedding | Refusal]:
        self._heard(recording, options)
        finished = False
        try:
            for step in self.steps:
                yield step
            if self.gate is not None:
                await self.gate.wait()
            for step in self.steps:
                yield step
            finished = True
            yield self._answer()
        finally:
            self.closed_early += not finished

    async def inspect(self, recording: Recording, request_id: str) -> Inspection | Refusal:
        self._heard(recording, EmbedOptions())
        return self.outcome if isinstance(self.outcome, Refusal) else INSPECTION

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        raise NotImplementedError

    async def models(self) -> list[ModelInfo]:
        if not self.loaded:
            raise HttpError("model_not_ready")
        return [MODEL]

    def _heard(self, recording: Recording, options: EmbedOptions) -> None:
        self.recordings.append(recording)
        self.options.append(options)
        self.bodies.append(
            Path(recording).read_bytes() if isinstance(recording, str) else bytes(recording)
        )

    def _answer(self) -> NightEmbedding | Refusal:
        outcome = self.outcomes.pop(0) if self.outcomes else self.outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def limits(**changes: Any) -> Limits:
    """Small ones; 1 MB a recording."""
    return Limits(**({"max_body_mb": 1, "max_running": 4, "max_queued": 4} | changes))


def call(
    backend: FakeBackend,
    steps: Callable[[httpx.AsyncClient], Awaitable[Any]],
    *,
    state: Path | None = None,
    prepare: Callable[[FastAPI], None] = lambda app: None,
    parts: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    """What `steps` returns of a client to the running application.

    Args:
        backend: what embeds.
        steps: asks the client.
        state: folder of uploads and jobs; None is a private one.
        prepare: done to the application before it starts.
        parts: cohort and probes of `create_app`.
        changes: of `limits`.
    """

    async def run() -> Any:
        folder = StateFolder(str(state) if state is not None else None)
        app = create_app(backend, Admission(limits(**changes)), folder, **(parts or {}))
        prepare(app)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            return await steps(client)

    return asyncio.run(run())


def error_of(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return response.status_code, response.json()["error"]["code"]


async def upload(client: httpx.AsyncClient, data: bytes = b"edf", **headers: str) -> str:
    """Upload in one part; returns the id."""
    made = await client.post(
        "/v1/uploads", headers=TUS | {"upload-length": str(len(data))} | headers
    )
    assert made.status_code == 201, made.text
    sent = await client.patch(
        made.headers["location"],
        content=data,
        headers=TUS
        | {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
        | headers,
    )
    assert sent.status_code == 204, sent.text
    return made.headers["location"].rpartition("/")[2]


async def finished_job(client: httpx.AsyncClient, upload_id: str, **wanted: Any) -> dict[str, Any]:
    """Begin a job and wait until it has ended; returns it."""
    made = await client.post("/v1/jobs", json={"upload_id": upload_id, **wanted})
    assert made.status_code == 202, made.text
    while True:
        job: dict[str, Any] = (await client.get(made.headers["location"])).json()
        if job["state"] not in ("queued", "running"):
            return job
        await asyncio.sleep(0.002)
