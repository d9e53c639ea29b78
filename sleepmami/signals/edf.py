"""EDF, EDF+, BDF and BDF+ recordings: validator, and samples and annotations on demand.

After the header (`edf_header.py`) come data records, each holding `samples_per_record`
little-endian integers of every signal in turn: 16 bit in EDF, 24 bit in BDF. Annotation signals
hold time-stamped lists of text instead (edfplus.info/specs). Where the records of an EDF+D lie in
time is told by their own onsets (`edf_timeline.py`); samples come on one grid all the same.

Nothing is allocated from a number in the file before that number was checked against the file's
size, so a file cannot make the reader use more memory than a small multiple of its own length.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals.edf_header import (
    MAX_HEADER_BYTES,
    EdfChannel,
    EdfHeader,
    number,
    parse_header,
    printable,
)
from sleepmami.signals.edf_record_size import require_record_size
from sleepmami.signals.edf_records import EdfRecords, EdfSource, FileDigest, count_records
from sleepmami.signals.edf_timeline import (
    ONSET_BYTES,
    Timeline,
    read_timeline,
    record_onsets_s,
)

__all__ = ["Annotation", "EdfChannel", "EdfFile", "open_edf"]

MAX_ANNOTATIONS = 250_000  # two days of heart beats
MAX_LISTS = 1_000_000  # of annotations; each data record has one at least, for its onset
MAX_TEXT_BYTES = 2**16  # of one annotation
_BLOCK_SAMPLES = 2**16

_Sample = TypeVar("_Sample", np.int16, np.int32)

# Most lists hold an onset alone, and are stepped over; the others are group 1.
_LIST = re.compile(rb"[+-][\d.,]+\x14\x14(?=\0)|([^\0]+)")
_TAL = re.compile(rb"([+-]\d+(?:[.,]\d*)?)(?:\x15(\d+(?:[.,]\d*)?))?\x14(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
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
        duration_s: from the first sample to the end of the last, gaps included.
        gaps: (start_s, stop_s) of stretches between data records in which nothing was recorded,
            from the first sample; empty in continuous files.
        notes: what was unusual but harmless, free of header text.
    """

    def __init__(
        self,
        name: str,
        header: EdfHeader,
        records: EdfRecords,
        timeline: Timeline,
        notes: tuple[str, ...],
    ) -> None:
        self.name = name
        self.channels = header.channels
        self.num_records = records.num_records
        self.record_duration_s = float(header.record_duration)
        recorded_s = float(header.record_duration * records.num_records)
        self.duration_s = recorded_s + timeline.run_delays_s[-1]
        self.gaps = timeline.gaps(self.record_duration_s)
        self.notes = notes + timeline.notes
        self._header = header
        self._timeline = timeline
        self._records = records

    @property
    def clock_s(self) -> int | None:
        """Time of day of the first sample in seconds; None when the header does not say."""
        return self._header.clock_s

    def will_read(self, channels: Iterable[EdfChannel]) -> None:
        """Say which channels will be read next, in order: one pass over the file serves several.

        Those that wait take at most AHEAD_BYTES of memory.
        """
        self._records.will_take(self._header.spans[channel.index] for channel in channels)

    def digital(self, channel: EdfChannel) -> NDArray[np.int16] | NDArray[np.int32]:
        """The channel's stored integers, a fresh 1-D array: int16 from EDF, int32 from BDF.

        Sample k belongs to the time k / channel.sample_rate_hz after the first sample, also behind
        gaps: each stretch between gaps starts at the sample nearest to its onset, half a sample
        off at most. A gap repeats the last sample before it; `gaps` says which seconds those are.

        Raises:
            RecordingError: unreadable when reading fails, or the file has changed since it was
                opened.
        """
        raw = self._records.take(self._header.spans[channel.index]).reshape(-1)
        if self._header.sample_bytes == 2:
            return self._with_gaps(channel, raw.view("<i2").astype(np.int16, copy=False))
        wide = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        values = wide.reshape(-1).view("<i4")
        values >>= 8  # the arithmetic shift extends the sign
        return self._with_gaps(channel, values.astype(np.int32, copy=False))

    def physical(self, channel: EdfChannel) -> NDArray[np.float32]:
        """The channel's samples in `channel.unit`; constant when the channel has no scale."""
        digital = self.digital(channel)
        physical = np.empty(len(digital), dtype=np.float32)
        for start in range(0, len(digital), _BLOCK_SAMPLES):  # float64 for a block at a time
            block = digital[start : start + _BLOCK_SAMPLES].astype(np.float64)
            block *= channel.gain
            block += channel.offset
            physical[start : start + _BLOCK_SAMPLES] = block
        return physical

    def annotations(self) -> list[Annotation]:
        """Every annotation, by onset; malformed entries are left out, texts beyond 64 KiB cut.

        Onsets are counted from the first sample, which may come a fraction of a second after the
        header's start time; files without samples keep their onsets as written.

        Raises:
            RecordingError: recording_too_large at more than MAX_ANNOTATIONS or MAX_LISTS, which no
                night has but which a few bytes each would turn into many times the file's size.
        """
        texts = map(self._closed_text, self._header.annotation_indexes)
        tals = itertools.chain.from_iterable(map(_LIST.finditer, texts))
        every = (
            Annotation(onset_s - self._timeline.origin_s, duration_s, text)
            for tal in itertools.islice(tals, MAX_LISTS)
            if tal[1]
            for onset_s, duration_s, text in _parse_tal(tal[1])
        )
        found = list(itertools.islice(every, MAX_ANNOTATIONS + 1))
        if len(found) > MAX_ANNOTATIONS or next(tals, None):
            raise RecordingError(
                RecordingCode.RECORDING_TOO_LARGE,
                file=self.name,
                found="more annotations than a night can have",
                expected=f"at most {MAX_ANNOTATIONS}, in at most {MAX_LISTS} lists",
            )
        return sorted(found, key=lambda annotation: annotation.onset_s)

    def _closed_text(self, index: int) -> bytes:
        """An annotation signal's lists, each closed by one NUL, without the padding."""
        text_RB = self._records.take(self._header.spans[index])  # R data records, B bytes
        closed_RB = np.pad(text_RB, ((0, 0), (0, 1)))
        padded = closed_RB.reshape(-1)
        text = padded != 0
        kept = text.copy()
        kept[1:] |= text[:-1]
        lists: NDArray[np.uint8] = padded[kept]
        return lists.tobytes()

    def _with_gaps(self, channel: EdfChannel, samples: NDArray[_Sample]) -> NDArray[_Sample]:
        """The samples on the continuous grid; untouched when the file has no gap."""
        per_record = channel.samples_per_record
        if not self.gaps or not per_record:
            return samples
        delays_s = np.array(self._timeline.run_delays_s)
        shifts = np.floor(delays_s * channel.sample_rate_hz + 0.5).astype(np.int64)
        sources = np.append(np.array(self._timeline.run_records) * per_record, len(samples))
        filled = np.empty(len(samples) + shifts[-1], dtype=samples.dtype)
        for run, (first, stop) in enumerate(itertools.pairwise(sources.tolist())):
            shift = shifts[run]
            filled[first + shift : stop + shift] = samples[first:stop]
            if run + 1 < len(shifts):
                filled[stop + shift : stop + shifts[run + 1]] = samples[stop - 1]
        return filled


