"""Every call of the client as a flow: what is asked, and what the answer becomes.

The sync and the async client hold one Flows each and add nothing but a driver.
"""

import io
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sleepmami.client import uploading
from sleepmami.client.answers import (
    EncodedWindows,
    Hypnogram,
    Inspection,
    JobStatus,
    Neighbors,
    Night,
    encoded_windows_of,
    hypnogram_of,
    inspection_of,
    job_status_of,
    neighbors_of,
    night_of,
)
from sleepmami.client.calls import Caller
from sleepmami.client.steps import Answer, Flow, work
from sleepmami.client.uploading import (
    PART_BYTES,
    Progress,
    Record,
    Recording,
    Source,
    Upload,
    source_of,
)
from sleepmami.errors import ApiError, ConfigError, require
from sleepmami.storage import write_bytes

T = TypeVar("T")
NPZ, EDF = "application/x-npz", "application/edf"
LEVELS = ("micro", "macro", "night", "second", "all")
DTYPES = ("float32", "float16")
REPORT, HYPNOGRAM = "report.html", "hypnogram.json"
Level = str | Sequence[str]
# of a request that names an upload which the service has lost, or lost the end of
_LOST = ("upload_not_found", "upload_incomplete")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """The calls of one client.

    Attributes:
        caller: sends.
        url: of the service, for the records of uploads.
        part_bytes: of one part of an upload; a recording no larger is sent in one body.
    """

    caller: Caller
    url: str
    part_bytes: int = PART_BYTES

    def __post_init__(self) -> None:
        fine = 0 < self.part_bytes <= PART_BYTES
        require(fine, "part_bytes", self.part_bytes, f"from 1 to {PART_BYTES}")

    def info(self) -> Flow[dict[str, Any]]:  # Any: JSON values
        """GET /info."""
        return (yield from self.caller.ask_json("GET", "/info"))

    def embed(
        self, recording: Recording, level: Level, dtype: str, model: str | None, tell: Progress
    ) -> Flow[Night]:
        """POST /v1/embeddings."""
        source = yield from work(lambda: source_of(recording))
        return (yield from self.embed_source(source, level, dtype, model, tell))

    def embed_source(
        self, source: Source, level: Level, dtype: str, model: str | None, tell: Progress
    ) -> Flow[Night]:
        """The same of a recording that was looked at before."""
        params = _night_params(level, dtype)
        params += [] if model is None else [("model", model)]
        answer = yield from self._of_recording(source, "/v1/embeddings", params, tell)
        return (yield from work(lambda: night_of(answer)))

    def inspect(self, recording: Recording) -> Flow[Inspection]:
        """POST /v1/inspect."""
        source = yield from work(lambda: source_of(recording))
        answer = yield from self._of_recording(source, "/v1/inspect", [], _no_progress)
        return inspection_of(answer)

    def upload(
        self, recording: Recording, record: str | os.PathLike[str] | None, tell: Progress
    ) -> Flow[Upload]:
        """A resumable upload; `record` is the file that lets a later process go on."""
        source = yield from work(lambda: source_of(recording))
        kept = None if record is None else Record(path=os.fspath(record), url=self.url)
        return (yield from self._upload(source, tell, kept))

    def delete_upload(self, upload: Upload) -> Flow[None]:
        """DELETE /v1/uploads/ID."""
        yield from uploading.delete(self.caller, upload.id)

    def submit(
        self, what: Recording | Upload, model: str | None, second: bool, tell: Progress
    ) -> Flow[tuple[JobStatus, Upload | None]]:
        """POST /v1/jobs; the job, and the upload when it was made for it."""
        key = uuid.uuid4().hex
        if isinstance(what, Upload):
            return (yield from self._job(what.id, model, second, key)), None
        source = yield from work(lambda: source_of(what))

        def begin(upload: Upload) -> Flow[tuple[JobStatus, Upload]]:
            # another key after an upload that was lost: it would be another request
            status = yield from self._job(upload.id, model, second, f"{key}-{upload.id}")
            return status, upload

        return (yield from self._with_upload(source, begin, tell))

    def job(self, job_id: str) -> Flow[JobStatus]:
        """GET /v1/jobs/ID."""
        return job_status_of((yield from self.caller.ask("GET", job_path(job_id))))

    def delete_job(self, job_id: str, upload: Upload | None) -> Flow[None]:
        """DELETE /v1/jobs/ID, and of the upload that was made for it; gone is no error."""
        try:
            yield from self.caller.ask("DELETE", job_path(job_id))
        except ApiError as error:
            if error.status != 404:
                raise
        if upload is not None:
            yield from self.delete_upload(upload)

    def job_embeddings(self, job_id: str, level: Level | None, dtype: str) -> Flow[Night]:
        """What the job kept; without `level`, all of it."""
        params = _night_params(level, dtype)
        path = f"{job_path(job_id)}/embeddings.npz"
        answer = yield from self.caller.ask("GET", path, params=params)
        return (yield from work(lambda: night_of(answer)))

    def hypnogram(self, job_id: str) -> Flow[Hypnogram]:
        """Stages by the bundle's probe."""
        path = f"{job_path(job_id)}/{HYPNOGRAM}"
        return hypnogram_of((yield from self.caller.ask("GET", path)))

    def report(self, job_id: str, path: str | os.PathLike[str]) -> Flow[None]:
        """Write the report, a page of HTML, to a file."""
        answer = yield from self.caller.ask("GET", f"{job_path(job_id)}/{REPORT}", slow=True)
        yield from work(lambda: write_bytes(os.fspath(path), answer.content))

    def neighbors(self, wanted: Mapping[str, Any], k: int) -> Flow[Neighbors]:
        """POST /v1/neighbors; `wanted` is of `neighbors_wanted`."""
        answer = yield from self.caller.post_json("/v1/neighbors", {**wanted, "k": k})
        return neighbors_of(answer)

    def recording(self, recording_id: str, level: Level, dtype: str) -> Flow[Night]:
        """GET /v1/recordings/ID/embeddings."""
        answer = yield from self.caller.ask(
            "GET",
            f"/v1/recordings/{_path_part(recording_id)}/embeddings",
            headers={"accept": NPZ},
            params=_night_params(level, dtype),
        )
        return (yield from work(lambda: night_of(answer)))

    def encode(self, windows: Mapping[str, ArrayLike], model: str | None) -> Flow[EncodedWindows]:
        """POST /v1/encode."""
        content = yield from work(lambda: _windows_npz(windows))
        answer = yield from self.caller.ask(
            "POST",
            "/v1/encode",
            headers={"content-type": NPZ, "accept": NPZ},
            params=[] if model is None else [("model", model)],
            content=content,
            slow=True,
        )
        return (yield from work(lambda: encoded_windows_of(answer)))

    def _of_recording(
        self, source: Source, path: str, params: list[tuple[str, str]], tell: Progress
    ) -> Flow[Answer]:
        """The answer about a recording: small in one body, else uploaded, and deleted after."""
        accept = {"accept": NPZ} if path == "/v1/embeddings" else {}
        if source.length <= self.part_bytes:
            content = yield from work(lambda: source.part(0, source.length))
            headers = accept | {"content-type": EDF}
            return (
                yield from self.caller.ask(
                    "POST", path, headers=headers, params=params, content=content, slow=True
                )
            )

        def by_id(upload: Upload) -> Flow[Answer]:
            answer = yield from self.caller.post_json(
                path, {"upload_id": upload.id}, headers=accept, params=params, slow=True
            )
            yield from self._forget(upload)
            return answer

        return (yield from self._with_upload(source, by_id, tell))

    def _with_upload(
        self, source: Source, use: Callable[[Upload], Flow[T]], tell: Progress
    ) -> Flow[T]:
        """`use` of an upload; once more when the service has lost it meanwhile."""
        upload = yield from self._upload(source, tell)
        try:
            return (yield from use(upload))
        except ApiError as error:
            yield from self._forget(upload)
            if error.code not in _LOST:
                raise
        upload = yield from self._upload(source, tell)
        try:
            return (yield from use(upload))
        except ApiError:
            yield from self._forget(upload)
            raise

    def _upload(self, source: Source, tell: Progress, record: Record | None = None) -> Flow[Upload]:
        return (
            yield from uploading.upload(
                self.caller, source, tell=tell, part_bytes=self.part_bytes, record=record
            )
        )

    def _forget(self, upload: Upload) -> Flow[None]:
        try:
            yield from self.delete_upload(upload)
        except ApiError:  # what was asked for is answered; the service deletes it in time
            return

    def _job(self, upload_id: str, model: str | None, second: bool, key: str) -> Flow[JobStatus]:
        body = {"upload_id": upload_id, "second": second}
        body |= {} if model is None else {"model": model}
        answer = yield from self.caller.post_json(
            "/v1/jobs", body, headers={"idempotency-key": key}
        )
        return job_status_of(answer)


