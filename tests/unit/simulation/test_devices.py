"""What the ingest makes of each recorder's files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.psg import Decision, Modality, Stage
from sleepmami.signals.edf import open_edf
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.devices import device
from sleepmami.simulation.night import SimulatedNight, simulate_night
from sleepmami.simulation.night_files import edf_path, write_night
from sleepmami.simulation.subjects import Subject

SIX = {m.value for m in list(Modality)[:6]}
WHOLE = ("reference", "compumedics", "nox", "embla")


def written(folder: Path, subject: Subject, name: str) -> Path:
    write_night(folder, subject, simulate_night(subject, 0.5, 7, device(name)))
    return edf_path(folder, subject)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_recorders_give_six_modalities_that_pass(
    tmp_path: Path, sleeper: Subject, name: str
) -> None:
    night = load_night(written(tmp_path, sleeper, name), PreprocessConfig(), recording_id="x")
    assert {modality.value for modality in night.signals} == SIX
    for modality, usable in night.usable.items():
        assert usable.mean() > 0.95, modality


def test_sleep_edf_has_no_heart_no_oxygen_and_a_chin_too_slow(
    tmp_path: Path, sleeper: Subject
) -> None:
    night = load_night(
        written(tmp_path, sleeper, "sleep_edf"), PreprocessConfig(), recording_id="x"
    )
    assert {m.value for m in night.signals} == {"EEG", "EOG", "RESP"}
    (chin,) = [c for c in night.channels if c.label == "EMG submental"]
    assert chin.decision is Decision.REJECTED


@pytest.mark.parametrize(
    ("name", "plus", "steps"), [("compumedics", "", 255), ("sleep_edf", "EDF+C", 4095)]
)
def test_headers_have_the_kind_and_the_bits_of_their_recorder(
    tmp_path: Path, sleeper: Subject, name: str, plus: str, steps: int
) -> None:
    path = written(tmp_path, sleeper, name)
    assert path.read_bytes()[192:236].decode().strip() == plus
    eeg = next(c for c in open_edf(path).channels if c.label.startswith("EEG"))
    assert eeg.digital_max - eeg.digital_min == steps


def eeg_of(night: SimulatedNight, label: str) -> NDArray[np.floating[Any]]:  # Any: any width
    return next(c.samples for c in night.channels if c.label == label)


def test_the_body_sleeps_the_same_whatever_records_it(sleeper: Subject) -> None:
    one, other = (simulate_night(sleeper, 0.5, 7, device(n)) for n in ("reference", "nox"))
    np.testing.assert_array_equal(one.hypnogram, other.hypnogram)
    assert one.events == other.events
    assert one.hypnogram[0] == Stage.WAKE
    derived = 1e6 * (eeg_of(other, "C4") - eeg_of(other, "M1"))
    native = eeg_of(one, "EEG C4-A1")
    seconds = native.size // 125
    means = [s.reshape(seconds * 25, -1).mean(axis=1) for s in (derived, native)]  # at 25 Hz
    assert np.corrcoef(*means)[0, 1] > 0.85
