"""Real recordings, read as two other libraries read them."""

from pathlib import Path

import edfio
import numpy as np
import pyedflib
import pytest

from sleepmami.signals.edf import Annotation, open_edf

FOLDERS = ("psg", "odd", "resmed", "ucddb")
WITHOUT_ONSETS = "odd/beacon-biosignals__bdf_test.bdf"  # claims EDF+, has no annotation signal


def recordings(shared_data: Path, folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    every = (path for folder in folders for path in sorted((shared_data / folder).rglob("*")))
    return [path for path in every if path.suffix.lower() in (".edf", ".bdf")]


def test_every_real_file_opens_and_none_has_a_gap(shared_data: Path) -> None:
    notes = {}
    for path in recordings(shared_data):
        file = open_edf(path)
        assert file.gaps == ()
        if file.notes:
            notes[path.relative_to(shared_data).as_posix()] = file.notes
    assert notes == {WITHOUT_ONSETS: ("no data record with an onset; taken as continuous",)}


def test_every_real_sample_is_the_one_that_edfio_reads(shared_data: Path) -> None:
    compared = 0
    for path in recordings(shared_data):
        ours = open_edf(path)
        read = edfio.read_bdf if path.suffix.lower() == ".bdf" else edfio.read_edf
        theirs = read(path).signals
        assert len(theirs) == len(ours.channels)
        for channel, signal in zip(ours.channels, theirs, strict=True):
            np.testing.assert_array_equal(ours.digital(channel), signal.digital)
            compared += len(signal.digital)
    assert compared > 10_000_000


def test_every_real_sample_is_the_one_that_pyedflib_reads(shared_data: Path) -> None:
    num_opened = 0
    for path in recordings(shared_data, ("psg", "odd")):
        try:
            theirs = pyedflib.EdfReader(str(path))
        except OSError:  # it reads no number that leading spaces indent
            continue
        ours = open_edf(path)
        num_opened += 1
        with theirs:
            for place, channel in enumerate(ours.channels):
                digital = theirs.readSignal(place, digital=True)
                np.testing.assert_array_equal(ours.digital(channel), digital)
                tolerance = 1e-6 * abs(channel.gain)
                np.testing.assert_allclose(
                    ours.physical(channel), theirs.readSignal(place), rtol=2e-7, atol=tolerance
                )
                assert channel.sample_rate_hz == pytest.approx(theirs.getSampleFrequency(place))
    assert num_opened >= 30


@pytest.mark.parametrize(
    "file",
    [
        "psg/Osas2002plusQRS.edf",
        "odd/holgern__test_subsecond.edf",
        "odd/mne-tools__test_utf8_annotations.edf",
    ],
)
def test_real_annotations_read_as_edfio_reads_them(shared_data: Path, file: str) -> None:
    theirs = edfio.read_edf(shared_data / file).annotations
    assert open_edf(shared_data / file).annotations() == [
        Annotation(pytest.approx(a.onset), a.duration or 0.0, a.text) for a in theirs
    ]
