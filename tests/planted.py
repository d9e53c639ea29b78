"""A name in every place that a recording has for one, and what looks for it."""

import numpy as np

from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

CANARY = "Quibblex"  # eight letters, as long as the shortest field
SECONDS = 130
FIRST_OF_TEXT = {"transducer": 16, "prefilter": 16 + 80 + 5 * 8, "reserved": 16 + 80 + 5 * 8 + 88}
WIDTHS = {"transducer": 80, "prefilter": 80, "reserved": 32}


def planted_edf(seed: int) -> bytes:
    """An EDF+ of two minutes, readable, with the name in each field that may hold text."""
    rng = np.random.default_rng(seed)

    def signal(label: str, unit: str) -> RawSignal:
        noise = rng.normal(0, 30, (SECONDS, 100)).astype("<i2")
        return RawSignal([row.tobytes() for row in noise], label=label, unit=unit)

    marks = [f"+{t}\x14\x14\0+{t}\x14{CANARY} snored\x14\0".encode() for t in range(SECONDS)]
    signals = [
        signal("EEG C4-M1", "uV"),
        signal(f"EOG {CANARY}", "uV"),
        signal(CANARY, CANARY),
        annotation_signal(*marks),
    ]
    raw = RawEdf(signals, reserved=f"EDF+C {CANARY}", patient=f"X F 01-JAN-1950 {CANARY}")
    content = bytearray(raw.to_bytes())
    content[88:168] = f"Startdate 01-JAN-1985 {CANARY} {CANARY} {CANARY}".ljust(80).encode()
    for field, before in FIRST_OF_TEXT.items():
        for index in range(len(signals)):
            at = 256 + len(signals) * before + index * WIDTHS[field]
            content[at : at + WIDTHS[field]] = CANARY.ljust(WIDTHS[field]).encode()
    return bytes(content)


def names_it(content: bytes) -> bool:
    """Whether the name is in some bytes, in capitals or not."""
    return CANARY.lower().encode() in content.lower()
