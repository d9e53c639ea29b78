"""A recording's data records: how many there are, and their bytes, by plain reads.

A memory map would be shorter, but a file that shrinks while it is read, a disk or a network folder
that fails then kills the whole process (SIGBUS) instead of raising an error, and its pages count as
memory until the file is closed. One pass over the file picks out several signals, so that plain
reads cost no more time than the map did.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from io import FileIO
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals.edf_header import EdfHeader, invalid_error, truncated_error
from sleepmami.signals.edf_timeline import ONSET_BYTES, record_onsets_s

Span = tuple[int, int]  # first and one past last byte of a signal in a data record

AHEAD_BYTES = 2**26  # of signals that one pass may pick out beyond the one asked for
_BLOCK_BYTES = 2**20  # read at once; stays in the processor's cache
_SEEK_BYTES = 2**15  # what can be read through in the time that jumping over it takes


class _State(NamedTuple):
    """What shows that a file has changed; not its inode, which some network folders make up."""

    size: int
    mtime_s: int


class Hash(Protocol):
    """What hashlib and xxhash make."""

    def update(self, data: memoryview, /) -> object:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""


class FileDigest:
    """A hash of a whole file, taken by the pass that reads its signals anyway.

    Attributes:
        hexdigest: empty as long as no pass has seen every byte, which jumping over signals does
            not, and nothing does in memory.
    """

    def __init__(self, algorithm: Callable[[], Hash]) -> None:
        self.algorithm = algorithm
        self.hexdigest = ""


class EdfSource:
    """Where a recording's bytes come from: memory, or a file that is opened for each pass."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | memoryview,
        name: str,
        digest: FileDigest | None = None,
    ) -> None:
        self._name = name
        self._digest = digest
        self._data: NDArray[np.uint8] | None = None
        self._path = ""
        if isinstance(source, bytes | memoryview):
            self._data = np.frombuffer(source, dtype=np.uint8)
            self.size = len(source)
            return
        self._path = os.path.abspath(source)
        self._state = _regular_file(source, name)
        self.size = self._state.size

    def head(self, size: int) -> bytes:
        """The first bytes; fewer when there are fewer."""
        size = min(size, self.size)
        if size == 0:
            return b""
        if self._data is not None:
            return self._data[:size].tobytes()
        head = np.empty((1, size), dtype=np.uint8)
        self._pick(0, size, [(0, size)], [head])
        return head.tobytes()

    def pick(
        self, start: int, num_records: int, record_bytes: int, spans: list[Span]
    ) -> list[NDArray[np.uint8]]:
        """Per span uint8[num_records, bytes], a fresh array, of the records from byte `start` on.

        Raises:
            RecordingError: unreadable when reading fails or the file has changed since it was
                opened.
        """
        if self._data is not None:
            stop = start + num_records * record_bytes
            records_RB = self._data[start:stop].reshape(num_records, record_bytes)
            return [records_RB[:, first:last].copy() for first, last in spans]
        picked = [np.empty((num_records, last - first), dtype=np.uint8) for first, last in spans]
        self._pick(start, record_bytes, spans, picked)
        return picked

    def _pick(
        self, start: int, record_bytes: int, spans: list[Span], picked: list[NDArray[np.uint8]]
    ) -> None:
        try:
            with open(self._path, "rb", buffering=0) as stream:
                complete = _state(os.fstat(stream.fileno())) == self._state
                if record_bytes > min(_BLOCK_BYTES, _SEEK_BYTES * len(spans)):
                    complete = complete and _jump(stream, start, record_bytes, spans, picked)
                elif self._is_to_hash(len(picked[0]) * record_bytes):
                    complete = complete and self._scan_and_hash(
                        stream, start, record_bytes, spans, picked
                    )
                else:
                    complete = complete and _scan(stream, start, record_bytes, spans, picked)
        except OSError as error:
            raise _unreadable(self._name, error.strerror or type(error).__name__) from error
        if not complete:
            raise _unreadable(self._name, "a file that changed while it was read")

    def _is_to_hash(self, num_bytes: int) -> bool:
        """Whether a pass reads so much of the file that it had better read the rest as well."""
        wanted = self._digest is not None and not self._digest.hexdigest
        return wanted and 2 * num_bytes > self.size

    def _scan_and_hash(
        self,
        stream: FileIO,
        start: int,
        record_bytes: int,
        spans: list[Span],
        picked: list[NDArray[np.uint8]],
    ) -> bool:
        """`_scan`, with what lies before and after the records read for the digest alone."""
        assert self._digest is not None
        hasher = self._digest.algorithm()
        complete = (
            _hash_bytes(stream, start, hasher)
            and _scan(stream, start, record_bytes, spans, picked, hasher)
            and _hash_bytes(stream, self.size - stream.tell(), hasher)
        )
        if complete:
            self._digest.hexdigest = hasher.hexdigest()
        return complete


