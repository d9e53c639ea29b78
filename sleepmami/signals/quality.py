"""Which 30-s epochs of a signal are usable, and the z-score statistics over those alone.

Section 3.3 says only that signals are z-scored. One minute at the rails would shrink z all night
(3.8 times, measured), and a flat stretch would become noise of unit variance, so both are found on
the raw integers, kept out of the moments, and bridged before the filter so that they do not ring.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Modality

FLAT_STD_STEPS = 0.5  # digital steps: a dead channel toggles its last bit
MAX_CLIPPED_SHARE: Mapping[Modality, float] = {
    Modality.EEG: 0.05,
    Modality.EOG: 0.05,
    Modality.EMG: 0.05,
    Modality.ECG: 0.05,
    Modality.IBI: 0.05,
    Modality.RESP: 0.5,  # belts and thermistors clip at every breath and still show the breathing
    Modality.FLOW: 0.5,
    Modality.BELT: 0.5,
}
MIN_MEASURED_SHARE = 0.5  # of an epoch's seconds with an oximeter reading, or within heart beats
MAX_STD_RATIO = 100.0  # to the night's median epoch: an electrode that came off, not a movement
# Standard deviation of an epoch in uV: below is an amplifier's noise, above no body's voltage.
STD_LIMITS_UV: Mapping[Modality, tuple[float, float]] = {
    Modality.EEG: (0.5, 2000.0),
    Modality.EOG: (0.1, 4000.0),
    Modality.EMG: (0.02, 10_000.0),  # a chin without tone shows the amplifier's noise
    Modality.ECG: (1.0, 20_000.0),
}
# A night whose typical epoch is this many times above the limit has a wrong unit, not no electrode.
WRONG_UNIT_RATIO = 2.5

FLAT_SECOND_RATIO = 1e-3  # of a filtered second's deviation to the typical second's
MAX_FLAT_SHARE = 1 / 3  # of an epoch's seconds; a filter rings for a few of them
# Where a held value means that there is no signal: breath stops, and so does the tone of a chin.
NEVER_STILL = frozenset({Modality.EEG, Modality.EOG, Modality.ECG})

_EPOCHS_AT_ONCE = 64

Integers = NDArray[np.int16] | NDArray[np.int32]


class Fault(StrEnum):
    """Why an epoch is unusable."""

    FLAT = "flat"
    CLIPPED = "clipped"
    OUT_OF_RANGE = "out of range"
    SENTINEL = "sentinel"  # one number that stands for no reading
    DISCONNECTED = "disconnected"  # only hum, or only an amplifier's noise
    FEW_BEATS = "few heart beats"
    GAP = "gap"  # of a discontinuous recording


@dataclass(frozen=True, slots=True)
class EpochQuality:
    """One signal's epochs.

    Attributes:
        faults: per fault bool[num_epochs]; an epoch may have several.
        clipped_seconds: bool[num_epochs * EPOCH_S]: a sample of that second is at a rail.
    """

    faults: Mapping[Fault, NDArray[np.bool_]]
    clipped_seconds: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool[num_epochs]: without any fault."""
        faulty: NDArray[np.bool_] = np.logical_or.reduce(list(self.faults.values()))
        return ~faulty

    @property
    def share(self) -> float:
        """Share of usable epochs among those that no gap touches; 0 when a gap touches all."""
        recorded = len(self.usable) - int(self.faults.get(Fault.GAP, np.zeros(1)).sum())
        return float(self.usable.sum()) / recorded if recorded else 0.0

    def adding(self, fault: Fault, epochs: NDArray[np.bool_]) -> EpochQuality:
        """The same with more epochs of that fault, where the others left them usable."""
        known = self.faults.get(fault, np.zeros_like(epochs))
        return replace(self, faults={**self.faults, fault: known | (epochs & self.usable)})

    def counts(self) -> dict[Fault, int]:
        """Epochs per fault, faults that never occur left out."""
        return {fault: int(epochs.sum()) for fault, epochs in self.faults.items() if epochs.any()}

    def describe(self) -> str:
        """`12 of 960 epochs unusable (flat 10, clipped 2)`, or empty when all are usable."""
        bad = int((~self.usable).sum())
        if not bad:
            return ""
        causes = ", ".join(f"{fault} {count}" for fault, count in self.counts().items())
        return f"{bad} of {len(self.usable)} epochs unusable ({causes})"


