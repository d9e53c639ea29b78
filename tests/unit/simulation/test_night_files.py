import itertools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sleepmami.psg import EPOCH_S
from sleepmami.signals.edf import open_edf
from sleepmami.simulation import night_files
from sleepmami.simulation.night import SimulatedNight, simulate_night
from sleepmami.simulation.subjects import Subject, simulate_subject

# Typed in from the NSRR dialect, not imported: the number after the bar, to our codes.
CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "5": 4}


def scored_events(xml: bytes) -> list[dict[str, str]]:
    root = ElementTree.fromstring(xml)
    assert root.tag == "PSGAnnotation"
    return [{part.tag: part.text or "" for part in event} for event in root.iter("ScoredEvent")]


def test_runs_of_the_xml_expand_to_the_hypnogram(night: SimulatedNight) -> None:
    events = scored_events(night_files.nsrr_xml(night.hypnogram, night.events))
    runs = [e for e in events if e["EventType"] == "Stages|Stages"]
    expanded = np.full(night.hypnogram.size, -1)
    for run in runs:
        first = int(float(run["Start"])) // EPOCH_S
        expanded[first : first + int(float(run["Duration"])) // EPOCH_S] = CODES[
            run["EventConcept"].split("|")[1]
        ]
    np.testing.assert_array_equal(expanded, night.hypnogram)


def test_neighbouring_runs_differ(night: SimulatedNight) -> None:
    events = scored_events(night_files.nsrr_xml(night.hypnogram, night.events))
    concepts = [e["EventConcept"] for e in events if e["EventType"] == "Stages|Stages"]
    assert all(a != b for a, b in itertools.pairwise(concepts))


def test_the_xml_opens_with_the_recording_start(night: SimulatedNight) -> None:
    first = scored_events(night_files.nsrr_xml(night.hypnogram, night.events))[0]
    assert first["EventType"] == ""
    assert first["EventConcept"] == "Recording Start Time"
    assert float(first["Duration"]) == night.hypnogram.size * EPOCH_S


def test_the_xml_holds_every_event_with_its_time(night: SimulatedNight) -> None:
    events = scored_events(night_files.nsrr_xml(night.hypnogram, night.events))
    written = [
        (e["EventConcept"].split("|")[0].split(" ")[0].lower(), float(e["Start"]))
        for e in events
        if e["EventType"] in ("Respiratory|Respiratory", "Arousals|Arousals")
    ]
    first_word = {"desaturation": "spo2"}
    wanted = [
        (first_word.get(e.kind, e.kind.split("_")[0]), round(e.start_s, 1)) for e in night.events
    ]
    assert written == wanted


@pytest.fixture(scope="module")
def short() -> tuple[Subject, SimulatedNight]:
    subject = simulate_subject(2, seed=6)
    return subject, simulate_night(subject, 0.2, seed=6)


def test_the_edf_holds_the_samples_to_half_a_step(
    short: tuple[Subject, SimulatedNight], tmp_path: Path
) -> None:
    night_files.write_night(tmp_path, *short)
    edf = open_edf(tmp_path / "sim-0003.edf")
    for written, channel in zip(short[1].channels, edf.channels, strict=True):
        assert (channel.label, channel.unit) == (written.label, written.unit)
        step = (written.physical_max - written.physical_min) / 65535
        assert np.abs(edf.physical(channel) - written.samples).max() < 0.51 * step + 1e-5


def test_equal_nights_give_equal_bytes(
    short: tuple[Subject, SimulatedNight], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        night_files.write_night(tmp_path / name, *short)
    for file in ("sim-0003.edf", "sim-0003-nsrr.xml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_write_that_fails_leaves_no_edf_behind(
    short: tuple[Subject, SimulatedNight], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, channels: object, **header: object) -> None:
        path.write_bytes(b"half a header")
        raise OSError("disk full")

    monkeypatch.setattr(night_files, "write_edf", fail)
    with pytest.raises(OSError, match="disk full"):
        night_files.write_night(tmp_path, *short)
    assert [file.name for file in tmp_path.iterdir()] == ["sim-0003-nsrr.xml"]
