"""Norm, gate, rotation and sum over experts: one pass over memory each on a CPU, and in torch.

Shapes: S streams, R rows of a stream, D width, F hidden width, T positions, H heads, C width of
one head; N tokens, k experts of each, A = N * k; X any leading dimensions.

Each public function takes the C kernels where cpu_kernels.py says they are usable and its plain
twin elsewhere: on a GPU, where torch.compile fuses, in double precision, with several threads.
The gradients are written by hand; tests hold them equal to autograd's of the twins.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sleepmami.models import cpu_kernels

CACHE_BYTES = 16 * 2**20  # a core reads twice as fast up to here as beyond

# Any below: torch's context is an object of its own making, and its decorators have no types.


def rms_norm(x_SXD: Tensor, scale_SD: Tensor, eps: float) -> Tensor:
    """Each row over its root mean square, times its stream's scale, in the type of x.

    Args:
        x_SXD: [S, ..., D].
        scale_SD: [S, D], or [D] for all streams.
        eps: added to the mean square.
    """
    return add_norm(x_SXD, None, scale_SD, eps)[1]


def add_norm(
    x_SXD: Tensor, delta_SXD: Tensor | None, scale_SD: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """A residual stream x + delta, and its `rms_norm`, which the next layer reads.

    Args:
        x_SXD: [S, ..., D].
        delta_SXD: the same; None adds nothing.
        scale_SD: see `rms_norm`.
        eps: the same.
    """
    if delta_SXD is not None and delta_SXD.dtype != x_SXD.dtype:
        x_SXD, delta_SXD = x_SXD + delta_SXD, None
    if cpu_kernels.usable(x_SXD):
        pair: tuple[Tensor, Tensor] = _AddNorm.apply(x_SXD, delta_SXD, scale_SD, eps)  # type: ignore[no-untyped-call]
        return pair
    return plain_add_norm(x_SXD, delta_SXD, scale_SD, eps)


def plain_add_norm(
    x_SXD: Tensor, delta_SXD: Tensor | None, scale_SD: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`add_norm` in torch's operators."""
    if delta_SXD is not None:
        x_SXD = x_SXD + delta_SXD
    return x_SXD, plain_rms_norm(x_SXD, scale_SD, eps)


def plain_rms_norm(x_SXD: Tensor, scale_SD: Tensor, eps: float) -> Tensor:
    """`rms_norm` in torch's operators."""
    normed_SXD = functional.rms_norm(x_SXD, x_SXD.shape[-1:], eps=eps)
    if scale_SD.ndim == 2:
        scale_SD = scale_SD.view(len(scale_SD), *[1] * (x_SXD.ndim - 2), -1)
    # The float32 scale would otherwise widen every activation under bfloat16 autocast.
    return (normed_SXD * scale_SD).to(x_SXD.dtype)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_SXD: Tensor, delta_SXD: Tensor | None, scale_SD: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total_SXD = x_SXD = x_SXD.contiguous()
        if delta_SXD is not None:
            delta_SXD, total_SXD = delta_SXD.contiguous(), torch.empty_like(x_SXD)
        wide_SD = scale_SD.float().contiguous()
        out_SXD = torch.empty_like(x_SXD)
        inverse_SX = x_SXD.new_empty(x_SXD.shape[:-1], dtype=torch.float32)
        tensors = (x_SXD, delta_SXD, wide_SD, total_SXD, out_SXD, inverse_SX)
        cpu_kernels.call("rms_forward", x_SXD.dtype, tensors, *_rows(x_SXD, wide_SD), eps)
        ctx.save_for_backward(total_SXD, wide_SD, inverse_SX)
        ctx.scale_dtype, ctx.adds = scale_SD.dtype, delta_SXD is not None
        ctx.set_materialize_grads(False)  # no zeros for a total that nobody reads
        return total_SXD.view_as(total_SXD), out_SXD

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_total_SXD: Tensor | None, gradient_SXD: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        total_SXD, wide_SD, inverse_SX = ctx.saved_tensors
        if gradient_SXD is None:
            return grad_total_SXD, grad_total_SXD if ctx.adds else None, None, None
        gradient_SXD = gradient_SXD.contiguous()
        if grad_total_SXD is not None:
            grad_total_SXD = grad_total_SXD.contiguous()
        grad_x_SXD, grad_scale_SD = torch.empty_like(total_SXD), torch.zeros_like(wide_SD)
        inputs = (gradient_SXD, grad_total_SXD, total_SXD, wide_SD, inverse_SX)
        tensors = (*inputs, grad_x_SXD, grad_scale_SD)
        cpu_kernels.call("rms_backward", total_SXD.dtype, tensors, *_rows(total_SXD, wide_SD))
        grad_delta_SXD = grad_x_SXD if ctx.adds else None
        return grad_x_SXD, grad_delta_SXD, grad_scale_SD.to(ctx.scale_dtype), None


