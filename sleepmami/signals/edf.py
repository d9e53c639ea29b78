"""EDF, EDF+, BDF and BDF+ recordings: validator, and samples and annotations by memory map.

After the header (`edf_header.py`) come data records, each holding `samples_per_record`
little-endian integers of every signal in turn: 16 bit in EDF, 24 bit in BDF. Annotation signals
hold time-stamped lists of text instead (edfplus.info/specs).

Nothing is allocated from a number in the header before that number was checked against the file's
size, so a file cannot make the reader use more memory than a small multiple of its own length.
"""

import itertools
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals.edf_header import (
    MAX_HEADER_BYTES,
    EdfChannel,
    EdfHeader,
    invalid_error,
    number,
    parse_header,
    printable,
    truncated_error,
)

__all__ = ["Annotation", "EdfChannel", "EdfFile", "open_edf"]

MIN_STEP_TOLERANCE_S = 1e-3  # record onsets are written as text, often to the millisecond
MAX_ANNOTATIONS = 1_000_000
MAX_DRIFT_S = 0.5  # of a record from its place; small against an epoch

_RECORD_ONSET = re.compile(rb"([+-]\d+(?:[.,]\d*)?)\x14\x14")
_NOT_NUL = re.compile(rb"[^\0]+")
_TAL = re.compile(rb"([+-]\d+(?:[.,]\d*)?)(?:\x15(\d+(?:[.,]\d*)?))?\x14(.*)", re.DOTALL)


@dataclass(frozen=True)
class Annotation:
    """A timed text; onset_s counts from the first sample, duration_s is 0 when not given."""

    onset_s: float
    duration_s: float
    text: str


class EdfFile:
    """An opened recording; samples are read when asked for.

    Attributes:
        name: the file as the user named it.
        channels: the ordinary signals in file order.
        num_records: whole data records that are there.
        record_duration_s: 0 in files of annotations only.
        duration_s: num_records * record_duration_s.
        notes: what was unusual but harmless, free of header text.
    """

    def __init__(
        self, name: str, header: EdfHeader, records: NDArray[np.uint8], notes: tuple[str, ...]
    ) -> None:
        self.name = name
        self.channels = header.channels
        self.num_records = len(records)
        self.record_duration_s = float(header.record_duration)
        self.duration_s = float(header.record_duration * len(records))
        self.notes = notes
        self._header = header
        self._records_RB = records  # R data records, B bytes

    @property
    def clock_s(self) -> int | None:
        """Time of day of the first sample in seconds; None when the header does not say."""
        return self._header.clock_s

    def digital(self, channel: EdfChannel) -> NDArray[np.int16] | NDArray[np.int32]:
        """The channel's stored integers, a fresh 1-D array: int16 from EDF, int32 from BDF."""
        first, last = self._header.spans[channel.index]
        raw = self._records_RB[:, first:last].copy().reshape(-1)
        if self._header.sample_bytes == 2:
            return raw.view("<i2").astype(np.int16, copy=False)
        wide = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        values = wide.reshape(-1).view("<i4")
        values >>= 8  # the arithmetic shift extends the sign
        return values.astype(np.int32, copy=False)

    def physical(self, channel: EdfChannel) -> NDArray[np.float32]:
        """The channel's samples in `channel.unit`; constant when the channel has no scale."""
        scaled = self.digital(channel).astype(np.float64)
        scaled *= channel.gain
        scaled += channel.offset
        return scaled.astype(np.float32)

    def annotations(self) -> list[Annotation]:
        """Every annotation, by onset; malformed entries are left out.

        Onsets are counted from the first sample, which may come a fraction of a second after the
        header's start time; files without samples keep their onsets as written.

        Raises:
            RecordingError: recording_too_large at more than MAX_ANNOTATIONS, which no night has but
                which six bytes each would turn into many times the file's size.
        """
        origin_s = 0.0
        if self.channels and self.record_duration_s:
            origin_s = next(self._record_onsets(), None) or 0.0
        every = (
            Annotation(onset_s - origin_s, duration_s, text)
            for index in self._header.annotation_indexes
            for tal in _NOT_NUL.finditer(self._text_records(index).tobytes())
            for onset_s, duration_s, text in _parse_tal(tal[0])
        )
        found = list(itertools.islice(every, MAX_ANNOTATIONS + 1))
        if len(found) > MAX_ANNOTATIONS:
            raise RecordingError(
                RecordingCode.RECORDING_TOO_LARGE,
                file=self.name,
                found=f"more than {MAX_ANNOTATIONS} annotations",
                expected=f"at most {MAX_ANNOTATIONS}",
            )
        return sorted(found, key=lambda annotation: annotation.onset_s)

    def _text_records(self, index: int) -> NDArray[np.uint8]:
        """An annotation signal's bytes [records, bytes + 1], each record closed by a NUL."""
        first, last = self._header.spans[index]
        closed_RB = np.zeros((self.num_records, last - first + 1), dtype=np.uint8)
        closed_RB[:, :-1] = self._records_RB[:, first:last]
        return closed_RB

    def _record_onsets(self) -> Iterator[float | None]:
        """Start of each data record as its time-keeping annotation says; None where none does."""
        for index in self._header.annotation_indexes[:1]:
            closed_RB = self._text_records(index)
            text, width = closed_RB.tobytes(), closed_RB.shape[1]
            for start in range(0, len(text), width):
                found = _RECORD_ONSET.match(text, start)
                yield number(found[1].decode("ascii")) if found else None

    def _gap(self) -> str | None:
        """Where the data records stop following each other; None when they never do."""
        if self.num_records == 1:
            return None
        fastest_hz = max(channel.sample_rate_hz for channel in self.channels)
        tolerance_s = max(MIN_STEP_TOLERANCE_S, 0.5 / fastest_hz if fastest_hz else 0.0)
        first_s = previous_s = None
        for record, onset_s in enumerate(self._record_onsets()):
            if onset_s is None:
                return f"data record {record} without an onset"
            if first_s is None or previous_s is None:
                first_s = previous_s = onset_s
                continue
            step_s = onset_s - previous_s
            drift_s = onset_s - first_s - record * self.record_duration_s
            if abs(step_s - self.record_duration_s) > tolerance_s or abs(drift_s) > MAX_DRIFT_S:
                return f"data record {record} starts {step_s:.6g} s after the one before"
            previous_s = onset_s
        return "no data record with an onset" if first_s is None else None


