"""What runs in the replicas of each deployment: the local parts, made from plain arguments."""

# No `from __future__ import annotations`: Serve reads annotations of what it deploys.
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_apps.admission import Admission, limits_of
from serve_apps.cohort import Cohort
from serve_apps.encoder import LocalEncoder, warm_up
from serve_apps.http_app import create_app
from serve_apps.keys import KeyRing
from serve_apps.preprocessor import LocalPreprocessor
from serve_apps.ray_backend import RayBackend
from serve_apps.request_log import configure_logs
from serve_apps.state_folder import StateFolder
from sleepmami.config import ServeConfig
from sleepmami.config_edit import from_dict
from sleepmami.errors import CheckpointError
from sleepmami.evaluation.fitted_probe import FittedProbe
from sleepmami.inference.embedder import Embedder
from sleepmami.training.bundle_probes import read_probe
from sleepmami.training.checkpoint import manifest_of

logger = logging.getLogger(__name__)


class PreprocessorReplica(LocalPreprocessor):
    """One reader of recordings."""

    def __init__(self) -> None:
        configure_logs()
        super().__init__()


class EncoderReplica(LocalEncoder):
    """One copy of one model."""

    def __init__(self, name: str, bundle: str, config: dict[str, Any]) -> None:  # Any: JSON values
        configure_logs()
        settings = from_dict(ServeConfig, config)
        embedder = Embedder.configured(bundle, settings)
        warm_up(embedder)  # before Serve, and /ready, take it for ready
        super().__init__(
            embedder,
            threads=settings.threads_per_replica,
            wait_s=settings.batch_wait_ms / 1000,
            name=name,
        )

    def check_health(self) -> None:
        """Called by Serve: a replica whose thread has died is replaced."""
        if not self.alive:
            raise RuntimeError("the thread that encodes has ended")


@serve.ingress()
class IngressReplica:
    """The HTTP application in front of the others."""

    def __init__(
        self,
        preprocessor: DeploymentHandle[Any],  # Any: a handle's methods have no types
        encoders: dict[str, DeploymentHandle[Any]],
        bundles: dict[str, str],
        canary: dict[str, float],
        config: dict[str, Any],
    ) -> None:
        configure_logs()
        self._config = from_dict(ServeConfig, config)
        self._backend = RayBackend(preprocessor, encoders, canary, self._config)
        self._admission = Admission(limits_of(self._config, len(bundles)))
        self._probes = staging_probes(bundles)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica: the app holds locks and counters and is not pickled."""
        state = StateFolder(self._config.state_dir)
        try:
            uri = self._config.cohort
            cohort = Cohort(uri, state.folder) if uri else None
            keys = KeyRing(self._config.keys_file) if self._config.keys_file else None
        except BaseException:
            state.close()
            raise
        return create_app(
            self._backend,
            self._admission,
            state,
            cohort=cohort,
            probes=self._probes,
            keys=keys,
            local_only=keys is None and not self._config.behind_gateway,
        )

    async def drain(self) -> None:
        """Take no more recordings and return when those in hand are embedded."""
        await self._admission.drain()


def staging_probes(bundles: Mapping[str, str]) -> dict[str, FittedProbe]:
    """The staging probe of each bundle by name that has one, by its weights_sha256.

    A bundle that cannot be read is left out: its Encoders do not start and say why, and the other
    models are answered for. Serve has stopped the old Ingress by then, so an Ingress that failed
    with them would leave nobody.
    """
    probes = {}
    for name, bundle in bundles.items():
        try:
            if (probe := read_probe(bundle, "staging")) is not None:
                probes[manifest_of(bundle)["weights_sha256"]] = probe
        except CheckpointError as error:
            logger.error("model %s: %s", name, error)
    return probes