def merged(qualities: Iterable[EpochQuality]) -> EpochQuality:
    """The quality of a combination of signals: any fault of one is a fault of all."""
    parts = list(qualities)
    faults = {
        fault: np.logical_or.reduce([part.faults[fault] for part in parts if fault in part.faults])
        for fault in dict.fromkeys(fault for part in parts for fault in part.faults)
    }
    return EpochQuality(faults, np.logical_or.reduce([part.clipped_seconds for part in parts]))


def raw_quality(
    digital: Integers,
    rate_hz: float,
    num_epochs: int,
    rails: tuple[int, int],
    modality: Modality,
) -> EpochQuality:
    """Flat and clipped epochs of a raw channel.

    Args:
        digital: the stored integers [n].
        rate_hz: their rate; a sample belongs to the epoch that its time lies in.
        num_epochs: how many epochs to judge; all lie within the samples.
        rails: digital minimum and maximum of the header. Samples beyond them move the rails out.
        modality: sets how much clipping is too much.
    """
    starts = _cuts(num_epochs, EPOCH_S * rate_hz, len(digital))
    used = digital[: starts[-1]]
    lengths = np.diff(starts)
    lowest, highest = _extremes(used, starts)
    low, high = min(rails[0], int(lowest.min())), max(rails[1], int(highest.max()))
    flat = _flat(used, starts, highest.astype(np.int64) - lowest)
    at_rail = {low: lowest == low, high: highest == high}
    num_clipped, clipped_seconds = _at_rails(used, starts, at_rail, rate_hz)
    clipped = num_clipped > MAX_CLIPPED_SHARE[modality] * lengths
    return EpochQuality({Fault.FLAT: flat, Fault.CLIPPED: clipped & ~flat}, clipped_seconds)


def _extremes(used: Integers, starts: NDArray[np.int64]) -> tuple[Integers, Integers]:
    """(lowest, highest) sample of each epoch; both of a few epochs while they are in the cache."""
    ends = []
    for first in range(0, len(starts) - 1, _EPOCHS_AT_ONCE):
        cuts = starts[first : first + _EPOCHS_AT_ONCE + 1]
        samples, begins = used[cuts[0] : cuts[-1]], cuts[:-1] - cuts[0]
        ends.append((np.minimum.reduceat(samples, begins), np.maximum.reduceat(samples, begins)))
    lowest, highest = zip(*ends, strict=True)
    return np.concatenate(lowest), np.concatenate(highest)