class EdfRecords:
    """The data records of one recording."""

    def __init__(self, source: EdfSource, start: int, num_records: int, record_bytes: int) -> None:
        self.num_records = num_records
        self._source = source
        self._start = start
        self._record_bytes = record_bytes
        self._wanted: Counter[Span] = Counter()
        self._kept: dict[Span, NDArray[np.uint8]] = {}

    def will_take(self, spans: Iterable[Span]) -> None:
        """Say which signals will be taken next, in order, so that one pass can read several."""
        self._wanted, self._kept = Counter(spans), {}

    def take(self, span: Span) -> NDArray[np.uint8]:
        """uint8[num_records, bytes] of one signal, a fresh array; raises as `EdfSource.pick`."""
        if span not in self._kept:
            spans = self._next_pass(span)
            picked = self._source.pick(self._start, self.num_records, self._record_bytes, spans)
            self._kept.update(zip(spans, picked, strict=True))
        self._wanted[span] -= 1
        if self._wanted[span] > 0:
            return self._kept[span].copy()
        return self._kept.pop(span)

    def _next_pass(self, span: Span) -> list[Span]:
        """The span, and the ones wanted later that fit into AHEAD_BYTES."""
        spans = [span]
        room = AHEAD_BYTES - sum(kept.nbytes for kept in self._kept.values())
        for other in self._wanted:
            if self._wanted[other] > 0 and other != span and other not in self._kept:
                room -= (other[1] - other[0]) * self.num_records
                if room < 0:
                    break
                spans.append(other)
        return spans


def count_records(
    header: EdfHeader, source: EdfSource, truncated: Literal["reject", "keep"], name: str
) -> tuple[int, tuple[str, ...]]:
    """Whole data records to use, and what was unusual about their number.

    The size decides where the header does not know the number (-1, or 0 of a recorder that was cut
    off), and where more records are there than it says: exactly whole ones, and in EDF+ all of them
    with an onset. Whatever else follows the declared records is none, and neither are zeros at the
    end of a file that nobody closed: a file system puts them where the data never arrived.

    Raises:
        RecordingError: header_invalid, or truncated_recording.
    """
    declared = header.declared_records
    available, rest = divmod(source.size - header.num_bytes, header.record_bytes)
    declared_size = header.num_bytes + declared * header.record_bytes
    notes = []
    if header.declared_bytes != header.num_bytes:
        if source.size != declared_size:  # only the size can prove where the data start
            found = f"a header length of {header.declared_bytes}"
            raise invalid_error(name, found, f"{header.num_bytes} bytes")
        notes.append("the header is wrong about its own length")
    if available == 0:
        raise truncated_error(name, "no whole data record", "at least one")
    if declared <= 0:
        notes.append(f"no number of data records in the header; {available} by the file's size")
        unwritten = _count_unwritten(header, source, available)
        if unwritten:
            notes.append(f"the last {unwritten} hold nothing but zeros and are left out")
            available -= unwritten
    elif available < declared:
        if truncated == "reject":
            found = f"{source.size} bytes, {available} of {declared} data records"
            raise truncated_error(name, found, f"{declared_size} bytes")
        notes.append(f"truncated: {available} of {declared} data records are there")
    elif available > declared and rest == 0 and _have_onsets(header, source, declared, available):
        notes.append(f"more data records than the header says: {available}, not {declared}")
    else:
        available, rest = declared, source.size - declared_size
    if rest:
        notes.append(f"{rest} trailing bytes ignored")
    return available, tuple(notes)


