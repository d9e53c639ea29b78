"""Bodies that try to run code, fill memory or break a reader: what /v1/encode must survive.

Each body that could run code would make a file at `canary`.
"""

import base64
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

ROWS = 2
SAMPLES = {"EEG": 6000, "EOG": 6000, "EMG": 6000, "ECG": 6000, "RESP": 3000, "SPO2": 60}
NPZ = "application/x-npz"
ARROW = "application/vnd.apache.arrow.stream"
SAFETENSORS = "application/vnd.safetensors"


class Attack(NamedTuple):
    """One body."""

    name: str
    content_type: str
    body: bytes


class Payload:
    """Makes the canary when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.canary,)


def good_arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Windows as they should be."""
    rng = np.random.default_rng(5)
    arrays: dict[str, np.ndarray] = {
        name: rng.standard_normal((rows, width)).astype(np.float32)
        for name, width in SAMPLES.items()
    }
    arrays["valid"] = np.ones((rows, 6, 2), bool)
    return arrays


def npz(arrays: dict[str, np.ndarray], compressed: bool = False) -> bytes:
    """As numpy writes it."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the first keyword for allow_pickle
    return buffer.getvalue()


def columns(arrays: dict[str, np.ndarray]) -> dict[str, pa.Array]:
    """Fixed-size lists of the arrays' rows."""
    flat = {name: array.reshape(len(array), -1) for name, array in arrays.items()}
    return {
        name: pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        for name, rows in flat.items()
    }


