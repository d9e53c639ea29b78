"""Pre-norm Transformer blocks with rotary positions, for self- and cross-attention.

Shapes: S streams (or any leading dimensions), N flattened leading dimensions, T queries,
K keys, H heads, C width of one head, D = H * C.

Four ways compute the same attention: torch's scaled_dot_product_attention; for CUDA half
precision without a mask, the flash_attn package (section 3.4); on one CPU thread the C kernel of
short_attention.py; and plain products to train on a CPU without it. No machine with CUDA was at
hand: the flash_attn path has not been run; only the function that chooses it is tested.

Choices where the paper is silent: no bias, no dropout, no normalisation of queries and keys;
rotary base 10 000 with the rotate-half pairing; positions are integers in the unit of the level
they are used at (patches, or merged tokens), so the fastest rotary frequency never aliases.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sleepmami.models import fused, short_attention
from sleepmami.models.layers import Linear, RMSNorm, SwiGLU

ROTARY_BASE = 10_000.0
FLASH_MAX_HEAD_DIM = 256


class Rotary(NamedTuple):
    """Cosine and sine of every position's angles, each float32 [..., T, 1, C/2]."""

    cos: Tensor
    sin: Tensor


def rotary(position_T: Tensor, head_dim: int) -> Rotary:
    """Rotary angles (Su et al., 2024) of integer positions [..., T].

    Computed when needed rather than kept as a buffer, which `module.bfloat16()` would round.
    """
    exponent_C = torch.arange(0, head_dim, 2, device=position_T.device) / head_dim
    angle_TC = position_T[..., None, None].float() * ROTARY_BASE**-exponent_C
    return Rotary(angle_TC.cos(), angle_TC.sin())


def rotate(x_THC: Tensor, angles: Rotary) -> Tensor:
    """Turn each (c, c + C/2) pair of x [..., T, H, C] by its position's angle."""
    return fused.rotate(x_THC, angles.cos, angles.sin)


def use_flash(
    device_type: str, dtype: torch.dtype, head_dim: int, *, masked: bool, installed: bool
) -> bool:
    """Whether flash_attn computes this attention; it takes no mask of its own."""
    half = dtype in (torch.float16, torch.bfloat16)
    fits = head_dim % 8 == 0 and head_dim <= FLASH_MAX_HEAD_DIM
    return installed and device_type == "cuda" and half and fits and not masked


@functools.cache
def _flash_installed() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def attend(
    query_NTHC: Tensor, key_NKHC: Tensor, value_NKHC: Tensor, key_mask_NK: Tensor | None
) -> Tensor:
    """softmax(q k' / sqrt(C)) v per head, [N, T, H, C].

    Args:
        query_NTHC: rotated queries.
        key_NKHC: rotated keys.
        value_NKHC: values.
        key_mask_NK: True where a key may be attended to, at least one per row; None means all.
    """
    masked = key_mask_NK is not None
    device, dtype = query_NTHC.device.type, query_NTHC.dtype
    if use_flash(device, dtype, query_NTHC.shape[-1], masked=masked, installed=_flash_installed()):
        return _flash(query_NTHC, key_NKHC, value_NKHC)
    out_NHTC = functional.scaled_dot_product_attention(
        query_NTHC.transpose(1, 2),
        key_NKHC.transpose(1, 2),
        value_NKHC.transpose(1, 2),
        attn_mask=None if key_mask_NK is None else key_mask_NK[:, None, None, :],
    )
    return out_NHTC.transpose(1, 2)


def attend_by_products(
    query_NTHC: Tensor, key_NKHC: Tensor, value_NKHC: Tensor, key_mask_NK: Tensor | None
) -> Tensor:
    """`attend` as two batched products: how a CPU trains where short_attention.py does not serve.

    torch's kernel for CPUs computes the weights again on the way back and fills three gradients
    with zeros first: for our short sequences a fifth slower in float32, three times in bfloat16.
    """
    num_heads, width = query_NTHC.shape[2:]
    query_GTC, key_GKC, value_GKC = (
        x.transpose(1, 2).flatten(0, 1) for x in (query_NTHC, key_NKHC, value_NKHC)
    )
    nothing = query_GTC.new_empty(1, 1, 1)
    score_GTK = torch.baddbmm(nothing, query_GTC, key_GKC.mT, beta=0, alpha=width**-0.5)
    if key_mask_NK is not None:
        hidden_G1K = ~key_mask_NK.repeat_interleave(num_heads, dim=0)[:, None]
        score_GTK = score_GTK.masked_fill(hidden_G1K, -torch.inf)
    weight_GTK = score_GTK.softmax(-1).to(value_GKC.dtype)
    out_GTC = torch.bmm(weight_GTK, value_GKC)
    return torch.unflatten(out_GTC, 0, (-1, num_heads)).transpose(1, 2)


