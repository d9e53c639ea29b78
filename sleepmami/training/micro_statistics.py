"""Mean and deviation of every micro feature over training nights, for the Macro-Encoder's input.

The vectors of different epochs have most of their length in common. Without this the states of all
nights start out alike (cosine 0.92) and DGCL ends in the solution that makes them equal, from which
it was not seen to leave (docs/macro.md).

Shapes: L epochs of a night, M modalities, D features.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sleepmami.tables.embedding_rows import MicroNight

Statistics = NDArray[np.float64]
LEAST_DEVIATION = 0.01  # of the modality's mean one: a feature that hardly varies is not blown up


def micro_statistics(nights: Iterable[MicroNight]) -> tuple[Statistics, Statistics]:
    """mean_MD and deviation_MD over the epochs in which a modality is valid.

    A modality that no night has gets 0 and 1. Sums are taken about the first valid epoch's vector,
    so that nothing cancels.

    Args:
        nights: at least one; read one after another, none is kept.
    """
    origin_MD: Statistics = np.empty(0)
    count_M = sum_MD = square_MD = np.empty(0)
    for night in nights:
        micro_LMD, valid_LM = np.asarray(night.micro, np.float64), night.modality_valid
        if not origin_MD.size:
            origin_MD = np.zeros(micro_LMD.shape[1:])
            sum_MD, square_MD = np.zeros_like(origin_MD), np.zeros_like(origin_MD)
            count_M = np.zeros(len(origin_MD))
        for modality in np.flatnonzero((count_M == 0) & valid_LM.any(0)):
            origin_MD[modality] = micro_LMD[valid_LM[:, modality].argmax(), modality]
        apart_LMD = np.where(valid_LM[:, :, None], micro_LMD - origin_MD, 0.0)
        count_M += valid_LM.sum(0)
        sum_MD += apart_LMD.sum(0)
        square_MD += (apart_LMD**2).sum(0)
    there_M1 = (count_M > 0)[:, None]
    total_M1 = np.maximum(count_M, 1)[:, None]
    mean_MD = sum_MD / total_M1
    deviation_MD = np.sqrt(np.maximum(square_MD / total_M1 - mean_MD**2, 0.0))
    least_M1 = LEAST_DEVIATION * deviation_MD.mean(1, keepdims=True)
    deviation_MD = np.maximum(deviation_MD, np.where(least_M1 > 0, least_M1, 1.0))
    return np.where(there_M1, origin_MD + mean_MD, 0.0), np.where(there_M1, deviation_MD, 1.0)
