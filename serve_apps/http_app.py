"""The HTTP application, put together. Knows nothing of Ray.

It is built around anything that embeds a recording (`backend.py`), so tests run it without a
cluster. The routes lie in routes_*.py, a file per question.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

import sleepmami
from serve_apps.admission import Admission
from serve_apps.backend import Backend, Observed
from serve_apps.cohort import Cohort
from serve_apps.http_errors import install
from serve_apps.job_runner import JobRunner
from serve_apps.job_store import JobStore
from serve_apps.key_middleware import install_keys
from serve_apps.keys import KeyRing
from serve_apps.local_only import install_local_only
from serve_apps.metrics import Metrics
from serve_apps.openapi_errors import describe_errors
from serve_apps.request_log import install_request_log
from serve_apps.routes_embeddings import add_embedding_routes
from serve_apps.routes_encode import add_encode_routes
from serve_apps.routes_jobs import add_job_routes
from serve_apps.routes_neighbors import add_neighbor_routes
from serve_apps.routes_page import add_page_routes
from serve_apps.routes_recordings import add_recording_routes
from serve_apps.routes_service import add_service_routes
from serve_apps.routes_uploads import add_upload_routes
from serve_apps.routes_v2 import add_v2_routes
from serve_apps.service import GB, MB, Service
from serve_apps.state_folder import StateFolder
from serve_apps.upload_store import UploadStore
from serve_apps.wire import Limits
from sleepmami.evaluation.fitted_probe import FittedProbe

__all__ = ["Admission", "create_app"]

DESCRIPTION = (
    "Embeddings of whole nights of polysomnography: one vector per 30-s epoch and modality "
    "(micro), one per epoch in the context of its night (macro), one per night. Research use; not "
    "a medical device."
)


def create_app(
    backend: Backend,
    admission: Admission,
    state: StateFolder | None = None,
    *,
    cohort: Cohort | None = None,
    probes: Mapping[str, FittedProbe] | None = None,
    keys: KeyRing | None = None,
    local_only: bool = False,
) -> FastAPI:
    """The application around one backend; jobs run while its lifespan lasts.

    Args:
        backend: what embeds.
        admission: who may hold a recording, and the limits.
        state: where uploads and jobs lie; None is a private folder that ends with the lifespan.
        cohort: nights embedded before.
        probes: a staging probe by the weights_sha256 of the model whose vectors it reads.
        keys: who may ask; None lets everybody.
        local_only: answer only who calls this machine by a name of its own; for a service without
            keys and without a gateway.
    """
    state = state or StateFolder(None)
    service = service_of(backend, admission, state, cohort, probes or {})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.runner.start()
        try:
            yield
        finally:
            await service.runner.stop()
            await asyncio.to_thread(state.close)

    app = FastAPI(
        title="SleepMaMi",
        version=sleepmami.__version__,
        description=DESCRIPTION,
        docs_url=None,  # the framework's page loads its script from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the request's Host header
        generate_unique_id_function=lambda route: route.name,  # a client's method is called embed
        lifespan=lifespan,
    )
    install(app, service.metrics.observe_request)
    if isinstance(backend, Observed):
        backend.observe = service.metrics.observe_stages
    add_service_routes(app, service)
    add_embedding_routes(app, service)
    add_upload_routes(app, service)
    add_job_routes(app, service)
    add_recording_routes(app, service)
    add_neighbor_routes(app, service)
    add_encode_routes(app, service)
    add_v2_routes(app, service)
    add_page_routes(app)
    service.metrics.expect_routes(sorted({r.path for r in app.routes if isinstance(r, APIRoute)}))
    describe_errors(app)
    install_request_log(app)
    if keys is not None:
        install_keys(app, keys, state.folder)
    if local_only:
        install_local_only(app)
    return app


def service_of(
    backend: Backend,
    admission: Admission,
    state: StateFolder,
    cohort: Cohort | None,
    probes: Mapping[str, FittedProbe],
) -> Service:
    """The parts that the routes share."""
    limits = admission.limits
    retention_s = limits.retention_h * 3600
    uploads = UploadStore(
        state,
        retention_s=retention_s,
        max_bytes=int(limits.max_uploads_gb * GB),
        max_upload_bytes=limits.max_body_mb * MB,
    )
    metrics = Metrics(lambda: admission.admitted)
    runner = JobRunner(
        JobStore(state, retention_s=retention_s),
        uploads,
        state,
        backend,
        metrics,
        max_jobs=limits.max_jobs,
        workers=jobs_at_once(limits),
    )
    metrics.watch_jobs(lambda: runner.num_waiting, limits.max_jobs)
    metrics.watch_queue(lambda: max(0, admission.admitted - limits.max_running))
    return Service(
        backend=backend,
        admission=admission,
        metrics=metrics,
        state=state,
        uploads=uploads,
        runner=runner,
        cohort=cohort,
        probes=probes,
    )


def jobs_at_once(limits: Limits) -> int:
    """Half of the places, so that who waits for an answer is not behind a pile of jobs."""
    return max(1, limits.max_running // 2)
