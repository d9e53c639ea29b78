"""What pretraining of the Macro-Encoder descends: eqs. 4-6 over nights.

Shapes: B nights of this worker, L epochs of the longest, C sleep cycles, K nights of all workers,
M modalities, D features.

Choices where the paper is silent: eq. 4 sees the nights of all workers.

Departures from the paper:
    `dgcl.reads="running_mean"`, not the default: Z of eq. 4 is the mean of the states up to the end
    of a cycle, and not the state there, because the mean of a night's states is what is read of it
    (docs/benchmark_simulated.md).
"""

import torch
from torch import Tensor

from sleepmami.config import DGCLConfig, MacroPretrainConfig
from sleepmami.errors import TrainingError
from sleepmami.losses.dgcl import demographic_distance, dgcl, pairs_and_terms
from sleepmami.models.macro_encoder import MacroEncoder, compared, cycle_ends
from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch
from sleepmami.training.engine import Objective


class MacroObjective(Objective):
    """Demographic-guided contrast of all workers' nights, both directions: eq. 6."""

    def __init__(self, model: MacroEncoder, config: MacroPretrainConfig) -> None:
        super().__init__()
        self.model = model
        self._config = config

    def forward(
        self, batch: MacroBatch, step: int, lane: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch of nights; `loss/excess` is what is left above the lowest possible.

        Raises:
            TrainingError: on every worker, when no cycle is there in two nights.
        """
        config = self._config.dgcl
        max_epochs = self._config.max_epochs
        output = self.model(
            batch.micro_BLMD, batch.modality_valid_BLM, batch.length_B, max_epochs=max_epochs
        )
        # From max_epochs, not from this batch's longest night: all workers gather equal shapes.
        index_BC, present_BC = cycle_ends(
            batch.length_B, max_epochs, config.cycle_epochs, config.partial_cycle
        )
        index_BC = index_BC.clamp(max=output.forward_BLD.shape[1] - 1)  # where absent, any will do
        z_BCD = compared(output, batch.modality_valid_BLM, batch.length_B, index_BC, config.reads)
        z_KCD = collectives.gather_rows(z_BCD)
        present_CK = collectives.gather_rows(present_BC).T
        _require_pairs(present_CK, step, config.cycle_epochs)
        distance_KK = demographic_distance(
            collectives.gather_rows(batch.age_B),
            collectives.gather_rows(batch.bmi_B),
            collectives.gather_rows(batch.female_B),
            lambda_sex=config.lambda_sex,
            factors=config.factors,
        )
        forward_CKD, backward_CKD = z_KCD.transpose(0, 1).chunk(2, dim=-1)
        forward_loss, backward_loss = (
            dgcl(
                z_CKD,
                distance_KK,
                present_CK,
                rho=config.rho,
                v=config.v,
                include_self=config.include_self,
                reduction=config.reduction,
                similarity=config.similarity,
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
    pairs_CKK, terms_CKK = pairs_and_terms(distance_KK, present_CK, config.include_self)
    # As in the loss by softmax: where all distances are large against v, every exponential is 0.
    lowest = torch.finfo(torch.float64).min
    logits_CKK = (-distance_KK.double() / config.v).expand(terms_CKK.shape)
    weight_CKK, log_share_CKK = (
        kind(logits_CKK.masked_fill(~some_CKK, lowest), dim=2)
        for kind, some_CKK in ((torch.softmax, terms_CKK), (torch.log_softmax, pairs_CKK))
    )
    floor = -(weight_CKK * log_share_CKK).masked_fill(~pairs_CKK, 0.0).sum().float()
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
