"""Power by frequency and epoch, against tones whose power is known."""

import base64
import json

import numpy as np
import pytest

from sleepmami.psg import STORED_RATE_HZ, STORED_SCALE, ChannelStatistics, Modality, Night
from sleepmami.report.night_overview import band_power, night_overview


def test_a_tone_lies_in_its_band_with_its_power() -> None:
    time_s = np.arange(30 * 100) / 100
    tone = np.sqrt(2) * np.sin(2 * np.pi * 10.25 * time_s)  # mean square 1
    edges = np.arange(0.5, 30.25, 0.5)
    decibel_LF = band_power(tone[None].astype(np.float32), 100, edges)
    band = int(np.argmax(decibel_LF[0]))
    assert edges[band] <= 10.25 < edges[band + 1]
    # all of the power 1 in a band of 15 lines, 0.5 Hz: density 2 per Hz, 3.01 dB
    assert decibel_LF[0, band] == pytest.approx(3.01, abs=0.05)


def test_white_noise_is_flat_at_its_density() -> None:
    samples = np.random.default_rng(1).standard_normal((800, 3000)).astype(np.float32)
    decibel_LF = band_power(samples, 100, np.arange(0.5, 30.25, 0.5))
    # variance 1 over 50 Hz: -16.99 dB; the mean of 800 x 15 lines has 0.06 dB of spread
    power = 10 ** (decibel_LF / 10)
    assert 10 * np.log10(power.mean(0)) == pytest.approx(-16.99, abs=0.3)
    assert 10 * np.log10(power.mean()) == pytest.approx(-16.99, abs=0.03)


@pytest.fixture
def night() -> Night:
    """Three epochs, an odd night: EEG with a tone in the last one, SPO2 falling by the epoch."""
    rate_hz = STORED_RATE_HZ[Modality.EEG]
    rng = np.random.default_rng(2)
    eeg = rng.normal(0, 0.1, (3, 30 * rate_hz))
    eeg[2] += np.sin(2 * np.pi * 12.25 * np.arange(30 * rate_hz) / rate_hz)
    spo2 = np.repeat([[1.0], [0.0], [-1.0]], 30, axis=1)

    def stored(epochs: np.ndarray) -> np.ndarray:
        segments = [epochs[0:2].reshape(-1), epochs[1:3].reshape(-1)]  # the last overlaps
        return np.stack([np.round(s * STORED_SCALE) for s in segments]).astype(np.int16)

    return Night(
        recording_id="JANE-DOE",
        num_epochs=3,
        signals={Modality.EEG: stored(eeg), Modality.SPO2: stored(spo2)},
        usable={Modality.EEG: np.ones(3, bool), Modality.SPO2: np.array([True, True, False])},
        statistics={
            Modality.EEG: ChannelStatistics(mean=0, std=30, unit="uV"),
            Modality.SPO2: ChannelStatistics(mean=95, std=2, unit="%"),
        },
    )


def test_each_epoch_of_an_odd_night_has_its_row(night: Night) -> None:
    eeg, spo2 = night_overview(night).traces
    assert eeg.values.shape == (3, 59)
    assert eeg.bands_hz is not None
    band = int(np.argmax(eeg.values[2]))
    assert eeg.bands_hz[band] == 12.0
    assert eeg.values[2, band] == 255
    assert eeg.values[0, band] < 128
    assert spo2.values.shape == (3, 1)


def test_a_level_is_in_the_unit_of_the_signal(night: Night) -> None:
    spo2 = night_overview(night).traces[1]
    assert spo2.unit == "%"
    # usable epochs are at 97 and 95 %; 2 and 99.5 percent of the way between them
    assert spo2.low == pytest.approx(95.04, abs=0.01)
    assert spo2.high == pytest.approx(96.99, abs=0.01)
    assert spo2.values[:, 0].tolist() == [255, 0, 0]
    assert spo2.usable.tolist() == [True, True, False]


def test_the_json_holds_the_same_bytes_and_no_name(night: Night) -> None:
    overview = night_overview(night)
    text = overview.json_bytes().decode()
    found = json.loads(text)["channels"][0]
    values = np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["shape"])
    assert np.array_equal(values, overview.traces[0].values)
    assert "JANE-DOE" not in text


def test_a_flat_signal_is_drawn_without_a_warning(night: Night) -> None:
    night.signals[Modality.EEG][:] = 0
    assert np.isfinite(night_overview(night).traces[0].low)