def _rows(x_SXD: Tensor, scale_SD: Tensor) -> tuple[int, int, int]:
    """Rows, their width, and how many share one scale."""
    dim = x_SXD.shape[-1]
    num_rows = x_SXD.numel() // dim
    num_scales = len(scale_SD) if scale_SD.ndim == 2 else 1
    return num_rows, dim, max(1, num_rows // num_scales)


def swiglu(gate_up_XF: Tensor) -> Tensor:
    """silu(gate) * up of rows [gate, up]: [..., 2 F] -> [..., F]."""
    if cpu_kernels.usable(gate_up_XF):
        gated: Tensor = _SwiGLU.apply(gate_up_XF)  # type: ignore[no-untyped-call]
        return gated
    return plain_swiglu(gate_up_XF)


def plain_swiglu(gate_up_XF: Tensor) -> Tensor:
    """`swiglu` in torch's operators."""
    gate_XF, up_XF = gate_up_XF.chunk(2, dim=-1)
    return functional.silu(gate_XF) * up_XF


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up_XF: Tensor) -> Tensor:
        gate_up_XF = gate_up_XF.contiguous()
        width = gate_up_XF.shape[-1] // 2
        out_XF = gate_up_XF.new_empty(*gate_up_XF.shape[:-1], width)
        sizes = (out_XF.numel() // width, width, _leaves_cache(out_XF))
        cpu_kernels.call("swiglu_forward", out_XF.dtype, (gate_up_XF, out_XF), *sizes)
        ctx.save_for_backward(gate_up_XF)
        return out_XF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_XF: Tensor) -> Tensor:
        (gate_up_XF,) = ctx.saved_tensors
        gradient_XF = gradient_XF.contiguous()
        result_XF = torch.empty_like(gate_up_XF)
        width = gradient_XF.shape[-1]
        sizes = (gradient_XF.numel() // width, width, _leaves_cache(result_XF))
        tensors = (gradient_XF, gate_up_XF, result_XF)
        cpu_kernels.call("swiglu_backward", gradient_XF.dtype, tensors, *sizes)
        return result_XF


def _leaves_cache(out: Tensor) -> bool:
    """Whether a result is gone from the cache before it is read, so that it need not go there."""
    return out.nbytes >= CACHE_BYTES


def rotate(x_XTHC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turn each (c, c + C/2) pair of x [..., T, H, C] by its position's angle.

    Args:
        x_XTHC: queries or keys.
        cos_TC: float32 [T, 1, C/2], or with all leading dimensions of x.
        sin_TC: the same.
    """
    if cpu_kernels.usable(x_XTHC) and _one_angle_each(x_XTHC, cos_TC):
        turned: Tensor = _Rotate.apply(x_XTHC, cos_TC, sin_TC)  # type: ignore[no-untyped-call]
        return turned
    return plain_rotate(x_XTHC, cos_TC, sin_TC)


def plain_rotate(x_XTHC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """`rotate` in torch's operators."""
    first, second = x_XTHC.chunk(2, dim=-1)
    turned = torch.cat([first * cos_TC - second * sin_TC, second * cos_TC + first * sin_TC], dim=-1)
    return turned.to(x_XTHC.dtype)


def _one_angle_each(x_XTHC: Tensor, cos_TC: Tensor) -> bool:
    """Whether the angles repeat every T tokens or are given for each token, not in between."""
    leading = cos_TC.shape[:-3]
    return leading.numel() == 1 or leading == x_XTHC.shape[:-3]


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_XTHC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
        cos_TC, sin_TC = cos_TC.contiguous(), sin_TC.contiguous()
        ctx.save_for_backward(cos_TC, sin_TC)
        return _turn(x_XTHC, cos_TC, sin_TC, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_XTHC: Tensor) -> tuple[Tensor, None, None]:
        cos_TC, sin_TC = ctx.saved_tensors
        return _turn(gradient_XTHC, cos_TC, sin_TC, -1.0), None, None


def _turn(x_XTHC: Tensor, cos_TC: Tensor, sin_TC: Tensor, sign: float) -> Tensor:
    """Turned by `sign` times the angles, in the layout that the next products read without a copy.

    There (sign 1) attention's, with heads before tokens; back the projections', with tokens first.
    """
    *leading, num_tokens, heads, width = x_XTHC.shape
    steps = _even_steps(x_XTHC)
    if steps is None:
        x_XTHC = x_XTHC.contiguous()
        steps = (num_tokens * heads * width, heads * width, width)
    out_XTHC = torch.empty(x_XTHC.shape, dtype=x_XTHC.dtype)
    out_steps = (num_tokens * heads * width, heads * width, width)
    if sign > 0:
        out_XTHC = out_XTHC.view(*leading, heads, num_tokens, width).transpose(-3, -2)
        out_steps = (num_tokens * heads * width, width, num_tokens * width)
    half = width // 2
    sizes = (math.prod(leading), num_tokens, heads, half, cos_TC.numel() // half)
    tensors = (x_XTHC, cos_TC, sin_TC, out_XTHC)
    cpu_kernels.call("rotate", x_XTHC.dtype, tensors, *sizes, *steps, *out_steps, sign)
    return out_XTHC


def _even_steps(x_XTHC: Tensor) -> tuple[int, int, int] | None:
    """Elements from one sequence, token and head to the next, where sequences lie evenly."""
    sizes = x_XTHC.shape[:-3]
    *steps, token_step, head_step, element_step = x_XTHC.stride()
    if element_step != 1:
        return None
    step = expected = steps[-1] if steps else 0
    for size, found in zip(reversed(sizes), reversed(steps), strict=True):
        if size != 1 and found != expected:
            return None
        expected *= size
    return step, token_step, head_step


def combine(
    x_AD: Tensor, gate_Nk: Tensor, place_Nk: Tensor, base_ND: Tensor | None = None
) -> Tensor:
    """Each token's experts' outputs, weighted and added to `base`: [N, D].

    Args:
        x_AD: outputs, in any order.
        gate_Nk: float32 weights.
        place_Nk: int64 row of each output in x; every row once.
        base_ND: what the sum is added to; None is nothing.
    """
    if base_ND is not None and base_ND.dtype != x_AD.dtype:
        return base_ND + combine(x_AD, gate_Nk, place_Nk)
    if cpu_kernels.usable(x_AD):
        mixed_ND: Tensor = _Combine.apply(x_AD, gate_Nk, place_Nk, base_ND)  # type: ignore[no-untyped-call]
        return mixed_ND
    return plain_combine(x_AD, gate_Nk, place_Nk, base_ND)


def plain_combine(
    x_AD: Tensor, gate_Nk: Tensor, place_Nk: Tensor, base_ND: Tensor | None = None
) -> Tensor:
    """`combine` in torch's operators."""
    place_A = place_Nk.flatten()
    x_NkD = take(x_AD, place_A, place_A.argsort(), 1).view(*place_Nk.shape, -1)
    weighted_NkD = x_NkD * gate_Nk[..., None].to(x_AD.dtype)
    return weighted_NkD.sum(1) if base_ND is None else base_ND + weighted_NkD.sum(1)


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_AD: Tensor, gate_Nk: Tensor, place_Nk: Tensor, base_ND: Tensor | None
    ) -> Tensor:
        x_AD, gate_Nk, place_Nk = x_AD.contiguous(), gate_Nk.contiguous(), place_Nk.contiguous()
        out_ND = x_AD.new_empty(len(place_Nk), x_AD.shape[1])
        sizes = (*place_Nk.shape, x_AD.shape[1])
        base_ND = None if base_ND is None else base_ND.contiguous()
        tensors = (base_ND, x_AD, gate_Nk, place_Nk, out_ND)
        cpu_kernels.call("combine_forward", x_AD.dtype, tensors, *sizes)
        ctx.save_for_backward(x_AD, gate_Nk, place_Nk)
        ctx.adds = base_ND is not None
        return out_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor, Tensor, None, Tensor | None]:
        x_AD, gate_Nk, place_Nk = ctx.saved_tensors
        grad_x_AD, grad_gate_Nk = torch.empty_like(x_AD), torch.empty_like(gate_Nk)
        tensors = (gradient_ND.contiguous(), x_AD, gate_Nk, place_Nk, grad_x_AD, grad_gate_Nk)
        sizes = (*place_Nk.shape, x_AD.shape[1])
        cpu_kernels.call("combine_backward", x_AD.dtype, tensors, *sizes)
        return grad_x_AD, grad_gate_Nk, None, gradient_ND if ctx.adds else None


def take(x_ND: Tensor, index_A: Tensor, places_A: Tensor, times: int) -> Tensor:
    """Rows by index, each taken `times` times; `places_A` says where, so gradients are taken too.

    The gradient of index_select adds row by row, on a GPU in no fixed order.
    """
    taken_AD: Tensor = _Take.apply(x_ND, index_A, places_A, times)  # type: ignore[no-untyped-call]
    return taken_AD


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, index_A: Tensor, places_A: Tensor, times: int) -> Tensor:
        ctx.save_for_backward(places_A)
        ctx.times = times
        return x_ND.index_select(0, index_A)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_AD: Tensor) -> tuple[Tensor, None, None, None]:
        (places_A,) = ctx.saved_tensors
        gradient_AD = gradient_AD.index_select(0, places_A)
        if ctx.times > 1:
            gradient_AD = torch.unflatten(gradient_AD, 0, (-1, ctx.times)).sum(1)
        return gradient_AD, None, None, None
