"""What crosses the HTTP edge: answers as pydantic types, and the formats an embedding is sent in.

Nothing read from a recording's header is in any of them: a channel is named by its modality and
derivation, never by its label.
"""

import base64
import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sleepmami.config import Precision
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.inference.export import to_arrow_stream_bytes, to_npz_bytes

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
NPZ = "application/x-npz"
ANSWER_TYPES = (JSON, ARROW, NPZ)  # in order of preference when the client has none
EDF_TYPES = ("application/octet-stream", "application/edf")
CURL_TYPE = "application/x-www-form-urlencoded"  # what curl --data-binary declares unasked

Encoding = Literal["base64", "float"]
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
    """Base of every answer: unknown fields are a mistake of ours."""

    # pydantic keeps the prefix model_ for itself; ours is model_id.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Base64Array(Wire):
    """Little-endian float32 in C order, as base64."""

    dtype: Literal["float32"] = "float32"
    shape: list[int]
    encoding: Literal["base64"] = "base64"
    data: str


class FloatArray(Wire):
    """Plain numbers; about five times the bytes of base64."""

    dtype: Literal["float32"] = "float32"
    shape: list[int]
    encoding: Literal["float"] = "float"
    data: list[float] | list[list[float]]


class ChannelUsed(Wire):
    """One signal the model heard."""

    modality: str
    derivation: Literal["as_recorded", "rereferenced"]


class EmbeddingAnswer(Wire):
    """POST /v1/embeddings as JSON. Rows are 30-s epochs."""

    model_id: str
    weights_sha256: str
    code_version: str
    precision: Precision
    both_halves: bool
    night_vector: Literal["mean_of_valid_epochs"]
    num_epochs: int
    channels_used: list[ChannelUsed]
    modalities_missing: list[str]
    epoch_valid: list[bool]
    modality_valid: list[list[bool]]
    micro: Base64Array | FloatArray
    macro: Base64Array | FloatArray
    cycles: Base64Array | FloatArray
    night: Base64Array | FloatArray


class ModelInfo(Wire):
    """The model behind the service."""

    model_id: str
    weights_sha256: str
    modalities: list[str]
    micro_dim: int  # width of an epoch's micro vector: one block per modality
    macro_dim: int
    night_dim: int


class Limits(Wire):
    """What the service takes at once."""

    max_body_mb: int
    max_running: int  # requests that hold a recording in memory
    max_queued: int  # requests that wait; one more is answered 429


class InfoAnswer(Wire):
    """GET /info."""

    code_version: str
    api_version: Literal["v1"] = "v1"
    model: ModelInfo
    limits: Limits
    answer_types: list[str]


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


def redacted(embedding: NightEmbedding) -> NightEmbedding:
    """The embedding with only that part of its info that may leave the process.

    An allow-list: what somebody adds to the info later stays inside until it is named here.
    """
    channels = [
        {key: channel[key] for key in PUBLIC_CHANNEL} for channel in embedding.info["channels_used"]
    ]
    info = {key: embedding.info[key] for key in PUBLIC_INFO} | {"channels_used": channels}
    return dataclasses.replace(embedding, info=info)


def embedding_body(embedding: NightEmbedding, answer_type: str, encoding: Encoding) -> bytes:
    """The body of a 200 answer; `embedding` is redacted already."""
    if answer_type == ARROW:
        return to_arrow_stream_bytes(embedding)
    if answer_type == NPZ:
        return to_npz_bytes(embedding)
    return embedding_answer(embedding, encoding).model_dump_json().encode()


def embedding_answer(embedding: NightEmbedding, encoding: Encoding) -> EmbeddingAnswer:
    """The JSON shape of a redacted embedding."""
    return EmbeddingAnswer(
        **embedding.info,
        epoch_valid=embedding.epoch_valid.tolist(),
        modality_valid=embedding.modality_valid.tolist(),
        micro=encode_array(embedding.micro, encoding),
        macro=encode_array(embedding.macro, encoding),
        cycles=encode_array(embedding.cycles, encoding),
        night=encode_array(embedding.night, encoding),
    )


def encode_array(array: NDArray[np.float32], encoding: Encoding) -> Base64Array | FloatArray:
    """A float32 array in the encoding the client asked for."""
    shape = list(array.shape)
    if encoding == "float":
        return FloatArray(shape=shape, data=array.tolist())
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return Base64Array(shape=shape, data=base64.b64encode(data).decode("ascii"))


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