def stream(table: pa.Table, **options: Any) -> bytes:
    """An Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def npy(header: str, data: bytes = b"") -> bytes:
    """An npy file with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def zipped(members: dict[str, bytes], **options: Any) -> bytes:
    """A zip archive of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def attacks(canary: Path) -> Iterator[Attack]:
    """The whole corpus."""
    yield from _pickles(canary)
    yield from _bombs()
    yield from _archives()
    yield from _extension_types(canary)
    yield from _streams()
    yield from _safetensors(canary)


def _pickles(canary: Path) -> Iterator[Attack]:
    bomb = pickle.dumps(Payload(canary))
    objects = np.array([Payload(canary)], object)
    buffer = io.BytesIO()
    np.save(buffer, objects, allow_pickle=True)
    for content_type in (NPZ, ARROW, SAFETENSORS):
        for protocol in (0, 2, 4, 5):
            body = pickle.dumps(Payload(canary), protocol)
            yield Attack(f"pickle of protocol {protocol}", content_type, body)
        yield Attack("npy of objects", content_type, buffer.getvalue())
    yield Attack("npz of objects", NPZ, npz({"EEG": objects}))
    yield Attack("npz of objects, compressed", NPZ, npz({"EEG": objects}, compressed=True))
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    yield Attack("npz of a bare pickle", NPZ, zipped({"EEG.npy": bomb}))
    yield Attack("objects in a made-up header", NPZ, zipped({"EEG.npy": npy(header, bomb)}))
    structure = "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }"
    yield Attack("structure of objects", NPZ, zipped({"EEG.npy": npy(structure, bomb)}))
    code = f"__import__('os').mkdir({str(canary)!r})"
    called = "{'descr': " + code + ", 'fortran_order': False, 'shape': (1,), }"
    yield Attack("a call in a header", NPZ, zipped({"EEG.npy": npy(called)}))
    yield Attack(
        "torch's archive", NPZ, zipped({"archive/data.pkl": bomb, "archive/version": b"3"})
    )


def _bombs() -> Iterator[Attack]:
    zeros = np.zeros((4000, 6000), np.float32)
    yield Attack("zip bomb", NPZ, npz({"EEG": zeros}, compressed=True))
    small = npz({"EEG": zeros[:20]}, compressed=True)
    declared = bytearray(small)
    at = small.index(b"PK\x01\x02") + 24
    declared[at : at + 4] = struct.pack("<I", 1000)  # smaller than it is
    yield Attack("zip that declares too little", NPZ, bytes(declared))
    declared[at : at + 4] = struct.pack("<I", 2**31)
    yield Attack("zip that declares too much", NPZ, bytes(declared))
    names = {f"{place}.npy": b"" for place in range(3000)}
    yield Attack("zip of many members", NPZ, zipped(names))
    deep = "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 5000 + ")" * 5000 + "}"
    yield Attack("deep header", NPZ, zipped({"EEG.npy": npy(deep)}))
    huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }"
    yield Attack("huge shape", NPZ, zipped({"EEG.npy": npy(huge)}))
    for compression in ("lz4", "zstd"):
        table = pa.table(columns({"EEG": zeros[:200]}))
        yield Attack(f"arrow bomb, {compression}", ARROW, stream(table, compression=compression))


def _archives() -> Iterator[Attack]:
    good = good_arrays()
    whole = npz(good)
    for name in (
        "../EEG.npy",
        "/etc/passwd",
        "..\\EEG.npy",
        "C:EEG.npy",
        "EEG.npy/",
        "EEG\x00.npy",
    ):
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }"
        yield Attack(f"member {name!r}", NPZ, zipped({name: npy(header)}))
    yield Attack("bytes before the archive", NPZ, b"#!/bin/sh\n" + whole)
    yield Attack("bytes after the archive", NPZ, whole + b"\0")
    yield Attack("cut archive", NPZ, whole[: len(whole) // 2])
    yield Attack("nothing of an archive", NPZ, b"PK\x05\x06")
    flipped = bytearray(whole)
    flipped[200] ^= 1
    yield Attack("flipped bit", NPZ, bytes(flipped))
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    yield Attack("encrypted member", NPZ, bytes(encrypted))
    exotic = npz({"EEG": good["EEG"]})
    method = bytearray(exotic)
    method[exotic.index(b"PK\x01\x02") + 10] = 14
    yield Attack("lzma member", NPZ, bytes(method))
    yield Attack("fortran order", NPZ, npz({"EEG": np.asfortranarray(good["EEG"])}))
    yield Attack("doubles", NPZ, npz({"EEG": good["EEG"].astype(np.float64)}))
    yield Attack("big-endian", NPZ, npz({"EEG": good["EEG"].astype(">f4")}))
    yield Attack("text", NPZ, npz({"EEG": np.array(["JANE-DOE"])}))
    flags = npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2, 6), }", b"\x07" * 12)
    eeg = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 6000), }", bytes(48000))
    yield Attack("flags of 7", NPZ, zipped({"valid.npy": flags, "EEG.npy": eeg}))


def _extension_types(canary: Path) -> Iterator[Attack]:
    bomb = pickle.dumps(Payload(canary), protocol=4)  # needs no readline of its reader
    named = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object"}
    metadata = named | {b"ARROW:extension:metadata": bomb}
    cell = pa.array([bomb, bomb], pa.large_binary())
    plain = pa.field("EEG", pa.large_binary(), metadata=named)
    tainted = pa.field("x", pa.large_binary(), metadata=metadata)
    struct_cell = pa.StructArray.from_arrays([cell], fields=[tainted])
    list_cell = pa.array([[bomb], [bomb]], pa.list_(tainted))
    union = pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [cell], ["x"])
    fields: dict[str, tuple[pa.Field, pa.Array]] = {
        "plain": (plain, cell),
        "of another storage": (  # ends a process that believes the name
            pa.field("EEG", pa.binary(), metadata=named),
            cell.cast(pa.binary()),
        ),
        "with metadata": (pa.field("EEG", pa.large_binary(), metadata=metadata), cell),
        "in a struct": (pa.field("EEG", struct_cell.type), struct_cell),
        "in a list": (pa.field("EEG", list_cell.type), list_cell),
        "in a dictionary": (
            pa.field("EEG", pa.dictionary(pa.int32(), pa.large_binary()), metadata=named),
            cell.dictionary_encode(),
        ),
        "in a map": (
            pa.field("EEG", pa.map_(pa.string(), tainted)),
            pa.array([[("a", bomb)], [("b", bomb)]], pa.map_(pa.string(), tainted)),
        ),
        "in a union": (pa.field("EEG", union.type, metadata=named), union),
    }
    for place, (field, array) in fields.items():
        table = pa.Table.from_arrays([array], schema=pa.schema([field]))
        yield Attack(f"extension type {place}", ARROW, stream(table))
    of_schema = pa.schema([pa.field("EEG", pa.large_binary())], metadata=metadata)
    yield Attack(
        "extension keys of a schema", ARROW, stream(pa.Table.from_arrays([cell], schema=of_schema))
    )
    good = pa.table(columns({"EEG": good_arrays()["EEG"]}))
    marked = pa.schema(
        [good.schema.field("EEG").with_metadata({b"ARROW:extension:name": b"arrow.json"})]
    )
    yield Attack("extension type of Arrow's own", ARROW, stream(good.cast(marked)))


def _streams() -> Iterator[Attack]:
    good = stream(pa.table(columns(good_arrays())))
    yield Attack("cut stream", ARROW, good[: len(good) // 2])
    yield Attack("bytes after the stream", ARROW, good + b"\0\0\0\0\0\0\0\0")
    yield Attack("file in place of a stream", ARROW, b"ARROW1\0\0" + good)
    yield Attack(
        "old stream without marks",
        ARROW,
        stream(pa.table(columns(good_arrays())), use_legacy_format=True),
    )
    yield Attack("only a schema", ARROW, stream(pa.table(columns(good_arrays())).slice(0, 0)))
    names = pa.table({"JANE-DOE": pa.array([1.0, 2.0])})
    yield Attack("other columns", ARROW, stream(names))
    column = columns(good_arrays())["EEG"]
    twice = pa.Table.from_arrays([column, column], names=["EEG", "EEG"])
    yield Attack("a column twice", ARROW, stream(twice))
    some = pa.array([[0.0] * 6000, None], pa.list_(pa.float32(), 6000))
    yield Attack("nulls", ARROW, stream(pa.table({"EEG": some})))
    wide = pa.table({"EEG": pa.array([[0.0] * 10] * 2, pa.list_(pa.float32(), 10))})
    yield Attack("another width", ARROW, stream(wide))
    (metadata_size,) = struct.unpack_from("<i", good, 4)
    second = 8 + metadata_size
    for at in range(second + 8, second + 8 + 240, 4):  # each word of the first batch's description
        for value in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x10"):
            body = bytearray(good)
            body[at : at + 4] = value
            yield Attack(f"batch with {value!r} at {at}", ARROW, bytes(body))
    for at in range(8, 8 + min(metadata_size, 320), 4):
        body = bytearray(good)
        body[at : at + 4] = b"\xff\xff\xff\x7f"
        yield Attack(f"schema with a large word at {at}", ARROW, bytes(body))


def _safetensors(canary: Path) -> Iterator[Attack]:
    def made(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + data

    eeg = {"dtype": "F32", "shape": [1, 6000], "data_offsets": [0, 24000]}
    bodies = {
        "huge header": made({}, size=2**40),
        "header that is no object": made([1, 2]),
        "header that is no JSON": made(b"\xff{"),
        "deep header": made(b"[" * 20000),
        "offsets outside": made({"EEG": eeg}, bytes(100)),
        "offsets that overlap": made({"EEG": eeg, "EOG": eeg}, bytes(24000)),
        "negative offsets": made({"EEG": {**eeg, "data_offsets": [-24000, 0]}}, bytes(24000)),
        "another size": made({"EEG": {**eeg, "shape": [9, 6000]}}, bytes(24000)),
        "huge shape": made({"EEG": {**eeg, "shape": [2**40, 2**40]}}, bytes(24000)),
        "other names": made({"../../x": eeg}, bytes(24000)),
        "a name twice": made(
            b'{"EEG":' + json.dumps(eeg).encode() + b',"EEG":' + json.dumps(eeg).encode() + b"}",
            bytes(24000),
        ),
        "unknown type": made({"EEG": {**eeg, "dtype": "OBJECT"}}, bytes(24000)),
        "doubles": made({"EEG": {**eeg, "dtype": "F64", "shape": [1, 3000]}}, bytes(24000)),
        "pickle in metadata": made(
            {"__metadata__": {"x": base64.b64encode(pickle.dumps(Payload(canary))).decode()}}
        ),
        "nothing": b"",
        "seven bytes": b"\0" * 7,
    }
    for name, body in bodies.items():
        yield Attack(f"safetensors: {name}", SAFETENSORS, body)
