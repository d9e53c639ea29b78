"""What bench_serve.py compares with: the same routes and model, one night at a time under a lock.

This is how most research code is put behind HTTP: one process, one asyncio.Lock around the whole
inference, nothing batched.

    python benchmarks/lock_server.py BUNDLE --port 8000 --threads 1
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import uvicorn

from serve_apps.admission import Admission
from serve_apps.backend import (
    EmbedOptions,
    Inspection,
    Progress,
    Recording,
    Refusal,
    WindowBatch,
)
from serve_apps.http_app import create_app
from serve_apps.wire import Limits, ModelInfo, redacted
from sleepmami.errors import RecordingError
from sleepmami.inference.embedder import Embedder, EpochEmbedding, NightEmbedding
from sleepmami.inference.hearing import hearing_of_windows, pieces_of
from sleepmami.models.cpu import prepare_cpu
from sleepmami.psg import MODALITIES
from sleepmami.signals.preprocess import load_night


class LockBackend:
    """One request is served at a time, on one thread of Python."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._lock = asyncio.Lock()

    async def embed(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> NightEmbedding | Refusal:
        """See Backend."""
        async with self._lock:
            return await asyncio.to_thread(self._embed, recording)

    async def embed_steps(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncIterator[Progress | NightEmbedding | Refusal]:
        """See Backend."""
        yield await self.embed(recording, request_id, options)

    async def inspect(self, recording: Recording, request_id: str) -> Inspection | Refusal:
        """Not part of the comparison."""
        return Refusal("model_not_ready")

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        """See Backend."""
        async with self._lock:
            return await asyncio.to_thread(self._encode, windows)

    async def models(self) -> list[ModelInfo]:
        """See Backend."""
        bundle = self._embedder.bundle
        assert bundle.macro is not None
        return [
            ModelInfo(
                model_id=bundle.model_id,
                weights_sha256=bundle.weights_sha256,
                modalities=[m.value for m in MODALITIES],
                micro_dim=len(MODALITIES) * self._embedder.dim,
                macro_dim=2 * bundle.macro.model.dim,
                night_dim=2 * bundle.macro.model.dim,
                second_dim=len(MODALITIES) * self._embedder.dim,
            )
        ]

    def _embed(self, recording: Recording) -> NightEmbedding | Refusal:
        try:
            config = self._embedder.bundle.preprocess
            return redacted(self._embedder.night(load_night(recording, config, recording_id="x")))
        except RecordingError as error:
            return Refusal(error.code)

    def _encode(self, windows: WindowBatch) -> EpochEmbedding:
        hearing = hearing_of_windows(windows.signals, windows.valid, self._embedder.dim)
        for piece in pieces_of(hearing, self._embedder.windows_per_batch):
            self._embedder.hear([piece])
        info = {"weights_sha256": self._embedder.bundle.weights_sha256}
        return replace(self._embedder.heard([hearing]), info=info)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of the one inference")
    parser.add_argument("--windows-per-batch", type=int, default=32)
    arguments = parser.parse_args()
    prepare_cpu(arguments.threads)
    embedder = Embedder.from_checkpoint(
        arguments.bundle, windows_per_batch=arguments.windows_per_batch
    )
    admission = Admission(Limits(max_body_mb=1024, max_running=64, max_queued=64))
    app = create_app(LockBackend(embedder), admission)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, access_log=False, log_level="error")


if __name__ == "__main__":
    main()