def job_path(job_id: str) -> str:
    """Of a job's routes."""
    return f"/v1/jobs/{_path_part(job_id)}"


def neighbors_wanted(
    night: "Night | str | ArrayLike", weights_sha256: str | None
) -> dict[str, Any]:
    """The body of POST /v1/neighbors for a night, a recording id, or a vector and its weights.

    Raises:
        ConfigError: a night without its night vector, a vector without weights, or weights that
            could have no effect.
    """
    if isinstance(night, Night):
        _require_no_weights(weights_sha256)
        if night.night is None:
            raise ConfigError("found a night without its night vector; ask for level 'night'")
        vector, weights_sha256 = night.night, night.weights_sha256
    elif isinstance(night, str):
        _require_no_weights(weights_sha256)
        return {"recording_id": night}
    else:
        vector = np.asarray(night)
        if vector.ndim != 1 or weights_sha256 is None:
            raise ConfigError(
                f"found a vector of shape {vector.shape} and weights_sha256={weights_sha256!r}; "
                "expected one night vector and the weights that made it"
            )
    numbers = [float(number) for number in vector.astype(np.float32)]
    return {"vector": numbers, "weights_sha256": weights_sha256}


def job_wanted(job_id: str, weights_sha256: str | None) -> dict[str, Any]:
    """The same for a job that is done."""
    _require_no_weights(weights_sha256)
    return {"job_id": job_id}


