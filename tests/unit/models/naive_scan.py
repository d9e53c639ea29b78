"""A naive selective scan and inputs for it, for the tests of scan and layer."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Scan = Callable[..., Any]  # to a tensor, or to a tuple that begins with one


def naive_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor, bias: Tensor) -> Tensor:  # fmt: skip
    step = F.softplus(delta + bias)
    h = torch.zeros(len(u), *A.shape, dtype=u.dtype)
    out = []
    for t in range(u.shape[1]):
        s_t = step[:, t, :, None]
        h = torch.exp(s_t * A) * h + s_t * u[:, t, :, None] * B[:, t, None, :]
        out.append((h * C[:, t, None, :]).sum(-1) + skip * u[:, t])
    return torch.stack(out, 1) * F.silu(z)


def scan_inputs(nights: int, length: int, inner: int = 6, states: int = 3, step: float = 0.0, dtype: torch.dtype = torch.float64) -> list[Tensor]:  # fmt: skip
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    u, delta, z = (draw(nights, length, inner) for _ in range(3))
    A = -torch.arange(1.0, states + 1).repeat(inner, 1) * (1 + 0.1 * draw(inner, states).abs())
    B, C = draw(nights, length, states), draw(nights, length, states)
    tensors = (u, delta, A, B, C, draw(inner), z, draw(inner) - 3 + step)
    return [t.to(dtype).requires_grad_() for t in tensors]


def output_and_gradients(scan: Scan, inputs: list[Tensor]) -> list[Tensor]:
    found = scan(*inputs)
    out = found if isinstance(found, Tensor) else found[0]
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).sin()
    return [out, *torch.autograd.grad((out * weight.to(out.dtype)).sum(), inputs)]


def worst_relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in pairs)
