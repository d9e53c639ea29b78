"""/v1/recordings: embeddings of a cohort that was embedded before."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from serve_apps.formats import to_body
from serve_apps.http_errors import HttpError
from serve_apps.openapi_parts import binary_answers, errors
from serve_apps.routes_embeddings import EmbeddingQuery, answer_type_of
from serve_apps.service import Service
from serve_apps.wire import ARROW, NPZ, SAFETENSORS, EmbeddingAnswer


def add_recording_routes(app: FastAPI, service: Service) -> None:
    """Add the route."""

    @app.get(
        "/v1/recordings/{recording_id}/embeddings",
        summary="The embedding of one recording of the cohort.",
        description="As /v1/embeddings answers it, without cycles, precision and derivations, "
        "which a cohort's table does not hold.",
        response_class=Response,
        responses=binary_answers(ARROW, NPZ, SAFETENSORS, model=EmbeddingAnswer)
        | errors(404, 406, 422),
    )
    async def recording(
        request: Request, recording_id: str, query: Annotated[EmbeddingQuery, Query()]
    ) -> Response:
        answer_type = answer_type_of(request, query)
        if service.cohort is None:
            raise HttpError("no_cohort")
        chosen = await asyncio.to_thread(
            service.cohort.recording, recording_id, query.level, query.dtype
        )
        content = await asyncio.to_thread(to_body, chosen, answer_type, query.encoding)
        return Response(content, headers={"content-type": answer_type, "vary": "accept"})
