"""Damaged recordings: small valid files of every flavour, and what can go wrong with their bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.unit.signals.raw_edf import RawEdf, RawSignal

SECONDS = 130  # two 60-s segments and a rest
TAL_BYTES = 48
GAP_S = 17.25

HOSTILE_NUMBERS = (
    b"99999999", b"-1", b"0", b"nan", b"1e9", b"", b"abc", b"inf", b"-99999", b"0x10", b"1.5", b"2147483", b"1 2",
    b"\xff\xfe", b"\0\0\0\0", b"1e-300", b"+5", b"007", b"4294967", b"1_000", b"1,5", b"-0", b".5", b"9e99", b"\x14\x14",
)  # fmt: skip
UNITS = (
    b"V",
    b"mV",
    b"MV",
    b"\xb5V",
    b"nV",
    b"",
    b"uv",
    b"kg",
    b"%",
    b"\0\0",
    b"\xc2\xb5",
    b"Ohm",
    b"bpm",
    b"V/mV/uV",
)
LABELS = (
    b"EDF Annotations", b"BDF Annotations", b"", b"\xff" * 16, b"EEG C3-M2", b"C3", b"M2", b"\xe8\x84\x91", b"SpO2", b"ECG\0junk",
    b"Flow", b"Stage", b"\n\r\t", b"%s%n{}", b"Status",
)  # fmt: skip
ONSETS = (
    b"+0\x14\x14", b"-5\x14\x14", b"", b"+\x14\x14", b"+1e9\x14\x14", b"+99999999999999999999\x14\x14", b"+nan\x14\x14",
    b"+1.5.5\x14\x14", b"+0\x14", b"\x14\x14", b"+1\x1530\x14\x14", b"rubbish", b"+0,5\x14\x14", b"\xff" * 20,
)  # fmt: skip
TEXTS = (
    b"+9\x1530\x14Sleep stage N2\x14", b"-99999\x1530\x14Sleep stage W\x14", b"+1e5\x1530\x14Sleep stage R\x14",
    b"+99999999999999\x1530\x14Sleep stage R\x14", b"+30\x1599999999999999\x14Sleep stage N3\x14", b"+30\x15\x14\x14",
    b"+30\x150.00000001\x14Sleep stage N1\x14", b"+5\x14\xff\xfe\xfd\x14", b"+5" + b"\x14a" * 20, b"\x15" * 30,
    b"+5\x15-30\x14Obstructive Apnea\x14", b"+5\x1510\x14Obstructive Apnea\x14",
)  # fmt: skip
FLAVOURS = (b"EDF+C", b"EDF+D", b"BDF+C", b"BDF+D", b"", b"EDF+X", b"edf+d", b"\0" * 44)


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        kind: names of what was done to it.
        gap_s: seconds certainly missing inside, however the file is read; None when that is unsure.
    """

    kind: str
    content: bytes
    gap_s: float | None


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """Equal seeds give equal files."""
    rng = random.Random(seed)
    bases = valid_files()
    for _ in range(count):
        file = Damage(rng, rng.choice(bases))
        gap_s = None
        if rng.random() < 0.3:  # then only changes that leave the gap as it is
            gap_s = file.jump_forward()
            kinds = rng.choices(HARMLESS, k=rng.randint(0, 2))
        else:
            kinds = rng.choices(HARMLESS + HARMFUL, k=rng.choice((1, 1, 1, 2, 3)))
        for kind in kinds:
            getattr(file, kind)()
        if gap_s is not None:
            kinds.append("jump")
        yield Mutant("+".join(kinds), bytes(file.raw), gap_s)


def valid_files() -> list[bytes]:
    """EDF, EDF+C, EDF+D and BDF+C of the same montage, one with records of half a second."""
    return [
        valid_file(b"", 1.0),
        valid_file(b"EDF+C", 1.0),
        valid_file(b"EDF+D", 1.0),
        valid_file(b"EDF+D", 0.5),
        valid_file(b"BDF+C", 1.0),
    ]


