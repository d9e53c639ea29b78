"""What the two pretraining stages descend: eqs. 1-3 over segments, eqs. 4-6 over nights.

Shapes: S streams, B rows of this worker, E epochs of a segment, N timeslots (30 s), M merged
tokens, P patches, T samples; C sleep cycles, K nights of all workers, D features.

Choices where the paper is silent: eq. 2 sees the slots, and eq. 4 the nights, of all workers;
KoLeo looks for neighbours on its own worker only. An unusable epoch beside a usable one is encoded
with it, as zeros, but is no target of eq. 1 and no slot of eq. 2 and KoLeo.

Departures from the paper: with gradient accumulation eq. 2 runs over one micro batch of all
workers at a time, so its N is 2 x micro_batch x num_workers and not twice the batch size.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sleepmami.config import DGCLConfig, MacroPretrainConfig, MicroPretrainConfig
from sleepmami.errors import TrainingError
from sleepmami.losses.cross_modal import contrastive_loss
from sleepmami.losses.dgcl import demographic_distance, dgcl
from sleepmami.losses.koleo import koleo_loss
from sleepmami.losses.reconstruction import reconstruction_loss, smooth_target
from sleepmami.models.macro_encoder import MacroEncoder, cycle_ends, states_at
from sleepmami.models.masking import NUM_PATCHES, Masks, draw_masks
from sleepmami.models.micro_encoder import MicroEncoder, MicroOutput, epoch_means
from sleepmami.psg import MODALITIES, PATCH_SAMPLES, SEGMENT_EPOCHS
from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch, SegmentBatch
from sleepmami.training.engine import Objective


class MicroObjective(Objective):
    """Masked reconstruction, cross-modal contrast and KoLeo: eq. 3.

    Without a shared encoder (model.shared_depth = 0) the reconstruction alone: Table 11, row 1.

    Args:
        model: the encoder to train.
        config: masks and weights of the losses.
        seed: with step, worker and micro batch it decides the masks, so that a resumed training
            draws the masks it would have drawn.
    """

    def __init__(self, model: MicroEncoder, config: MicroPretrainConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._seed = seed
        self._expert_counts: Tensor | None = None

    def forward(
        self, batch: SegmentBatch, step: int, micro_batch: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one micro batch, and its parts."""
        config = self._config.loss
        signal_SBT, valid_SBE = batch
        masks = self.draw_masks(batch.num_rows, step, micro_batch).to(signal_SBT.device)
        modality_S = torch.arange(len(MODALITIES), device=signal_SBT.device)
        output = self.model(signal_SBT, modality_S, masks, batch.valid_SB)

        smooth_SBT = smooth_target(signal_SBT, config.smoothing_points)
        target_SBPT = torch.unflatten(smooth_SBT, -1, (NUM_PATCHES, PATCH_SAMPLES))
        valid_SBP = valid_SBE.repeat_interleave(NUM_PATCHES // SEGMENT_EPOCHS, dim=-1)
        reconstruction = reconstruction_loss(
            output.reconstruction_SBPT,
            target_SBPT,
            masks.hidden_SBP,
            valid_SBP,
            over=config.reconstruction_over,
        ) * _share_of_workers(batch.valid_SB.sum())

        loss, parts = reconstruction, {"loss/reconstruction": reconstruction}
        if self._config.model.shared_depth:
            self._count_experts(output.expert_counts)
            parts |= self._compare_slots(output, valid_SBE)
            loss = loss + config.lambda_cl * parts["loss/contrastive"]
            loss = loss + config.lambda_koleo * parts["loss/koleo"]
        with torch.no_grad():
            by_modality = self._by_modality(output, target_SBPT, masks, valid_SBP)
        metrics = {"loss/total": loss, **parts, **by_modality}
        return loss, {name: value.detach() for name, value in metrics.items()}

    def _compare_slots(self, output: MicroOutput, valid_SBE: Tensor) -> dict[str, Tensor]:
        """The parts of eq. 3 that read the shared encoder, and what describes it."""
        config = self._config.loss
        shared_SND, private_SND = slot_means(output)
        valid_SN = valid_SBE.flatten(1)
        both_SND = collectives.gather_rows(torch.cat([shared_SND, private_SND], dim=-1), dim=1)
        all_shared_SND, all_private_SND = both_SND.chunk(2, dim=-1)
        all_valid_SN = collectives.gather_rows(valid_SN, dim=1)
        contrastive = contrastive_loss(
            all_shared_SND,
            all_private_SND,
            all_valid_SN,
            tau=config.tau,
            temporal_negatives=config.temporal_negatives,
            slot_negatives=config.slot_negatives,
            slots_per_segment=SEGMENT_EPOCHS,
        )
        apart = 1 if config.own_segment_neighbours else SEGMENT_EPOCHS
        koleo = koleo_loss(shared_SND, valid_SN, slots_per_segment=apart)
        with torch.no_grad():
            accuracy = retrieval_accuracy(all_shared_SND, all_valid_SN)
        return {
            "loss/contrastive": contrastive,
            "loss/koleo": koleo,
            "contrast/accuracy": accuracy,
            **_expert_shares(output.expert_counts),
        }

    def draw_masks(self, num_segments: int, step: int, micro_batch: int) -> Masks:
        """This worker's masks of one micro batch, a function of the seed and these numbers."""
        entropy = (self._seed, step, collectives.rank(), micro_batch)
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        return draw_masks(self._config.masking, MODALITIES, num_segments, generator)

    def after_step(self) -> None:
        """Balance the experts' load by the tokens that all workers routed in this step."""
        if self._expert_counts is not None:
            self.model.balance_experts(collectives.sum_over_workers(self._expert_counts))
        self._expert_counts = None

    def _count_experts(self, counts: Tensor) -> None:
        before = self._expert_counts
        self._expert_counts = counts if before is None else before + counts

    def _by_modality(
        self, output: MicroOutput, target_SBPT: Tensor, masks: Masks, valid_SBP: Tensor
    ) -> dict[str, Tensor]:
        """Eq. 1 of each modality; NaN where no segment has it."""
        losses = {}
        for stream, modality in enumerate(MODALITIES):
            one = slice(stream, stream + 1)
            loss = reconstruction_loss(
                output.reconstruction_SBPT[one],
                target_SBPT[one],
                masks.hidden_SBP[one],
                valid_SBP[one],
                over=self._config.loss.reconstruction_over,
            )
            losses[f"loss/reconstruction_{modality}"] = torch.where(
                valid_SBP[stream].any(), loss, torch.nan
            )
        return losses


class MacroObjective(Objective):
    """Demographic-guided contrast of all workers' nights, both directions: eq. 6."""

    def __init__(self, model: MacroEncoder, config: MacroPretrainConfig) -> None:
        super().__init__()
        self.model = model
        self._config = config

    def forward(
        self, batch: MacroBatch, step: int, micro_batch: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch of nights; `loss/excess` is what is left above the lowest possible.

        Raises:
            TrainingError: on every worker, when no cycle is complete in two nights.
        """
        config = self._config.dgcl
        output = self.model(batch.micro_BLMD, batch.modality_valid_BLM, batch.length_B)
        # From max_epochs, not from this batch's longest night: all workers gather equal shapes.
        index_BC, present_BC = cycle_ends(
            batch.length_B, self._config.max_epochs, config.cycle_epochs
        )
        index_BC = index_BC.clamp(max=batch.micro_BLMD.shape[1] - 1)  # where absent, any will do
        states = [states_at(hidden_BLD, index_BC) for hidden_BLD in output]
        states_KCD = collectives.gather_rows(torch.cat(states, dim=-1))
        present_CK = collectives.gather_rows(present_BC).T
        _require_pairs(present_CK, step, config.cycle_epochs)
        distance_KK = demographic_distance(
            collectives.gather_rows(batch.age_B),
            collectives.gather_rows(batch.bmi_B),
            collectives.gather_rows(batch.female_B),
            lambda_sex=config.lambda_sex,
        )
        forward_CKD, backward_CKD = states_KCD.transpose(0, 1).chunk(2, dim=-1)
        forward_loss, backward_loss = (
            dgcl(
                z_CKD,
                distance_KK,
                present_CK,
                rho=config.rho,
                v=config.v,
                include_self=config.include_self,
                reduction=config.reduction,
            )
            for z_CKD in (forward_CKD, backward_CKD)
        )
        loss = forward_loss + backward_loss
        floor = 2 * dgcl_floor(distance_KK, present_CK, config)
        metrics = {
            "loss/total": loss,
            "loss/dgcl": loss,
            "loss/dgcl_forward": forward_loss,
            "loss/dgcl_backward": backward_loss,
            "loss/floor": floor,
            "loss/excess": loss - floor,
        }
        return loss, {name: value.detach() for name, value in metrics.items()}


@torch.no_grad()
def dgcl_floor(distance_KK: Tensor, present_CK: Tensor, config: DGCLConfig) -> Tensor:
    """The lowest value eqs. 4 and 6 can take in one direction, reduced as the loss is.

    A cross entropy of the weights w is least where the similarities reproduce w; it is then their
    entropy. The floor moves with v and lambda_sex, so losses of different settings compare only by
    what is above it. When k runs over i too, w is first renormalised over the j != i of eq. 6.
    """
    others_KK = ~torch.eye(len(distance_KK), dtype=torch.bool, device=distance_KK.device)
    pairs_CKK = present_CK.unsqueeze(2) & present_CK.unsqueeze(1) & others_KK
    itself_CKK = present_CK.unsqueeze(2) & ~others_KK
    terms_CKK = pairs_CKK | itself_CKK if config.include_self else pairs_CKK
    raw_CKK = torch.where(terms_CKK, (-distance_KK.double() / config.v).exp(), 0.0)
    weight_CKK = raw_CKK / raw_CKK.sum(2, keepdim=True).clamp_min(1e-300)
    weight_CKK = weight_CKK.masked_fill(~pairs_CKK, 0.0)
    total_CK1 = weight_CKK.sum(2, keepdim=True).clamp_min(1e-300)
    floor = -torch.xlogy(weight_CKK, weight_CKK / total_CK1).sum().float()
    if config.reduction == "sum":
        return floor
    return floor / pairs_CKK.any(2).sum().clamp_min(1)


def _require_pairs(present_CK: Tensor, step: int, cycle_epochs: int) -> None:
    most = int(present_CK.sum(1).max()) if len(present_CK) else 0
    if most < 2:
        raise TrainingError(
            f"step {step}: found {most} of {present_CK.shape[1]} nights with a complete cycle of "
            f"{cycle_epochs} epochs, expected at least two to compare"
        )


def slot_means(output: MicroOutput) -> tuple[Tensor, Tensor]:
    """Shared and private embedding of each 30-s slot, [S, N, D] each; N = segments x 2."""
    shared_SND = epoch_means(output.shared_SBMD).flatten(1, 2)
    private_SND = epoch_means(output.private_SBMD).flatten(1, 2)
    return shared_SND, private_SND


def retrieval_accuracy(shared_SND: Tensor, valid_SN: Tensor) -> Tensor:
    """Fraction of (stream, slot) whose nearest mean of the other streams is that of its own slot.

    NaN when no slot has two streams.
    """
    present_SN1 = valid_SN[..., None]
    unit_SND = functional.normalize(shared_SND.float(), dim=-1).masked_fill(~present_SN1, 0.0)
    num_others_SN = valid_SN.sum(0) - valid_SN.int()
    others_SND = (unit_SND.sum(0) - unit_SND) / num_others_SN.clamp_min(1)[..., None]
    similarity_SNN = unit_SND @ others_SND.mT
    similarity_SNN = similarity_SNN.masked_fill((num_others_SN == 0)[:, None], -torch.inf)
    own_N = torch.arange(valid_SN.shape[1], device=valid_SN.device)
    hit_SN = similarity_SNN.argmax(-1) == own_N
    anchor_SN = valid_SN & (num_others_SN > 0)
    return (hit_SN & anchor_SN).sum() / anchor_SN.sum()


def _share_of_workers(count: Tensor) -> Tensor:
    """Weight that makes the mean over workers of local means the mean over all of them."""
    return count / collectives.mean_over_workers(count.float()).clamp_min(1e-9)


def _expert_shares(counts: Tensor) -> dict[str, Tensor]:
    """Smallest and largest share of a layer's tokens that one expert got; equal is 1 / experts."""
    share = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    return {"moe/min_share": share.min(), "moe/max_share": share.max()}
