"""What a night says about its file: oddities that cost nothing, and units that cannot be right."""

import numpy as np
import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.psg import Modality, Night
from sleepmami.signals import edf, scorings
from sleepmami.signals.preprocess import load_night
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

CONFIG = PreprocessConfig()
SECONDS = 90


def night(unit: str = "uV", step: float = 1.0, text: bytes = b"", tail: bytes = b"") -> Night:
    """An EEG of about 30 digital steps, one step being this much of the unit."""
    samples = np.random.default_rng(0).normal(0, 30, (SECONDS, 100)).astype("<i2")
    limits = {"physical_min": f"{-1000 * step:g}", "physical_max": f"{1000 * step:g}"}
    limits |= {"digital_min": "-1000", "digital_max": "1000"}
    signals = [RawSignal([row.tobytes() for row in samples], "C4-M1", unit, **limits)]
    if text:
        tals = [f"+{second}".encode() + b"\x14\x14\0" + text for second in range(SECONDS)]
        signals.append(annotation_signal(*tals))
    raw = RawEdf(signals, reserved="EDF+C" if text else "", tail=tail).to_bytes()
    return load_night(raw, CONFIG, recording_id="night", name="night.edf")


def reason(found: Night) -> str:
    return found.channels[0].reason


@pytest.mark.parametrize(
    ("unit", "step"), [("uV", 1.0), ("mV", 1e-3), ("V", 1e-6), ("nV", 1e3), ("V", 1.0), ("", 1.0)]
)
def test_amplitudes_of_an_eeg_are_not_remarked_on(unit: str, step: float) -> None:
    found = night(unit, step)
    assert found.statistics[Modality.EEG].std == pytest.approx(20, rel=0.2)
    assert "likely wrong" not in reason(found)


@pytest.mark.parametrize(
    ("unit", "step", "deviation"),
    [("mV", 1.0, "2.4e+04"), ("uV", 1e-3, "0.024"), ("", 1e-6, "2.4e-05")],
)
def test_a_unit_that_cannot_be_right_is_remarked_on_and_the_night_kept(
    unit: str, step: float, deviation: str
) -> None:
    found = night(unit, step)
    assert found.usable[Modality.EEG].all()
    assert f"standard deviation {deviation} uV: its unit or scale is likely wrong" in reason(found)


def test_annotations_that_make_no_hypnogram_cost_no_night() -> None:
    found = night(text=b"+1\x150.5\x14Sleep stage W\x14")
    assert found.hypnogram is None
    (note,) = found.notes
    assert note == f"its own annotations are not used: {SECONDS} stages that typically last 0.5 s"


@pytest.mark.parametrize(("module", "limit"), [(edf, "MAX_ANNOTATIONS"), (scorings, "MAX_EVENTS")])
def test_too_many_annotations_cost_no_night(
    module: object, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, 20)
    found = night(text=b"+1\x1530\x14Hypopnea\x14")
    assert (found.num_epochs, found.events) == (3, None)
    assert found.notes[0].startswith("its own annotations are not used: ")


def test_a_night_brings_the_notes_of_its_file() -> None:
    assert night(tail=b"abc").notes == ("3 trailing bytes ignored",)
    assert night().notes == ()
