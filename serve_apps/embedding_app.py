"""The embedding service on Ray Serve: `serve_apps.embedding_app:build(args)`.

Three kinds of deployment (serve_apps.replicas): one Ingress that speaks HTTP, Preprocessors that
turn a recording into windows, and for each model Encoders with its weights in memory. What goes
from one to the other goes through memory that they share, never through a file. None imports
ray.data, whose Arrow extension types run code on reading.
"""

# No `from __future__ import annotations`: Serve reads the parameter type of `build` as a class.
import dataclasses
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from serve_apps.admission import limits_of
from serve_apps.app_args import ADDRESS, EmbeddingAppArgs, require_models
from serve_apps.job_runner import MAX_WATCHERS
from serve_apps.keys import read_keys
from serve_apps.replicas import EncoderReplica, IngressReplica, PreprocessorReplica
from serve_apps.small_requests import ONGOING_PER_REPLICA
from serve_apps.tls import pinned, require_pair, require_proxy_with_tls
from sleepmami.client.tls import tls_failure
from sleepmami.config import ServeConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import CheckpointError, ServiceError
from sleepmami.storage import absolute
from sleepmami.training.checkpoint import load_bundle

APP_NAME = "sleepmami-embedding"
# Serve writes a line for each call of each replica; our own line of each request says more, and
# theirs cost a tenth of a small request.
LOGS = LoggingConfig(enable_access_log=False)
REQUEST_TIMEOUT_S = 1800.0  # a client that never finishes its upload holds a place no longer
DRAIN_S = 60.0  # time a replica that is told to stop has for the requests it holds
SPARE_REQUESTS = 64  # places for /health and the like beside the admitted embeddings
SPARE_PARTS = 512  # and, of the Ingress, for parts of uploads, which are admitted by nobody
# Where replicas may grow in number: one more for ONGOING_PER_REPLICA in hand, after a while.
UPSCALE_DELAY_S, DOWNSCALE_DELAY_S = 10.0, 300.0


def build(args: EmbeddingAppArgs) -> serve.Application:
    """The application for `serve run`, `serve deploy` and `start`."""
    config = args.config()
    limits = limits_of(config, len(args.bundles))
    # The Ingress admits no more than the Encoders take, so Serve's own queues stay empty and a
    # client that is turned away gets our answer, before its body is read.
    places = limits.max_running + limits.max_queued + SPARE_REQUESTS
    preprocessor = serve.deployment(
        name="Preprocessor",
        max_ongoing_requests=places,
        graceful_shutdown_timeout_s=DRAIN_S,
        logging_config=LOGS,
        ray_actor_options={"num_cpus": config.cpus_per_preprocessor},
        **_scale(config.num_preprocessors, config.max_preprocessors),
    )(PreprocessorReplica).bind()
    encoders = {
        name: serve.deployment(
            name=f"Encoder-{name}",
            max_ongoing_requests=places,
            graceful_shutdown_timeout_s=DRAIN_S,
            logging_config=LOGS,
            ray_actor_options={
                "num_cpus": config.cpus_per_replica,
                "num_gpus": int(config.use_gpu),
            },
            **_scale(config.num_replicas, config.max_replicas),
        )(EncoderReplica).bind(name, bundle, to_dict(config))
        for name, bundle in args.bundles.items()
    }
    ingress = serve.deployment(
        name="Ingress",
        # beyond that Serve would let everybody wait, /health too
        max_ongoing_requests=places + SPARE_PARTS + MAX_WATCHERS,
        graceful_shutdown_timeout_s=DRAIN_S,
        logging_config=LOGS,
        ray_actor_options={"num_cpus": 0},
    )(IngressReplica)
    return ingress.bind(preprocessor, encoders, args.bundles, args.canary, to_dict(config))


def _scale(start: int, most: int | None) -> dict[str, Any]:  # Any: of serve.deployment
    if most is None:
        return {"num_replicas": start}
    autoscaling = AutoscalingConfig(
        min_replicas=start,
        initial_replicas=start,
        max_replicas=most,
        target_ongoing_requests=ONGOING_PER_REPLICA,
        upscale_delay_s=UPSCALE_DELAY_S,
        downscale_delay_s=DOWNSCALE_DELAY_S,
    )
    return {"autoscaling_config": autoscaling}


