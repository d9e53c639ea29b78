"""/v1/neighbors: nights of the cohort that are most like one night."""

import asyncio
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request
from numpy.typing import NDArray

from serve_apps.cohort import Cohort
from serve_apps.http_errors import HttpError
from serve_apps.job_results import JobResults
from serve_apps.openapi_parts import errors, json_body_of
from serve_apps.request_body import json_body
from serve_apps.routes_embeddings import NoQuery
from serve_apps.service import Service, owner_of
from serve_apps.wire import Neighbor, NeighborsAnswer, NeighborsRequest


def add_neighbor_routes(app: FastAPI, service: Service) -> None:
    """Add the route."""
    results = JobResults(service)

    @app.post(
        "/v1/neighbors",
        summary="Nights like this one.",
        description="By cosine of the night vectors. The night is given as a vector with its "
        "weights_sha256, as a job that is done, or as a recording of the cohort, which is then "
        "not among its own neighbours. Vectors of other weights than the cohort's are refused.",
        responses=errors(404, 409, 413, 415, 422),
        openapi_extra=json_body_of(NeighborsRequest),
    )
    async def neighbors(request: Request, query: Annotated[NoQuery, Query()]) -> NeighborsAnswer:
        wanted = await json_body(request, NeighborsRequest)
        require_one_night(wanted)
        cohort = service.cohort
        if cohort is None:
            raise HttpError("no_cohort")
        if wanted.job_id is not None:
            job = service.runner.get(owner_of(request), wanted.job_id)
            embedding = await asyncio.to_thread(results.embedding, job)
            vector, sha256 = embedding.night, embedding.info["weights_sha256"]
        else:
            vector, sha256 = await asyncio.to_thread(_given, wanted, cohort)
        if sha256 != cohort.weights_sha256:
            raise HttpError("weights_mismatch")
        found = await asyncio.to_thread(cohort.neighbors, vector, wanted.k, wanted.recording_id)
        return NeighborsAnswer(
            model_id=cohort.model_id,
            weights_sha256=cohort.weights_sha256,
            num_recordings=cohort.num_recordings,
            exact=cohort.is_exact,
            neighbors=[
                Neighbor(recording_id=alike.recording_id, similarity=round(alike.similarity, 6))
                for alike in found
            ],
        )


def require_one_night(wanted: NeighborsRequest) -> None:
    """HttpError("request_invalid") unless exactly one night is given, a vector with its weights."""
    given = [wanted.vector is not None, wanted.job_id is not None, wanted.recording_id is not None]
    if sum(given) != 1 or (wanted.vector is None) != (wanted.weights_sha256 is None):
        raise HttpError("request_invalid")


def _given(wanted: NeighborsRequest, cohort: Cohort) -> tuple[NDArray[np.float32], str | None]:
    if wanted.recording_id is not None:
        return cohort.night_vector(wanted.recording_id), cohort.weights_sha256
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        return np.asarray(wanted.vector, np.float32), wanted.weights_sha256