def valid_file(flavour: bytes, record_s: float) -> bytes:
    rng = np.random.default_rng(len(flavour))
    num_records = round(SECONDS / record_s)
    wide = flavour.startswith(b"BDF")
    montage = (("EEG C3", 64), ("EEG M2", 64), ("EOG E1-M2", 64), ("EMG Chin", 64), ("ECG II", 64), ("Thorax", 16), ("SpO2", 2))  # fmt: skip
    signals = []
    for label, rate_hz in montage:
        low, high = (80, 99) if label == "SpO2" else (-900, 900)
        values = rng.integers(low, high, (num_records, round(rate_hz * record_s)), dtype="<i4")
        whole = values.view(np.uint8).reshape(*values.shape, 4)[:, :, : 3 if wide else 2]
        limits = ("0", "100", "0", "100") if label == "SpO2" else ("-900", "900", "-900", "900")
        unit = "%" if label == "SpO2" else "uV"
        signals.append(RawSignal([record.tobytes() for record in whole], label, unit, *limits))
    tals = [
        (b"+%g\x14\x14\0+%g\x1530\x14Sleep stage N2\x14\0" % (k * record_s, k * record_s)).ljust(TAL_BYTES, b"\0")
        for k in range(num_records)
    ]  # fmt: skip
    label = "BDF Annotations" if wide else "EDF Annotations"
    if flavour:
        signals.append(RawSignal(tals, label, "", "-1", "1", "-32768", "32767"))
    file = RawEdf(
        signals,
        version=b"\xffBIOSEMI" if wide else b"0       ",
        reserved=flavour.decode(),
        record_duration=f"{record_s:g}",
        clock=b"22.30.00",
    )
    return file.to_bytes()


