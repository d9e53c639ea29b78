"""Mixture of SwiGLU experts with dropless top-k routing (Lepikhin et al., 2020), section 3.1.

Shapes: N tokens, A = N * k assignments (token, expert), E experts, F expert width, D width.

Choices where the paper is silent: every expert is a whole SwiGLU layer; the k gates are a softmax
over the k chosen logits; no token is ever dropped, so a token's output does not depend on the
batch. Eq. 3 has no balance term, so the load is balanced without one (Wang et al., 2024): a bias,
added to the logits only to choose experts, moves after each step by a fixed amount towards the
experts that got too few tokens. `probability_E` is what an auxiliary loss reads, if one is wanted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sleepmami.models import feed_forward
from sleepmami.models.attention import Attention, Rotary
from sleepmami.models.fused import combine, swiglu, take
from sleepmami.models.layers import INIT_STD, RMSNorm, swiglu_width

BALANCE_RATE = 1e-3  # bias change per step; the value of Wang et al., 2024


class ExpertLoad(NamedTuple):
    """How much of the tokens each expert got, [E] each, or [layers, E].

    Attributes:
        count_E: int64, how many tokens chose it.
        probability_E: mean of the router's softmax over all experts.
    """

    count_E: Tensor
    probability_E: Tensor

    def with_as_many(self, other: ExpertLoad) -> ExpertLoad:
        """The load of these tokens and as many others."""
        return ExpertLoad(
            self.count_E + other.count_E, (self.probability_E + other.probability_E) / 2
        )

    def balancing_loss(self) -> Tensor:
        """E * sum of share * probability (Lepikhin et al., 2020), mean over layers; 1 when even."""
        share_E = self.count_E / self.count_E.sum(-1, keepdim=True).clamp_min(1)
        return (share_E * self.probability_E).sum(-1).mean() * self.count_E.shape[-1]


class MixtureOfExperts(nn.Module):
    """Router and experts. Tokens are sorted by expert, so each layer is one grouped GEMM."""

    balance_bias: Tensor

    def __init__(self, dim: int, num_experts: int, num_active: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.num_active = num_active
        hidden = swiglu_width(dim)
        self.router = nn.Parameter(torch.empty(num_experts, dim))
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * hidden, dim))
        self.down = nn.Parameter(torch.empty(num_experts, dim, hidden))
        for weight in (self.router, self.gate_up, self.down):
            nn.init.trunc_normal_(weight, std=INIT_STD)
        self.register_buffer("balance_bias", torch.zeros(num_experts))

    def forward(
        self, x_ND: Tensor, counted_N: Tensor, base_ND: Tensor | None = None
    ) -> tuple[Tensor, ExpertLoad]:
        """Mix the outputs of each token's experts.

        Args:
            x_ND: tokens.
            counted_N: False for tokens of streams that are not there: computed, but not counted.
            base_ND: what they are added to; None is nothing.

        Returns:
            The mixed tokens [N, D], and the load of the experts by counted tokens.
        """
        expert_Nk, gate_Nk, logit_NE = self.route(x_ND)
        expert_A = expert_Nk.flatten()
        order_A = expert_A.argsort(stable=True)
        # Compared with arange, not torch.bincount, whose dynamic shape breaks compiled graphs.
        chosen_NkE = expert_Nk[..., None] == torch.arange(self.num_experts, device=x_ND.device)
        ends_E = chosen_NkE.sum((0, 1)).cumsum(0).to(torch.int32)
        place_A = order_A.argsort()  # of each assignment among the sorted ones
        sorted_AD = take(x_ND, order_A // self.num_active, place_A, self.num_active)
        outputs_AD = self._experts(sorted_AD, ends_E)
        mixed_ND = combine(outputs_AD, gate_Nk, place_A.view_as(expert_Nk), base_ND)
        load = ExpertLoad(
            (chosen_NkE & counted_N[:, None, None]).sum((0, 1)),
            (logit_NE.softmax(-1) * counted_N[:, None]).sum(0) / counted_N.sum().clamp_min(1),
        )
        return mixed_ND.to((x_ND if base_ND is None else base_ND).dtype), load

    def route(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Experts and gates of each token, [N, k], and logits [N, E]; float32 at any precision."""
        with torch.autocast(x_ND.device.type, enabled=False):
            logit_NE = functional.linear(x_ND.float(), self.router.float())
        expert_Nk = (logit_NE.detach() + self.balance_bias).topk(self.num_active, dim=-1).indices
        return expert_Nk, logit_NE.gather(-1, expert_Nk).softmax(-1), logit_NE

    def _experts(self, sorted_AD: Tensor, ends_E: Tensor) -> Tensor:
        # grouped_mm is not on autocast's list, so the cast is made by hand.
        device = sorted_AD.device.type
        dtype = sorted_AD.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        gate_up, down = self.gate_up.to(dtype), self.down.to(dtype)
        if feed_forward.usable(sorted_AD):
            return feed_forward.feed_forward(sorted_AD.to(dtype), gate_up, down, ends_E.tolist())
        gate_up_EDF, down_EFD = gate_up.mT, down.mT
        hidden_AF = functional.grouped_mm(sorted_AD.to(dtype), gate_up_EDF, offs=ends_E)
        return functional.grouped_mm(swiglu(hidden_AF), down_EFD, offs=ends_E)

    @torch.no_grad()
    def balance(self, counts_E: Tensor) -> None:
        """Move the choosing bias towards experts with fewer than their share of tokens.

        Call it after an optimizer step with counts summed over all workers and micro batches, so
        that the bias stays equal everywhere.
        """
        counts_E = counts_E.to(self.balance_bias)
        self.balance_bias += BALANCE_RATE * torch.sign(counts_E.mean() - counts_E)


class MoEBlock(nn.Module):
    """x + attention(norm(x)), then x + experts(norm(x)); one set of weights for all streams."""

    def __init__(self, dim: int, num_heads: int, num_experts: int, num_active: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dim, num_modalities=None)
        self.attention = Attention(dim, num_heads, num_modalities=None)
        self.experts_norm = RMSNorm(dim, num_modalities=None)
        self.experts = MixtureOfExperts(dim, num_experts, num_active)

    def forward(
        self,
        x_BTD: Tensor,
        modality_S: Tensor,
        angles: Rotary,
        counted_BT: Tensor,
        key_mask_BT: Tensor | None,
    ) -> tuple[Tensor, ExpertLoad]:
        """Tokens [..., T, D] -> the same shape, and the load of `MixtureOfExperts`."""
        x_BTD, normed = self.attention_norm.beside(x_BTD, None, modality_S)
        heard = self.attention(normed, normed, modality_S, angles, key_mask_BT)
        x_BTD, normed = self.experts_norm.beside(x_BTD, heard, modality_S)
        mixed_ND, load = self.experts(
            normed.flatten(0, -2), counted_BT.flatten(), x_BTD.flatten(0, -2)
        )
        return mixed_ND.view_as(x_BTD), load
