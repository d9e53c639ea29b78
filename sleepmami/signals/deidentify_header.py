"""The header of an EDF or BDF written anew from what is known to name a signal or a number.

No text is carried over because it looks harmless: a field is rebuilt from a fixed vocabulary, from
numbers, or left empty.
"""

import re
from collections.abc import Iterable

from sleepmami.signals.edf_header import FILE_HEADER_BYTES, EdfHeader, number, printable
from sleepmami.signals.label_privacy import NO_LABEL, safe_label
from sleepmami.signals.units import readable, safe_unit

PATIENT = b"X X X X"  # EDF+: code, sex, birthdate and name, all withheld
RECORDING = b"Startdate X X X X"
START_DATE = b"01.01.85"  # the date that the EDF+ specification gives to anonymous recordings
MIDNIGHT = b"00.00.00"
_KINDS = ("EDF+C", "EDF+D", "BDF+C", "BDF+D", "24BIT")  # of the file's reserved field
_ANNOTATION_LIMITS = {2: (b"-32768", b"32767"), 3: (b"-8388608", b"8388607")}

_VALUE = r"\d{1,4}(?:[.,]\d{1,3})?"
_FILTER = re.compile(  # HP:0.3Hz, "LP 35 Hz", N:50, NOTCH:50, BP:0.16-35Hz, BP:DC-70Hz
    rf"(?<![a-z0-9])(hp|lp|bp|notch|n(?=\s*[:=]))\s*[:=]?\s*"
    rf"(dc|{_VALUE})(?:\s*-\s*({_VALUE}))?\s*(?:hz)?(?![a-z0-9]|[.,]\d)"
)
_WHOLE_FILTERS = {"dc": "DC", "none": "None", "no filtering": "No filtering"}
_SENSOR_TEXT = """
AgCl active adhesive airflow and abdomen abdominal accelerometer belt belts body cannula
capnograph chest chloride computed cup disc disposable dry ECG EEG EKG electrode electrodes EMG EOG
effort finger flow generated impedance inductance inductive infrared light microphone nasal optical
oral oro oronasal oximeter passive piezo piezoelectric plethysmograph plethysmography
pneumotachograph position pressure probe pulse rectal reference resistance respiratory RIP sensor
snore software SpO2 strain surface temperature thermistor thermistors thermocouple thermocouples
thoracic thorax transducer variable
"""
_SENSOR_WORDS = {word.lower(): word for word in _SENSOR_TEXT.split()}
_FIELDS = (  # of a signal: name, width
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical_min", 8),
    ("physical_max", 8),
    ("digital_min", 8),
    ("digital_max", 8),
    ("prefilter", 80),
    ("samples_per_record", 8),
    ("reserved", 32),
)
_CLOCK = re.compile(rb"([01]\d|2[0-3])\D([0-5]\d)\D([0-5]\d)")


def clean_header(
    raw: bytes,
    header: EdfHeader,
    num_records: int,
    text_indexes: Iterable[int],
    *,
    keep_clock: bool,
) -> bytes:
    """The same layout, scales and rates in a header that names nobody.

    Args:
        raw: the recording's own header, at least `header.num_bytes` of it.
        header: the same, parsed.
        num_records: data records that will follow.
        text_indexes: signals that hold text; those of them that are no annotation signals by their
            label stay ordinary signals.
        keep_clock: whether the time of day of the start stays.
    """
    count = len(header.spans)
    clock = _CLOCK.fullmatch(raw[176:184]) if keep_clock else None
    whole = str(num_records)
    head = (
        (b"\xffBIOSEMI" if header.sample_bytes == 3 else b"0       ")
        + _field(PATIENT, 80)
        + _field(RECORDING, 80)
        + START_DATE
        + (b".".join(clock.groups()) if clock else MIDNIGHT)
        + _field(str(FILE_HEADER_BYTES * (1 + count)), 8)
        + _field(_kind(raw[192:236], header.sample_bytes), 44)
        + _field(whole if len(whole) <= 8 else "-1", 8)
        + _field(_number_text(raw[244:252]), 8)
        + _field(str(count), 4)
    )
    block = raw[FILE_HEADER_BYTES : header.num_bytes]
    annotations, texts = set(header.annotation_indexes), set(text_indexes)
    signals = [
        _annotation_fields(fields, header.sample_bytes)
        if index in annotations
        else _signal_fields(fields, holds_text=index in texts)
        for index, fields in enumerate(_split(block, count))
    ]
    for position, (_, width) in enumerate(_FIELDS):
        head += b"".join(_field(signal[position], width) for signal in signals)
    return head


