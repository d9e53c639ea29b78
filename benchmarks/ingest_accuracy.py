"""How far the fused filter is from scipy in float64, and what it does to single tones."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.psg import STORED_RATE_HZ, Modality
from sleepmami.signals.filters import Band, band_of, filter_resample, taper

Floats = NDArray[np.float64]

DURATION_S = 1200
EDGE_S = 10
# Modality and rate as in the three montages
CASES = (
    (Modality.EEG, 125),
    (Modality.EEG, 200),
    (Modality.EEG, 256),
    (Modality.EOG, 50),
    (Modality.EMG, 200),
    (Modality.ECG, 256),
    (Modality.RESP, 10),
    (Modality.RESP, 200),
)
FINE_HZ = 16_000  # where scipy's bilinear designs warp frequencies by less than 4e-5 up to 50 Hz
TONES_HZ = (0.1, 10.0, 60.0)


def accuracy() -> dict[str, Any]:
    """Relative rms errors on white noise, and gains in dB of tones through the EEG filter.

    `rms` compares with sosfiltfilt and filtfilt(iirnotch) in float64 at a rate so high that their
    design equals the analog one; `edge_max` is the largest error of the first and last 10 s.
    """
    rows = [_row(modality, rate_hz) for modality, rate_hz in CASES]
    gains = {f"{frequency_hz:g}": _tone_gain_db(frequency_hz) for frequency_hz in TONES_HZ}
    return {"scipy_float64": rows, "eeg_tone_gain_db": gains}


def _row(modality: Modality, rate_hz: int) -> dict[str, Any]:
    target_hz = STORED_RATE_HZ[modality]
    band = band_of(modality, PreprocessConfig())
    samples = np.random.default_rng(rate_hz).standard_normal(DURATION_S * rate_hz)
    expected = reference(samples, rate_hz, target_hz, band)
    actual = filter_resample(
        samples.astype(np.float32), rate_hz, target_hz, band, DURATION_S * target_hz
    )
    error = (actual - expected) / expected.std()
    edge = EDGE_S * target_hz
    return {
        "modality": modality.value,
        "rate_hz": rate_hz,
        "target_hz": target_hz,
        "rms": float(np.sqrt(np.mean(error[edge:-edge] ** 2))),
        "edge_max": float(max(np.abs(error[:edge]).max(), np.abs(error[-edge:]).max())),
    }


def reference(samples: Floats, rate_hz: int, target_hz: int, band: Band) -> Floats:
    """The same filter by scipy's own designs in float64, with the same taper.

    What a pass forth and a pass back do to each frequency is put onto one transform of the whole
    signal, which is extended oddly by four guards.
    """
    pad = 64 * rate_hz
    padded = np.concatenate(
        [2 * samples[0] - samples[pad:0:-1], samples, 2 * samples[-1] - samples[-2 : -pad - 2 : -1]]
    )
    frequency_hz = np.fft.rfftfreq(len(padded), 1 / rate_hz)
    gain = _scipy_gain(frequency_hz, band) * taper(frequency_hz, rate_hz, target_hz)
    length = len(padded) * target_hz // rate_hz
    spectrum = np.fft.rfft(padded) * gain
    wide = np.zeros(length // 2 + 1, dtype=complex)
    kept = min(len(wide), len(spectrum))
    wide[:kept] = spectrum[:kept]
    whole = np.fft.irfft(wide, length) * (length / len(padded))
    return np.asarray(whole[64 * target_hz :][: len(samples) * target_hz // rate_hz])


def _scipy_gain(frequency_hz: Floats, band: Band) -> Floats:
    """Squared magnitude of scipy's digital designs: what one pass forth and one back apply."""
    gain = np.ones_like(frequency_hz)
    edges = [edge for edge in (band.highpass_hz, band.lowpass_hz) if edge]
    if edges:
        kind = "bandpass" if edges[1:] else "highpass" if band.highpass_hz else "lowpass"
        cut = edges if edges[1:] else edges[0]
        design = scipy.signal.butter(band.order, cut, kind, output="sos", fs=FINE_HZ)
        gain *= np.abs(scipy.signal.freqz_sos(design, frequency_hz, fs=FINE_HZ)[1]) ** 2
    if band.notch_hz:
        notch = scipy.signal.iirnotch(band.notch_hz, band.notch_quality, FINE_HZ)
        gain *= np.abs(scipy.signal.freqz(*notch, frequency_hz, fs=FINE_HZ)[1]) ** 2
    return gain


def _tone_gain_db(frequency_hz: float, rate_hz: int = 256) -> float:
    seconds = np.arange(DURATION_S * rate_hz) / rate_hz
    tone = np.sin(2 * np.pi * frequency_hz * seconds).astype(np.float32)
    band = band_of(Modality.EEG, PreprocessConfig())
    filtered = filter_resample(tone, rate_hz, 100, band, DURATION_S * 100)
    middle = filtered[len(filtered) // 4 : -len(filtered) // 4].astype(np.float64)
    return float(20 * np.log10(np.sqrt(2) * middle.std() + 1e-12))
