"""R peaks of an ECG, and the interval between heart beats as an evenly sampled signal.

sleep2vec, section 3.1: "The IBI channel is derived from ECG R-peak detection, with raw inter-beat
intervals cleaned for outliers and artifacts and then linearly interpolated to a continuous 4 Hz
sequence." It names no detector. Ours follows Pan and Tompkins (1985) in what it looks at, the
energy of the band that holds the QRS complex against a threshold that follows it, but judges all
peaks of a night at once: the typical beat is a running median, which an artefact cannot move.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.signal
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S
from sleepmami.signals.filters import Band, filter_resample

DETECTION_RATE_HZ = 128
QRS_BAND = Band(highpass_hz=8.0, lowpass_hz=25.0)  # P and T waves and drift lie below, muscle above
ENERGY_WINDOW_S = 0.10  # about one QRS complex
REFRACTORY_S = 0.28  # no two beats are closer: 214 per minute
TYPICAL_WINDOW_S = 2.0  # holds a beat down to 30 per minute
TYPICAL_WINDOWS = 15  # 30 s: what the typical beat of a moment is the median of
NOISE_PEAK = 1.7  # peaks of noise over its median envelope; thresholds count from there
THRESHOLD = 0.40  # of the way from noise to the typical beat
SECOND_THRESHOLD = 0.20  # where a beat is missing
MISSING_BEAT = 1.6  # intervals of this many typical ones are searched again
SLOW_INTERVAL_S = 1.2  # and so are these, where every second beat may be a wide, low one
MIN_TYPICAL = 0.10  # of the night's typical beat: less is noise while the electrode is off
# Typical beat over median envelope: 12 to 22 in a clinical ECG, 1.6 to 2.3 in noise (measured).
MIN_CONTRAST = 3.0
PEAK_REACH_S = 0.06  # from the middle of the complex to its R peak

INTERVAL_RANGE_S = (0.3, 2.0)  # 30 to 200 beats per minute
TREND_BEATS = 11  # running median against which an interval is an outlier
MAX_DEVIATION = 0.3  # of the trend: a missed, false or ectopic beat


def find_r_peaks(ecg: NDArray[np.float32], rate_hz: float) -> NDArray[np.float64]:
    """Times of the R peaks in s from the first sample, ascending.

    Either polarity is found: the peak of a complex is the extremum of the sign that most complexes
    of the night have. Times are finer than a sample.

    Args:
        ecg: one lead in any unit, float32[n], without a large offset; bad stretches bridged.
        rate_hz: its rate.
    """
    rate = DETECTION_RATE_HZ
    wave = filter_resample(ecg, rate_hz, rate, QRS_BAND, int(len(ecg) / rate_hz * rate))
    envelope = _envelope(wave)
    peaks, _ = scipy.signal.find_peaks(envelope, distance=round(REFRACTORY_S * rate))
    if not len(peaks):
        return np.empty(0)
    typical, noise = _beat_and_noise(envelope)
    relative = (envelope[peaks] - noise[peaks]) / (typical - noise)[peaks]
    beats = _searched_again(peaks, relative)
    return _refined(wave, beats)


def _envelope(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root of the mean energy around each sample."""
    size = round(ENERGY_WINDOW_S * DETECTION_RATE_HZ) | 1
    energy: NDArray[np.float32] = scipy.ndimage.uniform_filter1d(wave * wave, size)
    return np.asarray(np.sqrt(np.maximum(energy, 0)), dtype=np.float32)


