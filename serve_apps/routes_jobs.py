"""/v1/jobs: embed an upload in the background, watch it, fetch what came of it, delete it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from serve_apps import job_runner
from serve_apps.formats import FILE_TYPES
from serve_apps.http_errors import ERRORS, HttpError, request_id_of
from serve_apps.hypnogram import hypnogram_answer, hypnogram_tsv
from serve_apps.job_results import JobResults
from serve_apps.job_store import Job
from serve_apps.openapi_parts import (
    BINARY,
    IDEMPOTENCY_KEY,
    answer,
    binary_answers,
    errors,
    headers_of,
    json_body_of,
)
from serve_apps.quotas import require_night
from serve_apps.request_body import REPLAYED, idempotency_key, json_body
from serve_apps.routes_embeddings import NoQuery
from serve_apps.service import Service, owner_of
from serve_apps.wire import (
    JSON,
    DType,
    HypnogramAnswer,
    JobAnswer,
    JobError,
    JobRequest,
    JobState,
    Level,
    OverviewAnswer,
)

HEARTBEAT_S = 15.0  # proxies close what says nothing for longer
EVENTS = "text/event-stream"
_EVENT_OF: dict[JobState, str] = {"done": "done", "failed": "failed", "cancelled": "cancelled"}
_EVENT_ID = re.compile(r"\d{1,15}")
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
Suffix = Literal["arrow", "npz", "parquet", "safetensors"]


class FileQuery(BaseModel):
    """Query of a result file; an unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid")
    level: Annotated[list[Level], Query(description="may be repeated; all that the job has")] = []
    dtype: DType = "float32"