def open_edf(
    source: str | os.PathLike[str] | bytes | memoryview,
    *,
    name: str | None = None,
    truncated: Literal["reject", "keep"] = "reject",
    digest: FileDigest | None = None,
) -> EdfFile:
    """Open and validate a recording; its samples stay on disk until asked for.

    Args:
        source: a path, or the file's bytes, which are not copied.
        name: what errors call the file; the path when not given.
        truncated: "keep" accepts a file shorter than its header says and uses its whole records.
        digest: is given the hash of a file of which so much is read that it costs no second pass.

    Raises:
        RecordingError: unreadable, not_an_edf, header_invalid, truncated_recording, or
            discontinuous_recording (records that overlap or have no place in time; see
            `edf_timeline.read_timeline`). Nothing else is raised for any content.
    """
    name = name or ("<bytes>" if isinstance(source, bytes | memoryview) else os.fspath(source))
    content = EdfSource(source, name, digest)
    header = parse_header(content.head(MAX_HEADER_BYTES), name)
    require_record_size(header, content, name)
    num_records, notes = count_records(header, content, truncated, name)
    records = EdfRecords(content, header.num_bytes, num_records, header.record_bytes)
    timeline = _timeline(header, records, name)
    return EdfFile(name, header, records, timeline, header.notes + notes)


def _timeline(header: EdfHeader, records: EdfRecords, name: str) -> Timeline:
    """Where the records lie in time; onsets count wherever there are any, in a plain EDF too."""
    timed = header.channels and header.record_duration
    if not timed or not (header.plus or header.annotation_indexes):
        return Timeline()
    onsets_s = np.full(records.num_records, np.nan)
    for index in header.annotation_indexes:  # the first keeps time; some writers use a later one
        first, last = header.spans[index]
        onsets_s = record_onsets_s(records.take((first, min(last, first + ONSET_BYTES))))
        if not np.isnan(onsets_s).all():
            break
    return read_timeline(
        onsets_s,
        record_duration_s=float(header.record_duration),
        fastest_hz=max(channel.sample_rate_hz for channel in header.channels),
        claims_continuous=header.contiguous,
        name=name,
    )


def _parse_tal(tal: bytes) -> Iterator[tuple[float, float, str]]:
    """Onset as written, duration and text of each annotation of one time-stamped list."""
    found = _TAL.fullmatch(tal)
    onset_s = number(found[1].decode("ascii")) if found else None
    if not found or onset_s is None:
        return
    duration_s = number(found[2].decode("ascii")) if found[2] else None
    for text in found[3].split(b"\x14"):
        if text:
            yield onset_s, duration_s or 0.0, printable(text[:MAX_TEXT_BYTES])
