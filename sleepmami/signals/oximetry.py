"""SpO2: an oximeter's readings as one value in percent per second, and where there were any."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sleepmami.signals.filters import Samples

SPO2_RANGE_PERCENT = (30.0, 100.5)  # outside lie sentinels: -1, 0, 101..127, 255
_SAMPLES_AT_ONCE = 2**18


def spo2_to_1hz(
    readings: Samples,
    rate_hz: float,
    num_seconds: int,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(values[num_seconds], measured[num_seconds]): an oximeter's readings once per second.

    Faster channels are averaged over each second, slower ones held. Readings outside the
    physiological range are no data: what they leave empty is bridged by straight lines and false
    in `measured`. All values are 0 when nothing was measured. Fractions (0..1) and tenths of a
    percent (0..1000) become percent.

    Args:
        readings: one channel [n].
        rate_hz: its rate.
        num_seconds: how many values to return.
        gain: of a reading, which times this plus `offset` is in percent, a fraction or tenths.
        offset: see gain.
    """
    low, high = SPO2_RANGE_PERCENT
    factor = _percent_factor(readings, gain, offset)
    gain, offset = factor * gain, factor * offset
    if rate_hz >= 1:
        per_second, measured = _means_per_second(readings, rate_hz, num_seconds, gain, offset)
    else:
        held = (np.arange(num_seconds) * rate_hz + 1e-6).astype(np.int64)
        per_second = _percent(readings[np.minimum(held, len(readings) - 1)], gain, offset)
        measured = (per_second >= low) & (per_second <= high)
    if not measured.any():
        return np.zeros(num_seconds, dtype=np.float32), measured
    seconds = np.arange(num_seconds)
    bridged = np.interp(seconds, seconds[measured], per_second[measured])
    return np.minimum(bridged, 100.0).astype(np.float32), measured


def _percent(readings: Samples, gain: float, offset: float) -> NDArray[np.float32]:
    return (readings.astype(np.float64) * gain + offset).astype(np.float32)


def _percent_factor(readings: Samples, gain: float, offset: float) -> float:
    """What turns fractions or tenths of a percent into percent."""
    low, high = SPO2_RANGE_PERCENT
    sparse = _percent(readings[:: 1 + len(readings) // 10_000], gain, offset)  # plenty
    plausible = sparse[sparse > 0]
    if not len(plausible):
        every = _percent(readings, gain, offset)
        plausible = every[every > 0]
    typical = float(np.median(plausible)) if len(plausible) else high
    if typical <= 1.0:
        return 100.0
    return 0.1 if 10 * low <= typical <= 10 * high else 1.0


def _means_per_second(
    readings: Samples, rate_hz: float, num_seconds: int, gain: float, offset: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(mean of each second's readings within the range, 0 without any; whether there is any).

    A fast channel repeats its readings hundreds of times, so only seconds that hold several, or one
    beyond the range, are looked at sample by sample.
    """
    low, high = SPO2_RANGE_PERCENT
    cuts = np.ceil(np.arange(num_seconds + 1) * rate_hz - 1e-6).astype(np.int64)
    starts, lengths = cuts[:-1], np.diff(np.minimum(cuts, len(readings)))
    used = readings[: cuts[-1]]
    lowest = np.minimum.reduceat(used, starts)
    means = _percent(lowest, gain, offset)
    inside = (means >= low) & (means <= high)
    again = np.flatnonzero(~inside | (np.maximum.reduceat(used, starts) != lowest))
    num_parts = max(1, math.ceil(lengths[again].sum() / _SAMPLES_AT_ONCE))
    for part in np.array_split(again, num_parts) if len(again) else ():
        ends = np.cumsum(lengths[part])
        firsts = ends - lengths[part]
        places = np.repeat(starts[part] - firsts, lengths[part]) + np.arange(ends[-1])
        percent = _percent(used[places], gain, offset)
        valid = (percent >= low) & (percent <= high)
        counts = np.add.reduceat(valid, firsts, dtype=np.int64)
        sums = np.add.reduceat(np.where(valid, percent, np.float32(0)), firsts)
        means[part] = sums / np.maximum(counts, 1)
        inside[part] = counts > 0
    return means, inside
