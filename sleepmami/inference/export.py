"""One night's embedding as bytes: npz for numpy, Arrow IPC stream and Parquet for tables.

Arrow and Parquet hold one row per epoch. What is of the night travels in the schema's metadata:
`sleepmami.info` is JSON, `sleepmami.night` and `sleepmami.cycles` (row after row, each as long as
the night vector) are base64 of little-endian float32. Vectors of seconds, where they were asked
for, are 30 in each row of the column `second`, one after another.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, MODALITIES

if TYPE_CHECKING:  # reading an embedding does not need torch
    from sleepmami.inference.embedder import NightEmbedding

INFO_KEY = "sleepmami.info"
NIGHT_KEY = "sleepmami.night"
CYCLES_KEY = "sleepmami.cycles"
MODALITIES_KEY = "sleepmami.modalities"


def to_npz_bytes(embedding: NightEmbedding) -> bytes:
    """One key per array of a NightEmbedding, and info (a JSON string); no pickle."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {  # Any: arrays of several types
        "micro": embedding.micro,
        "macro": embedding.macro,
        "cycles": embedding.cycles,
        "night": embedding.night,
        "epoch_valid": embedding.epoch_valid,
        "modality_valid": embedding.modality_valid,
        "info": np.array(json.dumps(embedding.info)),
    }
    if embedding.second is not None:
        arrays["second"] = embedding.second
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def to_arrow_stream_bytes(embedding: NightEmbedding) -> bytes:
    """`epoch_table` as an Arrow IPC stream."""
    return ipc_bytes(epoch_table(embedding), pa.ipc.new_stream)


def to_arrow_file_bytes(embedding: NightEmbedding) -> bytes:
    """`epoch_table` in the Arrow IPC file format, what a file called .arrow holds."""
    return ipc_bytes(epoch_table(embedding), pa.ipc.new_file)


def ipc_bytes(table: pa.Table, new: Callable[..., Any]) -> bytes:
    """A table as Arrow IPC; `new` is pa.ipc.new_stream or pa.ipc.new_file."""
    sink = pa.BufferOutputStream()
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def to_parquet_bytes(embedding: NightEmbedding) -> bytes:
    """`epoch_table` as a Parquet file."""
    return parquet_bytes(epoch_table(embedding))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def epoch_table(embedding: NightEmbedding) -> pa.Table:
    """One row per epoch: epoch, start_s, epoch_valid, modality_valid[6], micro, macro; second."""
    num_epochs = len(embedding.epoch_valid)
    columns = {
        "epoch": pa.array(np.arange(num_epochs, dtype=np.int32)),
        "start_s": pa.array(np.arange(num_epochs, dtype=np.int32) * EPOCH_S),
        "epoch_valid": pa.array(embedding.epoch_valid),
        "modality_valid": _rows(embedding.modality_valid),
        "micro": _rows(embedding.micro),
        "macro": _rows(embedding.macro),
    }
    if embedding.second is not None:
        columns["second"] = _rows(embedding.second.reshape(num_epochs, -1))
    metadata = {
        INFO_KEY: json.dumps(embedding.info),
        NIGHT_KEY: base64.b64encode(embedding.night.astype("<f4").tobytes()),
        CYCLES_KEY: base64.b64encode(embedding.cycles.astype("<f4").tobytes()),
        MODALITIES_KEY: json.dumps([m.value for m in MODALITIES]),
    }
    return pa.table(columns).replace_schema_metadata(metadata)


def _rows(array: NDArray[np.float32] | NDArray[np.bool_]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
