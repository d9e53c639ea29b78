"""Write EDF and EDF+ recordings without patient data; the only door to pyedflib."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pyedflib
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals.edf import Annotation

DIGITAL_MIN, DIGITAL_MAX = -32768, 32767
START = datetime(1985, 1, 1)  # the date the EDF+ specification gives to anonymous recordings
MIN_RECORD_S, MAX_RECORD_S = 0.001, 60.0  # edflib's limits
MAX_ANNOTATION_SIGNALS = 64  # edflib's limit too
MAX_TEXT_BYTES = 40  # edflib cuts longer annotations


@dataclass(frozen=True)
class WriteChannel:
    """One signal to write.

    Attributes:
        samples: 1-D, in `unit`; values outside the physical limits are clipped to them.
        physical_min: together with physical_max spans the digital range; at most 8 characters each.
        digital_min: smallest number of the converter, within 16 bits.
        digital_max: its largest.
        prefilter: what the recorder filtered, as free text of at most 80 characters.
    """

    label: str
    unit: str
    sample_rate_hz: float
    samples: NDArray[np.floating[Any]]  # Any: of whatever float width
    physical_min: float
    physical_max: float
    digital_min: int = DIGITAL_MIN
    digital_max: int = DIGITAL_MAX
    prefilter: str = ""


def write_edf(
    path: str | os.PathLike[str],
    channels: Sequence[WriteChannel],
    *,
    annotations: Sequence[Annotation] = (),
    record_duration_s: float = 1.0,
    plus: bool = True,
) -> None:
    """Write a continuous EDF+ file; equal arguments give equal bytes.

    Args:
        path: local file, replaced if it is there.
        channels: at least one; all of the same whole number of data records.
        annotations: onsets count from the first sample, at a resolution of 0.1 ms.
        record_duration_s: length of a data record; each channel fills it with whole samples.
        plus: False writes EDF as of 1992, which has no annotations.

    Raises:
        RecordingError: header_invalid when an EDF+ file cannot hold what is asked for, unreadable
            when the path cannot be written.
    """
    name = os.fspath(path)
    if not MIN_RECORD_S <= record_duration_s <= MAX_RECORD_S:
        found = f"a record duration of {record_duration_s} s"
        raise _invalid(name, found, f"{MIN_RECORD_S} to {MAX_RECORD_S} s")
    records = [_digital_records(channel, record_duration_s, name) for channel in channels]
    lengths = {len(digital_RS) for digital_RS in records}
    if len(lengths) != 1:
        raise _invalid(name, f"channels of {sorted(lengths)} records", "one common length")
    num_signals = -(-len(annotations) // lengths.pop())  # one annotation fits each per record
    if num_signals > MAX_ANNOTATION_SIGNALS:
        found = f"{len(annotations)} annotations"
        raise _invalid(name, found, f"at most {MAX_ANNOTATION_SIGNALS} per data record")
    if annotations and not plus:
        raise _invalid(name, f"{len(annotations)} annotations in plain EDF", "EDF+")
    for annotation in annotations:
        if len(annotation.text.encode()) > MAX_TEXT_BYTES:
            raise _invalid(name, f"annotation {annotation.text!r}", f"{MAX_TEXT_BYTES} bytes")
    try:
        kind = pyedflib.FILETYPE_EDFPLUS if plus else pyedflib.FILETYPE_EDF
        writer = pyedflib.EdfWriter(name, len(channels), kind)
    except OSError as error:
        raise RecordingError(
            RecordingCode.UNREADABLE, file=name, found=str(error), expected="a writable path"
        ) from error
    with writer:
        _set_header(writer, channels, record_duration_s, max(1, num_signals) if plus else 0)
        for parts in zip(*records, strict=True):
            writer.blockWriteDigitalShortSamples(np.concatenate(parts))
        for annotation in annotations:
            # A duration of 0 is not written, as -1 asks, for readers that treat both alike.
            writer.writeAnnotation(annotation.onset_s, annotation.duration_s or -1, annotation.text)


def _digital_records(
    channel: WriteChannel, record_duration_s: float, name: str
) -> NDArray[np.int16]:
    """The channel quantised to [records, samples per record]."""
    label, low, high = channel.label, channel.physical_min, channel.physical_max
    if not low < high or any(len(_limit_text(limit)) > 8 for limit in (low, high)):
        found = f"channel {label!r} with limits {low!r}, {high!r}"
        raise _invalid(name, found, "physical_min < physical_max, of at most 8 characters each")
    least, most = channel.digital_min, channel.digital_max
    if not DIGITAL_MIN <= least < most <= DIGITAL_MAX:
        found = f"channel {label!r} with digital limits {least}, {most}"
        raise _invalid(
            name, found, f"digital_min < digital_max within {DIGITAL_MIN}..{DIGITAL_MAX}"
        )
    for text, width in ((label, 16), (channel.unit, 8), (channel.prefilter, 80)):
        if not text.isascii() or not text.isprintable() or len(text) > width:
            raise _invalid(name, f"{text!r}", f"at most {width} printable ASCII characters")
    per_record = Fraction(str(channel.sample_rate_hz)) * Fraction(str(record_duration_s))
    if per_record.denominator != 1 or per_record < 1:
        found = f"channel {label!r} with {float(per_record):g} samples per record"
        raise _invalid(name, found, "a whole number")
    if channel.samples.size == 0 or channel.samples.size % int(per_record):
        found = f"channel {label!r} of {channel.samples.size} samples"
        raise _invalid(name, found, f"whole records of {per_record} samples")
    if not np.isfinite(channel.samples).all():
        raise _invalid(name, f"channel {label!r} with values that are not finite", "finite values")
    steps_per_unit = (most - least) / (high - low)
    steps = np.rint((channel.samples.astype(np.float64) - low) * steps_per_unit)
    digital: NDArray[np.int16] = np.clip(steps + least, least, most).astype(np.int16)
    return digital.reshape(-1, int(per_record))


def _set_header(
    writer: pyedflib.EdfWriter,
    channels: Sequence[WriteChannel],
    record_duration_s: float,
    num_annotation_signals: int,
) -> None:
    headers: list[dict[str, str | int | float | None]] = [
        {
            "label": channel.label,
            "dimension": channel.unit,
            "sample_frequency": channel.sample_rate_hz,
            "physical_min": channel.physical_min,
            "physical_max": channel.physical_max,
            "digital_min": channel.digital_min,
            "digital_max": channel.digital_max,
            "transducer": "",
            "prefilter": channel.prefilter,
        }
        for channel in channels
    ]
    with warnings.catch_warnings():
        # pyedflib warns whenever a record duration is set; what it warns of was checked before.
        warnings.simplefilter("ignore")
        writer.setSignalHeaders(headers)
        writer.setDatarecordDuration(record_duration_s)
        if num_annotation_signals:
            writer.set_number_of_annotation_signals(num_annotation_signals)
        writer.setStartdatetime(START)


def _limit_text(value: float) -> str:
    """The shortest exact decimal of a limit, as it will stand in its 8 characters."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


def _invalid(name: str, found: str, expected: str) -> RecordingError:
    return RecordingError(RecordingCode.HEADER_INVALID, file=name, found=found, expected=expected)
