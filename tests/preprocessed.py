"""A preprocessed night of noise, without an EDF."""

from collections.abc import Sequence

import numpy as np

from sleepmami.psg import (
    MODALITIES,
    SEGMENT_EPOCHS,
    SEGMENT_S,
    STORED_RATE_HZ,
    STORED_SCALE,
    ChannelStatistics,
    Modality,
    Night,
    segment_start_epochs,
)


def noise_night(
    num_epochs: int, modalities: Sequence[Modality] = MODALITIES, *, seed: int = 3
) -> Night:
    """Every epoch usable; an overlapping last segment repeats the half that it shares."""
    rng = np.random.default_rng(seed)
    starts = np.array(segment_start_epochs(num_epochs))
    signals = {}
    for modality in MODALITIES:  # drawn for all, so that subsets share their signals
        samples = SEGMENT_S * STORED_RATE_HZ[modality] // SEGMENT_EPOCHS
        epoch_LT = rng.normal(0, STORED_SCALE, (num_epochs, samples)).astype(np.int16)
        if modality in modalities:
            windows = epoch_LT[starts[:, None] + np.arange(SEGMENT_EPOCHS)]
            signals[modality] = windows.reshape(len(starts), -1)
    return Night(
        recording_id="noise",
        num_epochs=num_epochs,
        signals=signals,
        usable={m: np.ones(num_epochs, np.bool_) for m in signals},
        statistics={m: ChannelStatistics(mean=0.0, std=1.0, unit="uV") for m in signals},
    )
