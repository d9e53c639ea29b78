"""KoLeo regularisation (Sablayrolles et al., 2018): spread embeddings over the sphere, eq. 3.

Shapes: S streams, N timeslots of the local batch, D width.

Choices where the paper is silent: the form of DINOv2, on L2-normalised shared embeddings, with
the nearest neighbour in the local batch and within the same modality. The other slot of the same
segment, which the encoder saw together with this one, is a trivial neighbour; `slots_per_segment=2`
looks past it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-8  # DINOv2; keeps the logarithm of a zero distance finite


def koleo_loss(z_SND: Tensor, valid_SN: Tensor, *, slots_per_segment: int = 1) -> Tensor:
    """Mean of -log(distance to the nearest other slot of the same stream).

    Args:
        z_SND: slot embeddings, of any length.
        valid_SN: False where a slot has no such stream; its values have no effect.
        slots_per_segment: so many adjacent slots are no neighbours of one another.

    Returns:
        A scalar; 0 when no valid slot has a neighbour.
    """
    with torch.autocast(z_SND.device.type, enabled=False):
        present_SN1 = valid_SN[..., None]
        unit_SND = functional.normalize(z_SND.float().masked_fill(~present_SN1, 0.0), dim=-1)
        segment_N = torch.arange(valid_SN.shape[1], device=valid_SN.device) // slots_per_segment
        neighbour_SNN = valid_SN[:, None] & (segment_N[:, None] != segment_N)
        nearest_SN = _nearest(unit_SND, neighbour_SNN)
        nearest_SND = unit_SND.gather(1, nearest_SN[..., None].expand_as(unit_SND))
        distance_SN = functional.pairwise_distance(unit_SND, nearest_SND, eps=EPS)
        counted_SN = valid_SN & neighbour_SNN.any(-1)
        loss_SN = torch.where(counted_SN, -(distance_SN + EPS).log(), 0.0)
        return loss_SN.sum() / counted_SN.sum().clamp_min(1)


@torch.no_grad()
def _nearest(unit_SND: Tensor, neighbour_SNN: Tensor) -> Tensor:
    """Index of each slot's nearest neighbour, [S, N]."""
    similarity_SNN = unit_SND @ unit_SND.mT
    return similarity_SNN.masked_fill(~neighbour_SNN, -torch.inf).argmax(-1)