def open_edf(
    source: str | os.PathLike[str] | bytes,
    *,
    name: str | None = None,
    truncated: Literal["reject", "keep"] = "reject",
) -> EdfFile:
    """Open and validate a recording; its samples stay on disk until asked for.

    Args:
        source: a path, or the file's bytes.
        name: what errors call the file; the path when not given.
        truncated: "keep" accepts a file shorter than its header says and uses its whole records.

    Raises:
        RecordingError: unreadable, not_an_edf, header_invalid, truncated_recording, or
            discontinuous_recording (EDF+D or BDF+D whose records have gaps; a file that claims to
            be continuous is believed). Nothing else is raised for any content.
    """
    if isinstance(source, bytes):
        name = name or "<bytes>"
        raw = np.frombuffer(source, dtype=np.uint8)
    else:
        name = name or os.fspath(source)
        raw = _map(source, name)
    header = parse_header(raw[:MAX_HEADER_BYTES].tobytes(), name)
    num_records, notes = _count_records(header, len(raw), truncated, name)
    first, last = header.num_bytes, header.num_bytes + num_records * header.record_bytes
    records_RB = raw[first:last].reshape(num_records, header.record_bytes)
    file = EdfFile(name, header, records_RB, header.notes + notes)
    if not header.contiguous and header.channels and header.record_duration:
        gap = file._gap()
        if gap:
            raise RecordingError(
                RecordingCode.DISCONTINUOUS_RECORDING,
                file=name,
                found=gap,
                expected=f"records that follow each other every {file.record_duration_s:g} s",
            )
    return file


def _map(path: str | os.PathLike[str], name: str) -> NDArray[np.uint8]:
    """The file's bytes by memory map; an empty file gives an empty array."""
    found = "not a regular file"
    cause: Exception | None = None
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            if status.st_size == 0:
                return np.empty(0, dtype=np.uint8)
            return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        if stat.S_ISDIR(status.st_mode):
            found = "a folder"
    except FileNotFoundError as error:
        found, cause = "a broken link" if os.path.islink(path) else "no such file", error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        found, cause = str(error), error
    raise RecordingError(
        RecordingCode.UNREADABLE, file=name, found=found, expected="a readable file"
    ) from cause


def _count_records(
    header: EdfHeader, size: int, truncated: Literal["reject", "keep"], name: str
) -> tuple[int, tuple[str, ...]]:
    """Whole data records to use, and what was unusual about their number."""
    declared = header.declared_records
    available, rest = divmod(size - header.num_bytes, header.record_bytes)
    declared_size = header.num_bytes + declared * header.record_bytes
    notes = []
    if header.declared_bytes != header.num_bytes:
        if size != declared_size:  # only the size can prove where the data start
            found = f"a header length of {header.declared_bytes}"
            raise invalid_error(name, found, f"{header.num_bytes} bytes")
        notes.append("the header is wrong about its own length")
    if available == 0 or declared == 0:
        raise truncated_error(name, "no whole data record", "at least one")
    if declared == -1:
        notes.append(f"no number of data records in the header; {available} by the file's size")
    elif available < declared:
        if truncated == "reject":
            found = f"{size} bytes, {available} of {declared} data records"
            raise truncated_error(name, found, f"{declared_size} bytes")
        notes.append(f"truncated: {available} of {declared} data records are there")
    else:
        available, rest = declared, size - declared_size
    if rest:
        notes.append(f"{rest} trailing bytes ignored")
    return available, tuple(notes)


def _parse_tal(tal: bytes) -> Iterator[tuple[float, float, str]]:
    """Onset as written, duration and text of each annotation of one time-stamped list."""
    found = _TAL.fullmatch(tal)
    onset_s = number(found[1].decode("ascii")) if found else None
    if not found or onset_s is None:
        return
    duration_s = number(found[2].decode("ascii")) if found[2] else None
    for text in found[3].split(b"\x14"):
        if text:
            yield onset_s, duration_s or 0.0, printable(text)
