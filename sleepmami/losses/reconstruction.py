"""Masked reconstruction, SleepMaMi eq. 1 and Appendix C.

Shapes: S streams, B segments, P patches (120), T samples of a patch (50) or of a segment (6000).

Choices where the paper is silent: the moving average at the ends of a segment uses the points
that exist; the average over modalities is over all streams that are there.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def smooth_target(signal_SBT: Tensor, points: int) -> Tensor:
    """Moving average of an odd number of adjacent points: what the decoder is asked for."""
    smooth_XT = functional.avg_pool1d(
        signal_SBT.flatten(0, -2).unsqueeze(1),
        kernel_size=points,
        stride=1,
        padding=points // 2,
        count_include_pad=False,
    )
    return smooth_XT.view_as(signal_SBT)


def reconstruction_loss(
    predicted_SBPT: Tensor,
    target_SBPT: Tensor,
    hidden_SBP: Tensor,
    valid_SBP: Tensor,
    *,
    over: Literal["masked", "all"],
) -> Tensor:
    """Eq. 1: squared error of the hidden patches, averaged over the streams with a valid patch.

    Args:
        predicted_SBPT: reconstruction.
        target_SBPT: smoothed signal.
        hidden_SBP: True for patches the encoder did not see.
        valid_SBP: False for patches that are not there: of an absent stream, or of an unusable
            epoch. Their values have no effect.
        over: what a stream's mean runs over: the hidden patches (MAE), or literally all, where
            the others count as zero error and a 50 % mask halves the value.

    Returns:
        A scalar; 0 when there is nothing to average.
    """
    scored_SBP = hidden_SBP & valid_SBP
    # Chosen before squaring: where a patch is not there, even NaN must not reach the gradient.
    error_SBPT = torch.where(
        scored_SBP[..., None], predicted_SBPT.float() - target_SBPT.float(), 0.0
    )
    error_SB = error_SBPT.square().mean(-1).sum(-1)
    counted_SBP = scored_SBP if over == "masked" else valid_SBP
    error_SB = error_SB / counted_SBP.sum(-1).clamp_min(1)
    return error_SB.sum() / valid_SBP.any(-1).sum().clamp_min(1)
