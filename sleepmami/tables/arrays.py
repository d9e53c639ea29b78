"""Arrow list columns -> numpy, without copying and without losing a row.

Arrow keeps the numbers of all rows in one piece of memory. Reading it in place saves a copy of
every night, and is where slices and nulls must be counted by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sleepmami.errors import TableError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fixed_size_values(
    column: pa.ChunkedArray | pa.Array, *, clear_nulls: bool = True
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A fixed-size list column as one array; unlike pyarrow's flatten() it keeps null rows.

    Args:
        column: the lists.
        clear_nulls: False leaves whatever memory holds in null rows, and spares a copy.

    Returns:
        values[rows, size], zero in null rows, and valid[rows]. Values are a view when the column is
        one chunk without nulls to clear.

    Raises:
        TableError: a null inside a list that is not null itself.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    read = _cleared if clear_nulls else fixed_size_memory
    parts = [read(chunk) for chunk in chunks]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        dtype = column.type.value_type.to_pandas_dtype()
        return np.empty((0, column.type.list_size), dtype), np.empty(0, np.bool_)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _cleared(array: pa.Array) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values, valid = fixed_size_memory(array)
    if valid.all():
        return values, valid
    return np.where(valid[:, None], values, values.dtype.type(0)), valid


def fixed_size_memory(array: pa.Array) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The memory of one chunk as values[rows, size], without a copy, and valid[rows].

    What stands in null rows is anything at all.

    Raises:
        TableError: a null inside a list that is not null itself.
    """
    size, rows = array.type.list_size, len(array)
    # `values` is the memory behind the whole array: it knows neither the slice nor the nulls
    flat = array.values.slice(array.offset * size, rows * size)
    valid: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    dtype = np.dtype(array.type.value_type.to_pandas_dtype())
    memory = flat.buffers()[1]
    if memory is None or not rows:
        return np.zeros((rows, size), dtype), valid
    values = np.frombuffer(memory, dtype, rows * size, flat.offset * dtype.itemsize)
    values = values.reshape(rows, size)
    if flat.null_count:
        edges = np.flatnonzero(np.diff(valid, prepend=False, append=False)).reshape(-1, 2)
        if any(flat.slice(a * size, (b - a) * size).null_count for a, b in edges.tolist()):
            raise TableError("found a null number inside a fixed-size list; expected whole lists")
    return values, valid


def list_values(column: pa.ChunkedArray | pa.Array) -> list[NDArray[Any] | None]:
    """A list column as one 1-D array per row, None for null; numbers are views, not copies.

    Raises:
        TableError: a null inside a list.
    """
    views: list[NDArray[Any] | None] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        offsets = chunk.offsets.to_numpy()
        flat = chunk.values
        if flat.null_count:
            raise TableError("found a null inside a list; expected only values")
        values = flat.to_numpy(zero_copy_only=not pa.types.is_boolean(flat.type))
        valid = chunk.is_valid().to_pylist()
        for start, stop, there in zip(offsets[:-1], offsets[1:], valid, strict=True):
            views.append(values[start:stop] if there else None)
    return views
