"""The embedding service on Ray Serve: `serve_apps.embedding_app:build(args)`.

Two deployments: one Ingress that speaks HTTP, and as many Encoders as there are replicas, each
with the models in memory. A recording goes from one to the other through memory, never through a
file. Neither imports ray.data, whose Arrow extension types run code on reading.
"""

# No `from __future__ import annotations`: Serve reads the parameter type of `build` as a class.
import asyncio
import dataclasses
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_apps.app_args import EmbeddingAppArgs
from serve_apps.backend import Refusal
from serve_apps.encoder import LocalEncoder
from serve_apps.http_app import Admission, create_app
from serve_apps.http_errors import HttpError, log_failure
from serve_apps.key_middleware import install_keys
from serve_apps.keys import KeyRing, read_keys
from serve_apps.wire import Limits, ModelInfo
from sleepmami.config import ServeConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import CheckpointError, ServiceError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.storage import absolute
from sleepmami.training.checkpoint import load_bundle

APP_NAME = "sleepmami-embedding"
MODEL_TIMEOUT_S = 5.0  # /ready and /info: a replica that is there answers at once
REQUEST_TIMEOUT_S = 1800.0  # a client that never finishes its upload holds a place no longer
DRAIN_S = 60.0  # time a replica that is told to stop has for the requests it holds
SPARE_REQUESTS = 64  # places for /health and the like beside the admitted embeddings


class EncoderReplica(LocalEncoder):
    """One replica with the bundle's models."""

    def __init__(self, bundle: str, config: dict[str, Any]) -> None:  # Any: a ServeConfig's dict
        settings = from_dict(ServeConfig, config)
        embedder = Embedder.from_checkpoint(
            bundle,
            windows_per_batch=settings.windows_per_batch,
            device="cuda" if settings.use_gpu else "cpu",
            precision=settings.precision,
            both_halves=settings.both_halves,
        )
        super().__init__(embedder, threads=settings.threads_per_replica)


class RemoteEncoder:
    """The Encoder deployment as the HTTP application sees it."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def embed(self, body: bytes, request_id: str) -> NightEmbedding | Refusal:
        """As LocalEncoder; a replica that dies meanwhile is model_not_ready."""
        try:
            outcome: NightEmbedding | Refusal = await self._handle.embed.remote(body, request_id)
        except (RayError, RayServeException) as error:
            log_failure(error, request_id)
            return Refusal("model_not_ready")
        return outcome

    async def model(self) -> ModelInfo:
        """The model of whichever replica answers first; HttpError when none does."""
        try:
            async with asyncio.timeout(MODEL_TIMEOUT_S):
                info: ModelInfo = await self._handle.model.remote()
        except (TimeoutError, RayError, RayServeException):
            raise HttpError("model_not_ready") from None
        return info


@serve.ingress()
class IngressReplica:
    """The HTTP application in front of the Encoder."""

    def __init__(
        self, encoder: DeploymentHandle[Any], limits: dict[str, int], keys_file: str | None
    ) -> None:
        self._encoder = RemoteEncoder(encoder)
        self._admission = Admission(Limits(**limits))
        self._keys_file = keys_file

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica: the app holds locks and counters and is not pickled."""
        app = create_app(self._encoder, self._admission)
        if self._keys_file is not None:
            install_keys(app, KeyRing(self._keys_file))
        return app

    async def drain(self) -> None:
        """Take no more recordings and return when those in hand are embedded."""
        await self._admission.drain()


def build(args: EmbeddingAppArgs) -> serve.Application:
    """The application for `serve run`, `serve deploy` and `start`."""
    config = args.config()
    limits = Limits(
        max_body_mb=config.max_body_mb,
        max_running=config.num_replicas * config.max_ongoing_requests,
        max_queued=config.max_queued_requests,
    )
    # The Ingress admits no more than the Encoders take, so Serve's own queues stay empty and a
    # client that is turned away gets our answer, before its body is read.
    encoder = serve.deployment(
        name="Encoder",
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_ongoing_requests + SPARE_REQUESTS,
        graceful_shutdown_timeout_s=DRAIN_S,
        ray_actor_options={"num_cpus": config.cpus_per_replica, "num_gpus": int(config.use_gpu)},
    )(EncoderReplica)
    ingress = serve.deployment(
        name="Ingress",
        max_ongoing_requests=limits.max_running + limits.max_queued + SPARE_REQUESTS,
        graceful_shutdown_timeout_s=DRAIN_S,
        ray_actor_options={"num_cpus": 0},
    )(IngressReplica)
    models = encoder.bind(args.bundle, to_dict(config))
    return ingress.bind(models, limits.model_dump(), config.keys_file)