def add_job_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    runner = service.runner
    results = JobResults(service)
    num_watchers = 0

    def told(job: Job) -> JobAnswer:
        return job_answer(job, results.names(job), runner.store.retention_s)

    def find(request: Request, job_id: str) -> Job:
        return runner.get(owner_of(request), job_id)

    @app.post(
        "/v1/jobs",
        summary="Embed an upload in the background.",
        description="With an Idempotency-Key the request may be sent again: the job that it made "
        "is answered, with Idempotent-Replayed, and no second one is made.",
        status_code=202,
        response_model=JobAnswer,
        responses=answer(
            202,
            "Queued.",
            headers_of(Location="Of the job.", Idempotent_Replayed="true: made before."),
        )
        | errors(404, 409, 413, 415, 422, 429, 503),
        openapi_extra=json_body_of(JobRequest) | IDEMPOTENCY_KEY,
    )
    async def create_job(
        request: Request, response: Response, query: Annotated[NoQuery, Query()]
    ) -> JobAnswer:
        service.admission.require_open()
        wanted = await json_body(request, JobRequest)
        model = await service.model_named(wanted.model)
        if wanted.second and model.second_dim is None:
            raise HttpError("request_invalid")
        job, made_before = await runner.submit(
            owner_of(request),
            wanted.upload_id,
            model=wanted.model,
            second=wanted.second,
            request_id=request_id_of(request),
            key_sha256=idempotency_key(request),
            if_new=lambda: require_night(request),
        )
        response.headers["location"] = f"/v1/jobs/{job.id}"
        if made_before:
            response.headers[REPLAYED] = "true"
        return told(job)

    @app.get("/v1/jobs/{job_id}", summary="How a job is.", responses=errors(404))
    async def get_job(request: Request, job_id: str) -> JobAnswer:
        return told(find(request, job_id))

    @app.delete(
        "/v1/jobs/{job_id}",
        summary="Cancel a job, and delete it with its results.",
        status_code=204,
        responses=answer(204, "Gone.") | errors(404),
    )
    async def delete_job(request: Request, job_id: str) -> Response:
        await runner.delete(owner_of(request), job_id)
        return Response(status_code=204)

    @app.get(
        "/v1/jobs/{job_id}/events",
        summary="A job's progress as server-sent events.",
        description="Events progress, then one of done, failed, cancelled, after which the stream "
        "ends; the data is the job as JSON. With the Last-Event-ID of the last one: 204.",
        response_class=Response,
        responses=answer(200, "The stream.", content={EVENTS: BINARY})
        | answer(204, "Nothing more will come.")
        | errors(404, 429),
    )
    async def job_events(request: Request, job_id: str) -> Response:
        owner, job = owner_of(request), find(request, job_id)
        last = request.headers.get("last-event-id", "")
        seen = int(last) if last.isascii() and _EVENT_ID.fullmatch(last) else None
        if job.has_ended and seen == job.version:
            return Response(status_code=204)  # tells an EventSource not to come back
        if num_watchers >= job_runner.MAX_WATCHERS:
            raise HttpError("overloaded")

        async def stream() -> AsyncIterator[bytes]:
            nonlocal num_watchers
            num_watchers += 1
            try:
                async for now in runner.watch(owner, job_id, HEARTBEAT_S):
                    if now is None:
                        yield b": still here\n\n"
                    elif now.version != seen:
                        yield event(now, told(now))
            finally:
                num_watchers -= 1

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream(), media_type=EVENTS, headers=headers)

    @app.get(
        "/v1/jobs/{job_id}/embeddings.{suffix}",
        summary="The embedding as a file.",
        response_class=Response,
        responses=binary_answers(*FILE_TYPES.values()) | errors(404, 409, 422),
    )
    async def job_embeddings(
        request: Request, job_id: str, suffix: Suffix, query: Annotated[FileQuery, Query()]
    ) -> Response:
        job = find(request, job_id)
        data = await asyncio.to_thread(results.file, job, suffix, query.level, query.dtype)
        return _download(data, FILE_TYPES[suffix], f"embeddings.{suffix}")

    @app.get(
        "/v1/jobs/{job_id}/hypnogram.json",
        summary="Sleep stages by the bundle's probe, and how sure it is.",
        responses=errors(404, 409),
    )
    async def job_hypnogram(request: Request, job_id: str) -> HypnogramAnswer:
        hypnogram, info = await asyncio.to_thread(results.hypnogram, find(request, job_id))
        return hypnogram_answer(hypnogram, info)

    @app.get(
        "/v1/jobs/{job_id}/hypnogram.tsv",
        summary="The same as a table: onset, duration, stage, confidence, one column per class.",
        response_class=PlainTextResponse,
        responses=errors(404, 409),
    )
    async def job_hypnogram_table(request: Request, job_id: str) -> Response:
        hypnogram, _ = await asyncio.to_thread(results.hypnogram, find(request, job_id))
        return _download(
            hypnogram_tsv(hypnogram), "text/tab-separated-values; charset=utf-8", "hypnogram.tsv"
        )

    @app.get(
        "/v1/jobs/{job_id}/report.html",
        summary="A page about the night.",
        response_class=HTMLResponse,
        responses=errors(404, 409),
    )
    async def job_report(request: Request, job_id: str) -> Response:
        page = await results.report(find(request, job_id))
        headers = {"content-security-policy": _REPORT_POLICY, "cache-control": "no-store"}
        return HTMLResponse(page, headers=headers)

    @app.get(
        "/v1/jobs/{job_id}/overview.json",
        summary="The night's channels, small enough for one picture.",
        response_model=OverviewAnswer,
        responses=errors(404, 409),
    )
    async def job_overview(request: Request, job_id: str) -> Response:
        data = await asyncio.to_thread(results.overview, find(request, job_id))
        return Response(data, media_type=JSON, headers={"cache-control": "no-store"})


def job_answer(job: Job, results: list[str], retention_s: float) -> JobAnswer:
    """The JSON shape."""
    error = None
    if job.code is not None:
        error = JobError(code=job.code, message=ERRORS[job.code].message)
    return JobAnswer(
        id=job.id,
        state=job.state,
        stage=job.stage,
        done=job.done,
        total=job.total,
        model=job.model,
        second=job.second,
        error=error,
        created=_utc(job.created_s),
        expires=_utc(job.created_s + retention_s),
        results=results,
        weights_sha256=job.weights_sha256,
    )


def event(job: Job, told: JobAnswer) -> bytes:
    """One server-sent event."""
    name = _EVENT_OF.get(job.state, "progress")
    data = json.dumps(told.model_dump(), separators=(",", ":"))
    return f"id: {job.version}\nevent: {name}\ndata: {data}\n\n".encode()


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _download(data: bytes, media_type: str, name: str) -> Response:
    headers = {
        "content-type": media_type,
        "content-disposition": f'attachment; filename="{name}"',
        "cache-control": "no-store",
    }
    return Response(data, headers=headers)
