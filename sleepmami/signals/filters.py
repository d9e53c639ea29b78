"""Zero-phase filtering fused with resampling, section 3.3.

Filters are the magnitudes of analog Butterworth and notch filters, written in Hz and multiplied
onto the spectrum. A zero-phase filter run forward and backward has exactly the squared magnitude,
and an analog formula is the same at every sampling rate, which a bilinear design is not: at 45 Hz
two cohorts at 125 and 512 Hz would differ by 4 dB. Cropping the spectrum resamples for free.

One FFT of a night is three times slower than many of a few minutes, which stay in the cache; so
integer rates go block by block. Rates that no whole number of seconds fits take the whole night.

Departures from the paper: it resamples to 100 Hz and then filters, which a 60 Hz notch and a
60 Hz band edge cannot follow literally (Nyquist 50 Hz). Everything is filtered at its own rate, and
fades to zero over the last tenth below the lower of the two Nyquist frequencies.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.psg import Modality

# Guards on each side of a block, whose error is below 6e-6 of the signal, measured.
_HIGHPASS_GUARD_S = 12  # of the default high-pass at _HIGHPASS_HZ; e^-16
_HIGHPASS_HZ = 0.3 * math.sin(math.pi / 4)  # real part of its pole
_TAPER_GUARD = 30  # over the taper's width in Hz
_BLOCK_SAMPLES = 40_000  # at the faster rate: short enough for the cache
_GUARDS_PER_BLOCK = 10  # at least
_BLOCKS_AT_ONCE = 8  # scipy.fft works on four at a time
_WHOLE_GUARD_S = 16  # at least, of a whole night
_MAX_STEP_S = 16  # whole seconds that are a whole number of samples
_TAPER_FROM = 0.9  # of the lower Nyquist frequency
_MAX_DRIFT_SAMPLES = 0.002  # of a whole night resampled from a fractional rate

Samples = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """The pass band of one modality in Hz; None switches an edge off."""

    highpass_hz: float | None = None
    lowpass_hz: float | None = None
    notch_hz: float | None = None
    notch_quality: float = 30.0
    order: int = 2  # Butterworth order of each of the two passes


def band_of(modality: Modality, config: PreprocessConfig) -> Band:
    """The band that section 3.3 gives the modality; SpO2 has none.

    sleep2vec, section 3.1: nothing but resampling, and a band of breathing for RESP.
    """
    if config.layout == "sleep2vec":
        if modality is not Modality.RESP:
            return Band()
        low_hz, high_hz = config.effort_band_hz
        return Band(highpass_hz=low_hz, lowpass_hz=high_hz, order=config.filter_order)

    def electrode(low_hz: float, high_hz: float | None = None) -> Band:
        return Band(
            highpass_hz=low_hz,
            lowpass_hz=high_hz,
            notch_hz=config.notch_hz or None,
            notch_quality=config.notch_quality,
            order=config.filter_order,
        )

    match modality:
        case Modality.EEG | Modality.EOG:
            return electrode(*config.eeg_eog_band_hz)
        case Modality.ECG:
            return electrode(*config.ecg_band_hz)
        case Modality.EMG:
            return electrode(config.emg_highpass_hz)
        case Modality.RESP:
            return Band(lowpass_hz=config.resp_lowpass_hz, order=config.filter_order)
        case _:
            return Band()


def magnitude(frequency_hz: NDArray[np.float64], band: Band) -> NDArray[np.float64]:
    """Gain of the forward-backward filter: the squared magnitude of the analog prototype.

    Butterworth of order n at s = jw: 1 / (1 + d^2n), with d = w/wc for a low-pass, wc/w for a
    high-pass and (w^2 - w0^2) / (w * bandwidth) for a band-pass.
    """
    f = np.asarray(frequency_hz, dtype=np.float64)
    low, high, gain = band.highpass_hz, band.lowpass_hz, np.ones_like(f)
    with np.errstate(divide="ignore", over="ignore"):  # infinity gives a gain of exactly 0
        if low and high:
            gain = 1 / (1 + ((f**2 - low * high) / (f * (high - low))) ** (2 * band.order))
        elif low:
            gain = 1 / (1 + (low / f) ** (2 * band.order))
        elif high:
            gain = 1 / (1 + (f / high) ** (2 * band.order))
    if band.notch_hz:
        off = (f**2 - band.notch_hz**2) ** 2
        gain = gain * off / (off + (f * band.notch_hz / band.notch_quality) ** 2)
    return gain


def taper(frequency_hz: NDArray[np.float64], rate_hz: float, target_hz: int) -> NDArray[np.float64]:
    """Anti-alias fade: 1 up to nine tenths of the lower Nyquist frequency, 0 from there on."""
    nyquist = min(rate_hz, target_hz) / 2
    start = _TAPER_FROM * nyquist
    fade = np.clip((np.asarray(frequency_hz) - start) / (nyquist - start), 0.0, 1.0)
    return np.asarray(0.5 * (1 + np.cos(np.pi * fade)))


def filter_resample(
    samples: Samples,
    rate_hz: float,
    target_hz: int,
    band: Band,
    num_out: int,
    *,
    centre: float = 0.0,
) -> NDArray[np.float32]:
    """The filtered signal at target_hz: float32[num_out], sample k at time k / target_hz.

    Args:
        samples: one signal [n], n >= 2; integers need no copy in float32.
        rate_hz: its rate; any positive number.
        target_hz: the rate wanted.
        band: what to keep.
        num_out: how many samples to return; at most n / rate_hz * target_hz, rounded.
        centre: what to subtract from each sample. A large offset costs accuracy.
    """
    guard_s = guard_seconds(band, min(rate_hz, target_hz))
    if whole_sample_seconds(rate_hz):
        return _by_blocks(samples, rate_hz, target_hz, band, num_out, guard_s, centre)
    return _whole(samples, rate_hz, target_hz, band, num_out, guard_s, centre)


def guard_seconds(band: Band, lower_rate_hz: float) -> int:
    """How long filter and taper ring."""
    decay_hz = []
    if band.highpass_hz:
        decay_hz.append(band.highpass_hz * math.sin(math.pi / (2 * band.order)))
    if band.notch_hz:
        decay_hz.append(band.notch_hz / band.notch_quality / 2)
    filter_s = _HIGHPASS_GUARD_S * _HIGHPASS_HZ / min(decay_hz, default=math.inf)
    taper_hz = (1 - _TAPER_FROM) * lower_rate_hz / 2
    return math.ceil(max(filter_s, _TAPER_GUARD / taper_hz) - 1e-9)


def whole_sample_seconds(rate_hz: float) -> int:
    """The fewest whole seconds that are a whole number of samples; 0 where that takes too many."""
    fitting = (s for s in range(1, _MAX_STEP_S + 1) if s * rate_hz % 1 == 0)
    return next(fitting, 0)


def block_seconds(rate_hz: float, target_hz: int, guard_s: int) -> tuple[int, int]:
    """(length of a block, guard on each side of it), so that it starts on both grids.

    Lengths have small prime factors where the rates have.
    """
    step_s = whole_sample_seconds(rate_hz)
    guards = math.ceil(guard_s / step_s)
    wanted = _BLOCK_SAMPLES / (max(rate_hz, target_hz) * step_s)
    steps = math.ceil(max(wanted, _GUARDS_PER_BLOCK * guards))
    return int(scipy.fft.next_fast_len(steps, real=True)) * step_s, guards * step_s


def _extend(
    samples: NDArray[np.float32], before: int, after: int, total: int
) -> NDArray[np.float32]:
    """[total] samples: odd reflection before and after the signal as in filtfilt, then held."""
    n = len(samples)
    out = np.empty(total, dtype=np.float32)
    out[before : before + n] = samples
    reach = min(before, n - 1)
    out[before - reach : before] = 2 * samples[0] - samples[reach:0:-1]
    out[: before - reach] = out[before - reach]
    end = before + n
    reach = min(after, n - 1, total - end)
    out[end : end + reach] = 2 * samples[-1] - samples[-2 : -2 - reach : -1]
    out[end + reach :] = out[end + reach - 1]
    return out


def _gains(
    num_bins: int, step_hz: float, rate_hz: float, target_hz: int, band: Band, scale: float
) -> NDArray[np.float32]:
    """Band, taper and a scale at bins of step_hz, each twice: for real and imaginary part."""
    frequency_hz = np.arange(num_bins, dtype=np.float64) * step_hz
    gain = magnitude(frequency_hz, band) * taper(frequency_hz, rate_hz, target_hz)
    return np.repeat((gain * scale).astype(np.float32), 2)


# Every block of every night of a cohort has the same; only a whole night's depend on its length.
_block_gains = functools.lru_cache(maxsize=16)(_gains)


def _by_blocks(
    samples: Samples,
    rate_hz: float,
    target_hz: int,
    band: Band,
    num_out: int,
    guard_s: int,
    centre: float = 0.0,
) -> NDArray[np.float32]:
    """Overlap-save over blocks of whole seconds, so that every block starts on both grids."""
    block_s, guard_s = block_seconds(rate_hz, target_hz, guard_s)
    hop_s = block_s - 2 * guard_s
    guard, block, hop = (round(s * rate_hz) for s in (guard_s, block_s, hop_s))
    guard_out, block_out, hop_out = (s * target_hz for s in (guard_s, block_s, hop_s))
    num_blocks = max(1, math.ceil(num_out / hop_out))
    num_bins = min(block, block_out) // 2 + 1
    gain = _block_gains(num_bins, 1 / block_s, rate_hz, target_hz, band, block_out / block)
    inside = samples[: num_blocks * hop]
    at_once = min(_BLOCKS_AT_ONCE, num_blocks)
    piece = np.empty((at_once - 1) * hop + block, dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(piece, block)[::hop]
    out = np.empty((num_blocks, hop_out), dtype=np.float32)
    for first in range(0, num_blocks, at_once):
        count = min(at_once, num_blocks - first)
        _fill_piece(piece[: (count - 1) * hop + block], inside, first * hop - guard, guard, centre)
        spectrum = scipy.fft.rfft(windows[:count], axis=1)[:, :num_bins]
        parts = spectrum.view(np.float32)
        parts *= gain
        filtered = scipy.fft.irfft(spectrum, block_out, axis=1)
        out[first : first + count] = filtered[:, guard_out : guard_out + hop_out]
    return out.reshape(-1)[:num_out]


def _fill_piece(
    piece: NDArray[np.float32], samples: Samples, start: int, guard: int, centre: float
) -> None:
    """Fill a piece with the samples from `start` on, extended where the signal ends."""
    stop = start + len(piece)
    if start >= 0 and stop <= len(samples):
        piece[...] = samples[start:stop]
        if centre:
            piece -= np.float32(centre)
        return
    there = samples[max(0, start) : stop].astype(np.float32)
    there -= np.float32(centre)
    piece[...] = _extend(there, max(0, -start), guard, len(piece))


def _whole(
    samples: Samples,
    rate_hz: float,
    target_hz: int,
    band: Band,
    num_out: int,
    guard_s: int,
    centre: float = 0.0,
) -> NDArray[np.float32]:
    """One transform of the night; the reflection before its start is wrapped to its end."""
    guard = math.ceil(max(guard_s, _WHOLE_GUARD_S) * rate_hz)
    length, length_out = _matching_lengths(len(samples) + 2 * guard, rate_hz, target_hz)
    there = samples.astype(np.float32)
    there -= np.float32(centre)
    padded = np.roll(_extend(there, guard, guard, length), -guard)
    num_bins = min(length, length_out) // 2 + 1
    gain = _gains(num_bins, rate_hz / length, rate_hz, target_hz, band, length_out / length)
    spectrum = scipy.fft.rfft(padded)[:num_bins]
    parts = spectrum.view(np.float32)
    parts *= gain
    filtered = scipy.fft.irfft(spectrum, length_out)
    return np.asarray(filtered[:num_out], dtype=np.float32)


def _matching_lengths(at_least: int, rate_hz: float, target_hz: int) -> tuple[int, int]:
    """Two FFT lengths of equal duration at the two rates, the first of small prime factors.

    Equal up to a five-hundredth of a sample, or as near as a quarter more samples allow.
    """
    best = (math.inf, 0, 0)
    length = scipy.fft.next_fast_len(at_least)
    while length <= 1.25 * at_least + 64:
        wanted = length / rate_hz * target_hz
        drift = abs(wanted - round(wanted))
        if drift < best[0]:
            best = (drift, length, round(wanted))
        if drift < _MAX_DRIFT_SAMPLES:
            break
        length = scipy.fft.next_fast_len(length + 1)
    return best[1], best[2]
