"""A vector for each second of a night, from the fused tokens of its epochs.

A token of the Micro-Encoder stands for 2.5 s (Table 8), and saw them through the 5 s around its
middle. A second has the mixture of the two tokens whose middles its own middle lies between, and
the nearest one at the ends of an epoch: nothing passes from one epoch to the next, so that a second
is known where its epoch is. Tables keep the tokens, which are 2.5 times fewer.

Shapes: L epochs, T tokens of an epoch (12), F features; 30 seconds an epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sleepmami.errors import TableError
from sleepmami.psg import EPOCH_S
from sleepmami.tables.schemas import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPOCHS_AT_ONCE = 64  # of which a copy in float32 is made
SECOND_TABLE = "second_embeddings.lance"


def seconds_from_tokens(tokens_LTF: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Tokens [L, T, F] -> vectors of seconds float32 [30 L, F]."""
    num_epochs, num_tokens, width = tokens_LTF.shape
    mixture_ST = second_mixture(num_tokens)
    second_LSF = np.empty((num_epochs, EPOCH_S, width), np.float32)
    for first in range(0, num_epochs, EPOCHS_AT_ONCE):
        part = slice(first, first + EPOCHS_AT_ONCE)
        np.matmul(mixture_ST, tokens_LTF[part].astype(np.float32), out=second_LSF[part])
    return second_LSF.reshape(num_epochs * EPOCH_S, width)


def second_mixture(num_tokens: int) -> NDArray[np.float32]:
    """How much of each token a second has: [30, T], rows sum to 1."""
    token_s = EPOCH_S / num_tokens
    middle_S = (np.arange(EPOCH_S) + 0.5) / token_s - 0.5  # in tokens
    distance_ST = np.abs(np.clip(middle_S, 0, num_tokens - 1)[:, None] - np.arange(num_tokens))
    mixture_ST: NDArray[np.float32] = np.maximum(1 - distance_ST, 0).astype(np.float32)
    return mixture_ST


def second_row(
    *,
    recording_id: str,
    source_hash: str | None,
    tokens: NDArray[np.floating[Any]],
    model_id: str,
    weights_sha256: str,
) -> Row:
    """A night's tokens [L, T, F] as a row of second_embeddings.lance.

    Raises:
        TableError: numbers that are not finite in half precision.
    """
    num_epochs, num_tokens, width = tokens.shape
    with np.errstate(over="ignore"):  # an overflow is infinite, and found below
        stored = tokens.astype(np.float16).reshape(-1)
    num_bad = stored.size - np.count_nonzero(np.isfinite(stored))
    if num_bad:
        raise TableError(
            f"{recording_id}: tokens: found {num_bad} of {stored.size} numbers not finite as "
            "float16; expected only finite ones"
        )
    return {
        "recording_id": recording_id,
        "source_hash": source_hash,
        "num_epochs": num_epochs,
        "tokens_per_epoch": num_tokens,
        "token_dim": width,
        "tokens": stored,
        "model_id": model_id,
        "weights_sha256": weights_sha256,
    }


def seconds_of_row(row: Row, tokens: NDArray[np.float16]) -> NDArray[np.float32]:
    """Vectors of seconds [30 L, F] of a stored night.

    Args:
        row: its cells.
        tokens: of the row, flat.

    Raises:
        TableError: as many numbers as the row's sizes do not say.
    """
    shape = (row["num_epochs"], row["tokens_per_epoch"], row["token_dim"])
    if tokens.size != np.prod(shape):
        raise TableError(
            f"{row['recording_id']}: tokens: found {tokens.size} values; expected {list(shape)}"
        )
    return seconds_from_tokens(tokens.reshape(shape))
