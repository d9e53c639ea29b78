"""KoLeo regularisation (Sablayrolles et al., 2018): spread embeddings over the sphere, eq. 3.

Shapes: S streams, N timeslots of the local batch, D width.

Choices where the paper is silent: the form of DINOv2, on L2-normalised shared embeddings, with
the nearest neighbour in the local batch and within the same modality.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-8  # DINOv2; keeps the logarithm of a zero distance finite


def koleo_loss(z_SND: Tensor, valid_SN: Tensor) -> Tensor:
    """Mean of -log(distance to the nearest other slot of the same stream).

    Args:
        z_SND: slot embeddings, of any length.
        valid_SN: False where a slot has no such stream; its values have no effect.

    Returns:
        A scalar; 0 when no stream has two valid slots.
    """
    with torch.autocast(z_SND.device.type, enabled=False):
        present_SN1 = valid_SN[..., None]
        unit_SND = functional.normalize(z_SND.float().masked_fill(~present_SN1, 0.0), dim=-1)
        nearest_SND = unit_SND.gather(
            1, _nearest(unit_SND, valid_SN)[..., None].expand_as(unit_SND)
        )
        distance_SN = functional.pairwise_distance(unit_SND, nearest_SND, eps=EPS)
        counted_SN = valid_SN & (valid_SN.sum(1, keepdim=True) > 1)
        loss_SN = torch.where(counted_SN, -(distance_SN + EPS).log(), 0.0)
        return loss_SN.sum() / counted_SN.sum().clamp_min(1)


@torch.no_grad()
def _nearest(unit_SND: Tensor, valid_SN: Tensor) -> Tensor:
    """Index of each slot's nearest valid other slot, [S, N]."""
    itself_NN = torch.eye(valid_SN.shape[1], dtype=torch.bool, device=valid_SN.device)
    similarity_SNN = unit_SND @ unit_SND.mT
    return similarity_SNN.masked_fill(~valid_SN[:, None] | itself_NN, -torch.inf).argmax(-1)
