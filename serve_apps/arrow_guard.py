"""Columns of an Arrow IPC stream that a client sent, checked before pyarrow sees it.

Reading a schema is enough to run a registered extension type, and where ray.data is imported one of
those unpickles. Replicas do not import it, and nothing here relies on that: the messages are walked
by hand first. A schema that names an extension type anywhere (nested, in a dictionary, in a union)
is refused by its bytes; so are dictionaries, compressed buffers (small bytes that become large
ones) and messages that are neither a schema nor a batch. Only then does pyarrow read, the types are
compared with those expected, and every buffer's length is validated before a value is read.

The layout is that of Arrow's Message.fbs and Schema.fbs, format version 1.5; the table walk is
FlatBuffers' own: an offset to a vtable, and in it the place of each field, 0 for one not there.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_apps.http_errors import HttpError
from serve_apps.payload_guard import MAX_HEADER_BYTES, Arrays, refuse_pickle

EXTENSION = b"ARROW:extension"  # begins the key of an extension type's name, and of its metadata
_CONTINUATION = b"\xff\xff\xff\xff"
_SCHEMA, _RECORD_BATCH = 1, 3  # MessageHeader
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of Message
_COMPRESSION, _VARIADIC = 3, 4  # fields of RecordBatch


class _Message(NamedTuple):
    kind: int
    metadata: bytes
    header: int  # where the header's table starts in the metadata


def arrow_arrays(body: bytes, types: Mapping[str, list[pa.DataType]]) -> Arrays:
    """The columns of a stream: float32 or bool, [rows, *width of the fixed-size list].

    Args:
        body: an Arrow IPC stream of one or more batches.
        types: the columns there may be, and the types each may have; not all need be there.

    Raises:
        HttpError: pickle_forbidden, extension_type_forbidden, payload_invalid.
    """
    refuse_pickle(body)
    try:
        require_plain_stream(body)
        with pa.ipc.open_stream(body) as reader:
            schema = reader.schema
            if len(set(schema.names)) != len(schema.names):
                raise HttpError("payload_invalid")
            if any(field.type not in types.get(field.name, ()) for field in schema):
                raise HttpError("payload_invalid")
            batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise HttpError("payload_invalid")
    except (pa.ArrowException, struct.error, ValueError, OSError):
        raise HttpError("payload_invalid") from None
    if not batches:
        raise HttpError("payload_invalid")
    return {name: _numbers([batch.column(name) for batch in batches]) for name in schema.names}


def require_plain_stream(body: bytes) -> None:
    """One schema without extension types, then plain uncompressed batches, to the last byte.

    Raises:
        HttpError: extension_type_forbidden, payload_invalid.
        struct.error: an offset outside of the message.
    """
    for place, message in enumerate(_messages(body)):
        if EXTENSION in message.metadata:
            raise HttpError("extension_type_forbidden")
        if message.kind != (_RECORD_BATCH if place else _SCHEMA):
            raise HttpError("payload_invalid")
        if message.kind == _RECORD_BATCH:
            for unwanted in (_COMPRESSION, _VARIADIC):
                if _field(message.metadata, message.header, unwanted) is not None:
                    raise HttpError("payload_invalid")


def _messages(body: bytes) -> Iterator[_Message]:
    at = 0
    while at < len(body):
        if body[at : at + 4] != _CONTINUATION:
            raise HttpError("payload_invalid")
        (size,) = struct.unpack_from("<i", body, at + 4)
        at += 8
        if size == 0:  # the stream's end
            break
        if not 0 < size <= MAX_HEADER_BYTES or at + size > len(body):
            raise HttpError("payload_invalid")
        metadata = body[at : at + size]
        root = _u32(metadata, 0)
        kind = _field(metadata, root, _HEADER_TYPE)
        header = _field(metadata, root, _HEADER)
        length = _field(metadata, root, _BODY_LENGTH)
        if kind is None or header is None:
            raise HttpError("payload_invalid")
        yield _Message(metadata[kind], metadata, header + _u32(metadata, header))
        at += size
        (body_length,) = (0,) if length is None else struct.unpack_from("<q", metadata, length)
        if not 0 <= body_length <= len(body) - at:
            raise HttpError("payload_invalid")
        at += body_length
    if at != len(body):
        raise HttpError("payload_invalid")


def _field(data: bytes, table: int, slot: int) -> int | None:
    """Where a table's field lies, None when it is not there."""
    if not 0 <= table <= len(data) - 4:
        raise HttpError("payload_invalid")
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if not 0 <= vtable <= len(data) - 4:
        raise HttpError("payload_invalid")
    entry = 4 + 2 * slot
    if entry + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset: int = struct.unpack_from("<H", data, vtable + entry)[0]
    if offset and not table + offset < len(data):
        raise HttpError("payload_invalid")
    return table + offset if offset else None


def _u32(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value


def _numbers(columns: list[pa.FixedSizeListArray]) -> NDArray[Any]:  # Any: float32 or bool
    width = columns[0].type.list_size
    parts = []
    for column in columns:
        values = column.flatten()
        if values.null_count:
            raise HttpError("payload_invalid")
        parts.append(values.to_numpy(zero_copy_only=False).reshape(len(column), width))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
