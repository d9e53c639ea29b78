"""What crosses the HTTP edge: answers as pydantic types, and the formats an embedding is sent in.

Nothing read from a recording's header is in any of them: a channel is named by its modality and
derivation, never by its label.
"""

import base64
import dataclasses
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from sleepmami.config import Precision
from sleepmami.inference.embedder import NightEmbedding

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
NPZ = "application/x-npz"
SAFETENSORS = "application/vnd.safetensors"
ANSWER_TYPES = (JSON, ARROW, NPZ, SAFETENSORS)  # in order of preference when the client has none
EDF_TYPES = ("application/octet-stream", "application/edf")
CURL_TYPE = "application/x-www-form-urlencoded"  # what curl --data-binary declares unasked

Encoding = Literal["base64", "float"]
DType = Literal["float32", "float16"]
Level = Literal["micro", "macro", "night", "second", "all"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
PUBLIC_INFO = (
    "model_id",
    "weights_sha256",
    "code_version",
    "precision",
    "both_halves",
    "night_vector",
    "num_epochs",
    "modalities_missing",
)
PUBLIC_CHANNEL = ("modality", "derivation")


class Wire(BaseModel):
    """Base of all that crosses the edge: an unknown field is a mistake, theirs or ours."""

    # pydantic keeps the prefix model_ for itself; ours is model_id.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Base64Array(Wire):
    """Little-endian numbers in C order, as base64."""

    dtype: DType = "float32"
    shape: list[int]
    encoding: Literal["base64"] = "base64"
    data: str


class FloatArray(Wire):
    """Plain numbers; about five times the bytes of base64."""

    dtype: DType = "float32"
    shape: list[int]
    encoding: Literal["float"] = "float"
    data: list[float] | list[list[float]]


Array = Base64Array | FloatArray


class ChannelUsed(Wire):
    """One signal the model heard."""

    modality: str
    derivation: Literal["as_recorded", "rereferenced"] | None = None  # a cohort does not tell


class EmbeddingAnswer(Wire):
    """An embedding as JSON. Rows are 30-s epochs; what was not asked for is absent."""

    recording_id: str | None = None  # of a cohort's recording
    model_id: str
    weights_sha256: str
    code_version: str
    precision: Precision | None = None
    both_halves: bool | None = None
    night_vector: Literal["mean_of_valid_epochs"] | None = None
    num_epochs: int
    channels_used: list[ChannelUsed]
    modalities_missing: list[str]
    epoch_valid: list[bool]
    modality_valid: list[list[bool]]
    micro: Array | None = None
    macro: Array | None = None
    cycles: Array | None = None
    night: Array | None = None
    second: Array | None = None  # rows are seconds


class EmbeddingRequest(Wire):
    """POST /v1/embeddings of a recording that was uploaded before."""

    upload_id: str


class ModelInfo(Wire):
    """One model behind the service."""

    name: str = "default"  # what a request calls it
    default: bool = True  # whom a request gets that names none, but for the canaries' shares
    canary_share: float = 0.0  # of the requests that name none
    model_id: str
    weights_sha256: str
    modalities: list[str]
    micro_dim: int  # width of an epoch's micro vector: one block per modality
    macro_dim: int
    night_dim: int
    second_dim: int | None = None  # width of a second's vector; None: the model gives none


class Limits(Wire):
    """What the service takes at once."""

    max_body_mb: int  # of one recording, in one body or uploaded in parts
    max_running: int  # requests that hold a recording in memory
    max_queued: int  # requests that wait; one more is answered 429
    max_part_mb: int = 8  # of one PATCH of an upload
    max_uploads_gb: float = 20.0  # that one key may hold
    max_jobs: int = 64  # that wait or run; one more is answered 429
    retention_h: float = 24.0  # after which uploads and jobs are deleted


class InfoAnswer(Wire):
    """GET /info."""

    code_version: str
    api_version: Literal["v1"] = "v1"
    model: ModelInfo  # the default one
    models: list[ModelInfo]
    limits: Limits
    answer_types: list[str]
    hypnogram_models: list[str]  # names of those whose bundle has a staging probe
    cohort_recordings: int | None  # of the cohort that is served beside, None without one


class InspectedChannelAnswer(Wire):
    """One channel of a file; its label only as far as its words are known ones."""

    label: str | None
    modality: str | None
    unit: str
    sample_rate_hz: float
    decision: str
    confidence: str | None
    reason: str


class InspectAnswer(Wire):
    """POST /v1/inspect: what would be used of a recording, without reading its signals."""

    ok: bool
    code: str | None
    message: str | None  # what the code means
    duration_s: float | None
    gaps: list[tuple[float, float]]
    modalities: list[str]
    modalities_missing: list[str]
    channels: list[InspectedChannelAnswer]


class JobRequest(Wire):
    """POST /v1/jobs."""

    upload_id: str
    model: str | None = None
    second: bool = False


class JobError(Wire):
    """Why a job failed."""

    code: str
    message: str


class JobAnswer(Wire):
    """One job. Times are UTC."""

    id: str
    state: JobState
    stage: str
    done: int
    total: int
    model: str | None
    second: bool
    error: JobError | None
    created: str
    expires: str
    results: list[str]  # paths below the job's own; empty until it is done
    weights_sha256: str | None = None  # of the model that its vectors are of; once it is done


class HypnogramAnswer(Wire):
    """Stages by the bundle's probe; a machine's reading, not a scorer's."""

    model_id: str
    weights_sha256: str
    epoch_s: int
    classes: list[str]
    stages: list[str]  # of each epoch; "unknown" where no signal was usable
    confidence: list[float]  # probability of that stage; 0 where unknown
    probabilities: list[list[float]]


class OverviewChannel(Wire):
    """One modality of an overview; bytes on the scale from low to high."""

    modality: str
    unit: str
    bands_hz: list[float] | None  # edges of the bands; none for a level
    low: float
    high: float
    shape: list[int]  # epochs, bands
    data: str  # base64 of one byte per number, epoch after epoch
    usable: list[bool]


class OverviewAnswer(Wire):
    """The channels of a night, small enough for one picture."""

    num_epochs: int
    epoch_s: int
    channels: list[OverviewChannel]


class NeighborsRequest(Wire):
    """POST /v1/neighbors: exactly one of vector, job_id and recording_id."""

    vector: list[float] | None = None  # a night vector
    weights_sha256: str | None = None  # with a vector: of what made it
    job_id: str | None = None
    recording_id: str | None = None
    k: Annotated[int, Field(ge=1, le=100)] = 10


class Neighbor(Wire):
    """One night of the cohort."""

    recording_id: str
    similarity: float  # cosine of the night vectors


class NeighborsAnswer(Wire):
    """The nights most alike, the most alike first."""

    model_id: str
    weights_sha256: str
    num_recordings: int
    exact: bool  # every night was compared, not only those an index named
    neighbors: list[Neighbor]


class StatusAnswer(Wire):
    """GET /health and GET /ready."""

    status: Literal["ok", "ready"]


class ErrorBody(Wire):
    """One error; `code` is stable across releases, `message` is for people."""

    code: str
    message: str
    request_id: str


class ErrorAnswer(Wire):
    """Every answer that is not a success."""

    error: ErrorBody


class V2Error(Wire):
    """Every error of /v2: the protocol wants one string. It begins with our code and a colon."""

    error: str


def redacted(embedding: NightEmbedding) -> NightEmbedding:
    """The embedding with only that part of its info that may leave the process.

    An allow-list: what somebody adds to the info later stays inside until it is named here.
    """
    channels = [
        {key: channel[key] for key in PUBLIC_CHANNEL} for channel in embedding.info["channels_used"]
    ]
    info = {key: embedding.info[key] for key in PUBLIC_INFO} | {"channels_used": channels}
    return dataclasses.replace(embedding, info=info)


def encode_array(
    array: NDArray[np.float32] | NDArray[np.float16], encoding: Encoding
) -> Base64Array | FloatArray:
    """An array in the encoding the client asked for."""
    shape = list(array.shape)
    dtype: DType = "float16" if array.dtype == np.float16 else "float32"
    if encoding == "float":
        return FloatArray(dtype=dtype, shape=shape, data=array.tolist())
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return Base64Array(dtype=dtype, shape=shape, data=base64.b64encode(data).decode("ascii"))


def negotiate(accept: str | None) -> str | None:
    """The answer type an Accept header asks for, or None when we have none of those it names.

    Follows RFC 9110, section 12.5.1: the most specific range that fits a type gives its quality,
    the highest quality wins, 0 excludes. Without a header, and for */*, that is JSON.
    """
    if accept is None or not accept.strip():
        return JSON
    ranges = [_media_range(item) for item in accept.split(",") if item.strip()]
    best, best_quality = None, 0.0
    for offered in ANSWER_TYPES:
        fits = [(len(r), q) for r, q in ranges if _fits(offered, r)]
        quality = max(fits)[1] if fits else 0.0
        if quality > best_quality:
            best, best_quality = offered, quality
    return best


def _media_range(item: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in item.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media, float(value)
            except ValueError:
                return media, 0.0  # a quality that is no number asks for nothing
    return media, 1.0


def _fits(offered: str, media: str) -> bool:
    return media in ("*/*", offered) or (
        media == "application/*" and offered.startswith(media[:-1])
    )