def start(bundle: str, config: ServeConfig) -> str:
    """Start the service without blocking and return its URL once it is ready.

    Needs a Ray session.

    Args:
        bundle: folder or URI of a bundle with a Macro-Encoder.
        config: where it listens and what it takes; port 0 picks a free one.

    Raises:
        CheckpointError: the bundle is missing, altered, or without a Macro-Encoder.
        ConfigError: the key file is missing, open to others, or not one.
        ServiceError: no Ray session, the port is taken, the cluster too small, or the service did
            not come up.
    """
    bundle = absolute(bundle)
    if config.keys_file is not None:
        keys_file = absolute(config.keys_file)
        read_keys(Path(keys_file))
        config = dataclasses.replace(config, keys_file=keys_file)
    if load_bundle(bundle).macro is None:
        raise CheckpointError(f"{bundle}: found no Macro-Encoder; serving needs a full bundle")
    if not ray.is_initialized():
        raise ServiceError("found no Ray session; expected this process to be connected to one")
    port = _bindable_port(config.host, config.port)
    _require_resources(config)
    # Serve's progress lines; its warnings stay, and ours is the line that says ready
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    settings = dataclasses.asdict(config)
    del settings["host"], settings["port"]
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=config.host, port=port, request_timeout_s=REQUEST_TIMEOUT_S),
    )
    url = f"http://{config.host}:{port}"
    try:
        _deploy(build(EmbeddingAppArgs(bundle=bundle, **settings)))
        _require_ready(url)
    except BaseException:  # an interrupt too: the cluster may go on without us
        _take_down()
        raise
    return url


def stop() -> None:
    """Let the recordings in hand be answered, for at most DRAIN_S, then end the service.

    Requests that still wait are answered model_not_ready. Serve alone would take the Encoders from
    under the Ingress, and what waits there would never be answered.
    """
    with suppress(TimeoutError, RayError, RayServeException):  # what is broken is only taken down
        serve.get_app_handle(APP_NAME).drain.remote().result(timeout_s=DRAIN_S)
    _take_down()


def run(bundle: str, config: ServeConfig, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then drain and stop. Needs a Ray session.

    Args:
        bundle: as of `start`.
        config: as of `start`.
        ready: called once with the URL when the service answers.

    Raises:
        CheckpointError: as of `start`.
        ServiceError: as of `start`.
    """
    url = start(bundle, config)
    try:
        with _stop_signals() as stopped:
            ready(url)
            stopped.wait()
    finally:
        stop()


def _deploy(application: serve.Application) -> None:
    try:
        serve.run(application, name=APP_NAME)
    except (RuntimeError, RayError, RayServeException) as error:
        application_status = serve.status().applications.get(APP_NAME)
        deployments = application_status.deployments if application_status else {}
        # the traceback of a replica, whose last line names the error
        told = [line for d in deployments.values() for line in d.message.splitlines() if line]
        reason = told[-1] if told else str(error).partition("\n")[0]
        raise ServiceError(f"the service did not start: {reason}") from error


def _take_down() -> None:
    with suppress(TimeoutError):  # Serve's own minute; it goes on without us
        serve.delete(APP_NAME)
    if not serve.status().applications:  # others may serve on this cluster
        serve.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it without types


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    stopped = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_resources(config: ServeConfig) -> None:
    """Serve would wait for ever for what the cluster does not have."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]  # as above
    per_replica = {"CPU": config.cpus_per_replica, "GPU": float(config.use_gpu)}
    for name, share in per_replica.items():
        wanted, found = config.num_replicas * share, there.get(name, 0.0)
        if wanted > found:
            raise ServiceError(
                f"found {found:g} {name}s in the cluster; expected {wanted:g}: "
                f"{share:g} for each of {config.num_replicas} replicas"
            )


def _bindable_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        free: int = probe.getsockname()[1]
        return free


def _require_ready(url: str) -> None:
    try:
        answer = httpx.get(f"{url}/ready", timeout=30, trust_env=False)
    except httpx.HTTPError as error:
        raise ServiceError(
            f"found nothing at {url} ({type(error).__name__}); is Serve running at another address?"
        ) from error
    if answer.status_code != 200:
        raise ServiceError(f"{url}/ready answered {answer.status_code}; expected 200")
