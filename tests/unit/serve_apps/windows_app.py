"""The application around a real, tiny model in this process, for what reaches it as windows."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from serve_apps.backend import Refusal, WindowBatch
from serve_apps.encoder import LocalEncoder
from serve_apps.http_app import Admission, create_app
from serve_apps.wire import Limits, ModelInfo
from sleepmami.inference.embedder import EpochEmbedding


class WindowsBackend:
    """One model that only encodes windows."""

    def __init__(self, encoder: LocalEncoder) -> None:
        self.encoder = encoder
        self.seen: list[WindowBatch] = []

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        self.seen.append(windows)
        if model not in (None, "default"):
            return Refusal("model_unknown")
        found = await self.encoder.encode(windows, request_id)
        if isinstance(found, Refusal):
            return found
        assert isinstance(found.embedding, EpochEmbedding)
        return found.embedding

    async def models(self) -> list[ModelInfo]:
        return [(await self.encoder.info()).model]


def call(
    backend: WindowsBackend,
    steps: Callable[[httpx.AsyncClient], Awaitable[Any]],
    *,
    max_body_mb: int = 8,
) -> Any:
    limits = Limits(max_body_mb=max_body_mb, max_running=4, max_queued=4)

    async def run() -> Any:
        app = create_app(backend, Admission(limits))  # type: ignore[arg-type]  # the rest is not asked
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test"
        ) as client:
            return await steps(client)

    return asyncio.run(run())


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]