def start(
    bundle: str,
    config: ServeConfig,
    *,
    models: Mapping[str, str] | None = None,
    canary: Mapping[str, float] | None = None,
) -> str:
    """Start the service without blocking and return its URL once it is ready.

    Needs a Ray session.

    Args:
        bundle: folder or URI of a bundle with a Macro-Encoder.
        config: where it listens and what it takes; port 0 picks a free one.
        models: further bundles by name.
        canary: share of the requests that name no model, for each of `models` that gets some.

    Raises:
        CheckpointError: a bundle is missing, altered, or without a Macro-Encoder.
        ConfigError: a name that cannot be one, or shares of nothing or of more than all; the key
            file is missing, open to others, or not one; or the certificate or its key is.
        ServiceError: no Ray session, the port is taken, the cluster too small, or the service did
            not come up.
    """
    models = {name: absolute(uri) for name, uri in (models or {}).items()}
    canary = dict(canary or {})
    require_models(models, canary)
    bundle = absolute(bundle)
    if config.keys_file is not None:
        keys_file = absolute(config.keys_file)
        read_keys(Path(keys_file))
        config = dataclasses.replace(config, keys_file=keys_file)
    if config.ssl_certfile is not None and config.ssl_keyfile is not None:
        config = dataclasses.replace(
            config,  # the proxy starts elsewhere
            ssl_certfile=absolute(config.ssl_certfile),
            ssl_keyfile=absolute(config.ssl_keyfile),
        )
        require_proxy_with_tls()
        require_pair(str(config.ssl_certfile), str(config.ssl_keyfile))
    for uri in (bundle, *models.values()):
        if load_bundle(uri).macro is None:
            raise CheckpointError(f"{uri}: found no Macro-Encoder; serving needs a full bundle")
    if not ray.is_initialized():
        raise ServiceError("found no Ray session; expected this process to be connected to one")
    port = _bindable_port(config.host, config.port)
    _require_resources(config, 1 + len(models))
    # Serve's progress lines; its warnings stay, and ours is the line that says ready
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    settings = {n: v for n, v in dataclasses.asdict(config).items() if n not in ADDRESS}
    for name in ("state_dir", "cohort"):  # replicas start elsewhere
        settings[name] = settings[name] and absolute(settings[name])
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(
            host=config.host,
            port=port,
            request_timeout_s=REQUEST_TIMEOUT_S,
            ssl_certfile=config.ssl_certfile,
            ssl_keyfile=config.ssl_keyfile,
        ),
        logging_config=LOGS,
    )
    url = f"{'http' if config.ssl_certfile is None else 'https'}://{config.host}:{port}"
    try:
        args = EmbeddingAppArgs(bundle=bundle, models=models, canary=canary, **settings)
        _deploy(build(args))
        _require_ready(url, config.ssl_certfile)
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


def run(
    bundle: str,
    config: ServeConfig,
    *,
    ready: Callable[[str], None],
    models: Mapping[str, str] | None = None,
    canary: Mapping[str, float] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and stop. Needs a Ray session.

    Args:
        bundle: as of `start`.
        config: as of `start`.
        ready: called once with the URL when the service answers.
        models: as of `start`.
        canary: as of `start`.

    Raises:
        CheckpointError: as of `start`.
        ConfigError: as of `start`.
        ServiceError: as of `start`.
    """
    url = start(bundle, config, models=models, canary=canary)
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


def _require_resources(config: ServeConfig, num_models: int) -> None:
    """Serve would wait for ever for what the cluster does not have."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]  # as above
    encoders, preprocessors = config.num_replicas * num_models, config.num_preprocessors
    cpus = encoders * config.cpus_per_replica + preprocessors * config.cpus_per_preprocessor
    told = f"{config.cpus_per_replica:g} for each of {encoders} Encoders and "
    told += f"{config.cpus_per_preprocessor:g} for each of {preprocessors} Preprocessors"
    for name, wanted in (("CPU", cpus), ("GPU", float(encoders * config.use_gpu))):
        found = there.get(name, 0.0)
        if wanted > found:
            raise ServiceError(
                f"found {found:g} {name}s in the cluster; expected {wanted:g}: "
                + (told if name == "CPU" else "1 for each Encoder")
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


def _require_ready(url: str, certfile: str | None) -> None:
    trusted = True if certfile is None else pinned(certfile)
    try:
        answer = httpx.get(f"{url}/ready", timeout=30, trust_env=False, verify=trusted)
    except httpx.HTTPError as error:
        if certfile is not None and (reason := tls_failure(error)) is not None:
            raise ServiceError(f"ssl_certfile {certfile}: {reason}") from error
        raise ServiceError(
            f"found nothing at {url} ({type(error).__name__}); is Serve running at another address?"
        ) from error
    if answer.status_code != 200:
        raise ServiceError(f"{url}/ready answered {answer.status_code}; expected 200")
