"""Checksums of rows: Lance keeps none, and reads a flipped bit as data.

They are XXH3-64: against accidents, which it misses with a chance of 2^-64, and as fast as memory.
Whoever may write to a corpus may also write a checksum.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from sleepmami.tables.arrays import fixed_size_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKSUM = "checksum"  # the column
NAME = "recording_id"


def segment_checksums(table: pa.Table) -> NDArray[np.uint64]:
    """Per row of a segments table the checksum of everything but `checksum`; uint64[rows]."""
    return content_checksums(table) ^ _name_checksums(table)


def content_checksums(segments: pa.Table) -> NDArray[np.uint64]:
    """Per row the checksum of what the recording's name has no part in; uint64[rows].

    Each cell is hashed with the hash before it as the seed. Numbers count as their little-endian
    bytes, a null cell as nothing, and whether a cell is null changes its seed.
    """
    sums = [0] * segments.num_rows
    for name in segments.column_names:
        column = segments.column(name)
        if name in (CHECKSUM, NAME):
            continue
        if pa.types.is_fixed_size_list(column.type):
            if pa.types.is_boolean(column.type.value_type):  # bits in Arrow's memory
                column = column.cast(pa.list_(pa.uint8(), column.type.list_size))
            values, valid = fixed_size_values(column, clear_nulls=False)
            memory = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            size = len(memory) // max(1, len(sums))
            cells = [
                memory[row * size : (row + 1) * size] if there else b""
                for row, there in enumerate(valid.tolist())
            ]
            seeds = [seed ^ there for seed, there in zip(sums, valid.tolist(), strict=True)]
        else:
            encode = (
                str if pa.types.is_integer(column.type) and not column.null_count else json.dumps
            )
            cells = [encode(value).encode() for value in column.to_pylist()]
            seeds = sums
        sums = list(map(xxh3_64_intdigest, cells, seeds))
    return np.asarray(sums, dtype=np.uint64)


def _name_checksums(segments: pa.Table) -> NDArray[np.uint64]:
    names = segments.column(NAME).to_pylist()
    sums = {name: xxh3_64_intdigest(json.dumps(name).encode()) for name in set(names)}
    return np.asarray([sums[name] for name in names], dtype=np.uint64)


def row_checksums(table: pa.Table) -> NDArray[np.uint64]:
    """Per row of a table of plain values the checksum of its JSON but `checksum`; uint64[rows]."""
    rows = table.drop_columns([CHECKSUM]).to_pylist()
    texts = (json.dumps(row, sort_keys=True).encode() for row in rows)
    return np.asarray([xxh3_64_intdigest(text) for text in texts], dtype=np.uint64)


def signals_digest(segments: pa.Table) -> str:
    """What identifies a night's stored signals whatever it is called: 32 hexadecimal digits.

    Equal for two recordings of equal preprocessed signals, also where their headers differ. Takes a
    table that has its checksums, and reads no signal again.
    """
    return digest_of(segments.column(CHECKSUM).to_numpy() ^ _name_checksums(segments))


def digest_of(content: NDArray[np.uint64]) -> str:
    """`signals_digest` of a night from the `content_checksums` of its segments in order."""
    return hashlib.sha256(content.astype("<u8").tobytes()).hexdigest()[:32]
