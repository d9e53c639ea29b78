"""What pretraining of the Micro-Encoder descends: eqs. 1-3 over segments.

Shapes: S streams, B segments of a micro batch, E epochs of a segment, N timeslots (30 s), M merged
tokens, P patches, T samples, D features.

Choices where the paper is silent: eq. 2 sees the slots of the whole batch, of all workers and micro
batches; KoLeo looks for neighbours in its own micro batch only. An unusable epoch beside a usable
one is encoded with it, as zeros, but is no target of eq. 1 and no slot of eq. 2 and KoLeo.

Departures from the paper: with `contrast_over="micro_batch"` and gradient accumulation eq. 2 runs
over one micro batch of all workers at a time, so its N is 2 x micro_batch x num_workers and not
twice the batch size.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sleepmami.config import ContrastiveView, MicroPretrainConfig
from sleepmami.losses.cross_modal import contrastive_loss
from sleepmami.losses.koleo import koleo_loss
from sleepmami.losses.reconstruction import reconstruction_loss, smooth_target
from sleepmami.models.masking import NUM_PATCHES, Masks, draw_masks
from sleepmami.models.micro_encoder import (
    ContrastTokens,
    MicroEncoder,
    MicroOutput,
    epoch_means,
)
from sleepmami.models.moe import ExpertLoad
from sleepmami.psg import MODALITIES, PATCH_SAMPLES, SEGMENT_EPOCHS
from sleepmami.training import collectives
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.cached_contrast import CachedContrast, cached_contrast
from sleepmami.training.engine import Objective


class Reconstruction(NamedTuple):
    """What the encoder made of a micro batch, and what eq. 1 asks of it."""

    output: MicroOutput
    target_SBPT: Tensor
    hidden_SBP: Tensor
    valid_SBP: Tensor

    def loss(self, over: Literal["masked", "all"]) -> Tensor:
        """Eq. 1."""
        return reconstruction_loss(
            self.output.reconstruction_SBPT,
            self.target_SBPT,
            self.hidden_SBP,
            self.valid_SBP,
            over=over,
        )

    def of_stream(self, stream: int) -> "Reconstruction":
        """The same of one stream alone."""
        one = slice(stream, stream + 1)
        predicted_SBPT = self.output.reconstruction_SBPT[one]
        return Reconstruction(
            self.output._replace(reconstruction_SBPT=predicted_SBPT),
            self.target_SBPT[one],
            self.hidden_SBP[one],
            self.valid_SBP[one],
        )


class _StepPlan(NamedTuple):
    """What a micro batch must know of the others of its step.

    Attributes:
        first_lane: of this worker.
        mean_streams: valid streams of a micro batch, on average over all lanes.
        contrast: eq. 2 over the whole batch; None where each micro batch has its own.
        accuracy: of retrieval in the whole batch; None as well.
    """

    first_lane: int
    mean_streams: Tensor
    contrast: CachedContrast | None = None
    accuracy: Tensor | None = None


class MicroObjective(Objective):
    """Masked reconstruction, cross-modal contrast and KoLeo: eq. 3.

    Without a shared encoder (model.shared_depth = 0) the reconstruction alone: Table 11, row 1.

    Args:
        model: the encoder to train.
        config: masks and weights of the losses.
        seed: with step and lane it decides the masks, so that a resumed training draws the masks
            it would have drawn, on any number of workers.
    """

    def __init__(self, model: MicroEncoder, config: MicroPretrainConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._seed = seed
        self._expert_counts: Tensor | None = None
        self._plan: _StepPlan | None = None

    def before_step(self, micro_batches: Sequence[SegmentBatch], step: int) -> None:
        """Look at the whole step: its streams and, when they accumulate, all slots of eq. 2."""
        self._plan = self._plan_of(micro_batches, step)

    def _plan_of(self, micro_batches: Sequence[SegmentBatch], step: int) -> _StepPlan:
        config = self.config.loss
        first_lane = collectives.rank() * len(micro_batches)
        streams = torch.stack([batch.valid_SB.sum() for batch in micro_batches]).float().mean()
        plan = _StepPlan(first_lane, collectives.mean_over_workers(streams))
        if len(micro_batches) == 1 or config.contrast_over == "micro_batch" or not config.lambda_cl:
            return plan
        view = self.config.contrastive_view
        slots = [
            self.slots(batch, self.draw_masks(batch.num_rows, step, lane), view)
            for lane, batch in enumerate(micro_batches, first_lane)
        ]
        contrast = cached_contrast(slots, self.contrastive)
        shared_SGD, _ = contrast.slots_SGD.chunk(2, dim=-1)
        accuracy = retrieval_accuracy(shared_SGD, contrast.valid_SG)
        return plan._replace(contrast=contrast, accuracy=accuracy)

    def slots(
        self, batch: SegmentBatch, masks: Masks, view: ContrastiveView
    ) -> tuple[Tensor, Tensor]:
        """Shared beside private embeddings of all slots, [S, N, 2 D], and which are there."""
        signal_SBT, valid_SBE = batch
        masks = masks.to(signal_SBT.device)
        modality_S = torch.arange(len(MODALITIES), device=signal_SBT.device)
        tokens = self.model.contrast_tokens(signal_SBT, modality_S, masks, batch.valid_SB, view)
        return torch.cat(slot_means(tokens), dim=-1), valid_SBE.flatten(1)

    def forward(
        self, batch: SegmentBatch, step: int, lane: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one micro batch, and its parts; without `before_step` it is the whole batch."""
        plan = self._plan or self._plan_of([batch], step)
        seen = self.reconstruct(batch, self.draw_masks(batch.num_rows, step, lane))
        share = batch.valid_SB.sum() / plan.mean_streams.clamp_min(1e-9)
        reconstruction = seen.loss(self.config.loss.reconstruction_over) * share
        loss, parts = reconstruction, {"loss/reconstruction": reconstruction}
        if self.config.model.shared_depth:
            self._count_experts(seen.output.expert_counts)
            parts |= self._compare_slots(seen.output, batch.valid_SBE, plan, lane)
            loss = loss + self.config.loss.lambda_cl * parts["loss/contrastive"]
            loss = loss + self.config.loss.lambda_koleo * parts["loss/koleo"]
            loss = loss + self.config.loss.lambda_balance * parts["loss/balance"]
        with torch.no_grad():
            metrics = {"loss/total": loss, **parts, **self._by_modality(seen)}
        return loss, {name: value.detach() for name, value in metrics.items()}

    def run_model(self, batch: SegmentBatch) -> None:
        """One forward pass."""
        self.reconstruct(batch, self.draw_masks(batch.num_rows, 0, 0))

    def reconstruct(self, batch: SegmentBatch, masks: Masks) -> Reconstruction:
        """Run the encoder on what the masks leave, beside what it is asked for."""
        signal_SBT, valid_SBE = batch
        masks = masks.to(signal_SBT.device)
        modality_S = torch.arange(len(MODALITIES), device=signal_SBT.device)
        view = self.config.contrastive_view
        output = self.model(signal_SBT, modality_S, masks, batch.valid_SB, view)
        smooth_SBT = smooth_target(signal_SBT, self.config.loss.smoothing_points)
        return Reconstruction(
            output=output,
            target_SBPT=torch.unflatten(smooth_SBT, -1, (NUM_PATCHES, PATCH_SAMPLES)),
            hidden_SBP=masks.hidden_SBP,
            valid_SBP=valid_SBE.repeat_interleave(NUM_PATCHES // SEGMENT_EPOCHS, dim=-1),
        )

    def _compare_slots(
        self, output: MicroOutput, valid_SBE: Tensor, plan: _StepPlan, lane: int
    ) -> dict[str, Tensor]:
        """The parts of eq. 3 that read the shared encoder, and what describes it."""
        shared_SND, private_SND = slot_means(output)
        valid_SN = valid_SBE.flatten(1)
        both_SND = torch.cat([shared_SND, private_SND], dim=-1)
        if plan.contrast is not None and plan.accuracy is not None:
            contrastive = plan.contrast.loss_of(lane - plan.first_lane, both_SND)
            accuracy = plan.accuracy
        else:
            all_SND = collectives.gather_rows(both_SND, dim=1)
            all_valid_SN = collectives.gather_rows(valid_SN, dim=1)
            contrastive = self.contrastive(all_SND, all_valid_SN)
            with torch.no_grad():
                accuracy = retrieval_accuracy(all_SND.chunk(2, dim=-1)[0], all_valid_SN)
        koleo = self.koleo(shared_SND, valid_SN)
        load = ExpertLoad(output.expert_counts, output.expert_probability)
        return {
            "loss/contrastive": contrastive,
            "loss/koleo": koleo,
            "loss/balance": load.balancing_loss(),
            "contrast/accuracy": accuracy,
            **_expert_shares(load.count_E),
        }

    def contrastive(self, both_SND: Tensor, valid_SN: Tensor) -> Tensor:
        """Eq. 2 over shared beside private embeddings."""
        config = self.config.loss
        shared_SND, private_SND = both_SND.chunk(2, dim=-1)
        return contrastive_loss(
            shared_SND,
            private_SND,
            valid_SN,
            tau=config.tau,
            temporal_negatives=config.temporal_negatives,
            slot_negatives=config.slot_negatives,
            slots_per_segment=SEGMENT_EPOCHS,
        )

    def koleo(self, shared_SND: Tensor, valid_SN: Tensor) -> Tensor:
        """KoLeo of eq. 3 over the shared embeddings of a micro batch."""
        apart = 1 if self.config.loss.own_segment_neighbours else SEGMENT_EPOCHS
        return koleo_loss(shared_SND, valid_SN, slots_per_segment=apart)

    def draw_masks(self, num_segments: int, step: int, lane: int) -> Masks:
        """The masks of one micro batch, a function of the seed and these numbers."""
        return self.seeded_masks(num_segments, (self._seed, step, lane))

    def seeded_masks(self, num_segments: int, entropy: Sequence[int]) -> Masks:
        """Masks as training draws them, a function of `entropy`."""
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        return draw_masks(self.config.masking, MODALITIES, num_segments, generator)

    def after_step(self) -> None:
        """Balance the experts' load by the tokens that all workers routed in this step."""
        if self._expert_counts is not None and self.config.model.balancing == "bias":
            self.model.balance_experts(collectives.sum_over_workers(self._expert_counts))
        self._expert_counts = None
        self._plan = None

    def _count_experts(self, counts: Tensor) -> None:
        before = self._expert_counts
        self._expert_counts = counts if before is None else before + counts

    def _by_modality(self, seen: Reconstruction) -> dict[str, Tensor]:
        """Eq. 1 of each modality; NaN where no segment has it."""
        losses = {}
        for stream, modality in enumerate(MODALITIES):
            loss = seen.of_stream(stream).loss(self.config.loss.reconstruction_over)
            there = seen.valid_SBP[stream].any()
            losses[f"loss/reconstruction_{modality}"] = torch.where(there, loss, torch.nan)
        return losses


def slot_means(output: MicroOutput | ContrastTokens) -> tuple[Tensor, Tensor]:
    """Shared and private embedding of each 30-s slot, [S, N, D] each; N = segments x 2."""
    shared_SND = epoch_means(output.shared_SBMD).flatten(1, 2)
    private_SND = epoch_means(output.private_SBMD).flatten(1, 2)
    return shared_SND, private_SND


def retrieval_accuracy(shared_SND: Tensor, valid_SN: Tensor) -> Tensor:
    """Fraction of (stream, slot) whose nearest mean of the other streams is that of its own slot.

    NaN when no slot has two streams. In float32 at any precision: bfloat16 cannot tell slots apart
    whose similarities differ by less than 1 in 256.
    """
    present_SN1 = valid_SN[..., None]
    unit_SND = functional.normalize(shared_SND.float(), dim=-1).masked_fill(~present_SN1, 0.0)
    num_others_SN = valid_SN.sum(0) - valid_SN.int()
    others_SND = (unit_SND.sum(0) - unit_SND) / num_others_SN.clamp_min(1)[..., None]
    with torch.autocast(unit_SND.device.type, enabled=False):
        similarity_SNN = unit_SND @ others_SND.mT
    similarity_SNN = similarity_SNN.masked_fill((num_others_SN == 0)[:, None], -torch.inf)
    own_N = torch.arange(valid_SN.shape[1], device=valid_SN.device)
    hit_SN = similarity_SNN.argmax(-1) == own_N
    anchor_SN = valid_SN & (num_others_SN > 0)
    return (hit_SN & anchor_SN).sum() / anchor_SN.sum()


def _expert_shares(count_LE: Tensor) -> dict[str, Tensor]:
    """How evenly the experts E of each layer L were used, said of the least even layer.

    Of the share of a layer's tokens that an expert got, equal is 1 / E; of the entropy of the
    shares, divided by log E, it is 1.
    """
    share_LE = count_LE / count_LE.sum(dim=1, keepdim=True).clamp_min(1)
    entropy_L = -torch.xlogy(share_LE, share_LE).sum(dim=1) / math.log(max(count_LE.shape[1], 2))
    return {
        "moe/min_share": share_LE.min(),
        "moe/max_share": share_LE.max(),
        "moe/min_entropy": entropy_L.min(),
        "moe/dead_experts": (count_LE == 0).sum().float(),
    }
