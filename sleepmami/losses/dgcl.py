"""Demographic-Guided Contrastive Learning (DGCL), SleepMaMi eqs. 4-6.

Shapes: C cycles, K subjects in the batch, D features.

A value that is not known is NaN. Appendix C leaves such subjects out of the batch beforehand.

Choices where the paper is silent: z is L2-normalised here (`similarity="dot"` takes it as it is); a
subject takes part in a cycle if its night is long enough, and both softmaxes of eq. 4 run over
those present; with one of age and BMI, the mean of eq. 5 is that one; two subjects of whom nothing
is known that eq. 5 could compare are no pair, in neither sum of eq. 4.

Departures from the paper:
    `include_self=False`: k of eq. 4 leaves out i. With it, exp(1 / rho) = 22 026 of the self pair
    stands in the denominator, but eq. 6 has no term i = i that could match it, which draws even
    unlike subjects together. `include_self=True` is the literal equation.
    `reduction="mean"`: eq. 6 divided by the number of anchors (c, i), so that the loss does not
    grow with batch and night. `reduction="sum"` is the literal equation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sleepmami.config import FACTORS


def demographic_distance(
    age_K: Tensor,
    bmi_K: Tensor,
    female_K: Tensor,
    *,
    lambda_sex: float,
    factors: Collection[str] = FACTORS,
) -> Tensor:
    """Eq. 5 over the factors that both subjects of a pair know.

    |age_i - age_j| and |BMI_i - BMI_j| are averaged over those of the two that are factors and
    known of both; the penalty is added where the sexes are known and differ.

    Args:
        age_K: z-scored; NaN where unknown.
        bmi_K: as `age_K`.
        female_K: bool, or 1 and 0 with NaN where unknown.
        lambda_sex: the penalty.
        factors: which of "age", "sex", "bmi" are compared.

    Returns:
        Distance [K, K], infinite where a pair has nothing in common: neither age nor BMI, or,
        where sex is the only factor, no sex. Zero on the diagonal.
    """
    scalars = [value for name, value in (("age", age_K), ("bmi", bmi_K)) if name in factors]
    female_K = female_K.to(age_K.dtype)
    apart_KK = (female_K[:, None] - female_K).abs()  # NaN where a sex is unknown
    if scalars:
        apart_SKK = torch.stack([(value[:, None] - value).abs() for value in scalars])
        distance_KK = apart_SKK.nanmean(0)  # NaN where nothing is known of both
    else:
        distance_KK = torch.where(apart_KK.isnan(), torch.nan, 0.0)
    if "sex" in factors:
        distance_KK = distance_KK + lambda_sex * apart_KK.nan_to_num(0.0)
    return distance_KK.nan_to_num(torch.inf).fill_diagonal_(0.0)


def pairs_and_terms(
    distance_KK: Tensor, present_CK: Tensor, include_self: bool
) -> tuple[Tensor, Tensor]:
    """The pairs i != j of eq. 6, and the k over which eq. 4 sums; bool [C, K, K] each."""
    others_KK = ~torch.eye(len(distance_KK), dtype=torch.bool, device=distance_KK.device)
    both_CKK = present_CK.unsqueeze(2) & present_CK.unsqueeze(1)
    pairs_CKK = both_CKK & others_KK & distance_KK.isfinite()
    return pairs_CKK, (pairs_CKK | both_CKK & ~others_KK) if include_self else pairs_CKK


def dgcl(
    z_CKD: Tensor,
    distance_KK: Tensor,
    present_CK: Tensor,
    *,
    rho: float,
    v: float,
    include_self: bool,
    reduction: Literal["mean", "sum"],
    similarity: Literal["cosine", "dot"] = "cosine",
) -> Tensor:
    """Eqs. 4 and 6 for one direction, over cycles and ordered pairs i != j.

    Args:
        z_CKD: one direction's states at the ends of the cycles, or their means up to there, of any
            length.
        distance_KK: eq. 5, infinite where a pair cannot be compared.
        present_CK: bool, the subject's night reaches the end of the cycle. What `z_CKD` holds
            elsewhere never enters.
        rho: temperature of the similarities.
        v: temperature of the weights.
        include_self: whether k of eq. 4 runs over i too.
        reduction: "sum" is eq. 6, "mean" divides it by the number of (c, i) that have a partner.
        similarity: what stands for the brackets of eq. 4.

    Returns:
        A scalar, 0 where no cycle has two subjects that can be compared.
    """
    z_CKD = z_CKD.masked_fill(~present_CK.unsqueeze(2), 0.0)
    z_CKD = z_CKD.to(torch.promote_types(z_CKD.dtype, torch.float32))
    if similarity == "cosine":
        z_CKD = F.normalize(z_CKD, dim=2)
    with torch.autocast(z_CKD.device.type, enabled=False):  # rho would magnify bfloat16's errors
        similarity_CKK = z_CKD @ z_CKD.mT / rho
    pairs_CKK, terms_CKK = pairs_and_terms(distance_KK, present_CK, include_self)
    # The lowest finite number, not -inf: a row without terms must not become NaN.
    lowest = torch.finfo(z_CKD.dtype).min
    logits_CKK = (-distance_KK.to(z_CKD.dtype) / v).expand_as(similarity_CKK)
    weight_CKK = torch.softmax(logits_CKK.masked_fill(~terms_CKK, lowest), dim=2)
    log_p_CKK = torch.log_softmax(similarity_CKK.masked_fill(~terms_CKK, lowest), dim=2)
    total = (-weight_CKK * log_p_CKK).masked_fill(~pairs_CKK, 0.0).sum()
    if reduction == "sum":
        return total
    return total / pairs_CKK.any(dim=2).sum().clamp(min=1)
