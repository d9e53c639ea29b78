"""Which 30-s epochs of a signal are usable, and the z-score statistics over those alone.

Section 3.3 says only that signals are z-scored. One minute at the rails would shrink z all night
(3.8 times, measured), and a flat stretch would become noise of unit variance, so both are found on
the raw integers, kept out of the moments, and bridged before the filter so that they do not ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Modality

FLAT_STD_STEPS = 0.5  # digital steps: a dead channel toggles its last bit
MAX_CLIPPED_SHARE: Mapping[Modality, float] = {
    Modality.EEG: 0.05,
    Modality.EOG: 0.05,
    Modality.EMG: 0.05,
    Modality.ECG: 0.05,
    Modality.RESP: 0.5,  # belts and thermistors clip at every breath and still show the breathing
}
MIN_MEASURED_SHARE = 0.5  # of an epoch's seconds with an oximeter reading
MAX_STD_RATIO = 100.0  # to the night's median epoch: an electrode that came off, not a movement

Integers = NDArray[np.int16] | NDArray[np.int32]


class Fault(StrEnum):
    """Why an epoch is unusable."""

    FLAT = "flat"
    CLIPPED = "clipped"
    OUT_OF_RANGE = "out of range"


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
        """Share of usable epochs."""
        return float(self.usable.mean())

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
        fault: np.logical_or.reduce([part.faults[fault] for part in parts])
        for fault in parts[0].faults
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
    highest = np.maximum.reduceat(used, starts[:-1])
    lowest = np.minimum.reduceat(used, starts[:-1])
    low, high = min(rails[0], int(lowest.min())), max(rails[1], int(highest.max()))
    flat = _flat(used, starts, highest.astype(np.int64) - lowest)
    clipped = np.zeros(num_epochs, dtype=bool)
    clipped_seconds = np.zeros(num_epochs * EPOCH_S, dtype=bool)
    for epoch in np.flatnonzero((highest == high) | (lowest == low)):
        samples = used[starts[epoch] : starts[epoch + 1]]
        at_rail = np.flatnonzero((samples == high) | (samples == low))
        clipped[epoch] = len(at_rail) > MAX_CLIPPED_SHARE[modality] * lengths[epoch]
        second = np.minimum((at_rail / rate_hz).astype(int), EPOCH_S - 1)
        clipped_seconds[epoch * EPOCH_S + second] = True
    return EpochQuality({Fault.FLAT: flat, Fault.CLIPPED: clipped & ~flat}, clipped_seconds)


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


def measured_quality(measured: NDArray[np.bool_]) -> EpochQuality:
    """SpO2 epochs from bool[num_epochs * EPOCH_S]: enough seconds with a plausible reading."""
    share = measured.reshape(-1, EPOCH_S).mean(axis=1)
    return EpochQuality({Fault.OUT_OF_RANGE: share < MIN_MEASURED_SHARE}, ~measured)


def with_outliers(quality: EpochQuality, filtered: NDArray[np.float32]) -> EpochQuality:
    """The quality with epochs of impossible amplitude added, judged on the filtered signal."""
    usable = quality.usable
    epoch_std = filtered.reshape(len(usable), -1).std(axis=1)
    typical = float(np.median(epoch_std[usable])) if usable.any() else 0.0
    outlier = usable & (epoch_std > MAX_STD_RATIO * typical)
    return EpochQuality({**quality.faults, Fault.OUT_OF_RANGE: outlier}, quality.clipped_seconds)


def bridge(samples: NDArray[np.float32], rate_hz: float, usable: NDArray[np.bool_]) -> None:
    """Replace runs of unusable epochs by straight lines, in place.

    The line joins the means of the seconds before and after; at the ends of a night it is level.
    """
    starts = _cuts(len(usable), EPOCH_S * rate_hz, len(samples))
    second = max(1, round(rate_hz))
    edges = np.flatnonzero(np.diff(np.concatenate(([True], usable, [True])).astype(np.int8)))
    for first, stop in edges.reshape(-1, 2):
        begin, end = int(starts[first]), int(starts[stop])
        before = samples[max(0, begin - second) : begin]
        after = samples[end : end + second] if stop < len(usable) else samples[:0]
        levels = [float(side.mean()) for side in (before, after) if len(side)] or [0.0]
        if len(levels) == 1:
            samples[begin:end] = levels[0]
        else:
            line = np.linspace(levels[0], levels[1], end - begin, dtype=np.float32)
            samples[begin:end] = line


def moments(filtered: NDArray[np.float32], quality: EpochQuality) -> tuple[float, float]:
    """Mean and standard deviation over the seconds that are usable and free of clipping.

    Where clipping is so common that less than half of the usable seconds would remain, all of them
    count. Without any usable second, (0, 0).
    """
    usable = np.repeat(quality.usable, EPOCH_S)
    chosen = usable & ~quality.clipped_seconds
    if 2 * chosen.sum() < usable.sum():
        chosen = usable
    per_second = filtered.reshape(len(chosen), -1)
    if not chosen.any():
        return 0.0, 0.0
    sums = np.einsum("ij->i", per_second)[chosen].astype(np.float64)
    squares = np.einsum("ij,ij->i", per_second, per_second)[chosen].astype(np.float64)
    count = len(sums) * per_second.shape[1]
    mean = float(sums.sum() / count)
    return mean, float(np.sqrt(max(0.0, squares.sum() / count - mean**2)))
