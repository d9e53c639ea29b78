"""An embedding in the parts, the number type and the format that were asked for.

Arrow and Parquet hold one row per 30-s epoch, as `sleepmami.inference.export` lays them out; npz
and safetensors hold one array per part. All carry what made the numbers.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray

from serve_apps.http_errors import HttpError
from serve_apps.wire import (
    ARROW,
    JSON,
    NPZ,
    SAFETENSORS,
    DType,
    EmbeddingAnswer,
    Encoding,
    Level,
    encode_array,
)
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.inference.export import (
    CYCLES_KEY,
    INFO_KEY,
    MODALITIES_KEY,
    NIGHT_KEY,
    ipc_bytes,
    parquet_bytes,
)
from sleepmami.psg import EPOCH_S, MODALITIES

DTYPE_KEY = "sleepmami.dtype"
PARTS: Mapping[Level, tuple[str, ...]] = {
    "micro": ("micro",),
    "macro": ("macro",),
    "night": ("cycles", "night"),
    "second": ("second",),
    "all": ("micro", "macro", "cycles", "night"),
}
OF_THE_EPOCH = ("micro", "macro", "second")  # columns of a table; the rest is of the night
SUFFIXES = ("arrow", "npz", "parquet", "safetensors")
FILE_TYPES = {
    "arrow": "application/vnd.apache.arrow.file",
    "npz": NPZ,
    "parquet": "application/vnd.apache.parquet",
    "safetensors": SAFETENSORS,
}

Arrays = dict[str, NDArray[Any]]  # Any: float32 or float16


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """What of an embedding is to be sent.

    Attributes:
        info: what made the numbers, redacted.
        epoch_valid: bool[L].
        modality_valid: bool[L, 6].
        arrays: name -> array of the parts asked for, in the type asked for.
        dtype: of the arrays.
    """

    info: Mapping[str, Any]  # Any: JSON values
    epoch_valid: NDArray[np.bool_]
    modality_valid: NDArray[np.bool_]
    arrays: Arrays
    dtype: DType


def choose(embedding: NightEmbedding, levels: Sequence[Level], dtype: DType) -> Chosen:
    """The parts of some levels in one number type; `embedding` is redacted already.

    Raises:
        HttpError: request_invalid when the embedding lacks a part (the model gives no vectors per
            second); dtype_unfit when a number is too large for float16.
    """
    arrays: Arrays = {}
    for name in parts_of(levels):
        array = getattr(embedding, name, None)
        if array is None:
            raise HttpError("request_invalid")
        arrays[name] = cast(array, dtype)
    return Chosen(
        info=embedding.info,
        epoch_valid=embedding.epoch_valid,
        modality_valid=embedding.modality_valid,
        arrays=arrays,
        dtype=dtype,
    )


def parts_of(levels: Sequence[Level]) -> list[str]:
    """Names of the arrays that make some levels, in a fixed order."""
    wanted = {part for level in levels for part in PARTS[level]}
    return [part for part in (*PARTS["all"], *PARTS["second"]) if part in wanted]


def to_json(chosen: Chosen, encoding: Encoding) -> bytes:
    """An EmbeddingAnswer."""
    return answer_of(chosen, encoding).model_dump_json(exclude_none=True).encode()


def answer_of(chosen: Chosen, encoding: Encoding) -> EmbeddingAnswer:
    """The JSON shape of a redacted embedding."""
    fields: dict[str, Any] = {  # Any: the fields differ in type
        **chosen.info,
        "epoch_valid": chosen.epoch_valid.tolist(),
        "modality_valid": chosen.modality_valid.tolist(),
        **{name: encode_array(array, encoding) for name, array in chosen.arrays.items()},
    }
    return EmbeddingAnswer(**fields)


def to_npz(chosen: Chosen) -> bytes:
    """One array per part, the masks, and info (a JSON string); no pickle."""
    buffer = io.BytesIO()
    files: dict[str, Any] = _with_masks(chosen)  # Any: numpy types its own arguments among them
    np.savez(buffer, info=np.array(json.dumps(chosen.info)), **files)
    return buffer.getvalue()


def to_safetensors(chosen: Chosen) -> bytes:
    """One tensor per part and the masks; info is JSON in the metadata."""
    metadata = {INFO_KEY: json.dumps(chosen.info)}
    tensors = {name: np.ascontiguousarray(array) for name, array in _with_masks(chosen).items()}
    data: bytes = safetensors.numpy.save(tensors, metadata)
    return data


def to_table(chosen: Chosen) -> pa.Table:
    """One row per epoch; what is of the night is base64 in the metadata."""
    num_epochs = len(chosen.epoch_valid)
    epoch = np.arange(num_epochs, dtype=np.int32)
    columns = {
        "epoch": pa.array(epoch),
        "start_s": pa.array(epoch * EPOCH_S),
        "epoch_valid": pa.array(chosen.epoch_valid),
        "modality_valid": _rows(chosen.modality_valid),
    }
    for name in OF_THE_EPOCH:
        if name in chosen.arrays:
            columns[name] = _rows(chosen.arrays[name].reshape(num_epochs, -1))
    metadata: dict[str, str | bytes] = {
        INFO_KEY: json.dumps(chosen.info),
        MODALITIES_KEY: json.dumps([m.value for m in MODALITIES]),
        DTYPE_KEY: chosen.dtype,
    }
    for name, key in (("night", NIGHT_KEY), ("cycles", CYCLES_KEY)):
        if name in chosen.arrays:
            array = chosen.arrays[name]
            little = array.astype(array.dtype.newbyteorder("<"))
            metadata[key] = base64.b64encode(little.tobytes())
    return pa.table(columns).replace_schema_metadata(metadata)


def to_arrow_stream(chosen: Chosen) -> bytes:
    """`to_table` as an Arrow IPC stream."""
    return ipc_bytes(to_table(chosen), pa.ipc.new_stream)


def to_file(chosen: Chosen, suffix: str) -> bytes:
    """What a file of that suffix, one of SUFFIXES, holds."""
    if suffix == "arrow":
        return ipc_bytes(to_table(chosen), pa.ipc.new_file)
    if suffix == "parquet":
        return parquet_bytes(to_table(chosen))
    return to_npz(chosen) if suffix == "npz" else to_safetensors(chosen)


def to_body(chosen: Chosen, answer_type: str, encoding: Encoding) -> bytes:
    """The body of a 200 answer of one of ANSWER_TYPES."""
    if answer_type == JSON:
        return to_json(chosen, encoding)
    if answer_type == ARROW:
        return to_arrow_stream(chosen)
    return to_npz(chosen) if answer_type == NPZ else to_safetensors(chosen)


def from_npz(data: bytes) -> NightEmbedding:
    """What `to_npz` wrote of all parts in float32; ValueError for anything else."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        info = json.loads(str(file["info"]))
        arrays = {name: file[name] for name in file.files if name != "info"}
    try:
        return NightEmbedding(**arrays, info=info)
    except TypeError:
        raise ValueError("found other arrays than those of an embedding") from None


def _with_masks(chosen: Chosen) -> Arrays:
    masks = {
        "epoch_valid": chosen.epoch_valid,
        "modality_valid": chosen.modality_valid,
    }
    return chosen.arrays | masks


def cast(array: NDArray[np.float32], dtype: DType) -> NDArray[Any]:
    """The array in that type; HttpError("dtype_unfit")."""
    if dtype == "float32":
        return array
    with np.errstate(over="ignore"):  # an overflow is infinite, and found below
        half = array.astype(np.float16)
    if np.isinf(half).any():
        raise HttpError("dtype_unfit")
    return half


def _rows(array: NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
