"""The backend in one process, without Ray: for development, for tests, and for a small machine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from serve_apps.backend import (
    EmbedOptions,
    Inspection,
    Observe,
    Progress,
    Recording,
    Refusal,
    WindowBatch,
)
from serve_apps.encoder import LocalEncoder
from serve_apps.preprocessor import LocalPreprocessor
from serve_apps.stages import Encoded, OtherSettings, Preprocessed, shared
from serve_apps.wire import ModelInfo
from sleepmami.inference.embedder import Embedder, EpochEmbedding, NightEmbedding
from sleepmami.report.night_overview import Overview, night_overview


class LocalBackend:
    """One model, one preprocessor and one encoder, a thread each.

    Attributes:
        observe: as of RayBackend.

    Args:
        embedder: its bundle has a Macro-Encoder.
        threads: torch threads of the encoder.

    Raises:
        CheckpointError: the bundle has no Macro-Encoder.
    """

    def __init__(self, embedder: Embedder, *, threads: int = 1) -> None:
        self._preprocessor = LocalPreprocessor()
        self._encoder = LocalEncoder(embedder, threads=threads)
        self.observe: Observe = lambda *_: None

    async def embed(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> NightEmbedding | Refusal:
        """See Backend."""
        async for step in self.embed_steps(recording, request_id, options):
            if isinstance(step, NightEmbedding | Refusal):
                return step
        raise AssertionError("the steps end with an outcome")

    async def embed_steps(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncIterator[Progress | Overview | NightEmbedding | Refusal]:
        """See Backend."""
        started_s = time.perf_counter()
        info = await self._encoder.info()
        if options.model not in (None, info.model.name):
            yield Refusal("model_unknown")
            return
        loaded: Preprocessed | None = None
        sent = shared(recording)
        async for step in self._preprocessor.load_steps(sent, info.preprocess, request_id):
            if isinstance(step, Preprocessed):
                loaded = step
            else:
                yield step
        if loaded is None:
            return  # refused
        if options.overview:
            yield night_overview(loaded.night)
        async for heard in self._encoder.night_steps(loaded, request_id, options.second):
            assert not isinstance(heard, OtherSettings), "one model has one way of preprocessing"
            if isinstance(heard, Encoded):
                assert isinstance(heard.embedding, NightEmbedding)
                seconds = {"preprocessing": loaded.seconds} | heard.seconds
                seconds["total"] = time.perf_counter() - started_s
                self.observe(seconds, heard.batches, heard.windows)
                yield heard.embedding
            else:
                yield heard

    async def inspect(self, recording: Recording, request_id: str) -> Inspection | Refusal:
        """See Backend."""
        info = await self._encoder.info()
        return await self._preprocessor.inspect(shared(recording), info.preprocess, request_id)

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        """See Backend."""
        info = await self._encoder.info()
        if model not in (None, info.model.name):
            return Refusal("model_unknown")
        found = await self._encoder.encode(windows, request_id)
        if isinstance(found, Refusal):
            return found
        self.observe(found.seconds, found.batches, found.windows)
        assert isinstance(found.embedding, EpochEmbedding)
        return found.embedding

    async def models(self) -> list[ModelInfo]:
        """See Backend."""
        return [(await self._encoder.info()).model]

    def close(self) -> None:
        """End its threads."""
        self._encoder.close()
