"""What the routes share: one object, made when the application is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import Request

from serve_apps.admission import Admission
from serve_apps.backend import Backend, Several
from serve_apps.cohort import Cohort
from serve_apps.http_errors import HttpError
from serve_apps.job_runner import JobRunner
from serve_apps.metrics import Metrics
from serve_apps.state_folder import StateFolder
from serve_apps.upload_store import UploadStore
from serve_apps.wire import Limits, ModelInfo
from sleepmami.evaluation.fitted_probe import FittedProbe

MB, GB = 2**20, 2**30
ANONYMOUS = "anonymous"


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """The application's parts.

    Attributes:
        probes: a staging probe by the weights_sha256 of the model whose vectors it reads.
        cohort: nights embedded before, or None.
    """

    backend: Backend
    admission: Admission
    metrics: Metrics
    state: StateFolder
    uploads: UploadStore
    runner: JobRunner
    cohort: Cohort | None = None
    probes: Mapping[str, FittedProbe] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """As /info tells them."""
        return self.admission.limits

    async def model_named(self, name: str | None) -> ModelInfo:
        """The model of that name; HttpError model_unknown, model_not_ready."""
        for model in await self.backend.models():
            if name == model.name or (name is None and model.default):
                return model
        if isinstance(self.backend, Several) and name in self.backend.names:
            raise HttpError("model_not_ready")
        raise HttpError("model_unknown")


def owner_of(request: Request) -> str:
    """Whose the request is: the key's id, which the key check leaves in the request's state."""
    owner: str = getattr(request.state, "owner", ANONYMOUS)
    return owner
