"""The header of an EDF or BDF recording: fields, limits and errors, from bytes alone.

Layout (edfplus.info/specs): 256 bytes for the file, then 256 per signal stored field by field.
Patient, recording and date fields are stepped over, never decoded.
"""

import itertools
import math
import re
from dataclasses import dataclass
from fractions import Fraction

from sleepmami.errors import RecordingCode, RecordingError

MAX_SIGNALS = 512
MAX_RATE_HZ = 1e6
MAX_PHYSICAL = 1e30  # a float32 holds any sample scaled by limits below this
MAX_WHOLE = 2**31  # of any integer in a header
RECORD_DURATION_RANGE_S = (1e-6, 1e9)  # or 0 in files of annotations only

FILE_HEADER_BYTES = 256
MAX_HEADER_BYTES = FILE_HEADER_BYTES * (1 + MAX_SIGNALS)
_SIGNAL_FIELDS = {  # name -> width, in file order
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "physical_min": 8,
    "physical_max": 8,
    "digital_min": 8,
    "digital_max": 8,
    "prefilter": 80,
    "samples_per_record": 8,
    "reserved": 32,
}
_ANNOTATION_LABELS = {"edf annotations", "bdf annotations"}
_FOREIGN = {  # first bytes of files that are often found under the name of an EDF
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"/annex/objects": "a git-annex pointer, not the file itself",
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a zip archive",
    b"<": "markup text",
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MICRO_SIGNS = str.maketrans({"\u00b5": "u", "\u03bc": "u"})


@dataclass(frozen=True)
class EdfChannel:
    """One ordinary signal of the file, as its header describes it.

    Attributes:
        index: position among all signals of the file, annotation signals included.
        sample_rate_hz: exact even for fractional record durations; 0 when time is undefined
            (record duration 0, or no samples).
        physical_min: and the other three limits: all 0 when the header gives no usable limits.
    """

    index: int
    label: str
    unit: str
    sample_rate_hz: float
    samples_per_record: int
    physical_min: float
    physical_max: float
    digital_min: int
    digital_max: int

    @property
    def gain(self) -> float:
        """Units per digital step; negative when inverted, 0 when the limits define no scale."""
        steps = self.digital_max - self.digital_min
        return (self.physical_max - self.physical_min) / steps if steps else 0.0

    @property
    def offset(self) -> float:
        """Physical value of digital 0."""
        return self.physical_min - self.digital_min * self.gain


@dataclass(frozen=True)
class EdfHeader:
    """What the header says, validated as far as it can be without the data."""

    sample_bytes: int
    plus: bool  # claims to be EDF+ or BDF+, which have an onset in every data record
    contiguous: bool  # False only for EDF+D and BDF+D
    declared_bytes: int | None  # length of the header as the header states it
    declared_records: int
    record_duration: Fraction
    channels: tuple[EdfChannel, ...]
    spans: tuple[tuple[int, int], ...]  # per signal, first and one past last byte in a data record
    annotation_indexes: tuple[int, ...]
    clock_s: int | None  # start, seconds after midnight; None when unreadable or blanked to 0
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Length of the header, which is where the data start."""
        return FILE_HEADER_BYTES * (1 + len(self.spans))

    @property
    def record_bytes(self) -> int:
        """Length of one data record."""
        return self.spans[-1][1]


def parse_header(start: bytes, name: str) -> EdfHeader:
    """The header at the start of a file; `start` may go on into the data.

    Raises:
        RecordingError: not_an_edf, header_invalid, or truncated_recording when the file ends within
            its header.
    """
    sample_bytes = _sample_bytes(start, name)
    if len(start) < FILE_HEADER_BYTES:
        raise truncated_error(name, f"{len(start)} bytes", f"{FILE_HEADER_BYTES} header bytes")
    num_signals = _whole(printable(start[252:256]))
    if num_signals is None or not 1 <= num_signals <= MAX_SIGNALS:
        found = f"number of signals {_quote(start[252:256])}"
        raise invalid_error(name, found, f"1 to {MAX_SIGNALS}")
    num_bytes = FILE_HEADER_BYTES * (1 + num_signals)
    if len(start) < num_bytes:
        raise truncated_error(name, f"{len(start)} bytes", f"{num_bytes} header bytes")
    declared_records = _whole(printable(start[236:244]) or "-1")  # left blank: not known
    if declared_records is None or declared_records < -1:
        found = f"number of records {_quote(start[236:244])}"
        raise invalid_error(name, found, "-1 or a count")
    record_duration = _record_duration(start[244:252], name)
    fields = _signal_fields(start[FILE_HEADER_BYTES:num_bytes], num_signals)
    counts = [_samples_per_record(raw, name) for raw in fields["samples_per_record"]]
    if not any(counts):
        raise invalid_error(name, "data records of no samples", "at least one sample per record")
    channels, notes = _parse_channels(fields, counts, record_duration, name)
    flavour = printable(start[192:236])[:5].upper()
    ordinary = {channel.index for channel in channels}
    ends = list(itertools.accumulate(count * sample_bytes for count in counts))
    return EdfHeader(
        sample_bytes=sample_bytes,
        plus=flavour in ("EDF+C", "BDF+C", "EDF+D", "BDF+D"),
        contiguous=flavour not in ("EDF+D", "BDF+D"),
        declared_bytes=_whole(printable(start[184:192])),
        declared_records=declared_records,
        record_duration=record_duration,
        channels=channels,
        spans=tuple(zip([0, *ends], ends, strict=False)),
        annotation_indexes=tuple(i for i in range(num_signals) if i not in ordinary),
        clock_s=_clock(start[176:184]),
        notes=notes,
    )


def _sample_bytes(head: bytes, name: str) -> int:
    """2 for EDF, 3 for BDF; refuses everything else by the first eight bytes."""
    if head[:8] == b"\xffBIOSEMI":
        return 3
    if head[:8].strip(b" \0") == b"0" and len(head) >= 8:
        return 2
    found = f"first bytes {head[:8]!r}" if head else "an empty file"
    for magic, meaning in _FOREIGN.items():
        if head.startswith(magic):
            found = meaning
    raise RecordingError(
        RecordingCode.NOT_AN_EDF,
        file=name,
        found=found,
        expected="an EDF ('0' and 7 spaces) or BDF (0xFF and 'BIOSEMI') header",
    )


def _signal_fields(block: bytes, num_signals: int) -> dict[str, list[bytes]]:
    """Each header field of all signals, in file order."""
    fields, start = {}, 0
    for field, width in _SIGNAL_FIELDS.items():
        fields[field] = [
            block[start + i * width : start + (i + 1) * width] for i in range(num_signals)
        ]
        start += num_signals * width
    return fields


def _clock(raw: bytes) -> int | None:
    """Time of day of `hh.mm.ss` with any separators. The date beside it is never decoded."""
    found = re.fullmatch(rb"(\d\d)\D(\d\d)\D(\d\d)", raw)
    if not found:
        return None
    hours, minutes, seconds = map(int, found.groups())
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return (hours * 3600 + minutes * 60 + seconds) or None  # de-identified files say 00.00.00


def _record_duration(raw: bytes, name: str) -> Fraction:
    """Seconds, exactly as written: 77 samples in 0.7 s are 110 Hz, not 110.00000000000001 Hz."""
    text = printable(raw)
    duration_s = number(text)
    if duration_s == 0:
        return Fraction(0)
    low, high = RECORD_DURATION_RANGE_S
    if duration_s is None or not low <= duration_s <= high:
        expected = f"0, or {low:g} to {high:g} seconds"
        raise invalid_error(name, f"record duration {_quote(raw)}", expected)
    return Fraction(text.replace(",", "."))


def _samples_per_record(raw: bytes, name: str) -> int:
    count = _whole(printable(raw))
    if count is None or count < 0:
        raise invalid_error(name, f"{_quote(raw)} samples per record", "a count")
    return count


def _parse_channels(
    fields: dict[str, list[bytes]], counts: list[int], record_duration: Fraction, name: str
) -> tuple[tuple[EdfChannel, ...], tuple[str, ...]]:
    """The ordinary signals, and notes on those whose limits give no scale."""
    channels, notes = [], []
    for index, count in enumerate(counts):
        label = printable(fields["label"][index])
        if label.lower() in _ANNOTATION_LABELS:
            continue
        rate_hz = float(count / record_duration) if record_duration else 0.0
        if rate_hz > MAX_RATE_HZ:
            raise invalid_error(
                name, f"signal {index} at {rate_hz:g} Hz", f"at most {MAX_RATE_HZ:g} Hz"
            )
        unit = printable(fields["unit"][index]).translate(_MICRO_SIGNS)
        channel = EdfChannel(index, label, unit, rate_hz, count, *_limits(fields, index))
        if channel.gain == 0:
            notes.append(f"signal {index}: the limits give no scale")
        channels.append(channel)
    return tuple(channels), tuple(notes)


def _limits(fields: dict[str, list[bytes]], index: int) -> tuple[float, float, int, int]:
    """Physical and digital minimum and maximum; all 0 when one of them is no sane number."""
    low, high = (number(printable(fields[f"physical_{end}"][index])) for end in ("min", "max"))
    first, last = (_whole(printable(fields[f"digital_{end}"][index])) for end in ("min", "max"))
    if low is None or high is None or first is None or last is None:
        return 0.0, 0.0, 0, 0
    if max(abs(low), abs(high)) > MAX_PHYSICAL:
        return 0.0, 0.0, 0, 0
    return low, high, first, last


def printable(raw: bytes) -> str:
    """A header field as printable text: UTF-8 where it is that, else latin-1, which always is."""
    raw = raw.split(b"\0", 1)[0]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return text.strip()


def number(text: str) -> float | None:
    """A finite decimal number, with a point or one comma; None for anything else."""
    text = text.replace(",", ".")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def _whole(text: str) -> int | None:
    value = number(text)
    if value is None or not value.is_integer() or abs(value) > MAX_WHOLE:
        return None
    return int(value)


def _quote(raw: bytes) -> str:
    return repr(printable(raw))


def invalid_error(name: str, found: str, expected: str) -> RecordingError:
    """A header that contradicts the format, or itself."""
    return RecordingError(RecordingCode.HEADER_INVALID, file=name, found=found, expected=expected)


def truncated_error(name: str, found: str, expected: str) -> RecordingError:
    """A file that ends too early."""
    return RecordingError(
        RecordingCode.TRUNCATED_RECORDING, file=name, found=found, expected=expected
    )
