"""Mamba's causal depthwise convolution with its SiLU, in causal_conv.c or in plain torch.

    u_t = silu(bias + sum over k of weight_k x_{t - (K - 1) + k})

The kernel takes float32 on a CPU and any number of threads, with the same result for any number;
compiled_c.py says where it comes from. The twin takes everything else, and gives the same.

Shapes: B nights, L epochs, I channels, K taps (K - 1 of them before the present).
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sleepmami.models import compiled_c
from sleepmami.models.cpu_kernels import has_memory, rows_side_by_side

CHUNK, GROUP = 32, 256  # steps and channels that are worked on together
POINTERS = ("x_BLI", "tail_BKI", "weight_KI", "bias_I", "out_BLI", "gradient_BLI")
GRADIENT_POINTERS = ("x_gradient_BLI", "weight_gradient_BKI", "bias_gradient_BI")
SIZES = ("nights", "steps", "inner", "threads")
STRIDES = ("x_per_night", "x_per_step", "gradient_per_night", "gradient_per_step")


def causal_conv_silu(x_BLI: Tensor, weight_KI: Tensor, bias_I: Tensor, tail_BKI: Tensor) -> Tensor:
    """[B, L, I] to [B, L, I], in the type of x.

    Args:
        x_BLI: what is convolved.
        weight_KI: taps, the present last.
        bias_I: added to the sum.
        tail_BKI: the K - 1 rows before the first, oldest first; no gradient goes there.
    """
    weight_KI, bias_I, tail_BKI = (t.to(x_BLI.dtype) for t in (weight_KI, bias_I, tail_BKI))
    tensors = (x_BLI, weight_KI, bias_I, tail_BKI)
    if not usable(*tensors):
        return plain_conv_silu(*tensors)
    x_BLI = rows_side_by_side(x_BLI)
    weight_KI, bias_I, tail_BKI = (t.contiguous() for t in tensors[1:])
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        out_BLI = _ConvSiLU.apply(x_BLI, weight_KI, bias_I, tail_BKI)  # type: ignore[no-untyped-call]  # torch gives no types
        return cast(Tensor, out_BLI)
    return _forward(x_BLI, weight_KI, bias_I, tail_BKI)


def plain_conv_silu(x_BLI: Tensor, weight_KI: Tensor, bias_I: Tensor, tail_BKI: Tensor) -> Tensor:
    """As shifted multiplies; torch's own conv1d takes 7 x as long on a CPU."""
    padded, length = torch.cat([tail_BKI, x_BLI], dim=1), x_BLI.shape[1]
    result = bias_I
    for k, weight_I in enumerate(weight_KI):
        result = torch.addcmul(result, padded[:, k : k + length], weight_I)
    return F.silu(result)


def usable(*tensors: Tensor) -> bool:
    """Whether the kernel takes x, weight_KI and the rest, here and now."""
    return (
        tensors[0].numel() > 0  # without nights there is no first part to hold a sum
        and all(has_memory(tensor) and tensor.dtype == torch.float32 for tensor in tensors)
        and _library(len(tensors[1])) is not None
    )


class _Conv(ctypes.Structure):
    """`struct conv` of causal_conv.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (*POINTERS, *GRADIENT_POINTERS)),
        *((name, ctypes.c_ssize_t) for name in (*SIZES, *STRIDES)),
    )

    @classmethod
    def of(cls, x_BLI: Tensor, weight_KI: Tensor, bias_I: Tensor, tail_BKI: Tensor) -> _Conv:
        nights, steps, inner = x_BLI.shape
        taps = len(weight_KI)
        assert tail_BKI.shape == (nights, taps - 1, inner), "C would read what is not there"
        assert weight_KI.shape[1:] == bias_I.shape == (inner,)
        return cls(
            x_BLI=x_BLI.data_ptr(),
            tail_BKI=tail_BKI.data_ptr(),
            weight_KI=weight_KI.data_ptr(),
            bias_I=bias_I.data_ptr(),
            nights=nights,
            steps=steps,
            inner=inner,
            threads=torch.get_num_threads(),
            x_per_night=x_BLI.stride(0),
            x_per_step=x_BLI.stride(1),
        )


class _ConvSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:  # Any: torch gives the context no type
        ctx.save_for_backward(*tensors)
        return _forward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLI: Tensor) -> tuple[Tensor | None, ...]:
        x_BLI, weight_KI = ctx.saved_tensors[:2]
        gradient_BLI = rows_side_by_side(gradient_BLI)
        nights, _, inner = x_BLI.shape
        x_gradient_BLI = x_BLI.new_empty(x_BLI.shape)
        weight_gradient_BKI = x_BLI.new_empty(nights, *weight_KI.shape)
        bias_gradient_BI = x_BLI.new_empty(nights, inner)
        conv = _Conv.of(*ctx.saved_tensors)
        conv.gradient_BLI = gradient_BLI.data_ptr()
        conv.gradient_per_night, conv.gradient_per_step = gradient_BLI.stride()[:2]
        conv.x_gradient_BLI = x_gradient_BLI.data_ptr()
        conv.weight_gradient_BKI = weight_gradient_BKI.data_ptr()
        conv.bias_gradient_BI = bias_gradient_BI.data_ptr()
        _loaded(len(weight_KI)).conv_backward(ctypes.byref(conv))
        return x_gradient_BLI, weight_gradient_BKI[0], bias_gradient_BI[0], None


def _forward(x_BLI: Tensor, weight_KI: Tensor, bias_I: Tensor, tail_BKI: Tensor) -> Tensor:
    out_BLI = x_BLI.new_empty(x_BLI.shape)
    conv = _Conv.of(x_BLI, weight_KI, bias_I, tail_BKI)
    conv.out_BLI = out_BLI.data_ptr()
    _loaded(len(weight_KI)).conv_forward(ctypes.byref(conv))
    return out_BLI


def _library(num_taps: int) -> ctypes.CDLL | None:
    return compiled_c.load("causal_conv.c", TAPS=num_taps, CHUNK=CHUNK, GROUP=GROUP)


def _loaded(num_taps: int) -> ctypes.CDLL:
    library = _library(num_taps)
    assert library is not None, "ask usable() first"
    return library