def clean_prefilter(text: str) -> str:
    """The filters that a prefilter field states in numbers: `HP:0.3Hz LP:35Hz N:50Hz`."""
    plain = " ".join(text.lower().split())
    if plain in _WHOLE_FILTERS:
        return _WHOLE_FILTERS[plain]
    pieces = []
    for name, low, high in _FILTER.findall(plain):
        kind = "N" if name == "notch" else name.upper()
        low, high = low.upper().replace(",", "."), high.replace(",", ".")
        pieces.append(f"{kind}:{low}-{high}Hz" if high else f"{kind}:{low}{_hz(low)}")
    return " ".join(pieces)


def clean_transducer(text: str) -> str:
    """The words of a transducer field that name kinds of sensors, other words left out."""
    found = re.findall(r"[^\W_]+", text.lower().replace("agagcl", "agcl"))
    return " ".join(_SENSOR_WORDS[word] for word in found if word in _SENSOR_WORDS)


def _hz(value: str) -> str:
    return "" if value == "DC" else "Hz"


def _split(block: bytes, count: int) -> list[dict[str, bytes]]:
    """Each signal's fields, in file order."""
    signals: list[dict[str, bytes]] = [{} for _ in range(count)]
    start = 0
    for name, width in _FIELDS:
        for signal in signals:
            signal[name] = block[start : start + width]
            start += width
    return signals


def _annotation_fields(fields: dict[str, bytes], sample_bytes: int) -> tuple[bytes | str, ...]:
    """As the specification prescribes them, whatever the file says."""
    label = "EDF Annotations" if sample_bytes == 2 else "BDF Annotations"
    low, high = _ANNOTATION_LIMITS[sample_bytes]
    samples = _number_text(fields["samples_per_record"])
    return label, "", "", "-1", "1", low, high, "", samples, ""


def _signal_fields(fields: dict[str, bytes], *, holds_text: bool) -> tuple[bytes | str, ...]:
    names = ("physical_min", "physical_max", "digital_min", "digital_max")
    limits = [_number_text(fields[name]) for name in names]
    if not all(limits):  # they give no scale, and one of them alone must not begin to give one
        limits = ["0"] * len(limits)
    label = printable(fields["label"])
    return (
        NO_LABEL if holds_text else _ascii(safe_label(label) if label else ""),
        clean_transducer(printable(fields["transducer"])),
        _ascii(safe_unit(printable(fields["unit"]))),
        *limits,
        clean_prefilter(printable(fields["prefilter"])),
        _number_text(fields["samples_per_record"]),
        "",
    )


def _number_text(raw: bytes) -> str:
    """A number as it stands there, with a decimal point; empty when it is none."""
    text = printable(raw)
    return text.replace(",", ".") if number(text) is not None else ""


def _ascii(text: str) -> str:
    """As header fields are written: without accents, degrees and micro spelled out."""
    for sign, word in {"\u00b5": "u", "\u03bc": "u", "\u00b0": "deg"}.items():
        text = text.replace(sign, word)
    return readable(text)


def _kind(raw: bytes, sample_bytes: int) -> str:
    text = printable(raw)[:5].upper()
    return text if text in _KINDS else ("24BIT" if sample_bytes == 3 else "")


def _field(value: bytes | str, width: int) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("ascii", "replace")
    return raw[:width].ljust(width)