class Damage:
    """The bytes of one valid file, and ways to damage them in place."""

    def __init__(self, rng: random.Random, valid: bytes) -> None:
        self.rng = rng
        self.raw = bytearray(valid)
        self.num_signals = int(valid[252:256])
        self.num_records = int(valid[236:244])
        self.record_s = float(valid[244:252])
        self.header_bytes = 256 * (1 + self.num_signals)
        self.record_bytes = (len(valid) - self.header_bytes) // self.num_records
        self.timed = valid[192:197] in (b"EDF+C", b"EDF+D", b"BDF+C")

    # ------------------------------------------------------------------------- places in the file

    def put(self, start: int, width: int, value: bytes) -> None:
        self.raw[start : start + width] = value[:width].ljust(width)

    def field(self, name: str, signal: int | None = None) -> tuple[int, int]:
        """(start, width) of a signal's field; of any signal by default."""
        widths = {"label": 16, "transducer": 80, "unit": 8, "physical_min": 8, "physical_max": 8,
                  "digital_min": 8, "digital_max": 8, "prefilter": 80, "samples": 8}  # fmt: skip
        start = 256
        for other, width in widths.items():
            if other == name:
                index = self.rng.randrange(self.num_signals) if signal is None else signal
                return start + index * width, width
            start += width * self.num_signals
        raise KeyError(name)

    def tal(self, record: int) -> int:
        """Where the text of a record starts: the last signal is the annotations."""
        return self.header_bytes + (record + 1) * self.record_bytes - TAL_BYTES

    def set_onset(self, record: int, onset: bytes) -> None:
        if self.timed:
            text = bytes(self.raw[self.tal(record) : self.tal(record) + TAL_BYTES])
            rest = text[text.find(b"\0") :]
            self.raw[self.tal(record) : self.tal(record) + TAL_BYTES] = (onset + rest)[:TAL_BYTES].ljust(TAL_BYTES, b"\0")  # fmt: skip

    def shift_onsets(self, first: int, stop: int, shift_s: float) -> None:
        for record in range(first, stop):
            self.set_onset(record, b"+%.6g\x14\x14" % max(0.0, record * self.record_s + shift_s))

    # ------------------------------------------------------------------------- changes of the time

    def jump_forward(self) -> float | None:
        """Leave out some seconds somewhere; None in a file that keeps no time."""
        if not self.timed:
            return None
        first = self.rng.randrange(1, self.num_records)
        gap_s = self.rng.choice((0.25, 1.0, GAP_S, 3 * GAP_S, 333.0))
        self.shift_onsets(first, self.num_records, gap_s)
        return gap_s

    def several_jumps(self) -> None:
        """Records from many places on come later, or earlier."""
        for _ in range(self.rng.randint(2, 40)):
            first = self.rng.randrange(1, self.num_records)
            self.shift_onsets(first, self.num_records, self.rng.choice((0.3, 2.0, GAP_S, 100.0, -1.0)))  # fmt: skip

    def some_onsets_moved(self) -> None:
        first = self.rng.randrange(self.num_records)
        stop = min(self.num_records, first + self.rng.randint(1, 20))
        self.shift_onsets(first, stop, self.rng.choice((-30.0, -0.4, 0.002, 0.4, 30.0, 1e9)))

    def drifting_onsets(self) -> None:
        rate = self.rng.choice((1.0005, 0.9995, 1.007, 0.99, 1.5))
        for record in range(self.num_records):
            self.set_onset(record, b"+%.6f\x14\x14" % (record * self.record_s * rate))

    def hostile_onsets(self) -> None:
        for _ in range(self.rng.choice((1, 1, 3, self.num_records))):
            self.set_onset(self.rng.randrange(self.num_records), self.rng.choice(ONSETS))

    def hostile_texts(self) -> None:
        for _ in range(self.rng.randint(1, 30)):
            if self.timed:
                start = self.tal(self.rng.randrange(self.num_records))
                text = bytes(self.raw[start : start + 12]).split(b"\0")[0] + b"\0" + self.rng.choice(TEXTS)  # fmt: skip
                self.raw[start : start + TAL_BYTES] = text[:TAL_BYTES].ljust(TAL_BYTES, b"\0")

    def damaged_texts(self) -> None:
        if self.timed:
            for _ in range(self.rng.randint(1, 60)):
                start = self.tal(self.rng.randrange(self.num_records))
                place = start + self.rng.randrange(TAL_BYTES)
                value = self.rng.choice(b"\0\x14\x15+-.,0123456789\xff\x80a")
                self.raw[place : place + 1] = bytes((value,))

    # ------------------------------------------------------------------------ changes of the header

    def flavour(self) -> None:
        self.put(192, 44, self.rng.choice(FLAVOURS))

    def unit(self) -> None:
        self.put(*self.field("unit"), self.rng.choice(UNITS))

    def limits(self) -> None:
        name = self.rng.choice(("physical_min", "physical_max", "digital_min", "digital_max"))
        extra = (b"1e308", b"-1e308", b"32768", b"-8388608", b"1e-30", b"0", b"1")
        self.put(*self.field(name), self.rng.choice(HOSTILE_NUMBERS + extra))

    def inverted_limits(self) -> None:
        signal = self.rng.randrange(self.num_signals)
        low, high = self.field("physical_min", signal), self.field("physical_max", signal)
        self.put(*low, b"900")
        self.put(*high, b"-900")

    def label(self) -> None:  # the annotation signal, the last, keeps its own
        signal = self.rng.randrange(self.num_signals - 1)
        value = self.rng.choice([label for label in LABELS if b"Annotations" not in label])
        self.put(*self.field("label", signal), value)

    def any_label(self) -> None:
        self.put(*self.field("label"), self.rng.choice(LABELS))

    def date_and_clock(self) -> None:
        dates = (b"99.99.99", b"00.00.00", b"1.1.85", b"31/12/20", b"ab.cd.ef", b"", b"\xff" * 8)
        self.put(168, 8, self.rng.choice(dates))
        self.put(176, 8, self.rng.choice((b"25.61.61", b"22:00:00", b"", b"xx.yy.zz", b"\0" * 8)))

    def names(self) -> None:
        alphabet = bytes((0xB5, 0xE9, 0xC0, 0x81, 0, 10, 0xFF, 65))
        value = bytes(self.rng.choices(alphabet, k=80))
        start = self.rng.choice((8, 88, self.field("transducer")[0], self.field("prefilter")[0]))
        self.put(start, 80, value)

    def hostile_numbers(self) -> None:
        file_fields = ((184, 8), (236, 8), (244, 8), (252, 4))
        names = ("physical_min", "physical_max", "digital_min", "digital_max", "samples")
        for _ in range(self.rng.choice((1, 1, 3))):
            signal_field = self.field(self.rng.choice(names))
            place = self.rng.choice((*file_fields, signal_field))
            self.put(*place, self.rng.choice(HOSTILE_NUMBERS))

    def record_duration(self) -> None:
        values = (b"0", b"-1", b"1e-9", b"0.0001", b"99999999", b"nan", b"0.7", b"2", b"30", b"1000", b"1e-5", b"0,5", b"3600")  # fmt: skip
        self.put(244, 8, self.rng.choice(values))

    def bombs(self) -> None:
        big = self.rng.choice((b"99999999", b"10000000", b"1000000", b"2147483"))
        place = self.rng.choice(((236, 8), self.field("samples"), (252, 4)))
        self.put(*place, big if place[1] == 8 else self.rng.choice((b"9999", b"640", b"512", b"2000")))  # fmt: skip
        if self.rng.random() < 0.5:
            self.put(236, 8, self.rng.choice((b"1", b"-1", b"99999999")))

    def other_record_layout(self) -> None:
        """Samples move from one signal to another, or the number of signals is another."""
        if self.rng.random() < 0.5:
            one, other = self.rng.sample(range(self.num_signals), 2)
            count = self.rng.choice((0, 1, 2, 16, 63, 65, 128))
            self.put(*self.field("samples", one), b"%d" % count)
            self.put(*self.field("samples", other), b"%d" % max(0, 128 - count))
        else:
            num_signals = self.rng.randint(1, self.num_signals + 2)
            self.put(252, 4, b"%d" % num_signals)
            self.put(184, 8, b"%d" % (256 * (1 + num_signals)))
        if self.rng.random() < 0.7:
            self.put(236, 8, b"-1")

    def header_bits(self) -> None:
        for _ in range(self.rng.randint(1, 8)):
            place = self.rng.randrange(self.header_bytes)
            self.raw[place : place + 1] = self.rng.randbytes(1)

    def swapped_fields(self) -> None:
        one, other = sorted(self.rng.sample(range(168, self.header_bytes - 16, 8), 2))
        width = min(8, other - one)
        first, second = self.raw[one : one + width], self.raw[other : other + width]
        self.raw[one : one + width], self.raw[other : other + width] = second, first

    # --------------------------------------------------------------------- changes of size and data

    def samples(self) -> None:
        """A stretch of one signal is at a rail, flat, or noise."""
        record = self.rng.randrange(self.num_records)
        start = self.header_bytes + record * self.record_bytes
        room = self.record_bytes - (TAL_BYTES if self.timed else 0)
        self.raw[start : start + room] = self.rng.choice((b"\xff\x7f", b"\0\x80", b"\0\0", self.rng.randbytes(2))) * (room // 2) + b"\0" * (room % 2)  # fmt: skip

    def all_samples_constant(self) -> None:
        value = self.rng.choice((0, 1, 127, 255))
        for record in range(self.num_records):
            start = self.header_bytes + record * self.record_bytes
            room = self.record_bytes - (TAL_BYTES if self.timed else 0)
            self.raw[start : start + room] = bytes((value,)) * room

    def trailing_bytes(self) -> None:
        if self.num_records > 1:
            self.raw += self.rng.randbytes(self.rng.randrange(1, self.record_bytes))

    def cut_data(self) -> None:
        del self.raw[
            self.rng.randrange(self.header_bytes, max(self.header_bytes, len(self.raw)) + 1) :
        ]

    def cut_header(self) -> None:
        del self.raw[self.rng.randrange(self.header_bytes) :]

    def missing_piece(self) -> None:
        start = self.rng.randrange(min(self.header_bytes, len(self.raw)), len(self.raw) + 1)
        del self.raw[start : start + self.rng.randint(1, 3000)]

    def random_bytes(self) -> None:
        start = self.rng.choice((0, 8, 256, self.header_bytes))
        self.raw[start:] = self.rng.randbytes(self.rng.randint(0, 20_000))

    def foreign_start(self) -> None:
        starts = (b"\x1f\x8b", b"PK\x03\x04", b"<?xml", b"\xffBIOSEMI", b"0       ", b"\0" * 8, b"version https://git-lfs")  # fmt: skip
        start = self.rng.choice(starts)
        self.raw[: len(start)] = start


HARMLESS = [  # for what is known of a gap
    "flavour", "unit", "limits", "inverted_limits", "label", "date_and_clock", "names", "samples", "trailing_bytes",
]  # fmt: skip
HARMFUL = [
    "several_jumps", "some_onsets_moved", "drifting_onsets", "hostile_onsets", "hostile_texts", "damaged_texts",
    "any_label", "hostile_numbers", "hostile_numbers", "record_duration", "bombs", "other_record_layout", "header_bits",
    "swapped_fields", "all_samples_constant", "cut_data", "cut_header", "missing_piece", "random_bytes", "foreign_start",
]  # fmt: skip
