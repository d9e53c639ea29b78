"""No word of a label or unit that is not known to name a signal leaves the plan."""

import itertools
import random

import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.signals.channels import plan_channels
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.labels import safe_label, safe_unit
from tests.unit.signals.montages import MONTAGES

NAMES = [
    "Mueller", "M\u00fcller", "Garc\u00eda", "O'Brien", "Nguyen", "Kowalski", "Lindqvist", "Yamamoto", "Fernandes",
    "Schmidt", "Anna", "Maria", "Peter", "Jonas", "Lena", "Marko", "Respighi", "Chinmay", "Thorvald", "Abdullah",
    "Legrand", "Armin", "Carmen", "Flora", "Flores", "Reyes", "Sato", "Herz", "Linker", "Nasir", "Oxley", "Satoshi", "Posner", "Beata", "Temple", "Presley",
    "Oralia", "Ecgbert", "Emgelmann", "Kinney", "Luzia", "Rahel", "Tibor", "Marques", "Polsen", "Flor", "Carl", "Nasr", "Larsen", "Calmin", "Lewy", "Broda", "Kiefer", "Wade", "Power", "Ben", "Brada", "Hake", "Levy", "Karin", "Vatsa", "Akis", "Noha", "Bukowski", "Benson", "Spareman", "Ontiveros", "\u5f20\u4f1f", "Eva", "Tom",
]  # fmt: skip
PLACES = ["{name}", "{name} {label}", "{label} {name}", "{label}_{name}", "{name}{label}", "{label}{name}",
          "{label}-{name}-", "({name}) {label}", "{label}.{name}.1956"]  # fmt: skip


def invented(seed: int) -> str:
    """A pronounceable word of 6 to 11 letters that stands in no dictionary."""
    draw = random.Random(seed)
    return "".join(draw.choice("bdfgklmnprstvwz") + draw.choice("aeiou") for _ in range(draw.randint(3, 5))) + draw.choice("nrsx")  # fmt: skip


def told(label: str, unit: str, config: PreprocessConfig | None = None) -> str:
    """Everything that the plan of a file with this channel says, in lower case."""
    channels = [
        EdfChannel(0, label, unit, 256.0, 256, -500.0, 500.0, -32768, 32767),
        EdfChannel(1, "C4", unit, 256.0, 256, -500.0, 500.0, -32768, 32767),
        EdfChannel(2, f"M1 {label}", unit, 256.0, 256, -500.0, 500.0, -32768, 32767),
    ]
    plan = plan_channels(channels, config)
    return repr((plan.decisions, list(plan.sources.values()), plan.spares)).lower()


@pytest.mark.parametrize("name", [*NAMES, *(invented(seed) for seed in range(12))])
def test_a_name_planted_in_label_or_unit_is_never_told(name: str) -> None:
    lower = name.lower()
    labels = ("EEG C4-M1", "Resp", "SpO2", "EMG")
    for label, place in itertools.product(labels, PLACES):
        for cased in (name, name.upper(), lower):
            planted = place.format(name=cased, label=label)
            assert lower not in safe_label(planted).lower(), planted
    assert lower not in told(f"Resp {name}", "uV", PreprocessConfig(layout="sleep2vec"))
    assert lower not in told(f"{name}EEG C4-M1", f"uV {name}")
    assert lower not in told("SpO2", name)


def test_dates_and_numbers_of_a_person_are_left_out() -> None:
    assert safe_label("EEG 12.03.1956") == "EEG 12"
    assert safe_label("19560312") == "channel"
    assert safe_label("ECG 4711-0815") == "ECG"


@pytest.mark.parametrize(
    ("label", "safe"),
    [("EMG (L)-EMG (R)", "EMG (L)-EMG (R)"), ("H.R.", "H.R."), ("NEW A/F", "NEW A/F"), ("Leg/L", "Leg/L"),
     ("C3-(A1+A2)", "C3-(A1+A2)"), ("S\u00c3\u00a4ttigung", "S\u00e4ttigung"), ("EMG+", "EMG+"), ("X1", "X1"),
     ("EEG J. Mueller C3", "EEG C3"), ("RespMueller", "channel"), ("", "channel"), ("---", "channel")],
)  # fmt: skip
def test_known_words_keep_their_spelling_order_and_separators(label: str, safe: str) -> None:
    assert " ".join(safe_label(label).split()) == safe


def test_public_labels_are_told_as_they_are() -> None:
    rows = [row for montage, (rows, _) in MONTAGES.items() if "grid" not in montage for row in rows]
    altered = sorted({label for label, _, _ in rows if safe_label(label) != label})
    assert altered == ["1-2", "1-F", "2-F", "EOGr512:M1", "E_1-M2", "E_2-M1", "OXY IR AC", "RSSI"]


@pytest.mark.parametrize(
    ("unit", "safe"),
    [("uV", "uV"), (" mV ", "mV"), ("\u00b5V", "\u00b5V"), ("%", "%"), ("cmH2O", "cmH2O"), ("BPM", "BPM"),
     ("L/s", "L/s"), ("DegC", "DegC"), ("", ""), ("  ", ""), ("Mueller", "?"), ("%Sat Ann", "?"), ("1956", "?")],
)  # fmt: skip
def test_only_known_units_are_told(unit: str, safe: str) -> None:
    assert safe_unit(unit) == safe