def levels_of(level: Level) -> list[str]:
    """Names of levels; ConfigError for others."""
    names = [level] if isinstance(level, str) else list(level)
    require(bool(names) and set(names) <= set(LEVELS), "level", level, f"among {LEVELS}")
    return names


def _night_params(level: Level | None, dtype: str) -> list[tuple[str, str]]:
    require(dtype in DTYPES, "dtype", dtype, f"one of {DTYPES}")
    names = [] if level is None else levels_of(level)
    return [*(("level", name) for name in names), ("dtype", dtype)]


def _path_part(name: str) -> str:
    """An id as part of a path; ConfigError for what would be another path."""
    fine = all(letter.isalnum() or letter in "._-" for letter in name) and name.strip(".")
    require(name.isascii() and bool(fine), "id", name, "letters, digits and ._-")
    return name


def _require_no_weights(weights_sha256: str | None) -> None:
    require(weights_sha256 is None, "weights_sha256", weights_sha256, "left out but for a vector")


def _windows_npz(windows: Mapping[str, ArrayLike]) -> bytes:
    arrays: dict[str, NDArray[Any]] = {  # Any: float32 or bool
        name: np.asarray(array, bool if name == "valid" else np.float32)
        for name, array in windows.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle
    return buffer.getvalue()


def _no_progress(done: int, total: int) -> None:
    """Nobody watches."""
