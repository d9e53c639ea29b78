"""How does a gated feed-forward layer infer on a CPU: a block of rows at a time, in cache.

Shapes: A rows sorted by group, G groups (streams or experts), D width, F hidden width, H = 2 F.

The hidden rows are the largest tensors of the model; written whole and read again they cost a core
more than their arithmetic. Where no gradient is wanted only one block of them exists. Training
keeps them all, and was measured to gain nothing from blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sleepmami.models import cpu_kernels
from sleepmami.models.fused import plain_swiglu

BLOCK_ROWS = 768  # 9 MB at the paper's widths: more leave the cache, fewer slow the products


def usable(x: Tensor) -> bool:
    """Whether `feed_forward` takes this tensor, here and now."""
    return not torch.is_grad_enabled() and cpu_kernels.usable(x)


def feed_forward(
    x_AD: Tensor,
    gate_up_GHD: Tensor,
    down_GDF: Tensor,
    ends: Sequence[int],
    base_AD: Tensor | None = None,
) -> Tensor:
    """silu(gate) * up of each row, mapped down, by its group's weights: [A, D] -> [A, D].

    Args:
        x_AD: rows sorted by group; ask `usable` first.
        gate_up_GHD: gate above up, in the type of x.
        down_GDF: the way back.
        ends: one past each group's last row.
        base_AD: what the result is added to, in the type of x; None is nothing.
    """
    out_AD = torch.empty_like(x_AD, memory_format=torch.contiguous_format)
    size, width = min(BLOCK_ROWS, len(x_AD)), down_GDF.shape[2]
    gate_up_AH, hidden_AF = x_AD.new_empty(size, 2 * width), x_AD.new_empty(size, width)
    for group, rows in _blocks(ends):
        size = rows.stop - rows.start
        gate_up, hidden = gate_up_AH[:size], hidden_AF[:size]
        torch.mm(x_AD[rows], gate_up_GHD[group].mT, out=gate_up)
        cpu_kernels.call("swiglu_forward", x_AD.dtype, (gate_up, hidden), size, width, False)
        out = torch.mm(hidden, down_GDF[group].mT, out=out_AD[rows])
        if base_AD is not None:
            out += base_AD[rows]  # while it is in cache
    return out_AD


def plain_feed_forward(
    x_AD: Tensor,
    gate_up_GHD: Tensor,
    down_GDF: Tensor,
    ends: Sequence[int],
    base_AD: Tensor | None = None,
) -> Tensor:
    """`feed_forward` in torch's operators."""
    outs = []
    for group, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        hidden_AF = plain_swiglu(x_AD[start:end] @ gate_up_GHD[group].mT)
        outs.append(hidden_AF @ down_GDF[group].mT)
    return torch.cat(outs) if base_AD is None else base_AD + torch.cat(outs)


def _blocks(ends: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Each group's rows in even parts of at most BLOCK_ROWS; none where it has no rows."""
    for group, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        size, parts = end - start, -(-(end - start) // BLOCK_ROWS)
        for part in range(parts):
            yield group, slice(start + size * part // parts, start + size * (part + 1) // parts)
