"""Demographic-Guided Contrastive Learning (DGCL), SleepMaMi eqs. 4-6.

Shapes: C cycles, K subjects in the batch, D features.

A subject with an unknown age, BMI or sex is left out of the batch beforehand, as in Appendix C.

Choices where the paper is silent: z is L2-normalised here; a subject takes part in a cycle if its
night is long enough, and both softmaxes of eq. 4 run over those present.

Departures from the paper:
    `include_self=False`: k of eq. 4 leaves out i. With it, exp(1 / rho) = 22 026 of the self pair
    stands in the denominator, but eq. 6 has no term i = i that could match it, which draws even
    unlike subjects together. `include_self=True` is the literal equation.
    `reduction="mean"`: eq. 6 divided by the number of anchors (c, i), so that the loss does not
    grow with batch and night. `reduction="sum"` is the literal equation.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def demographic_distance(
    age_K: Tensor, bmi_K: Tensor, female_K: Tensor, *, lambda_sex: float
) -> Tensor:
    """Eq. 5: distance [K, K] from z-scored age and BMI, and a bool for sex."""
    age_KK = (age_K[:, None] - age_K).abs()
    bmi_KK = (bmi_K[:, None] - bmi_K).abs()
    return (age_KK + bmi_KK) / 2 + lambda_sex * (female_K[:, None] != female_K)


def dgcl(
    z_CKD: Tensor,
    distance_KK: Tensor,
    present_CK: Tensor,
    *,
    rho: float,
    v: float,
    include_self: bool,
    reduction: Literal["mean", "sum"],
) -> Tensor:
    """Eqs. 4 and 6 for one direction, over cycles and ordered pairs i != j.

    Args:
        z_CKD: one direction's states at the ends of the cycles, of any length.
        distance_KK: eq. 5.
        present_CK: bool, the subject's night reaches the end of the cycle. What `z_CKD` holds
            elsewhere never enters.
        rho: temperature of the similarities.
        v: temperature of the weights.
        include_self: whether k of eq. 4 runs over i too.
        reduction: "sum" is eq. 6, "mean" divides it by the number of (c, i) that have a partner.

    Returns:
        A scalar, 0 where no cycle has two subjects.
    """
    z_CKD = z_CKD.masked_fill(~present_CK.unsqueeze(2), 0.0)
    z_CKD = F.normalize(z_CKD.to(torch.promote_types(z_CKD.dtype, torch.float32)), dim=2)
    with torch.autocast(z_CKD.device.type, enabled=False):  # rho would magnify bfloat16's errors
        similarity_CKK = z_CKD @ z_CKD.mT / rho
    others_KK = ~torch.eye(z_CKD.shape[1], dtype=torch.bool, device=z_CKD.device)
    both_CKK = present_CK.unsqueeze(2) & present_CK.unsqueeze(1)
    pairs_CKK = both_CKK & others_KK
    terms_CKK = both_CKK if include_self else pairs_CKK  # what k of eq. 4 runs over
    # The lowest finite number, not -inf: a row without terms must not become NaN.
    lowest = torch.finfo(z_CKD.dtype).min
    logits_CKK = (-distance_KK.to(z_CKD.dtype) / v).expand_as(similarity_CKK)
    weight_CKK = torch.softmax(logits_CKK.masked_fill(~terms_CKK, lowest), dim=2)
    log_p_CKK = torch.log_softmax(similarity_CKK.masked_fill(~terms_CKK, lowest), dim=2)
    total = (-weight_CKK * log_p_CKK).masked_fill(~pairs_CKK, 0.0).sum()
    if reduction == "sum":
        return total
    return total / pairs_CKK.any(dim=2).sum().clamp(min=1)