def _flash(query_NTHC: Tensor, key_NKHC: Tensor, value_NKHC: Tensor) -> Tensor:
    from flash_attn import flash_attn_func

    out_NTHC: Tensor = flash_attn_func(query_NTHC, key_NKHC, value_NKHC)
    return out_NTHC


class Attention(nn.Module):
    """Multi-head attention from x to memory; memory is x itself in self-attention."""

    def __init__(self, dim: int, num_heads: int, *, num_modalities: int | None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(dim, dim, num_modalities=num_modalities)
        self.key_value = Linear(dim, 2 * dim, num_modalities=num_modalities)
        self.out = Linear(dim, dim, num_modalities=num_modalities)

    def forward(
        self,
        x_STD: Tensor,
        memory_SKD: Tensor,
        modality_S: Tensor,
        angles: Rotary,
        key_mask_NK: Tensor | None = None,
    ) -> Tensor:
        """[..., T, D] -> [..., T, D].

        Args:
            x_STD: where queries come from.
            memory_SKD: where keys and values come from, at the same positions as x.
            modality_S: modality of each stream.
            angles: rotary angles of the positions.
            key_mask_NK: see `attend`; N is the product of the leading dimensions.
        """
        query_STD = self.query(x_STD, modality_S)
        key_value_SKE = self.key_value(memory_SKD, modality_S)
        flat = query_STD.flatten(0, -3), key_value_SKE.flatten(0, -3)
        if short_attention.usable(*flat, angles.cos, self.num_heads):
            out = short_attention.attend_turned(*flat, *angles, key_mask_NK, self.num_heads)
        else:
            out = self._attend(query_STD, key_value_SKE, angles, key_mask_NK)
        projected: Tensor = self.out(out.reshape(x_STD.shape), modality_S)
        return projected

    def _attend(
        self,
        query_STD: Tensor,
        key_value_SKE: Tensor,
        angles: Rotary,
        key_mask_NK: Tensor | None,
    ) -> Tensor:
        """Where the C kernel is not for: on a GPU, in double precision, on several threads."""
        query = torch.unflatten(query_STD, -1, (self.num_heads, -1))
        key, value = torch.unflatten(key_value_SKE, -1, (2, self.num_heads, -1)).unbind(-3)
        # By mode, not by gradients: the contrast's first pass, which has none, must compute what
        # the second does (cached_contrast.py), or one worker that accumulates is not two.
        by_products = self.training and query.is_cpu
        return (attend_by_products if by_products else attend)(
            rotate(query, angles).flatten(0, -4),
            rotate(key, angles).flatten(0, -4),
            value.flatten(0, -4),
            key_mask_NK,
        )


class SelfAttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, dim: int, num_heads: int, *, num_modalities: int | None) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(dim, num_modalities=num_modalities)
        self.attention = Attention(dim, num_heads, num_modalities=num_modalities)
        self.feed_forward_norm = RMSNorm(dim, num_modalities=num_modalities)
        self.feed_forward = SwiGLU(dim, num_modalities=num_modalities)

    def forward(self, x_STD: Tensor, modality_S: Tensor, angles: Rotary) -> Tensor:
        """[S, ..., T, D] -> [S, ..., T, D]."""
        x_STD, normed = self.attention_norm.beside(x_STD, None, modality_S)
        heard = self.attention(normed, normed, modality_S, angles)
        x_STD, normed = self.feed_forward_norm.beside(x_STD, heard, modality_S)
        out_STD: Tensor = self.feed_forward(normed, modality_S, x_STD)
        return out_STD


class CrossAttentionBlock(nn.Module):
    """x + attention(norm(x), norm(memory)), then x + SwiGLU(norm(x))."""

    def __init__(self, dim: int, num_heads: int, *, num_modalities: int | None) -> None:
        super().__init__()
        self.memory_norm = RMSNorm(dim, num_modalities=num_modalities)
        self.attention_norm = RMSNorm(dim, num_modalities=num_modalities)
        self.attention = Attention(dim, num_heads, num_modalities=num_modalities)
        self.feed_forward_norm = RMSNorm(dim, num_modalities=num_modalities)
        self.feed_forward = SwiGLU(dim, num_modalities=num_modalities)

    def forward(
        self, x_STD: Tensor, memory_STD: Tensor, modality_S: Tensor, angles: Rotary
    ) -> Tensor:
        """[S, ..., T, D] twice -> [S, ..., T, D]; x is the residual stream."""
        memory = self.memory_norm(memory_STD, modality_S)
        x_STD, normed = self.attention_norm.beside(x_STD, None, modality_S)
        heard = self.attention(normed, memory, modality_S, angles)
        x_STD, normed = self.feed_forward_norm.beside(x_STD, heard, modality_S)
        out_STD: Tensor = self.feed_forward(normed, modality_S, x_STD)
        return out_STD
