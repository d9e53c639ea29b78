"""Power-line hum: whether it is at 50 or 60 Hz, and which epochs hold nothing else.

Both look at short pieces of the raw signal, so they cost little next to the filter.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S

MAINS_HZ = (50.0, 60.0)
MIN_RATE_HZ = {50.0: 100.0, 60.0: 120.0}  # above twice the frequency

_PIECES = 48  # of a night; the median over them forgets movements
_PIECE_S = 4
_WITHIN_HZ = 0.5  # grids stay within 0.2 Hz, clocks of recorders add little
_NEIGHBOURS_HZ = (1.5, 6.0)  # distances to which the hum is compared
MIN_PROMINENCE = 5.0  # power over its neighbours'; noise reaches 2 to 3

HUM_STRIP_S = 1  # from the middle of each epoch
HUM_HARMONICS = 5
MAX_HUM_RATIO = 30.0  # to the rest of the signal: what an electrode in the air picks up
SILENT_SHARE = 0.1  # of an EEG, EOG or ECG in its livelier seconds: an amplifier's noise


Samples = NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int32]


def hum_prominence(samples: Samples, rate_hz: float) -> dict[float, float]:
    """Power at 50 and at 60 Hz over the median power around, for those that the rate can show."""
    size = round(_PIECE_S * rate_hz)
    count = min(_PIECES, len(samples) // size) if size else 0
    visible = [hz for hz in MAINS_HZ if rate_hz > MIN_RATE_HZ[hz]]
    if not count or not visible:
        return {}
    starts = np.linspace(0, len(samples) - size, count).astype(np.int64)
    pieces = samples[starts[:, None] + np.arange(size)].astype(np.float32)
    pieces -= pieces.mean(axis=1, keepdims=True)
    spectra = scipy.fft.rfft(pieces * np.hanning(size).astype(np.float32), axis=1)
    power = np.median(spectra.real**2 + spectra.imag**2, axis=0)
    distance_hz = np.abs(np.arange(len(power)) * rate_hz / size - np.array(visible)[:, None])
    found = {}
    for hz, away in zip(visible, distance_hz, strict=True):
        near, far = _NEIGHBOURS_HZ
        level = float(np.median(power[(away >= near) & (away <= far)]))
        peak = float(power[away <= _WITHIN_HZ].max())
        found[hz] = peak / level if level > 0 else (np.inf if peak > 0 else 0.0)
    return found


def detect_mains(samples: Samples, rate_hz: float) -> float | None:
    """50.0 or 60.0, whichever stands out more; None when neither does."""
    found = hum_prominence(samples, rate_hz)
    best = max(found, key=lambda hz: found[hz], default=None)
    return best if best is not None and found[best] >= MIN_PROMINENCE else None


def only_hum(
    samples: Samples,
    rate_hz: float,
    usable: NDArray[np.bool_],
    *,
    may_fall_silent: bool,
) -> NDArray[np.bool_]:
    """bool[num_epochs]: epochs of little but hum, as an electrode that hangs in the air gives.

    Hum, its harmonics and a straight line are fitted to one second of each epoch. The hum has to
    exceed the rest MAX_HUM_RATIO times, and either the typical rest of the night too, or the rest
    is under SILENT_SHARE of what it is in the livelier quarter of the night. The latter does not
    count against an EMG: of little but hum it is in REM sleep, where the chin has no tone.

    Args:
        samples: the raw signal, in any unit.
        rate_hz: its rate; below 100 Hz no hum is visible and nothing is found.
        usable: bool[num_epochs]: the epochs to judge.
        may_fall_silent: whether a body may give no voltage there for a while.
    """
    none = np.zeros(len(usable), dtype=bool)
    visible = [hz for hz in MAINS_HZ if rate_hz > MIN_RATE_HZ[hz]]
    if not visible or not usable.any():
        return none
    size = round(HUM_STRIP_S * rate_hz)
    middles = ((np.arange(len(usable)) + 0.5) * EPOCH_S * rate_hz).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    strips_EN = windows[middles].astype(np.float32)  # E epochs, N samples
    strips_EN -= strips_EN[:, :1]  # an offset would cost accuracy
    hum, rest = _fitted_hum(strips_EN, rate_hz, tuple(visible))
    alone: NDArray[np.bool_] = usable & (hum > MAX_HUM_RATIO * rest)
    typical, lively = np.quantile(rest[usable], (0.5, 0.75))
    dead: NDArray[np.bool_] = hum > MAX_HUM_RATIO * typical
    if not may_fall_silent:
        dead |= rest < SILENT_SHARE * lively
    return alone & dead


def _fitted_hum(
    strips_EN: NDArray[np.float32], rate_hz: float, mains_hz: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(root mean square of the hum, of the rest) of each strip, by least squares."""
    design_CN, inverse_NC = _hum_design(strips_EN.shape[1], rate_hz, mains_hz)
    fit_EC = strips_EN @ inverse_NC
    hum_EH, lines_HN = fit_EC[:, 2:], design_CN[2:]
    power_E = np.vecdot(hum_EH @ (lines_HN @ lines_HN.T), hum_EH) / strips_EN.shape[1]
    return np.sqrt(np.maximum(power_E, 0)), _rms(strips_EN - fit_EC @ design_CN)


@functools.lru_cache(maxsize=8)
def _hum_design(
    size: int, rate_hz: float, mains_hz: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(a straight line, then hum and its harmonics, as rows; what fits them to a strip)."""
    time_s = np.arange(size) / rate_hz
    lines_hz = [k * hz for hz in mains_hz for k in range(1, HUM_HARMONICS + 1)]
    angles_KN = 2 * np.pi * np.outer([hz for hz in lines_hz if 2 * hz < rate_hz], time_s)
    drift = [np.ones_like(time_s), time_s - time_s.mean()]
    design_CN = np.concatenate([drift, np.cos(angles_KN), np.sin(angles_KN)]).astype(np.float32)
    return design_CN, np.linalg.pinv(design_CN)


def _rms(strips_EN: NDArray[np.floating]) -> NDArray[np.float32]:
    squares = np.einsum("ij,ij->i", strips_EN, strips_EN)
    return np.asarray(np.sqrt(squares / strips_EN.shape[1]), dtype=np.float32)