def _beat_and_noise(
    envelope: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The envelope's height at a typical beat, infinite where there is none, and between beats."""
    window = round(TYPICAL_WINDOW_S * DETECTION_RATE_HZ)
    windows = np.pad(envelope, (0, -len(envelope) % window), mode="edge").reshape(-1, window)
    typical, resting = (
        scipy.ndimage.median_filter(level, TYPICAL_WINDOWS, mode="nearest")
        for level in (windows.max(axis=1), np.median(windows[:, ::4], axis=1))
    )
    beats = typical > np.maximum(MIN_TYPICAL * np.median(typical), MIN_CONTRAST * resting)
    typical = np.where(beats, typical, np.float32(np.inf))
    noise = np.float32(NOISE_PEAK) * resting
    return (
        np.repeat(typical, window)[: len(envelope)],
        np.repeat(noise, window)[: len(envelope)],
    )


def _searched_again(peaks: NDArray[np.int64], relative: NDArray[np.float32]) -> NDArray[np.int64]:
    """Peaks above the threshold, and above the second one where an interval is too long.

    In bigeminy no interval is longer than the others while each hides a beat; so intervals of a
    slow heart are searched too, and believed where most of those around hide one.
    """
    is_beat = relative > THRESHOLD
    places = np.flatnonzero(is_beat)
    if len(places) < 3:
        return peaks[places]
    intervals = np.diff(peaks[places])
    trend = scipy.ndimage.median_filter(intervals, TREND_BEATS, mode="nearest")
    too_long = intervals > MISSING_BEAT * trend
    slow = np.flatnonzero(~too_long & (intervals > SLOW_INTERVAL_S * DETECTION_RATE_HZ))
    if len(slow):
        hidden = [_hidden(peaks, relative, places[k], places[k + 1]) for k in slow]
        hides = np.array([len(found) > 0 for found in hidden])
        believed = hides & scipy.ndimage.median_filter(hides, TREND_BEATS, mode="nearest")
        for k in np.flatnonzero(believed):
            is_beat[hidden[k]] = True
    for k in np.flatnonzero(too_long):
        is_beat[_hidden(peaks, relative, places[k], places[k + 1])] = True
    return peaks[is_beat]


def _hidden(
    peaks: NDArray[np.int64], relative: NDArray[np.float32], first: int, last: int
) -> NDArray[np.int64]:
    """Places of peaks between those two that are above the second threshold and apart from both."""
    between = np.arange(first + 1, last)
    refractory = round(REFRACTORY_S * DETECTION_RATE_HZ)
    apart = np.minimum(peaks[between] - peaks[first], peaks[last] - peaks[between]) >= refractory
    found: NDArray[np.int64] = between[apart & (relative[between] > SECOND_THRESHOLD)]
    return found


def _refined(wave: NDArray[np.float32], beats: NDArray[np.int64]) -> NDArray[np.float64]:
    """Time in s of the extremum next to each complex's middle, by a parabola of three samples."""
    reach = round(PEAK_REACH_S * DETECTION_RATE_HZ)
    beats = beats[(beats > reach) & (beats < len(wave) - reach - 1)]
    if not len(beats):
        return np.empty(0)
    around = wave[beats[:, None] + np.arange(-reach, reach + 1)]
    sign = 1 if np.median(around.max(axis=1) + around.min(axis=1)) >= 0 else -1
    peak = beats + (sign * around).argmax(axis=1) - reach
    before, at, after = (wave[peak + step].astype(np.float64) for step in (-1, 0, 1))
    bend = before - 2 * at + after
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(bend != 0, 0.5 * (before - after) / bend, 0.0)
    times = (peak + np.clip(shift, -0.5, 0.5)) / DETECTION_RATE_HZ
    return np.unique(times)


def keep_intervals(beat_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool[beats - 1]: which intervals between beats are a heart's, not a detector's mistake.

    An interval has to be within INTERVAL_RANGE_S and within MAX_DEVIATION of the running median of
    those that are.
    """
    intervals = np.diff(beat_s)
    low, high = INTERVAL_RANGE_S
    kept = (intervals >= low) & (intervals <= high)
    if kept.any():
        plausible = intervals[kept]
        trend = scipy.ndimage.median_filter(plausible, TREND_BEATS, mode="nearest")
        kept[kept] = np.abs(plausible - trend) <= MAX_DEVIATION * trend
    return kept


def interbeat_signal(
    beat_s: NDArray[np.float64], rate_hz: int, num_epochs: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(IBI in s float32[num_epochs * EPOCH_S * rate_hz], covered bool[num_epochs * EPOCH_S]).

    An interval stands at the time of the beat that ends it; between those, straight lines. A second
    is covered when it begins inside a kept interval. Without any, all values are 0.
    """
    num_seconds = num_epochs * EPOCH_S
    kept = keep_intervals(beat_s)
    if not kept.any():
        return np.zeros(num_seconds * rate_hz, np.float32), np.zeros(num_seconds, bool)
    grid_s = np.arange(num_seconds * rate_hz) / rate_hz
    values = np.interp(grid_s, beat_s[1:][kept], np.diff(beat_s)[kept])
    inside = np.searchsorted(beat_s, np.arange(num_seconds), side="right") - 1
    covered = np.concatenate([kept, [False]])[inside]  # before the first beat, inside is -1
    return values.astype(np.float32), covered
