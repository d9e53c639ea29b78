"""Linear, RMSNorm and SwiGLU layers, each either private to a modality or shared by all streams.

Shapes: S streams, I input width, O output width, D width, X anything between stream and width, and
R all of it flattened.

A stream is one signal with a modality. Private weights are stacked [num_modalities, ...] and
chosen by `modality_S`, so one bmm serves every stream, any subset of modalities and several
streams of one modality. A layer built with num_modalities=None has one weight and ignores
`modality_S`; blocks pass it along without asking which kind they hold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sleepmami.models import feed_forward
from sleepmami.models.fused import add_norm, swiglu

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
        dtype = product_dtype(x_SXI)
        weight_SOI = per_stream(self.weight, modality_S).to(dtype)
        bias_SO = None if self.bias is None else per_stream(self.bias, modality_S).to(dtype)
        flat_SRI = x_SXI.flatten(1, -2).to(dtype)
        flat_SRO: Tensor = _StreamLinear.apply(flat_SRI, weight_SOI, bias_SO)  # type: ignore[no-untyped-call]
        return flat_SRO.view(*x_SXI.shape[:-1], weight_SOI.shape[1])


class _StreamLinear(torch.autograd.Function):
    """x W' + b of each stream. torch's own gradient of W' is transposed, which costs a copy."""

    @staticmethod
    def forward(
        ctx: Any,  # torch's context, an object of its own making
        x_SRI: Tensor,
        weight_SOI: Tensor,
        bias_SO: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x_SRI, weight_SOI)
        if bias_SO is None:
            return torch.bmm(x_SRI, weight_SOI.mT)
        return torch.baddbmm(bias_SO.unsqueeze(1), x_SRI, weight_SOI.mT)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient_SRO: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x_SRI, weight_SOI = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient_SRO, weight_SOI) if needs_x else None,
            torch.bmm(gradient_SRO.mT, x_SRI) if needs_weight else None,
            gradient_SRO.sum(1) if needs_bias else None,
        )


def product_dtype(x: Tensor) -> torch.dtype:
    """What autocast would multiply `x` in; it does not look inside our own functions."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def per_stream(stack: Tensor, modality_S: Tensor) -> Tensor:
    """Each stream's row of a stack of one row per modality.

    All modalities in order is how training goes, and the stack itself then. Choosing rows copies
    them, and its gradient is added into zeros of the whole stack: a tenth of a step on a CPU. On
    a GPU the copy costs less than waiting for the answer of this question.
    """
    cheap = modality_S.is_cpu and not torch.compiler.is_compiling()
    if cheap and torch.equal(modality_S, torch.arange(len(stack))):
        return stack
    return stack.index_select(0, modality_S)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation of the last dimension (Zhang & Sennrich, 2019)."""

    def __init__(self, dim: int, *, num_modalities: int | None) -> None:
        super().__init__()
        stack = () if num_modalities is None else (num_modalities,)
        self.weight = nn.Parameter(torch.ones(*stack, dim))

    def forward(self, x_SXD: Tensor, modality_S: Tensor) -> Tensor:
        """[S, ..., D] -> the same shape and dtype."""
        return self.beside(x_SXD, None, modality_S)[1]

    def beside(
        self, x_SXD: Tensor, delta_SXD: Tensor | None, modality_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The residual stream x + delta, and what a layer reads of it: both [S, ..., D]."""
        scale: Tensor = self.weight
        if scale.ndim == 2:
            scale = per_stream(scale, modality_S)
        return add_norm(x_SXD, delta_SXD, scale, NORM_EPS)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer, 2020) without bias."""

    def __init__(self, dim: int, *, num_modalities: int | None) -> None:
        super().__init__()
        hidden = swiglu_width(dim)
        self.gate_up = Linear(dim, 2 * hidden, num_modalities=num_modalities)
        self.down = Linear(hidden, dim, num_modalities=num_modalities)

    def forward(self, x_SXD: Tensor, modality_S: Tensor, base_SXD: Tensor | None = None) -> Tensor:
        """[S, ..., D] -> [S, ..., D], added to `base` where there is one."""
        adds_alike = base_SXD is None or base_SXD.dtype == product_dtype(x_SXD)
        if feed_forward.usable(x_SXD) and adds_alike:
            return self._by_blocks(x_SXD, modality_S, base_SXD)
        down: Tensor = self.down(swiglu(self.gate_up(x_SXD, modality_S)), modality_S)
        return down if base_SXD is None else base_SXD + down

    def _by_blocks(self, x_SXD: Tensor, modality_S: Tensor, base_SXD: Tensor | None) -> Tensor:
        dtype = product_dtype(x_SXD)
        gate_up_GHD, down_GDF = (
            (weight[None] if weight.ndim == 2 else per_stream(weight, modality_S)).to(dtype)
            for weight in (self.gate_up.weight, self.down.weight)
        )
        flat_AD = x_SXD.flatten(0, -2).to(dtype)
        base_AD = None if base_SXD is None else base_SXD.flatten(0, -2)
        num_groups = len(gate_up_GHD)
        ends = [len(flat_AD) * (group + 1) // num_groups for group in range(num_groups)]
        out_AD = feed_forward.feed_forward(flat_AD, gate_up_GHD, down_GDF, ends, base_AD)
        return out_AD.view(x_SXD.shape)


def swiglu_width(dim: int) -> int:
    """Hidden width: 8/3 of dim, as many weights as a GELU layer of 4 dim, in whole 64s.

    The paper names no width. 128 -> 384, 384 -> 1024, 64 -> 192.
    """
    return -(-8 * dim // (3 * 64)) * 64
