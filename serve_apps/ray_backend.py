"""The deployments as the HTTP side sees them: one Backend in front of Preprocessor and Encoders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_apps.backend import (
    EmbedOptions,
    Inspection,
    Observe,
    Progress,
    Recording,
    Refusal,
    WindowBatch,
)
from serve_apps.http_errors import HttpError, log_failure
from serve_apps.model_choice import chosen_model
from serve_apps.night_calls import cancel_call, hear_alone, hear_in_shares, num_shares
from serve_apps.small_requests import SmallRequests, calls_of, is_small
from serve_apps.stages import (
    Encoded,
    EncoderInfo,
    OtherSettings,
    OtherWeights,
    Preprocessed,
    shared,
)
from serve_apps.wire import ModelInfo
from sleepmami.config import ServeConfig
from sleepmami.inference.embedder import EpochEmbedding, NightEmbedding
from sleepmami.report.night_overview import Overview

MODEL_TIMEOUT_S = 5.0  # /ready and /info: a replica that is there answers at once
MAX_TRIES = 4  # of one recording while another bundle is rolled out; the first may be in shares
Handle = DeploymentHandle[Any]  # Any: a handle's methods have no types


class RayBackend:
    """A recording goes from deployment to deployment through memory, never through a file.

    Attributes:
        names: of the models, the default one first.
        observe: called once per answer with seconds by stage, the batches it had windows in, and
            the windows in those batches.

    Args:
        preprocessor: of every model.
        encoders: by the name of the model, the default one first.
        canary: share of the requests without a name that each other model gets.
        config: how many replicas there are.
    """

    def __init__(
        self,
        preprocessor: Handle,
        encoders: Mapping[str, Handle],
        canary: Mapping[str, float],
        config: ServeConfig,
    ) -> None:
        self._preprocessor = preprocessor
        self._encoders = dict(encoders)
        self.names = tuple(encoders)
        self._default = self.names[0]
        self._canary = dict(canary)
        self._settings: dict[str, dict[str, Any]] = {}  # of preprocessing, by model
        self._num_encoders = config.num_replicas
        self._small = SmallRequests(
            preprocessor,
            encoders,
            preprocessor_calls=calls_of(config.num_preprocessors, config.max_preprocessors),
            encoder_calls=calls_of(config.num_replicas, config.max_replicas),
        )
        self.observe: Observe = _ignore

    async def embed(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> NightEmbedding | Refusal:
        """See Backend; a replica that dies meanwhile is model_not_ready."""
        async with aclosing(self.embed_steps(recording, request_id, options)) as steps:
            async for step in steps:
                if isinstance(step, NightEmbedding | Refusal):
                    return step
        return Refusal("model_not_ready")

    async def embed_steps(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncGenerator[Progress | Overview | NightEmbedding | Refusal]:
        """See Backend."""
        name = chosen_model(options.model, request_id, self._default, self._canary)
        if name not in self._encoders:
            yield Refusal("model_unknown")
            return
        try:
            async with aclosing(self._steps(name, recording, request_id, options)) as steps:
                async for step in steps:
                    yield step
        except (RayError, RayServeException) as error:
            log_failure(error, request_id)
            yield Refusal("model_not_ready")
        except HttpError as error:
            yield Refusal(error.code)

    async def inspect(self, recording: Recording, request_id: str) -> Inspection | Refusal:
        """See Backend; by the default model's settings."""
        try:
            settings = await self._settings_of(self._default)
            call = self._preprocessor.inspect.remote(shared(recording), settings, request_id)
            found: Inspection | Refusal = await call
        except (RayError, RayServeException) as error:
            log_failure(error, request_id)
            return Refusal("model_not_ready")
        except HttpError as error:
            return Refusal(error.code)
        return found

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        """See Backend."""
        name = chosen_model(model, request_id, self._default, self._canary)
        if name not in self._encoders:
            return Refusal("model_unknown")
        waited_s = 0.0
        try:
            if is_small(windows):
                found, waited_s = await self._small.encode(name, windows, request_id)
            else:
                found = await self._encoders[name].encode.remote(windows, request_id)
        except (RayError, RayServeException) as error:
            log_failure(error, request_id)
            return Refusal("model_not_ready")
        if isinstance(found, Refusal):
            return found
        self.observe(with_wait(found.seconds, waited_s), found.batches, found.windows)
        assert isinstance(found.embedding, EpochEmbedding)
        return found.embedding

    async def models(self) -> list[ModelInfo]:
        """Each model as whichever of its replicas answers first says it is.

        One that is away is left out: the others are there. HttpError("model_not_ready") when it is
        the default one.
        """
        asked = (self._info(name) for name in self._encoders)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found = []
        for name, answer in zip(self.names, answers, strict=True):
            if isinstance(answer, EncoderInfo):
                found.append(answer)
            elif name == self._default or not isinstance(answer, HttpError):
                raise answer
        return [
            info.model.model_copy(
                update={
                    "default": info.model.name == self._default,
                    "canary_share": self._canary.get(info.model.name, 0.0),
                }
            )
            for info in found
        ]

    async def _steps(
        self, name: str, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncGenerator[Progress | Overview | NightEmbedding | Refusal]:
        started_s = time.perf_counter()
        yield Progress("queued", 0, 1)
        settings = await self._settings_of(name)
        if is_small(recording) and not options.overview:
            yield await self._short(name, recording, settings, request_id, options.second)
            return
        shown, alone = False, options.second  # tokens of seconds are too much to send about
        loaded: ray.ObjectRef[Preprocessed] | None = None
        for _ in range(MAX_TRIES):
            if loaded is None:
                wanted = options.overview and not shown
                async with aclosing(self._load(recording, settings, request_id, wanted)) as steps:
                    async for ref, step in steps:
                        if isinstance(step, Progress | Overview):
                            shown = shown or isinstance(step, Overview)
                            yield step
                        elif isinstance(step, Refusal):
                            yield step
                            return
                        else:
                            loaded, seconds = ref, {"preprocessing": step.seconds}
                            num_epochs = step.night.num_epochs
            if loaded is None:
                break
            shares = 1 if alone else num_shares(num_epochs, self._num_encoders)
            hearing = (
                hear_alone(self._encoders[name], loaded, request_id, options.second)
                if shares == 1
                else hear_in_shares(self._encoders[name], loaded, request_id, num_epochs, shares)
            )
            async with aclosing(hearing) as heard:
                async for found in heard:
                    if isinstance(found, OtherSettings | OtherWeights):
                        alone = True  # while the bundle changes, one Encoder has one model
                        if isinstance(found, OtherSettings):
                            settings, loaded = found.preprocess, None
                            self._settings[name] = settings
                        break
                    if isinstance(found, Encoded):
                        yield self._observed(found, seconds, started_s)
                        return
                    yield found
                    if isinstance(found, Refusal):
                        return
        yield Refusal("model_not_ready")

    async def _short(
        self,
        name: str,
        recording: Recording,
        settings: dict[str, Any],
        request_id: str,
        second: bool,
    ) -> NightEmbedding | Refusal:
        """A recording that is done before anybody asks how far it is."""
        started_s, waited_s = time.perf_counter(), 0.0
        for _ in range(MAX_TRIES):
            loaded, to_load_s = await self._small.load(recording, settings, request_id)
            if isinstance(loaded, Refusal):
                return loaded
            found, to_hear_s = await self._small.night(name, loaded, request_id, second)
            waited_s += to_load_s + to_hear_s
            if isinstance(found, Refusal):
                return found
            if isinstance(found, Encoded):
                found = replace(found, seconds=with_wait(found.seconds, waited_s))
                return self._observed(found, {"preprocessing": loaded.seconds}, started_s)
            settings = self._settings[name] = found.preprocess
        return Refusal("model_not_ready")

    def _observed(
        self, found: Encoded, seconds: Mapping[str, float], started_s: float
    ) -> NightEmbedding:
        total_s = time.perf_counter() - started_s
        self.observe({**seconds, **found.seconds, "total": total_s}, found.batches, found.windows)
        assert isinstance(found.embedding, NightEmbedding)
        return found.embedding

    async def _load(
        self, recording: Recording, settings: dict[str, Any], request_id: str, overview: bool
    ) -> AsyncGenerator[tuple[Any, Progress | Overview | Preprocessed | Refusal]]:
        """Each step and the object that holds it: the Encoder reads the night from there."""
        travelling = await asyncio.to_thread(ray.put, shared(recording))
        stream: Any = self._preprocessor.options(stream=True)
        call = stream.load_steps.remote(travelling, settings, request_id, overview)
        working = True
        try:
            async for ref in await call._to_object_ref_gen():
                step = await ref
                working = isinstance(step, Progress | Overview)
                yield ref, step
        finally:
            if working:
                cancel_call(call)

    async def _settings_of(self, name: str) -> dict[str, Any]:
        if name not in self._settings:
            self._settings[name] = (await self._info(name)).preprocess
        return self._settings[name]

    async def _info(self, name: str) -> EncoderInfo:
        try:
            async with asyncio.timeout(MODEL_TIMEOUT_S):
                info: EncoderInfo = await self._encoders[name].info.remote()
        except (TimeoutError, RayError, RayServeException):
            raise HttpError("model_not_ready") from None
        return info


def with_wait(seconds: Mapping[str, float], waited_s: float) -> dict[str, float]:
    """Seconds by stage; who waits for a call waits for the model."""
    return {**seconds, "queued": seconds["queued"] + waited_s}


def _ignore(seconds: Mapping[str, float], batches: int, windows: int) -> None:
    """Nobody counts."""
