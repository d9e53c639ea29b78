"""A night cut into segments 30 s later, so that each epoch is heard in the other half of one.

Shapes: L epochs of the night, T samples of an epoch as stored, K segments.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import SEGMENT_EPOCHS, Night, segment_start_epochs


def from_second_epoch(night: Night) -> Night:
    """The night without its first epoch and what describes the whole; at least 3 epochs long."""
    return dataclasses.replace(
        night,
        num_epochs=night.num_epochs - 1,
        signals={m: _recut(stored, night.num_epochs) for m, stored in night.signals.items()},
        usable={m: usable_L[1:] for m, usable_L in night.usable.items()},
        hypnogram=None,
        events=None,
        gaps=(),
    )


def _recut(stored_KT: NDArray[np.int16], num_epochs: int) -> NDArray[np.int16]:
    """Segments that start with the odd epochs, from those that start with the even ones."""
    starts = np.array(segment_start_epochs(num_epochs))
    halves = np.arange(SEGMENT_EPOCHS)
    epoch_LT = np.empty((num_epochs, stored_KT.shape[1] // SEGMENT_EPOCHS), np.int16)
    epoch_LT[starts[:, None] + halves] = stored_KT.reshape(len(starts), SEGMENT_EPOCHS, -1)
    later = 1 + np.array(segment_start_epochs(num_epochs - 1))
    return epoch_LT[later[:, None] + halves].reshape(len(later), -1)
