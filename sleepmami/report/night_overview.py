"""A night's channels small enough to look at in one picture: power by frequency and epoch.

Of each modality a row of numbers per 30-s epoch. Fast signals give log power in bands of equal
width; SPO2, which is stored once per second, gives its mean in per cent. Numbers are bytes on a
scale that travels with them. Shapes: L epochs, F bands, T samples of an epoch.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import (
    EPOCH_S,
    SEGMENT_EPOCHS,
    STORED_RATE_HZ,
    STORED_SCALE,
    Modality,
    Night,
    segment_start_epochs,
)

# lowest frequency, highest, width of a band, all in Hz: where each signal has its power after
# the filters of section 3.3
BANDS_HZ: dict[Modality, tuple[float, float, float]] = {
    Modality.EEG: (0.5, 30.0, 0.5),
    Modality.EOG: (0.5, 15.0, 0.5),
    Modality.EMG: (10.0, 48.0, 1.0),
    Modality.ECG: (0.5, 40.0, 0.5),
    Modality.RESP: (0.1, 2.0, 0.1),
}
SCALE_PERCENTILES = (2.0, 99.5)  # of the usable epochs; what lies outside is drawn as the end
MIN_POWER = 1e-8  # of a z-score per Hz; a flat stretch has none


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One modality.

    Attributes:
        modality: which.
        unit: of `low` and `high`: "dB" of power of the z-score per Hz, or the signal's own.
        bands_hz: lower edges and the last upper one, float32[F + 1]; None for a level.
        low, high: what the bytes 0 and 255 stand for.
        values: uint8[L, F]; F is 1 for a level.
        usable: bool[L].
    """

    modality: Modality
    unit: str
    bands_hz: tuple[float, ...] | None
    low: float
    high: float
    values: NDArray[np.uint8]
    usable: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """All modalities of a night, in the order of MODALITIES."""

    num_epochs: int
    traces: tuple[Trace, ...]

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Plain JSON types; values as base64 of bytes, epoch after epoch."""
        return {
            "num_epochs": self.num_epochs,
            "epoch_s": EPOCH_S,
            "channels": [
                {
                    "modality": trace.modality.value,
                    "unit": trace.unit,
                    "bands_hz": None if trace.bands_hz is None else list(trace.bands_hz),
                    "low": trace.low,
                    "high": trace.high,
                    "shape": list(trace.values.shape),
                    "data": base64.b64encode(trace.values.tobytes()).decode("ascii"),
                    "usable": trace.usable.tolist(),
                }
                for trace in self.traces
            ],
        }

    def json_bytes(self) -> bytes:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), separators=(",", ":")).encode()


def night_overview(night: Night) -> Overview:
    """The picture of one preprocessed night."""
    return Overview(
        num_epochs=night.num_epochs,
        traces=tuple(
            _trace(night, modality) for modality in STORED_RATE_HZ if modality in night.signals
        ),
    )


def _trace(night: Night, modality: Modality) -> Trace:
    epoch_LT = _epochs(night, modality)
    usable = night.usable[modality]
    bands = BANDS_HZ.get(modality)
    if bands is None:
        statistics = night.statistics[modality]
        level = epoch_LT.mean(axis=1, keepdims=True) * statistics.std + statistics.mean
        return _scaled(modality, statistics.unit, None, level, usable)
    edges = np.arange(bands[0], bands[1] + bands[2] / 2, bands[2])
    decibel_LF = band_power(epoch_LT, STORED_RATE_HZ[modality], edges)
    return _scaled(modality, "dB", tuple(np.round(edges, 3).tolist()), decibel_LF, usable)


def band_power(
    epoch_LT: NDArray[np.float32], rate_hz: int, edges_hz: NDArray[np.float64]
) -> NDArray[np.float32]:
    """10 log10 of the mean power density between neighbouring edges, float32[L, F].

    The periodogram of each whole epoch under a Hann window: its lines lie 1/30 Hz apart.
    """
    num_samples = epoch_LT.shape[1]
    window = np.hanning(num_samples).astype(np.float32)
    frequency = np.fft.rfftfreq(num_samples, 1 / rate_hz)
    first = np.searchsorted(frequency, edges_hz - 1e-9)
    decibel = np.empty((len(epoch_LT), len(edges_hz) - 1), np.float32)
    scale = 2 / (rate_hz * float((window**2).sum()))
    for epoch, samples in enumerate(epoch_LT):  # one at a time: a night of spectra is large
        power = np.abs(np.fft.rfft(samples * window)) ** 2 * scale
        sums = np.add.reduceat(power[: first[-1]], first[:-1])
        decibel[epoch] = 10 * np.log10(sums / np.diff(first) + MIN_POWER)
    return decibel


def _epochs(night: Night, modality: Modality) -> NDArray[np.float32]:
    """z-scores float32[L, T]; an odd night's last segment gives its second epoch."""
    samples = EPOCH_S * STORED_RATE_HZ[modality]
    out = np.zeros((night.num_epochs, samples), np.float32)
    starts = segment_start_epochs(night.num_epochs)
    for start, segment in zip(starts, night.signals[modality], strict=True):
        out[start : start + SEGMENT_EPOCHS] = segment.reshape(SEGMENT_EPOCHS, samples)
    out /= STORED_SCALE
    return out


def _scaled(
    modality: Modality,
    unit: str,
    bands_hz: tuple[float, ...] | None,
    values: NDArray[np.floating[Any]],
    usable: NDArray[np.bool_],
) -> Trace:
    shown = values[usable] if usable.any() else values
    low, high = (float(edge) for edge in np.percentile(shown, SCALE_PERCENTILES))
    step = (high - low) / 255 or 1.0
    return Trace(
        modality=modality,
        unit=unit,
        bands_hz=bands_hz,
        low=round(low, 4),
        high=round(high, 4),
        values=np.clip(np.round((values - low) / step), 0, 255).astype(np.uint8),
        usable=usable,
    )