def _count_unwritten(header: EdfHeader, source: EdfSource, available: int) -> int:
    """Records at the end that are all zeros; 0 when all of the file's are, or one is very long."""
    size = header.record_bytes
    if size > _BLOCK_BYTES:
        return 0
    stop = available
    while stop:
        first = max(0, stop - _BLOCK_BYTES // size)
        start = header.num_bytes + first * size
        (block_RB,) = source.pick(start, stop - first, size, [(0, size)])
        written = np.flatnonzero(block_RB.any(axis=1))
        if len(written):
            return available - (first + int(written[-1]) + 1)
        stop = first
    return 0


def _have_onsets(header: EdfHeader, source: EdfSource, first: int, stop: int) -> bool:
    """Whether all those records open with an onset; True where there are none to be had."""
    for index in header.annotation_indexes[:1]:
        begin, end = header.spans[index]
        span = (begin, min(end, begin + ONSET_BYTES))
        start = header.num_bytes + first * header.record_bytes
        (text_RB,) = source.pick(start, stop - first, header.record_bytes, [span])
        return not np.isnan(record_onsets_s(text_RB)).any()
    return True


def _scan(
    stream: FileIO,
    start: int,
    record_bytes: int,
    spans: list[Span],
    picked: list[NDArray[np.uint8]],
    hasher: Hash | None = None,
) -> bool:
    """Read through all records, block by block; False when the file ends too early."""
    num_records = len(picked[0])
    num_at_once = min(num_records, max(1, _BLOCK_BYTES // record_bytes))
    block_RB = np.empty((num_at_once, record_bytes), dtype=np.uint8)
    stream.seek(start)
    for record in range(0, num_records, num_at_once):
        stop = min(record + num_at_once, num_records)
        if not _fill(stream, block_RB[: stop - record]):
            return False
        if hasher is not None:
            hasher.update(block_RB[: stop - record].data)
        for out, (first, last) in zip(picked, spans, strict=True):
            out[record:stop] = block_RB[: stop - record, first:last]
    return True


def _hash_bytes(stream: FileIO, num_bytes: int, hasher: Hash) -> bool:
    """Read on for the hash alone; False when the file ends too early."""
    block = np.empty(min(num_bytes, _BLOCK_BYTES), dtype=np.uint8)
    for done in range(0, num_bytes, _BLOCK_BYTES):
        part = block[: num_bytes - done]
        if not _fill(stream, part):
            return False
        hasher.update(part.data)
    return True


def _jump(
    stream: FileIO,
    start: int,
    record_bytes: int,
    spans: list[Span],
    picked: list[NDArray[np.uint8]],
) -> bool:
    """Read the spans of each record and nothing else; False when the file ends too early."""
    for record in range(len(picked[0])):
        for out, (first, _) in zip(picked, spans, strict=True):
            stream.seek(start + record * record_bytes + first)
            if not _fill(stream, out[record]):
                return False
    return True


def _fill(stream: FileIO, out: NDArray[np.uint8]) -> bool:
    """Read exactly as many bytes as `out` holds; False when there are fewer."""
    left = out.data.cast("B") if out.size else memoryview(b"")
    while len(left):
        size = stream.readinto(left)  # of one call the kernel gives 2 GiB at most
        if not size:
            return False
        left = left[size:]
    return True


def _regular_file(path: str | os.PathLike[str], name: str) -> _State:
    found = "not a regular file"
    cause: Exception | None = None
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            return _state(status)
        if stat.S_ISDIR(status.st_mode):
            found = "a folder"
    except FileNotFoundError as error:
        found, cause = "a broken link" if os.path.islink(path) else "no such file", error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        found, cause = str(error), error
    raise _unreadable(name, found) from cause


def _state(status: os.stat_result) -> _State:
    return _State(status.st_size, int(status.st_mtime))


def _unreadable(name: str, found: str) -> RecordingError:
    return RecordingError(
        RecordingCode.UNREADABLE, file=name, found=found, expected="a readable, finished file"
    )
