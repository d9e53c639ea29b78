"""The page about a recording whose signals are gone."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sleepmami.psg import Modality
from sleepmami.report.night_overview import Overview, Trace
from sleepmami.report.recording_report import RecordingReport, render_recording


@pytest.fixture
def report() -> RecordingReport:
    rng = np.random.default_rng(3)
    modality_valid = np.ones((40, 6), bool)
    modality_valid[:, 5] = False
    return RecordingReport(
        micro=rng.standard_normal((40, 12)).astype(np.float32),
        macro=rng.standard_normal((40, 4)).astype(np.float32),
        epoch_valid=np.ones(40, bool),
        modality_valid=modality_valid,
        info={
            "model_id": "m-1",
            "weights_sha256": "ab" * 32,
            "code_version": "0.1.0",
            "channels_used": [{"modality": "EEG", "derivation": "rereferenced"}],
            "modalities_missing": ["SPO2"],
        },
    )


def test_the_page_names_model_channels_and_missing_and_loads_nothing(
    report: RecordingReport,
) -> None:
    page = render_recording(report)
    for text in ("m-1", "ab" * 32, "EEG (rereferenced)", "SPO2", "not a medical device"):
        assert text in page
    addresses = re.findall(r'(?:src|href)="([^"]{0,12})', page)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)


def test_without_a_probe_there_is_no_word_of_stages(report: RecordingReport) -> None:
    assert "Hypnogram" not in render_recording(report)


def test_stages_come_with_how_sure_they_are(report: RecordingReport) -> None:
    stages = np.repeat([0, 2, 3, 4], 10).astype(np.int8)
    confidence = np.full(40, 0.9, np.float32)
    confidence[:7] = 0.4
    page = render_recording(replace(report, stages=stages, confidence=confidence))
    assert "7 epochs with a probability under 50 %" in page
    assert "Wake 25 %" in page
    assert "Hypnogram, by the bundle" in page


def test_channels_are_drawn_from_the_overview(report: RecordingReport) -> None:
    traces = (
        Trace(
            modality=Modality.EEG,
            unit="dB",
            bands_hz=(0.5, 1.0, 1.5),
            low=-3.0,
            high=4.0,
            values=np.zeros((40, 2), np.uint8),
            usable=np.ones(40, bool),
        ),
        Trace(
            modality=Modality.SPO2,
            unit="%",
            bands_hz=None,
            low=90.0,
            high=99.0,
            values=np.zeros((40, 1), np.uint8),
            usable=np.ones(40, bool),
        ),
    )
    overview = Overview(num_epochs=40, traces=traces).json_bytes()
    with_it, without = (
        render_recording(replace(report, overview=overview)),
        render_recording(report),
    )
    assert "Channels over the night" in with_it
    assert "Channels over the night" not in without


def test_a_night_without_any_signal_has_a_page_too(report: RecordingReport) -> None:
    silent = replace(report, epoch_valid=np.zeros(40, bool))
    assert "0 embedded" in render_recording(silent)
