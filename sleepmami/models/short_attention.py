"""Rotary attention over short sequences on a CPU: one head at a time, all of it in cache.

Shapes: N sequences, T tokens, H heads, C width of one head, D = H * C, A positions with an angle.

The kernel reads queries and keys as the projections leave them, turns them on the way into its
scratch memory, and computes the weights once more on the way back rather than keep them: no
rotated copy, no other layout and no matrix of weights reaches main memory. attention.py has the
plain twin, `rotate` and `attend`. Two operators of torch's dispatcher, so that what counts products
(throughput.py) sees them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sleepmami.models import cpu_kernels

MAX_TOKENS = 512  # the scores of a head and their gradient are 2 MB then, a core's own cache
_INPUTS = "Tensor query, Tensor key_value, Tensor cos, Tensor sin, Tensor? seen, int num_heads"


def usable(query_NTD: Tensor, key_value_NTE: Tensor, cos_AC: Tensor, num_heads: int) -> bool:
    """Whether `attend_turned` takes these, here and now."""
    num_sequences, num_tokens, dim = query_NTD.shape
    num_angles = cos_AC.shape[:-1].numel()
    return (
        query_NTD.numel() > 0  # C would divide by the number of angles
        and cpu_kernels.usable(query_NTD)
        and cos_AC.dtype == torch.float32
        and key_value_NTE.dtype == query_NTD.dtype
        and key_value_NTE.shape[1] == num_tokens <= MAX_TOKENS
        and dim % (2 * num_heads) == 0
        and num_angles in (num_tokens, num_sequences * num_tokens)
    )


def attend_turned(
    query_NTD: Tensor,
    key_value_NTE: Tensor,
    cos_AC: Tensor,
    sin_AC: Tensor,
    key_mask_NT: Tensor | None,
    num_heads: int,
) -> Tensor:
    """softmax(q k' / sqrt(C)) v per head of queries and keys turned by their angles: [N, T, D].

    Args:
        query_NTD: heads side by side; ask `usable` first.
        key_value_NTE: keys of all heads, then values: E = 2 D.
        cos_AC: float32 [..., 1, C/2], of each position of a sequence or of each of all tokens.
        sin_AC: the same.
        key_mask_NT: True where a key may be attended to, at least one per sequence; None means all.
        num_heads: H.
    """
    out_NTD: Tensor = _AttendTurned.apply(  # type: ignore[no-untyped-call]
        query_NTD, key_value_NTE, cos_AC, sin_AC, key_mask_NT, num_heads
    )
    return out_NTD


def _attention(
    query: Tensor, key_value: Tensor, cos: Tensor, sin: Tensor, seen: Tensor | None, num_heads: int
) -> Tensor:
    out = torch.empty_like(query)
    _call((query, key_value, cos, sin, seen, None, out, None, None), num_heads)
    return out


def _attention_backward(
    gradient: Tensor,
    query: Tensor,
    key_value: Tensor,
    cos: Tensor,
    sin: Tensor,
    seen: Tensor | None,
    num_heads: int,
) -> tuple[Tensor, Tensor]:
    gradients = torch.empty_like(query), torch.empty_like(key_value)
    _call((query, key_value, cos, sin, seen, gradient, None, *gradients), num_heads)
    return gradients


# torch.library.custom_op would import torch._dynamo at the first call: a second in every process
_LIBRARY = torch.library.Library("sleepmami", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's
for _signature, _kernel in (
    (f"short_attention({_INPUTS}) -> Tensor", _attention),
    (
        f"short_attention_backward(Tensor gradient, {_INPUTS}) -> (Tensor, Tensor)",
        _attention_backward,
    ),
):
    _name = _LIBRARY.define(_signature)  # type: ignore[no-untyped-call]  # as above
    _LIBRARY.impl(_name, _kernel, "CPU")  # type: ignore[no-untyped-call]  # as above
# by which those who count products know it; torch has the names once this module is imported
OPERATOR = torch.ops.sleepmami.short_attention
OPERATOR_BACKWARD = torch.ops.sleepmami.short_attention_backward


def _call(tensors: tuple[Tensor | None, ...], num_heads: int) -> None:
    query, _, cos = tensors[:3]
    assert query is not None
    assert cos is not None
    num_sequences, num_tokens, dim = query.shape
    half = dim // num_heads // 2
    tokens, width = num_tokens + 15, 2 * half + 15  # in whole blocks they are at most these
    memory = torch.empty(tokens * (4 * width + 2 * width + 2 * tokens + 1))
    sizes = (num_sequences, num_tokens, num_heads, half, cos.numel() // half)
    kernel = "attention", query.dtype, (*tensors, memory)
    cpu_kernels.call(*kernel, *sizes, source="short_attention.c")


class _AttendTurned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's context, an object of its own making
        query_NTD: Tensor,
        key_value_NTE: Tensor,
        cos_AC: Tensor,
        sin_AC: Tensor,
        key_mask_NT: Tensor | None,
        num_heads: int,
    ) -> Tensor:
        if key_mask_NT is not None:
            key_mask_NT = key_mask_NT.contiguous()
        inputs = [x.contiguous() for x in (query_NTD, key_value_NTE, cos_AC, sin_AC)]
        ctx.save_for_backward(*inputs, key_mask_NT)
        ctx.num_heads = num_heads
        out_NTD: Tensor = OPERATOR(*inputs, key_mask_NT, num_heads)
        return out_NTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NTD: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        gradients = OPERATOR_BACKWARD(gradient_NTD.contiguous(), *ctx.saved_tensors, ctx.num_heads)
        return *gradients, None, None, None, None
