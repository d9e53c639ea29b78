"""Random signals of a wanted spectrum, and waveforms put into a signal; everything vectorised."""

import numpy as np
from numpy.typing import NDArray

FRAME_S = 4  # 0.25 Hz resolution, enough for the slowest EEG rhythm drawn here
HOP_S = FRAME_S // 2


def num_frames(num_seconds: int) -> int:
    """Frames of `shaped_noise` for a signal of that length; frame k is centred on k * HOP_S."""
    return num_seconds // HOP_S + 1


def frames_during(start_s: float, end_s: float) -> slice:
    """The frames centred inside a span of time."""
    return slice(-int(-start_s // HOP_S), int(end_s // HOP_S) + 1)


def frame_frequencies(rate_hz: int) -> NDArray[np.float64]:
    """Frequencies in Hz of one frame's spectrum, [FRAME_S * rate_hz // 2 + 1]."""
    return np.arange(FRAME_S * rate_hz // 2 + 1, dtype=np.float64) / FRAME_S


def white_spectra(frames: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Independent complex normals [frames, frequencies] of unit variance."""
    bins = FRAME_S * rate_hz // 2 + 1
    pairs = rng.standard_normal((frames, bins, 2), dtype=np.float32)
    pairs *= np.float32(np.sqrt(0.5))
    spectra: NDArray[np.complex64] = pairs.view(np.complex64)[..., 0]
    return spectra


def shaped_noise(
    spectra: NDArray[np.complex64], density: NDArray[np.float32], rate_hz: int
) -> NDArray[np.float32]:
    """Gaussian noise whose power spectral density follows `density` over time.

    Frames are joined with sine windows, whose squares sum to one: the variance at any moment is
    the integral of the density there.

    Args:
        spectra: `white_spectra`, [frames, frequencies].
        density: one-sided, in squared units per Hz, [frames, frequencies].
        rate_hz: samples per second.

    Returns:
        float32[(frames - 1) * HOP_S * rate_hz].
    """
    size, hop = FRAME_S * rate_hz, HOP_S * rate_hz
    scaled = spectra * np.sqrt(density * np.float32(rate_hz * size / 2))
    window = np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size)
    frames = np.fft.irfft(scaled, size, axis=1).astype(np.float32, copy=False) * window
    # Frame k covers hops k-1 and k: the first half of frame 0 lies before the recording.
    joined: NDArray[np.float32] = frames[:-1, hop:] + frames[1:, :hop]
    return joined.reshape(-1)


def band(
    frequency_hz: NDArray[np.float64], centre_hz: float, width_hz: float
) -> NDArray[np.float64]:
    """Bell-shaped density of unit power; `width_hz` is its standard deviation."""
    return _unit_power(frequency_hz, np.exp(-0.5 * ((frequency_hz - centre_hz) / width_hz) ** 2))


def aperiodic(frequency_hz: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """1 / f ** exponent density of unit power, flat below 1 Hz, without a mean."""
    return _unit_power(frequency_hz, np.maximum(frequency_hz, 1.0) ** -exponent)


def _unit_power(
    frequency_hz: NDArray[np.float64], shape: NDArray[np.float64]
) -> NDArray[np.float64]:
    shape = np.where(frequency_hz > 0, shape, 0.0)
    unit: NDArray[np.float64] = shape / (shape.sum() * (frequency_hz[1] - frequency_hz[0]))
    return unit


def slow_noise(
    size: int, rate_hz: float, timescale_s: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth noise of about unit variance: normals `timescale_s` apart, joined without kinks."""
    knots = rng.standard_normal(int(size / rate_hz / timescale_s) + 2)
    at = np.arange(size) / (rate_hz * timescale_s)
    whole = np.floor(at)
    part = at - whole
    eased = whole + part**2 * (3 - 2 * part)
    # Easing between two independent normals keeps 26/35 of their variance on average.
    noise: NDArray[np.float64] = np.interp(eased, np.arange(knots.size), knots * np.sqrt(35 / 26))
    return noise


def smooth(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Centred moving average over about `size` samples of the first axis, edges repeated."""
    half = max(size // 2, 1)
    widths = [(half + 1, half)] + [(0, 0)] * (values.ndim - 1)
    total = np.cumsum(np.pad(values, widths, mode="edge"), axis=0)
    mean: NDArray[np.float64] = (total[2 * half + 1 :] - total[: -2 * half - 1]) / (2 * half + 1)
    return mean


def add_waves(
    signal: NDArray[np.float32], start: NDArray[np.int64], waves: NDArray[np.float32]
) -> None:
    """Add `waves` [n, length] to `signal` in place, each at its start; what hangs over is cut."""
    fits = (start >= 0) & (start + waves.shape[1] <= signal.size)
    at = start[fits, None] + np.arange(waves.shape[1])
    np.add.at(signal, at.reshape(-1), waves[fits].reshape(-1).astype(signal.dtype, copy=False))


def poisson_times(rate_per_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Random moments in seconds where `rate_per_s` holds one rate for each second."""
    counts = rng.poisson(rate_per_s)
    times = np.repeat(np.arange(rate_per_s.size), counts) + rng.random(int(counts.sum()))
    return np.sort(times)


def spaced(times_s: NDArray[np.float64], least_s: float) -> NDArray[np.float64]:
    """The times, less those that come within `least_s` of the one before."""
    return times_s[np.diff(times_s, prepend=-np.inf) >= least_s]
