"""EDF and BDF bytes written field by field, so that a test can get any field wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RawSignal:
    records: Sequence[bytes]  # the signal's bytes in each data record
    label: str | bytes = "EEG C4-M1"
    unit: str | bytes = "uV"
    physical_min: str = "-100"
    physical_max: str = "100"
    digital_min: str = "-100"
    digital_max: str = "100"
    samples_per_record: str | None = None


@dataclass(frozen=True)
class RawEdf:
    signals: Sequence[RawSignal]
    version: bytes = b"0       "
    reserved: str = ""
    header_bytes: str | None = None
    num_records: str | None = None
    record_duration: str = "1"
    num_signals: str | None = None
    tail: bytes = b""
    patient: str = field(default="X X X X")
    clock: bytes = b"00:00:00"

    def to_bytes(self) -> bytes:
        sample_bytes = 3 if self.version[:1] == b"\xff" else 2
        count = len(self.signals)
        num_records = len(self.signals[0].records)
        head = self.version + _field(self.patient, 80) + _field("Startdate X X X X", 80)
        head += b"01.01.85" + self.clock + _field(self.header_bytes or 256 * (1 + count), 8)
        head += _field(self.reserved, 44) + _field(self.num_records or num_records, 8)
        head += _field(self.record_duration, 8) + _field(self.num_signals or count, 4)
        for name, width in (("label", 16), (None, 80), ("unit", 8), ("physical_min", 8),
                            ("physical_max", 8), ("digital_min", 8), ("digital_max", 8), (None, 80)):  # fmt: skip
            head += b"".join(_field(getattr(s, name) if name else "", width) for s in self.signals)
        for s in self.signals:
            head += _field(s.samples_per_record or len(s.records[0]) // sample_bytes, 8)
        head += b" " * 32 * count
        data = b"".join(s.records[i] for i in range(num_records) for s in self.signals)
        return head + data + self.tail


def _field(value: object, width: int) -> bytes:
    raw = value if isinstance(value, bytes) else str(value).encode("latin-1")
    assert len(raw) <= width
    return raw.ljust(width)


def int16(*values: int) -> bytes:
    return b"".join(v.to_bytes(2, "little", signed=True) for v in values)


def int24(*values: int) -> bytes:
    return b"".join(v.to_bytes(3, "little", signed=True) for v in values)


def annotation_signal(*tals: bytes, width: int = 60, label: str = "EDF Annotations") -> RawSignal:
    """One data record per argument, each holding those time-stamped lists."""
    records = [tal.ljust(width, b"\0") for tal in tals]
    return RawSignal(records, label, "", "-1", "1", "-32768", "32767")
