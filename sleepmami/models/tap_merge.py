"""How tokens anywhere on a grid of patches become merged tokens: one pass on a CPU, and in torch.

Shapes: S streams, B segments, V tokens, P patches, k taps = 2 strides, M merged tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sleepmami.models import cpu_kernels


def merge_by_taps(
    x_SBVD: Tensor, weight_SkD: Tensor, patch_SBV: Tensor | None, num_patches: int
) -> Tensor:
    """Depthwise convolution with kernel 2s and stride s over the grid: [S, B, P // s, D].

    Merged token m covers the 2s patches centred on cell m of s patches; a patch without a token
    is zeros.

    Args:
        x_SBVD: tokens.
        weight_SkD: taps of each stream, in the type of x.
        patch_SBV: int64 patch of each token, at most one token each; None means in order.
        num_patches: length of the grid, a multiple of the stride.
    """
    if not cpu_kernels.usable(x_SBVD):
        return plain_merge_by_taps(x_SBVD, weight_SkD, patch_SBV, num_patches)
    if patch_SBV is None:
        patch_SBV = torch.arange(num_patches).expand(x_SBVD.shape[:3])
    merged_SBMD: Tensor = _MergeByTaps.apply(x_SBVD, weight_SkD, patch_SBV, num_patches)  # type: ignore[no-untyped-call]
    return merged_SBMD


def plain_merge_by_taps(
    x_SBVD: Tensor, weight_SkD: Tensor, patch_SBV: Tensor | None, num_patches: int
) -> Tensor:
    """`merge_by_taps` in torch's operators, as two weighted sums of adjacent cells."""
    if patch_SBV is not None:
        x_SBVD = put_on_grid(x_SBVD, patch_SBV, num_patches)
    stride = weight_SkD.shape[1] // 2
    left = stride // 2
    padded = functional.pad(x_SBVD, (0, 0, left, stride - left))
    cell_SBCsD = torch.unflatten(padded, 2, (-1, stride))
    first_SsD, second_SsD = weight_SkD[:, None, None].chunk(2, dim=3)
    first_SBMD = (cell_SBCsD[:, :, :-1] * first_SsD).sum(3)
    second_SBMD = (cell_SBCsD[:, :, 1:] * second_SsD).sum(3)
    return first_SBMD + second_SBMD


class _MergeByTaps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's context, an object of its own making
        x_SBVD: Tensor,
        weight_SkD: Tensor,
        patch_SBV: Tensor,
        num_patches: int,
    ) -> Tensor:
        x_SBVD, weight_SkD = x_SBVD.contiguous(), weight_SkD.contiguous()
        patch_SBV = patch_SBV.contiguous()
        num_streams, num_segments, num_tokens, dim = x_SBVD.shape
        stride = weight_SkD.shape[1] // 2
        out_SBMD = x_SBVD.new_empty(num_streams, num_segments, num_patches // stride, dim)
        sum_MD = torch.empty(out_SBMD.shape[2:])
        ctx.sizes = (num_streams * num_segments, num_tokens, len(sum_MD), dim, stride, num_segments)
        tensors = (x_SBVD, weight_SkD, patch_SBV, out_SBMD, sum_MD)
        cpu_kernels.call("merge_forward", x_SBVD.dtype, tensors, *ctx.sizes)
        ctx.save_for_backward(x_SBVD, weight_SkD, patch_SBV)
        return out_SBMD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_SBMD: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_SBVD, weight_SkD, patch_SBV = ctx.saved_tensors
        grad_x_SBVD = torch.empty_like(x_SBVD)
        grad_weight_SkD = torch.zeros(weight_SkD.shape)
        inputs = (gradient_SBMD.contiguous(), x_SBVD, weight_SkD, patch_SBV)
        tensors = (*inputs, grad_x_SBVD, grad_weight_SkD)
        cpu_kernels.call("merge_backward", x_SBVD.dtype, tensors, *ctx.sizes)
        return grad_x_SBVD, grad_weight_SkD.to(weight_SkD.dtype), None, None


def put_on_grid(
    x_SBVD: Tensor, visible_SBV: Tensor, num_patches: int, fill_SD: Tensor | None = None
) -> Tensor:
    """Tokens back at their patch index [S, B, P, D]; elsewhere the stream's `fill`, else zeros."""
    num_streams, batch, _, dim = x_SBVD.shape
    if fill_SD is None:
        grid_SBPD = x_SBVD.new_zeros(num_streams, batch, num_patches, dim)
    else:
        fill_S11D = fill_SD[:, None, None].to(x_SBVD.dtype)
        grid_SBPD = fill_S11D.expand(-1, batch, num_patches, -1)
    return grid_SBPD.scatter(2, visible_SBV[..., None].expand_as(x_SBVD), x_SBVD)
