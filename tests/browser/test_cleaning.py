"""The header as the browser cleans it is, byte for byte, the one that `sleepmami deid` writes."""

import base64
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleepmami.errors import RecordingError
from sleepmami.signals.cleaning_words import cleaning_words
from sleepmami.signals.deidentify import deidentify
from sleepmami.signals.label_privacy import safe_label
from sleepmami.signals.units import safe_unit
from tests.browser.conftest import NewPage

CLEAN = """async ([data, step, keepClock]) => {
  const { CleanRecording } = await import("/page/clean_file.js");
  const { LabelRules } = await import("/page/clean_label.js");
  const rules = new LabelRules(await (await fetch("/page/words.json")).json());
  const file = new File([Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0))], "x.edf");
  try {
    const recording = await CleanRecording.of(file, rules, keepClock);
    let sent = "";
    for (let at = 0; at < recording.size; at += step) {
      for (const byte of await recording.slice(at, at + step)) sent += String.fromCharCode(byte);
    }
    return { sent: btoa(sent) };
  } catch (error) {
    return { code: error.code ?? String(error) };
  }
}"""
Signal = tuple[str, str, str, str, bytes]  # label, transducer, unit, prefilter, bytes of a record


def edf(
    signals: list[Signal],
    *,
    records: int = 3,
    declared: str | None = None,
    bdf: bool = False,
    reserved: str = "",
    clock: str = "22.15.07",
    number: str = "-200,5",
) -> bytes:
    """A file written by hand, whose header need not be sensible."""
    width = 3 if bdf else 2
    fixed = lambda text, size: text.encode("latin-1")[:size].ljust(size)  # noqa: E731
    count = len(signals)
    head = b"\xffBIOSEMI" if bdf else b"0       "
    head += fixed("MCH-0234567 F 02-MAY-1951 Haagse_Harry", 80)
    head += fixed("Startdate 02-MAR-2002 PSG-1234 NN Telemetry03", 80) + fixed("17.04.01", 8)
    head += fixed(clock, 8) + fixed(str(256 * (1 + count)), 8) + fixed(reserved, 44)
    head += fixed(str(records) if declared is None else declared, 8) + fixed("1", 8)
    head += fixed(str(count), 4)
    columns = [
        [(label, 16) for label, *_ in signals],
        [(transducer, 80) for _, transducer, *_ in signals],
        [(unit, 8) for _, _, unit, *_ in signals],
        [(number, 8)] * count,
        [("200", 8)] * count,
        [("-32768", 8)] * count,
        [("32767", 8)] * count,
        [(prefilter, 80) for _, _, _, prefilter, _ in signals],
        [(str(len(data) // width), 8) for *_, data in signals],
        [("Dr. Haagse", 32)] * count,
    ]
    head += b"".join(fixed(*field) for column in columns for field in column)
    return head + b"".join(data for *_, data in signals) * records


def samples(num_bytes: int) -> bytes:
    return np.random.default_rng(num_bytes).integers(0, 256, num_bytes, np.uint8).tobytes()


EEG = ("EEG C3-A2", "AgAgCl electrode of Harry", "uV", "HP:0.3Hz LP 35 Hz N:50 Harry", samples(200))
NAMED = ("Harry C4-M1 1951", "Harry's own", "Harry", "none", samples(200))
ODD = ("R\xf8d Thorax (M\xfcller)", "piezo belt", "\xb5V", "DC", samples(100))
TEXT = b"+0\x14\x14\x00+1\x1530\x14Haagse Harry turns\x14\x00"
NOTES = ("EDF Annotations", "", "", "", TEXT.ljust(80, b"\0"))
HIDDEN = ("Notes", "", "", "", TEXT.ljust(80, b"\0"))  # text under the label of a signal

FILES = {
    "plain": edf([EEG]),
    "named": edf([EEG, NAMED, ODD]),
    "annotated": edf([EEG, NOTES], reserved="EDF+C Harry"),
    "second annotations": edf([NOTES, EEG, NOTES], reserved="EDF+D"),
    "hidden text": edf([EEG, HIDDEN]),
    "comma onset": edf([EEG, (*NOTES[:4], b"+0,5\x14\x14\x00".ljust(40, b"\0"))], reserved="EDF+D"),
    "24 bit": edf([("Fp1", "", "uV", "HP: DC; LP: 113 Hz", samples(300))], bdf=True),
    "cut short": edf([EEG, NOTES], declared="5", reserved="EDF+C"),
    "count not known": edf([EEG], declared="-1") + bytes(400),
    "bytes behind": edf([EEG]) + b"Haagse Harry",
    "no clock": edf([EEG], clock="Harry   "),
    "no scale": edf([EEG], number="Harry"),
    "bad count": edf([EEG], declared="Harry"),
    "no records": edf([EEG], records=0),
    "no file": b"Haagse Harry",
    "empty": b"",
}  # fmt: skip


def cleaned(page: Any, data: bytes, step: int = 97, keep_clock: bool = True) -> bytes | str:
    """What the browser would send, or why it would not."""
    found = page.evaluate(CLEAN, [base64.b64encode(data).decode(), step, keep_clock])
    return base64.b64decode(found["sent"]) if "sent" in found else found["code"]


def by_python(data: bytes, keep_clock: bool = True) -> bytes | str:
    target = io.BytesIO()
    try:
        deidentify(data, target, keep_clock=keep_clock)
    except RecordingError as error:
        return str(error.code)
    return target.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_the_browser_sends_what_deid_writes(name: str, service: str, new_page: NewPage) -> None:
    page = new_page(service)
    data = FILES[name]
    expected = by_python(data) if data else "empty_body"
    assert cleaned(page, data) == expected
    if isinstance(expected, bytes):
        assert b"arry" not in expected
        assert cleaned(page, data, step=1000, keep_clock=False) == by_python(data, False)


def test_known_annotations_go_too(service: str, new_page: NewPage) -> None:
    data = edf([EEG, (*NOTES[:4], b"+0\x14\x14\x00+0\x1530\x14Sleep stage W\x14\x00".ljust(60, b"\0"))],
               reserved="EDF+C")  # fmt: skip
    assert b"Sleep stage W" in by_python(data)
    assert cleaned(new_page(service), data) == by_python(data).replace(
        b"+0\x1530\x14Sleep stage W\x14", bytes(20)
    )


def test_labels_and_units_are_those_of_python(service: str, new_page: NewPage) -> None:
    chance = random.Random(3)
    words = [
        *cleaning_words()["meanings"],
        "C3",
        "M2",
        "O2",
        "C4M1",
        "RIPFlow",
        "12",
        "1985",
        "H.R.",
    ]
    names = [
        "Smith",
        "M\xfcller",
        "Sato",
        "Jane",
        "Stra\xdfe",
        "\u041f\u0435\u0442\u0440",
        "Polsen",
        "x",
    ]
    labels = []
    for _ in range(3000):
        parts = chance.choices([*words, *words, *names], k=chance.randint(1, 3))
        parts = [chance.choice((part, part.upper(), part.title())) for part in parts]
        labels.append(chance.choice(("-", " ", "", "_", "/", "(", ": ")).join(parts)[:24])
    units = [
        "uV",
        "\xb5V",
        "\xc2\xb5V",
        "Volts",
        "Harry",
        "cmH2O",
        "\xb0C",
        "l/min",
        "?V",
        "",
        "-",
        "%",
    ]
    found = new_page(service).evaluate(
        """async ([labels, units]) => {
          const { LabelRules } = await import("/page/clean_label.js");
          const rules = new LabelRules(await (await fetch("/page/words.json")).json());
          return [labels.map((each) => rules.safeLabel(each)), units.map((each) => rules.safeUnit(each))];
        }""",
        [labels, units],
    )
    assert found == [[safe_label(each) for each in labels], [safe_unit(each) for each in units]]


def test_headers_of_real_files_are_those_of_deid(
    shared_data: Path, service: str, new_page: NewPage
) -> None:
    page = new_page(service)
    files = [
        path for path in sorted((shared_data / "odd").glob("*df")) if path.stat().st_size < 2**20
    ]
    assert len(files) > 10
    for path in files:
        data = path.read_bytes()
        ours, theirs = cleaned(page, data, step=2**17), by_python(data)
        assert isinstance(ours, bytes)
        assert isinstance(theirs, bytes)
        assert len(ours) == len(theirs)
        size = int(theirs[184:192])
        assert ours[:size] == theirs[:size], path.name
