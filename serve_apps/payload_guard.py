"""Arrays that a client sent, out of an npz or safetensors file, without trusting a byte of it.

Nothing of a payload is evaluated, unpickled or looked up: an npy header is matched against the one
form that numpy writes for plain numbers, a zip archive may hold the members we know and no others,
and sizes are checked as declared before anything is unpacked, and again as found. Numbers come out
as read-only arrays over the bytes.

`arrow_guard` does the same for Arrow.
"""

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from serve_apps.http_errors import HttpError

MAX_HEADER_BYTES = 2**16  # of a member list, a schema or a header; ours need two kilobytes
MAX_RATIO = 200  # bytes out of one byte in; signals deflate by less than 10, constants by 1000
_FREE_BYTES = 2**20  # however well a small archive is compressed, it is small

# What numpy writes for a plain array; a pickle or a structure has another descr.
_NPY_HEADER = re.compile(
    rb"\{'descr': *'([<>|=]?[a-zA-Z][0-9]{0,2})', *'fortran_order': *(False|True), *"
    rb"'shape': *\(((?:[0-9]{1,10}, ?)*(?:[0-9]{1,10})?)\),? *\} *\n"
)
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_ZIP_END = struct.Struct("<4s4H2LH")  # end of central directory record, APPNOTE 4.3.16
_ZIP64_LOCATOR = b"PK\x06\x07"
_PICKLE_PROTOCOLS = range(2, 6)

Dtypes = Mapping[str, np.dtype[Any]]  # Any: float32 or bool
Arrays = dict[str, NDArray[Any]]  # Any: as above


def npz_arrays(body: bytes, dtypes: Dtypes, max_bytes: int) -> Arrays:
    """The arrays of an npz archive.

    Args:
        body: the archive.
        dtypes: the members there may be, and what each holds; not all need be there.
        max_bytes: of all members, unpacked.

    Raises:
        HttpError: pickle_forbidden, payload_too_large, payload_invalid.
    """
    refuse_pickle(body)
    _require_plain_archive(body)
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            _require_members(members, {f"{name}.npy" for name in dtypes})
            total = sum(member.file_size for member in members)
            if total > max_bytes or total > MAX_RATIO * len(body) + _FREE_BYTES:
                raise HttpError("payload_too_large")
            unpacked = {
                member.filename.removesuffix(".npy"): _unpack(archive, member) for member in members
            }
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        ValueError,
    ):
        raise HttpError("payload_invalid") from None
    return {name: npy_array(content, dtypes[name]) for name, content in unpacked.items()}


def npy_array(content: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:  # Any: float32 or bool
    """One npy file of plain numbers of `dtype`; HttpError as `npz_arrays`."""
    start = len(_NPY_MAGIC) + 2
    if not content.startswith(_NPY_MAGIC) or len(content) < start:
        raise HttpError("payload_invalid")
    end = start + int.from_bytes(content[start - 2 : start], "little")
    header = content[start:end]
    matched = _NPY_HEADER.fullmatch(header)
    if matched is None:
        raise HttpError("pickle_forbidden" if b"O" in header else "payload_invalid")
    descr, fortran, dims = matched.groups()
    if descr.lstrip(b"<>|=").startswith(b"O"):
        raise HttpError("pickle_forbidden")
    shape = tuple(int(size) for size in dims.replace(b" ", b"").split(b",") if size)
    is_bool = descr == b"|b1" and dtype == np.bool_
    is_float = descr == b"<f4" and dtype == np.float32
    if fortran == b"True" or not (is_bool or is_float):
        raise HttpError("payload_invalid")
    if math.prod(shape) * dtype.itemsize != len(content) - end:
        raise HttpError("payload_invalid")
    return plain(content[end:], dtype).reshape(shape)


def safetensors_arrays(body: bytes, dtypes: Dtypes) -> Arrays:
    """The arrays of a safetensors file; HttpError as `npz_arrays`."""
    refuse_pickle(body)
    size = int.from_bytes(body[:8], "little")
    if size > MAX_HEADER_BYTES or len(body) < 8 + size:
        raise HttpError("payload_invalid")
    try:
        header = json.loads(body[8 : 8 + size], object_pairs_hook=_distinct)
        if not isinstance(header, dict):
            raise HttpError("payload_invalid")
        names = header.keys() - {"__metadata__"}
        if not names <= dtypes.keys():
            raise HttpError("payload_invalid")
        arrays = safetensors.numpy.load(body)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        raise HttpError("payload_invalid") from None
    if any(array.dtype != dtypes[name] for name, array in arrays.items()):
        raise HttpError("payload_invalid")
    return {name: _flags(array) for name, array in arrays.items()}


def plain(content: bytes | memoryview, dtype: np.dtype[Any]) -> NDArray[Any]:  # Any: as above
    """Little-endian numbers as an array; HttpError("payload_invalid") when a flag is not 0 or 1."""
    if len(content) % dtype.itemsize:
        raise HttpError("payload_invalid")
    return _flags(np.frombuffer(content, dtype))


def refuse_pickle(body: bytes) -> None:
    """HttpError("pickle_forbidden") for the bytes of a pickle, whatever they are called."""
    if len(body) > 2 and body[0] == 0x80 and body[1] in _PICKLE_PROTOCOLS and body[-1:] == b".":
        raise HttpError("pickle_forbidden")


def _flags(array: NDArray[Any]) -> NDArray[Any]:  # Any: float32 or bool
    """A byte of a bool that is neither 0 nor 1 is undefined behaviour in numpy."""
    if array.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise HttpError("payload_invalid")
    return array


def _require_plain_archive(body: bytes) -> None:
    """One archive from the first byte to the last, with a short list of members.

    zipfile reads the whole list into memory, wherever the record at the end says that it lies.
    """
    end = len(body) - _ZIP_END.size
    if end < 0:
        raise HttpError("payload_invalid")
    magic, *_, size, offset, comment = _ZIP_END.unpack_from(body, end)
    if magic != b"PK\x05\x06" or comment or size > MAX_HEADER_BYTES or size + offset != end:
        raise HttpError("payload_invalid")
    if _ZIP64_LOCATOR in body[max(0, end - 20) : end]:
        raise HttpError("payload_invalid")


def _require_members(members: list[zipfile.ZipInfo], names: Collection[str]) -> None:
    found = [member.filename for member in members]
    if len(set(found)) != len(found) or not set(found) <= set(names):
        raise HttpError("payload_invalid")
    for member in members:
        stored_plainly = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not stored_plainly or member.flag_bits & 1:  # bit 0: encrypted
            raise HttpError("payload_invalid")


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """At most as many bytes as were declared; zipfile checks their sum when all are read."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise HttpError("payload_invalid")
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON values
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found
