"""Patch embedding and patch merging, the two ends of the lower private encoder (Table 8).

Shapes: S streams, B segments, P patches (120), V patches handed in (all P, or the visible 60),
W samples of a patch (50), M merged tokens (24), D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sleepmami.models.layers import Linear, RMSNorm, per_stream
from sleepmami.models.tap_merge import merge_by_taps


class PatchEmbed(nn.Module):
    """Conv-RMSNorm-GELU blocks from one patch of samples to one token.

    Kernel equals stride everywhere in Table 8, so each convolution is a linear map of disjoint
    chunks of one patch: nothing leaks between patches, and only visible patches are computed.
    RMSNorm runs over the channels of each position.
    """

    def __init__(
        self, channels: Sequence[int], kernels: Sequence[int], *, num_modalities: int
    ) -> None:
        super().__init__()
        self.kernels = tuple(kernels)
        widths_in = [k * c for k, c in zip(kernels, (1, *channels[:-1]), strict=True)]
        self.convs = nn.ModuleList(
            Linear(dim_in, dim_out, num_modalities=num_modalities, bias=True)
            for dim_in, dim_out in zip(widths_in, channels, strict=True)
        )
        self.norms = nn.ModuleList(RMSNorm(dim, num_modalities=num_modalities) for dim in channels)
        for conv, dim_in in zip(self.convs, widths_in, strict=True):
            for parameter in conv.parameters():
                # torch's own convolution init. Its non-zero bias matters: a flat patch would reach
                # each RMSNorm as a zero vector, where the norm's gradient is 1000 times too steep.
                nn.init.uniform_(parameter, -1 / math.sqrt(dim_in), 1 / math.sqrt(dim_in))

    def forward(self, patch_SBVW: Tensor, modality_S: Tensor) -> Tensor:
        """Samples [S, B, V, 50] -> tokens [S, B, V, channels[-1]]."""
        x = patch_SBVW[..., None]  # [S, B, V, positions left in the patch, channels]
        for kernel, conv, norm in zip(self.kernels, self.convs, self.norms, strict=True):
            x = torch.unflatten(x, 3, (-1, kernel)).flatten(4)
            x = functional.gelu(norm(conv(x, modality_S), modality_S))
        return x.squeeze(3)


class PatchMerge(nn.Module):
    """Exp-DW-Norm-PW-GELU-PW: one token for every `stride` patches, seen through twice as many.

    Merged token k covers the 2 * stride patches centred on its own cell of patches
    [stride * k, stride * (k + 1)), in pretraining and at inference alike: visible tokens are
    first put back where they were on the grid of all patches, hidden ones as exact zeros. Half of
    the taps are live under a 50 % mask; the RMSNorm right after removes that factor.

    Departures from the paper: merging the visible tokens side by side, as the text can be read,
    makes a merged token 5 s long in pretraining and 2.5 s at inference. That reading is had by
    leaving `visible_SBV` out (merge_scheme `packed`).
    """

    def __init__(self, dim_in: int, dim_out: int, stride: int, *, num_modalities: int) -> None:
        super().__init__()
        self.stride = stride
        kernel = 2 * stride
        self.expand = Linear(dim_in, dim_out, num_modalities=num_modalities, bias=True)
        self.depthwise = nn.Parameter(torch.empty(num_modalities, kernel, dim_out))
        self.norm = RMSNorm(dim_out, num_modalities=num_modalities)
        self.pointwise_in = Linear(dim_out, dim_out, num_modalities=num_modalities, bias=True)
        self.pointwise_out = Linear(dim_out, dim_out, num_modalities=num_modalities, bias=True)
        nn.init.normal_(self.depthwise, std=kernel**-0.5)

    def forward(
        self, x_SBVD: Tensor, modality_S: Tensor, visible_SBV: Tensor | None, num_patches: int
    ) -> Tensor:
        """Tokens [S, B, V, dim_in] -> merged tokens [S, B, M, dim_out].

        Args:
            x_SBVD: tokens in time order.
            modality_S: modality of each stream.
            visible_SBV: patch index of each token, and M is num_patches // stride; None merges the
                tokens as they are, side by side, and M is V // stride.
            num_patches: length P of the grid.
        """
        x_SBVD = self.expand(x_SBVD, modality_S)
        if visible_SBV is None:
            num_patches = x_SBVD.shape[2]
        weight_SkD = per_stream(self.depthwise, modality_S).to(x_SBVD.dtype)
        merged_SBMD = merge_by_taps(x_SBVD, weight_SkD, visible_SBV, num_patches)
        merged_SBMD = self.norm(merged_SBMD, modality_S)
        hidden_SBMD = functional.gelu(self.pointwise_in(merged_SBMD, modality_S))
        out_SBMD: Tensor = self.pointwise_out(hidden_SBMD, modality_S)
        return out_SBMD