def _at_rails(
    used: Integers,
    starts: NDArray[np.int64],
    at_rail: Mapping[int, NDArray[np.bool_]],
    rate_hz: float,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(samples at a rail per epoch, which seconds have one); at_rail: rail -> epochs it touches.

    A few at once to bound the memory, from the first touched one of them to the last.
    """
    counts = np.zeros(len(starts) - 1, dtype=np.int64)
    seconds = np.zeros(len(counts) * EPOCH_S, dtype=bool)
    touched = np.flatnonzero(np.logical_or.reduce(list(at_rail.values())))
    apart = np.diff(touched // _EPOCHS_AT_ONCE) > 0
    for group in np.split(touched, np.flatnonzero(apart) + 1) if len(touched) else ():
        first, stop = group[0], group[-1] + 1
        cuts = starts[first : stop + 1]
        samples = used[cuts[0] : cuts[-1]]
        rails = [rail for rail, epochs in at_rail.items() if epochs[first:stop].any()]
        hits = samples == rails[0]
        for rail in rails[1:]:
            hits |= samples == rail
        places = np.flatnonzero(hits) + cuts[0]
        row = np.searchsorted(cuts, places, side="right") - 1
        counts[first:stop] = np.bincount(row, minlength=stop - first)
        second = np.minimum(((places - cuts[row]) / rate_hz).astype(np.int64), EPOCH_S - 1)
        seconds[(first + row) * EPOCH_S + second] = True
    return counts, seconds


def _cuts(num: int, step: float, limit: int) -> NDArray[np.int64]:
    """First sample of each of `num` stretches, and one past the last."""
    cuts: NDArray[np.int64] = np.ceil(np.arange(num + 1) * step - 1e-6).astype(np.int64)
    return np.minimum(cuts, limit)


def _flat(
    used: Integers, starts: NDArray[np.int64], extent: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Epochs whose standard deviation is under FLAT_STD_STEPS.

    n samples spanning r have a deviation of at least r / sqrt(2n), so most need no second look.
    """
    flat = np.zeros(len(extent), dtype=bool)
    suspicious = extent <= FLAT_STD_STEPS * np.sqrt(2.0 * np.diff(starts))
    for epoch in np.flatnonzero(suspicious):
        samples = used[starts[epoch] : starts[epoch + 1]]
        flat[epoch] = samples.astype(np.float64).std() < FLAT_STD_STEPS
    return flat


def measured_quality(
    measured: NDArray[np.bool_], fault: Fault = Fault.OUT_OF_RANGE
) -> EpochQuality:
    """Epochs from bool[num_epochs * EPOCH_S]: enough seconds with a plausible reading."""
    share = measured.reshape(-1, EPOCH_S).mean(axis=1)
    return EpochQuality({fault: share < MIN_MEASURED_SHARE}, ~measured)


def oximeter_quality(
    readings: Integers | NDArray[np.float32],
    rate_hz: float,
    measured: NDArray[np.bool_],
    plausible: tuple[float, float],
) -> EpochQuality:
    """SpO2 epochs; where all implausible readings are one number, that is a sentinel.

    Args:
        readings: the raw ones [n].
        rate_hz: their rate.
        measured: bool[num_epochs * EPOCH_S]: the second has a plausible reading.
        plausible: least and greatest reading that can be one.
    """
    quality = measured_quality(measured)
    starts = _cuts(len(quality.usable), EPOCH_S * rate_hz, len(readings))
    sentinel = np.zeros(len(quality.usable), dtype=bool)
    for epoch in np.flatnonzero(~quality.usable):
        read = readings[starts[epoch] : starts[epoch + 1]]
        outside = read[(read < plausible[0]) | (read > plausible[1])]
        sentinel[epoch] = len(outside) > 0 and outside.min() == outside.max()
    outside_range = quality.faults[Fault.OUT_OF_RANGE] & ~sentinel
    faults = {Fault.OUT_OF_RANGE: outside_range, Fault.SENTINEL: sentinel}
    return EpochQuality(faults, quality.clipped_seconds)


def with_gaps(quality: EpochQuality, gaps: Iterable[tuple[float, float]]) -> EpochQuality:
    """The quality with every epoch that a gap touches as GAP, and as nothing else."""
    gap = np.zeros_like(quality.usable)
    for start_s, stop_s in gaps:
        first = int((start_s + 1e-6) // EPOCH_S)
        gap[first : math.ceil((stop_s - 1e-6) / EPOCH_S)] = True
    if not gap.any():
        return quality
    faults = {fault: epochs & ~gap for fault, epochs in quality.faults.items()}
    return replace(quality, faults={**faults, Fault.GAP: gap})


class SecondSums(NamedTuple):
    """Sum and sum of squares of each second of a signal, float64[num_epochs * EPOCH_S]."""

    sums: NDArray[np.float64]
    squares: NDArray[np.float64]


def second_sums(filtered: NDArray[np.float32], num_epochs: int) -> SecondSums:
    """What outliers and moments are found from; filtered is [num_epochs * samples]."""
    per_second = filtered.reshape(num_epochs * EPOCH_S, -1)
    return SecondSums(
        (per_second @ np.ones(per_second.shape[1], np.float32)).astype(np.float64),
        np.vecdot(per_second, per_second).astype(np.float64),
    )


def with_outliers(
    quality: EpochQuality,
    filtered: NDArray[np.float32],
    limits: tuple[float, float] | None = None,
    *,
    per_second: SecondSums | None = None,
) -> EpochQuality:
    """The quality with epochs of impossible amplitude added, judged on the filtered signal.

    Args:
        quality: what the raw signal showed.
        filtered: the signal, [num_epochs * samples].
        limits: least and greatest standard deviation of an epoch; None when the unit is not known.
            Without effect where the night's typical epoch says that the unit is wrong.
        per_second: the signal's second_sums, where they are known already.
    """
    usable = quality.usable
    epoch_std = _epoch_std(filtered, per_second or second_sums(filtered, len(usable)))
    typical = float(np.median(epoch_std[usable])) if usable.any() else 0.0
    least, most = 0.0, MAX_STD_RATIO * typical
    if limits and limits[0] <= typical <= WRONG_UNIT_RATIO * limits[1]:
        least, most = max(limits[0], typical / MAX_STD_RATIO), min(limits[1], most)
    found = quality.adding(Fault.OUT_OF_RANGE, epoch_std > most)
    return found.adding(Fault.DISCONNECTED, epoch_std < least)


def with_flat_seconds(
    quality: EpochQuality, per_second: SecondSums, samples_per_second: int
) -> EpochQuality:
    """The quality with epochs FLAT of which too many seconds are, though the rest is alive."""
    mean = per_second.sums / samples_per_second
    variance = per_second.squares / samples_per_second - mean**2
    counted = np.repeat(quality.usable, EPOCH_S)
    if not counted.any():
        return quality
    still = variance < FLAT_SECOND_RATIO**2 * np.median(variance[counted])
    share = still.reshape(-1, EPOCH_S).mean(axis=1)
    return quality.adding(Fault.FLAT, share > MAX_FLAT_SHARE)


def _epoch_std(filtered: NDArray[np.float32], per_second: SecondSums) -> NDArray[np.float64]:
    """Standard deviation of each epoch, from sums over seconds: less than half the time of std().

    Where a mean far from 0 would drown the difference of the sums, std() it is after all.
    """
    num_epochs = len(per_second.sums) // EPOCH_S
    count = len(filtered) // num_epochs
    mean = per_second.sums.reshape(num_epochs, EPOCH_S).sum(axis=1) / count
    mean_square = per_second.squares.reshape(num_epochs, EPOCH_S).sum(axis=1) / count
    std = np.sqrt(np.maximum(0.0, mean_square - mean**2))
    drowned = std**2 < 1e-4 * mean_square
    std[drowned] = filtered.reshape(num_epochs, -1)[drowned].std(axis=1)
    return np.asarray(std)


def bridge(
    samples: Integers | NDArray[np.float32],
    rate_hz: float,
    usable: NDArray[np.bool_],
    level: float = 0.0,
) -> None:
    """Replace runs of unusable epochs by straight lines, in place; by whole steps in integers.

    The line joins the means of the seconds before and after; at the ends of a night it is level,
    and a night without any usable epoch lies at `level`.
    """
    starts = _cuts(len(usable), EPOCH_S * rate_hz, len(samples))
    second = max(1, round(rate_hz))
    edges = np.flatnonzero(np.diff(np.concatenate(([True], usable, [True])).astype(np.int8)))
    for first, stop in edges.reshape(-1, 2):
        begin, end = int(starts[first]), int(starts[stop])
        before = samples[max(0, begin - second) : begin]
        after = samples[end : end + second] if stop < len(usable) else samples[:0]
        levels = [float(side.mean()) for side in (before, after) if len(side)] or [level]
        line = np.linspace(levels[0], levels[-1], end - begin, dtype=np.float32)
        samples[begin:end] = line if samples.dtype == np.float32 else np.rint(line)


def moments(
    filtered: NDArray[np.float32],
    quality: EpochQuality,
    *,
    per_second: SecondSums | None = None,
) -> tuple[float, float]:
    """Mean and standard deviation over the seconds that are usable and free of clipping.

    Where clipping is so common that less than half of the usable seconds would remain, all of them
    count. Without any usable second, (0, 0).

    Args:
        filtered: the signal, [num_epochs * samples].
        quality: which seconds count.
        per_second: the signal's second_sums, where they are known already.
    """
    usable = np.repeat(quality.usable, EPOCH_S)
    chosen = usable & ~quality.clipped_seconds
    if 2 * chosen.sum() < usable.sum():
        chosen = usable
    if not chosen.any():
        return 0.0, 0.0
    per_second = per_second or second_sums(filtered, len(quality.usable))
    sums, squares = (every[chosen].sum() for every in per_second)
    count = int(chosen.sum()) * (len(filtered) // len(chosen))
    mean = float(sums / count)
    return mean, float(np.sqrt(max(0.0, squares / count - mean**2)))
