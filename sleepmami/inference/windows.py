"""A night as the windows that `POST /v1/encode` takes, and its answer as the night's epochs.

Torch-free. B segments of 60 s (`segment_start_epochs`), L epochs, M modalities (6), D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, STORED_SCALE, Night, segment_start_epochs
from sleepmami.tables.rows import segment_usable


def night_windows(night: Night) -> dict[str, NDArray[Any]]:  # Any: float32 or bool
    """The arrays of one request, ready for `numpy.savez`.

    Returns:
        Per present modality its name and float32[B, samples of 60 s at STORED_RATE_HZ], z-scores;
        `valid`, bool[B, 6, 2]: the epoch passed the quality checks.
    """
    windows: dict[str, NDArray[Any]] = {
        m.value: night.signals[m].astype(np.float32) * np.float32(1 / STORED_SCALE)
        for m in MODALITIES
        if m in night.signals
    }
    windows["valid"] = segment_usable(night, segment_start_epochs(night.num_epochs))
    return windows


def night_epochs(window_BEX: NDArray[Any], num_epochs: int) -> NDArray[Any]:  # Any: kept
    """Values of the epochs of windows -> values of the night's epochs, [L, ...].

    The last window of an odd night overlaps the one before; it gives its second epoch alone.

    Args:
        window_BEX: [B, 2, ...], one row per window of `night_windows`.
        num_epochs: L.
    """
    night_LX = window_BEX.reshape(-1, *window_BEX.shape[2:])[:num_epochs].copy()
    if num_epochs % SEGMENT_EPOCHS:
        night_LX[-1] = window_BEX[-1, -1]
    return night_LX
