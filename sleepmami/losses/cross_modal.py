"""Cross-modal contrast of shared embeddings, SleepMaMi eq. 2.

Shapes: S streams, N timeslots (30 s) of the batch, D width.

Choices where the paper is silent: embeddings are L2-normalised here; the mean over the other
modalities is not normalised again; there are no projection heads and no symmetric term; the loss
is averaged over all valid (stream, slot) pairs that have at least one other stream.

Departures from the paper: none by default, but eq. 2 and its text disagree on the temporal
negatives. The equation takes the mean of the *other* modalities at the other slots, the text
"shared embeddings of the same modality from different timeslots"; `temporal_negatives` says which.
`slot_negatives` says which slots they come from. The place of a slot in its segment is something
that all modalities know of each other without hearing anything: it alone tells a slot from the
other of its segment and from half of all the others. "other_segments" leaves out the former,
"same_place" both.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def contrastive_loss(
    shared_SND: Tensor,
    private_SND: Tensor,
    valid_SN: Tensor,
    *,
    tau: float,
    temporal_negatives: Literal["equation", "text"] = "equation",
    slot_negatives: Literal["all", "other_segments", "same_place"] = "all",
    slots_per_segment: int = 2,
) -> Tensor:
    """Eq. 2, averaged over modalities and timeslots.

    Args:
        shared_SND: z, mean of a slot's shared tokens; the gathered slots of all workers.
        private_SND: z tilde, mean of the same slot's private tokens.
        valid_SN: False where a slot has no such stream; its values have no effect.
        tau: temperature.
        temporal_negatives: see the module docstring.
        slot_negatives: which slots may be negatives of a slot: all others (eq. 2), those of other
            segments, or those at the same place in other segments.
        slots_per_segment: so many adjacent slots make a segment.

    Returns:
        A scalar; 0 when no slot has two streams.
    """
    with torch.autocast(shared_SND.device.type, enabled=False):
        z_SND = _unit(shared_SND, valid_SN)
        private_SND = _unit(private_SND, valid_SN)
        num_others_SN = valid_SN.sum(0) - valid_SN.int()
        others_SND = (z_SND.sum(0) - z_SND) / num_others_SN.clamp_min(1)[..., None]
        anchor_SN = valid_SN & (num_others_SN > 0)

        positive_SN = (z_SND * others_SND).sum(-1) / tau
        if temporal_negatives == "equation":
            candidate_SND, present_SN = others_SND, num_others_SN > 0
        else:
            candidate_SND, present_SN = z_SND, valid_SN
        slot_N = torch.arange(valid_SN.shape[1], device=valid_SN.device)
        negative_NN = _negatives(slot_N, slot_negatives, slots_per_segment)
        temporal_SNN = z_SND @ candidate_SND.mT / tau
        temporal_SNN = temporal_SNN.masked_fill(~(present_SN[:, None] & negative_NN), -torch.inf)
        private_SN = (z_SND * private_SND).sum(-1) / tau

        logit_SNK = torch.cat([positive_SN[..., None], temporal_SNN, private_SN[..., None]], dim=-1)
        loss_SN = logit_SNK.logsumexp(-1) - positive_SN
        return torch.where(anchor_SN, loss_SN, 0.0).sum() / anchor_SN.sum().clamp_min(1)


def _negatives(slot_N: Tensor, which: str, slots_per_segment: int) -> Tensor:
    """Whether slot s (column) may be a negative of slot t (row)."""
    segment_N, place_N = slot_N // slots_per_segment, slot_N % slots_per_segment
    if which == "other_segments":
        return segment_N[:, None] != segment_N
    other_NN = slot_N[:, None] != slot_N
    return other_NN & (place_N[:, None] == place_N) if which == "same_place" else other_NN


def _unit(x_SND: Tensor, valid_SN: Tensor) -> Tensor:
    """Unit vectors, and zeros where a stream is not there, whatever its values."""
    return functional.normalize(x_SND.float().masked_fill(~valid_SN[..., None], 0.0), dim=-1)
