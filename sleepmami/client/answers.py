"""What the client returns: answers of the service as numpy arrays and small objects.

Shapes: L epochs of 30 s, M modalities (6, in the order of psg.MODALITIES), D and E widths of the
Micro- and the Macro-Encoder's vectors.
"""

import base64
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepmami.client.calls import answer_invalid, json_of
from sleepmami.client.steps import Answer
from sleepmami.errors import ClientError
from sleepmami.psg import EPOCH_S, MODALITIES
from sleepmami.storage import read_bytes, write_bytes

Array = NDArray[Any]  # Any: float32 or float16, as it was asked for
ENDED = ("done", "failed", "cancelled")
_PARTS = ("micro", "macro", "cycles", "night", "second")
_MASKS = ("epoch_valid", "modality_valid")
# what numpy and json raise about bytes that are something else
NOT_OURS = (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """One night's embedding; a part that was not asked for is None.

    Attributes:
        micro: [L, M * D], a block of D per modality, exactly zero where it is not valid.
        macro: [L, 2 * E], each epoch in the context of its night.
        cycles: [C, 2 * E], the states at the ends of its 90-minute cycles.
        night: [2 * E], the whole night.
        second: [30 * L, M * D], one vector per second.
        epoch_valid: bool[L].
        modality_valid: bool[L, M].
        info: what made the numbers: model_id, weights_sha256, code_version, channels_used, ...
    """

    epoch_valid: NDArray[np.bool_]
    modality_valid: NDArray[np.bool_]
    micro: Array | None = None
    macro: Array | None = None
    cycles: Array | None = None
    night: Array | None = None
    second: Array | None = None
    info: dict[str, Any] = field(default_factory=dict)  # Any: JSON values

    @property
    def num_epochs(self) -> int:
        """L."""
        return len(self.epoch_valid)

    @property
    def model_id(self) -> str:
        """Of the model that made the numbers."""
        return str(self.info["model_id"])

    @property
    def weights_sha256(self) -> str:
        """Of its weights; vectors of different weights must not be mixed."""
        return str(self.info["weights_sha256"])

    def to_table(self) -> pa.Table:
        """One row per epoch, as the service's Arrow answers: docs/serving.md."""
        epoch = np.arange(self.num_epochs, dtype=np.int32)
        columns = {
            "epoch": pa.array(epoch),
            "start_s": pa.array(epoch * EPOCH_S),
            "epoch_valid": pa.array(self.epoch_valid),
            "modality_valid": _rows(self.modality_valid),
        }
        for name in ("micro", "macro", "second"):
            array = getattr(self, name)
            if array is not None:
                columns[name] = _rows(array.reshape(self.num_epochs, -1))
        metadata = {
            "sleepmami.info": json.dumps(self.info),
            "sleepmami.modalities": json.dumps([m.value for m in MODALITIES]),
        }
        present = [a for name in _PARTS if (a := getattr(self, name)) is not None]
        if present:
            metadata["sleepmami.dtype"] = str(present[0].dtype)
        for name in ("night", "cycles"):
            array = getattr(self, name)
            if array is not None:
                little = array.astype(array.dtype.newbyteorder("<")).tobytes()
                metadata[f"sleepmami.{name}"] = base64.b64encode(little).decode()
        return pa.table(columns).replace_schema_metadata(metadata)

    def to_npz(self, **more: Any) -> bytes:  # Any: JSON values
        """One array per part, the masks and info, a JSON string; `more` likewise. No pickle."""
        names = [name for name in (*_PARTS, *_MASKS) if getattr(self, name) is not None]
        arrays = {name: getattr(self, name) for name in names}
        texts = {name: np.array(json.dumps(value)) for name, value in more.items()}
        files: dict[str, Any] = arrays | texts  # Any: numpy types its own arguments among them
        buffer = io.BytesIO()
        np.savez(buffer, info=np.array(json.dumps(self.info)), **files)
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_npz`, whole or not at all."""
        write_bytes(os.fspath(path), self.to_npz())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What `save`, `embed_folder` or a download wrote.

        Raises:
            ClientError: folder_mismatch when it is something else.
        """
        try:
            return cls(**_arrays_of(read_bytes(os.fspath(path))))
        except NOT_OURS:
            message = f"{path}: found no embedding; expected an npz that the client wrote"
            raise ClientError("folder_mismatch", message) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What would be used of a recording.

    Attributes:
        ok: it can be embedded; otherwise `code` and `message` say why not.
        gaps: start and end in seconds of the recording.
        channels: label (where it may be told), modality, unit, sample_rate_hz, decision,
            confidence and reason of each.
    """

    ok: bool
    code: str | None
    message: str | None
    duration_s: float | None
    gaps: list[list[float]]
    modalities: list[str]
    modalities_missing: list[str]
    channels: list[dict[str, Any]]  # Any: JSON values


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStatus:
    """One job as it was when the service said so; times are ISO 8601 in UTC."""

    id: str
    state: str
    stage: str
    done: int
    total: int
    error: dict[str, str] | None
    created: str
    expires: str
    results: list[str]

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypnogram:
    """Stages by the bundle's probe; a machine's reading, not a scorer's.

    Attributes:
        classes: names of the K columns of `probabilities`.
        stages: of each epoch; "unknown" where no signal was usable.
        confidence: float[L], the probability of that stage.
        probabilities: float[L, K].
    """

    model_id: str
    weights_sha256: str
    epoch_s: int
    classes: list[str]
    stages: list[str]
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbor:
    """One night of the cohort; `similarity` is the cosine of the night vectors."""

    recording_id: str
    similarity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbors:
    """The nights most alike, the most alike first.

    Attributes:
        exact: every night of the `num_recordings` was compared.
    """

    model_id: str
    weights_sha256: str
    num_recordings: int
    exact: bool
    neighbors: list[Neighbor]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedWindows:
    """Vectors of B windows of 60 s.

    Attributes:
        micro: float32[B, 2, M, D], zero where not valid.
        modality_valid: bool[B, 2, M].
        info: what made the numbers.
    """

    micro: NDArray[np.float32]
    modality_valid: NDArray[np.bool_]
    info: dict[str, Any]  # Any: JSON values


def night_of(answer: Answer) -> Night:
    """The embedding of an npz answer; ApiError answer_invalid."""
    try:
        return Night(**_arrays_of(answer.content))
    except NOT_OURS:
        raise answer_invalid(answer, "embedding") from None


def encoded_windows_of(answer: Answer) -> EncodedWindows:
    """The vectors of an npz answer; ApiError answer_invalid."""
    try:
        with np.load(io.BytesIO(answer.content), allow_pickle=False) as file:
            return EncodedWindows(
                micro=file["micro"],
                modality_valid=file["modality_valid"],
                info=json.loads(str(file["info"])),
            )
    except NOT_OURS:
        raise answer_invalid(answer, "vectors of windows") from None


def inspection_of(answer: Answer) -> Inspection:
    """ApiError answer_invalid."""
    return Inspection(**_known(Inspection, json_of(answer), answer))


def job_status_of(answer: Answer) -> JobStatus:
    """ApiError answer_invalid."""
    return JobStatus(**_known(JobStatus, json_of(answer), answer))


def hypnogram_of(answer: Answer) -> Hypnogram:
    """ApiError answer_invalid."""
    found = _known(Hypnogram, json_of(answer), answer)
    for name in ("confidence", "probabilities"):
        found[name] = np.asarray(found[name], np.float64)
    return Hypnogram(**found)


def neighbors_of(answer: Answer) -> Neighbors:
    """ApiError answer_invalid."""
    found = _known(Neighbors, json_of(answer), answer)
    alike = [Neighbor(**_known(Neighbor, one, answer)) for one in found.pop("neighbors")]
    return Neighbors(**found, neighbors=alike)


def _known(kind: type, found: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """The fields of a dataclass; others are of a later release and passed over."""
    names = [field.name for field in fields(kind)]
    if not set(names) <= set(found):
        raise answer_invalid(answer, kind.__name__)
    return {name: found[name] for name in names}


def _arrays_of(npz: bytes) -> dict[str, Any]:  # Any: arrays, and info
    with np.load(io.BytesIO(npz), allow_pickle=False) as file:
        found: dict[str, Any] = {n: file[n] for n in (*_PARTS, *_MASKS) if n in file.files}
        info = json.loads(str(file["info"]))
    if not {"model_id", "weights_sha256"} <= set(info):
        raise ValueError("found no account of what made the numbers")
    return found | {"info": info}


def _rows(array: Array) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
