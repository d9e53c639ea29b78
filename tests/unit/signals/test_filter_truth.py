"""Filter and resampler against the answer on paper: zero-phase tones, at every kind of rate.

A zero-phase filter scales each tone by its magnitude and moves it by nothing, so the output is
known at every sample: size, time to a small part of a sample, and what has to be gone.
"""

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.psg import LAYOUTS, Modality
from sleepmami.signals.filters import Band, band_of, filter_resample

RATES_HZ = (50, 62.5, 64, 100, 125, 128 / 1.0284, 248.93, 250, 256, 499.907, 512, 1000, 2000)
DURATION_S = 120
INSIDE_S = slice(40, 80)  # away from the ends, whose truth is in test_filters
Floats = NDArray[np.float64]

CASES = [
    (layout, modality, rate_hz)
    for layout, modality in [
        ("sleepmami", Modality.EEG),
        ("sleepmami", Modality.EMG),
        ("sleepmami", Modality.ECG),
        ("sleepmami", Modality.RESP),
        ("sleep2vec", Modality.EEG),
        ("sleep2vec", Modality.FLOW),
        ("sleep2vec", Modality.RESP),
    ]
    for rate_hz in RATES_HZ
    if modality not in (Modality.FLOW, Modality.RESP) or layout == "sleepmami" or rate_hz < 128
]  # faster ones reach 4 Hz by way of 64 Hz (prepare_source)


def tones(frequencies_hz: Floats, gains: Floats, rate_hz: float, num: int) -> Floats:
    """A sum of tones with phases that no error of time or sign leaves alone."""
    angle = 2 * np.pi * np.outer(np.arange(num) / rate_hz, frequencies_hz)
    return np.sin(angle + np.arange(len(frequencies_hz))) @ gains


def analog_gain(band: Band, frequency_hz: Floats) -> Floats:
    """Squared magnitude of scipy's own analog designs: one pass forth and one back."""
    radians = 2 * np.pi * frequency_hz
    gain = np.ones_like(frequency_hz)
    edges = [edge for edge in (band.highpass_hz, band.lowpass_hz) if edge]
    if edges:
        kind = "bandpass" if edges[1:] else "highpass" if band.highpass_hz else "lowpass"
        cut = 2 * np.pi * np.array(edges if edges[1:] else edges[0])
        design = scipy.signal.butter(band.order, cut, kind, analog=True)
        gain *= np.abs(scipy.signal.freqs(*design, radians)[1]) ** 2
    if band.notch_hz:
        centre = 2 * np.pi * band.notch_hz
        numerator = [1, 0, centre**2]
        denominator = [1, centre / band.notch_quality, centre**2]
        gain *= np.abs(scipy.signal.freqs(numerator, denominator, radians)[1]) ** 2
    return gain


@pytest.mark.parametrize(("layout", "modality", "rate_hz"), CASES)
def test_every_tone_comes_out_at_its_size_and_time(
    layout: str, modality: Modality, rate_hz: float
) -> None:
    target_hz = LAYOUTS[layout].rate_hz[modality]
    band = band_of(modality, PreprocessConfig(layout=layout))  # type: ignore[arg-type]
    flat_hz = 0.9 * min(rate_hz, target_hz) / 2  # where the anti-alias fade begins
    frequencies_hz = np.array([0.1, 0.31, 1.03, 9.7, 19.0, 31.0, 39.0])
    frequencies_hz = frequencies_hz[frequencies_hz < flat_hz]
    raw = tones(frequencies_hz, np.ones(len(frequencies_hz)), rate_hz, round(DURATION_S * rate_hz))
    num_out = DURATION_S * target_hz
    actual = filter_resample(raw.astype(np.float32), rate_hz, target_hz, band, num_out)
    expected = tones(frequencies_hz, analog_gain(band, frequencies_hz), target_hz, num_out)
    error = (actual - expected).reshape(DURATION_S, -1)[INSIDE_S]
    # Rates of which some seconds are a whole number leave rounding only; others may be off by a
    # hundredth of a sample, which at 39 Hz and 100 Hz is 2.45e-2 of a tone's size.
    whole = (16 * rate_hz) % 1 == 0
    assert np.abs(error).max() < (1e-4 if whole else 2.5e-2)


@pytest.mark.parametrize("rate_hz", [rate_hz for rate_hz in RATES_HZ if rate_hz > 120])
@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_mains_are_gone_and_10_hz_stays(rate_hz: float, mains_hz: float) -> None:
    band = band_of(Modality.EEG, PreprocessConfig(notch_hz=mains_hz))
    num = round(DURATION_S * rate_hz)
    raw = tones(np.array([10.0, mains_hz]), np.array([1.0, 100.0]), rate_hz, num)
    actual = filter_resample(raw.astype(np.float32), rate_hz, 100, band, DURATION_S * 100)
    expected = tones(np.array([10.0]), analog_gain(band, np.array([10.0])), 100, len(actual))
    error = (actual - expected).reshape(DURATION_S, -1)[INSIDE_S]
    assert np.abs(error).max() < 5e-3  # 86 dB below the hum
