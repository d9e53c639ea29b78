"""A copy of a recording that says nothing about whose it is; its samples stay bit for bit.

The header is written anew, annotation texts are replaced by known ones or removed, and nothing
after the last whole data record is taken over (docs/privacy.md). The data are streamed: memory does
not grow with the recording.
"""

import contextlib
import io
import os
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sleepmami.errors import ConfigError, RecordingCode, RecordingError
from sleepmami.signals.deidentify_annotations import clean_record
from sleepmami.signals.deidentify_header import clean_header
from sleepmami.signals.edf_header import (
    MAX_HEADER_BYTES,
    EdfHeader,
    parse_header,
)
from sleepmami.signals.edf_records import EdfSource, count_records

PIECE_BYTES = 4 * 2**20
MAX_TEXT_BYTES = 16 * 2**20  # of one annotation signal in one data record
TEMPORARY = ".deid-"

_CHECKED_BYTES = 2**16
_MIN_TEXT_WIDTH = 16  # fewer bytes hold no more than a record's onset, and might be samples
# A label may be misspelled; the lists of an annotation signal are not to be mistaken.
_TEXT = re.compile(rb"[+-]\d+(?:[.,]\d*)?(?:\x15\d+(?:[.,]\d*)?)?\x14[\0\t\n\r\x14\x15\x20-\xff]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Deidentified:
    """What was written, free of the recording's own words.

    Attributes:
        num_records: data records.
        complete: as many as the header declares; False for a recording that was cut short.
        texts_kept: annotations whose text was recognised.
        texts_removed: annotations whose text was not, and whatever else stood in their place.
    """

    num_records: int
    complete: bool
    texts_kept: int
    texts_removed: int


def deidentify(
    source: str | os.PathLike[str] | bytes,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    name: str | None = None,
    keep_clock: bool = True,
    overwrite: bool = False,
) -> Deidentified:
    """Write a clean EDF, EDF+, BDF or BDF+ beside the original.

    Args:
        source: path of a recording, or its bytes. Of a truncated one the whole records are used.
        target: a path, where the whole file appears at once or not at all; or a stream.
        name: how errors call the recording; by default its path.
        keep_clock: keep the time of day of the start, which scorings in other files refer to. The
            date always goes.
        overwrite: replace a file at `target`.

    Raises:
        ConfigError: there is a file at `target`, or it is the recording itself.
        RecordingError: unreadable (also when `target` cannot be written), not_an_edf,
            header_invalid, truncated_recording without one whole record, or recording_too_large at
            more than MAX_TEXT_BYTES of text in one.
    """
    called = name or ("<bytes>" if isinstance(source, bytes) else os.fspath(source))
    if not isinstance(target, str | os.PathLike):
        return _write(source, target, called, keep_clock)
    path = os.fspath(target)
    _require_free(source, path, overwrite)
    temporary = os.path.join(os.path.dirname(path), f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        try:
            with _created(temporary, source) as stream:
                done = _write(source, stream, called, keep_clock)
                stream.flush()
                os.fsync(stream.fileno())
            _publish(temporary, path, overwrite)
        finally:
            if os.path.exists(temporary):  # it has a second name now, or something failed
                os.unlink(temporary)
    except OSError as error:
        raise RecordingError(
            RecordingCode.UNREADABLE,
            file=called,
            found=error.strerror or type(error).__name__,
            expected="a readable recording and a writable place for its copy",
        ) from error
    return done


def _require_free(source: str | os.PathLike[str] | bytes, path: str, overwrite: bool) -> None:
    if not isinstance(source, bytes) and _same_file(os.fspath(source), path):
        raise ConfigError(f"{path}: found the recording itself there; expected another place")
    if os.path.isdir(path) or (os.path.lexists(path) and not overwrite):
        raise _taken(path)


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there, or its name cannot be one
        return False


def _created(path: str, source: str | os.PathLike[str] | bytes) -> BinaryIO:
    """A new file that nobody may read who may not read the recording."""
    mode = 0o666
    if not isinstance(source, bytes):
        with contextlib.suppress(OSError, ValueError):  # which reading it will name
            mode &= os.stat(source).st_mode | 0o600
    return open(path, "xb", opener=lambda file, flags: os.open(file, flags, mode))


def _publish(temporary: str, path: str, overwrite: bool) -> None:
    """Give a finished file its name; never the name of another one unless asked to."""
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, this refuses a name that is taken
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise _taken(path) from None
        os.replace(temporary, path)


def _taken(path: str) -> ConfigError:
    return ConfigError(f"{path}: found something there already; expected a new name, or overwrite")


def _write(
    source: str | os.PathLike[str] | bytes, target: BinaryIO, name: str, keep_clock: bool
) -> Deidentified:
    # By plain reads: pages of a memory map would count as memory until the file is closed.
    with io.BytesIO(source) if isinstance(source, bytes) else _opened(source, name) as stream:
        reader = _Reader(stream, name)
        raw = stream.read(MAX_HEADER_BYTES)
        header = parse_header(raw, name)
        _require_short_texts(header, name)
        num_records, _ = count_records(header, EdfSource(source, name), "keep", name)
        texts = _text_signals(reader, header, num_records)
        target.write(clean_header(raw, header, num_records, texts, keep_clock=keep_clock))
        stream.seek(header.num_bytes)
        kept = removed = 0
        first = header.annotation_indexes[:1]
        for index, size in _runs(header, texts, num_records):
            if index is None:
                target.write(reader.take(size))
                continue
            clean, more_kept, more_removed = clean_record(
                reader.take(size), keeps_time=(index,) == first
            )
            target.write(clean)
            kept += more_kept
            removed += more_removed
    return Deidentified(
        num_records=num_records,
        complete=num_records >= header.declared_records,
        texts_kept=kept,
        texts_removed=removed,
    )


def _opened(path: str | os.PathLike[str], name: str) -> BinaryIO:
    found = "not a regular file"
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb")
    except OSError as error:
        found = error.strerror or type(error).__name__
    except ValueError:
        found = "a path with a NUL character"
    raise RecordingError(
        RecordingCode.UNREADABLE, file=name, found=found, expected="a readable file"
    )


def _require_short_texts(header: EdfHeader, name: str) -> None:
    """Texts are read record by record, the only thing here that is not cut into pieces."""
    for first, last in (header.spans[index] for index in header.annotation_indexes):
        if last - first > MAX_TEXT_BYTES:
            raise RecordingError(
                RecordingCode.RECORDING_TOO_LARGE,
                file=name,
                found=f"{last - first} bytes of annotations in one data record",
                expected=f"at most {MAX_TEXT_BYTES}",
            )


class _Reader:
    """A stream that gives what was asked for or says that the file has shrunk."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self._name = name

    def take(self, size: int) -> bytes:
        data = self.stream.read(size)
        if len(data) != size:
            raise RecordingError(
                RecordingCode.TRUNCATED_RECORDING,
                file=self._name,
                found="a file that became shorter while it was read",
                expected="a finished recording",
            )
        return data

    def hold_text(self, starts: list[int], size: int) -> bool:
        """Whether lists of text begin at the first place, and lists or nothing at the others."""
        for start in starts:
            self.stream.seek(start)
            data = self.take(size)
            if not _TEXT.fullmatch(data) and (start == starts[0] or any(data)):
                return False
        return True


def _text_signals(reader: _Reader, header: EdfHeader, num_records: int) -> tuple[int, ...]:
    """Annotation signals, and ordinary ones whose first two records are such text and no samples.

    Samples that pass for text twice in a row would be lost; the chance is below 1e-12.
    """
    found = list(header.annotation_indexes)
    for channel in header.channels:
        first, last = header.spans[channel.index]
        size = min(last - first, _CHECKED_BYTES)
        starts = [header.num_bytes + first]
        if num_records > 1:
            starts.append(starts[0] + header.record_bytes)
        if size >= _MIN_TEXT_WIDTH and reader.hold_text(starts, size):
            found.append(channel.index)
    return tuple(sorted(found))


def _runs(
    header: EdfHeader, texts: tuple[int, ...], num_records: int
) -> Iterator[tuple[int | None, int]]:
    """(signal of text or None, bytes) of each stretch of the data, in file order."""
    if not texts:
        yield from _pieces(num_records * header.record_bytes)
        return
    layout: list[tuple[int | None, int]] = []  # of one data record
    at = 0
    for index in texts:
        first, last = header.spans[index]
        layout += [*_pieces(first - at), (index, last - first)]
        at = last
    layout += _pieces(header.record_bytes - at)
    for _ in range(num_records):
        yield from layout


def _pieces(size: int) -> Iterator[tuple[None, int]]:
    for start in range(0, size, PIECE_BYTES):
        yield None, min(PIECE_BYTES, size - start)
