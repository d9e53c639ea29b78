"""The vectors of a night's 90-minute cycles, and of the night, out of its epochs' macro vectors.

For whoever has a row of night_embeddings.lance or a file of `embed file`, without torch. The
Embedder gives the same numbers; docs/macro.md says what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sleepmami.config import PartialCycle, half_cycle
from sleepmami.psg import CYCLE_EPOCHS

NIGHT_VECTOR = "mean_of_valid_epochs"  # what `night` is, in the info of files and answers

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cycle_vectors(
    macro: NDArray[np.float32],
    *,
    cycle_epochs: int = CYCLE_EPOCHS,
    partial_cycle: PartialCycle = "drop",
) -> NDArray[np.float32]:
    """The states at the ends of cycles [C, 2 x dim], one row per cycle.

    The first half of row c is the forward state at the end of the c-th cycle from the start of the
    night, the second half the backward state after reading the c-th cycle from its end. DGCL
    compares them, unless `dgcl.reads` of the model is "running_mean" (docs/macro.md).

    Args:
        macro: [L, 2 x dim], in the order of time.
        cycle_epochs: `dgcl.cycle_epochs` of the model.
        partial_cycle: `dgcl.partial_cycle` of the model.
    """
    length, width = macro.shape
    least = half_cycle(cycle_epochs) if partial_cycle == "last" else cycle_epochs
    num_cycles = (length + cycle_epochs - least) // cycle_epochs
    end = np.minimum(np.arange(1, num_cycles + 1) * cycle_epochs, length)
    forward, backward = macro[end - 1, : width // 2], macro[length - end, width // 2 :]
    return np.concatenate([forward, backward], axis=1)


def night_vector(macro: NDArray[np.float32], epoch_valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The mean of the valid epochs [2 x dim]; without any, the last state of each direction.

    Args:
        macro: [L, 2 x dim], in the order of time.
        epoch_valid: [L], of the same row or file.
    """
    half = macro.shape[1] // 2
    if not epoch_valid.any():
        return np.concatenate([macro[-1, :half], macro[0, half:]])
    return np.asarray(macro[epoch_valid].mean(axis=0, dtype=np.float64).astype(np.float32))
