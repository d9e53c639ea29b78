"""Linear, RMSNorm and SwiGLU layers, each either private to a modality or shared by all streams.

Shapes: S streams, I input width, O output width, D width, X anything between stream and width.

A stream is one signal with a modality. Private weights are stacked [num_modalities, ...] and
chosen by `modality_S`, so one bmm serves every stream, any subset of modalities and several
streams of one modality. A layer built with num_modalities=None has one weight and ignores
`modality_S`; blocks pass it along without asking which kind they hold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

INIT_STD = 0.02  # truncated normal, as in ViT and MAE; the paper names no initialisation
NORM_EPS = 1e-6


class Linear(nn.Module):
    """A linear map over the last dimension."""

    def __init__(
        self, dim_in: int, dim_out: int, *, num_modalities: int | None, bias: bool = False
    ) -> None:
        super().__init__()
        stack = () if num_modalities is None else (num_modalities,)
        self.weight = nn.Parameter(torch.empty(*stack, dim_out, dim_in))
        self.bias = nn.Parameter(torch.zeros(*stack, dim_out)) if bias else None
        nn.init.trunc_normal_(self.weight, std=INIT_STD)

    def forward(self, x_SXI: Tensor, modality_S: Tensor) -> Tensor:
        """[S, ..., I] -> [S, ..., O]; a shared map takes any leading dimensions."""
        if self.weight.ndim == 2:
            return functional.linear(x_SXI, self.weight, self.bias)
        weight_SIO = self.weight.index_select(0, modality_S).mT
        flat_SXI = x_SXI.flatten(1, -2)
        if self.bias is None:
            flat_SXO = torch.bmm(flat_SXI, weight_SIO)
        else:
            bias_S1O = self.bias.index_select(0, modality_S).unsqueeze(1)
            flat_SXO = torch.baddbmm(bias_S1O, flat_SXI, weight_SIO)
        return flat_SXO.view(*x_SXI.shape[:-1], weight_SIO.shape[-1])


class RMSNorm(nn.Module):
    """Root-mean-square normalisation of the last dimension (Zhang & Sennrich, 2019)."""

    def __init__(self, dim: int, *, num_modalities: int | None) -> None:
        super().__init__()
        stack = () if num_modalities is None else (num_modalities,)
        self.weight = nn.Parameter(torch.ones(*stack, dim))

    def forward(self, x_SXD: Tensor, modality_S: Tensor) -> Tensor:
        """[S, ..., D] -> the same shape and dtype."""
        normed_SXD = functional.rms_norm(x_SXD, x_SXD.shape[-1:], eps=NORM_EPS)
        scale: Tensor = self.weight
        if scale.ndim == 2:
            one_per_stream = (len(modality_S), *[1] * (x_SXD.ndim - 2), -1)
            scale = scale.index_select(0, modality_S).view(one_per_stream)
        # The float32 scale would otherwise widen every activation under bfloat16 autocast.
        return (normed_SXD * scale).to(x_SXD.dtype)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer, 2020) without bias."""

    def __init__(self, dim: int, *, num_modalities: int | None) -> None:
        super().__init__()
        hidden = swiglu_width(dim)
        self.gate_up = Linear(dim, 2 * hidden, num_modalities=num_modalities)
        self.down = Linear(hidden, dim, num_modalities=num_modalities)

    def forward(self, x_SXD: Tensor, modality_S: Tensor) -> Tensor:
        """[S, ..., D] -> [S, ..., D]."""
        gate, up = self.gate_up(x_SXD, modality_S).chunk(2, dim=-1)
        down: Tensor = self.down(functional.silu(gate) * up, modality_S)
        return down


def swiglu_width(dim: int) -> int:
    """Hidden width: 8/3 of dim, as many weights as a GELU layer of 4 dim, in whole 64s.

    The paper names no width. 128 -> 384, 384 -> 1024, 64 -> 192.
    """
    return -(-8 * dim // (3 * 64)) * 64
