"""/health, /ready, /info, /metrics and /docs: the service about itself."""

from fastapi import FastAPI
from starlette.responses import HTMLResponse, PlainTextResponse, Response

import sleepmami
from serve_apps.docs_page import docs_page
from serve_apps.metrics import CONTENT_TYPE
from serve_apps.openapi_parts import errors
from serve_apps.service import Service
from serve_apps.wire import ANSWER_TYPES, InfoAnswer, StatusAnswer


def add_service_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get("/health", summary="The service is alive.")
    async def health() -> StatusAnswer:
        return StatusAnswer(status="ok")

    @app.get("/ready", summary="The model is loaded.", responses=errors(503))
    async def ready() -> StatusAnswer:
        service.admission.require_open()
        await service.backend.models()
        return StatusAnswer(status="ready")

    @app.get("/info", summary="Models, versions and limits.", responses=errors(503))
    async def info() -> InfoAnswer:
        models = await service.backend.models()
        staged = [model.name for model in models if model.weights_sha256 in service.probes]
        return InfoAnswer(
            code_version=sleepmami.__version__,
            model=models[0],
            models=models,
            limits=service.limits,
            answer_types=list(ANSWER_TYPES),
            hypnogram_models=staged,
            cohort_recordings=service.cohort.num_recordings if service.cohort else None,
        )

    @app.get(
        "/metrics",
        summary="Counters in the Prometheus text format.",
        response_class=PlainTextResponse,
    )
    async def prometheus() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/docs", summary="The routes of this service, as a page.", response_class=HTMLResponse)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))
