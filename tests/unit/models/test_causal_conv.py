"""The causal convolution with its SiLU, in C and in plain torch."""

import shutil
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sleepmami.models import causal_conv, compiled_c
from sleepmami.models.causal_conv import causal_conv_silu

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, compiled_c.COMPILERS)), reason="needs a C compiler"
)


def by_conv1d(x_BLI: Tensor, weight_KI: Tensor, bias_I: Tensor, tail_BKI: Tensor) -> Tensor:
    padded_BIL = torch.cat([tail_BKI, x_BLI], 1).transpose(1, 2)
    weight_I1K = weight_KI.t().unsqueeze(1)
    out_BIL = F.conv1d(padded_BIL, weight_I1K, bias_I, groups=len(bias_I))
    return F.silu(out_BIL).transpose(1, 2)


def conv_inputs(
    nights: int, length: int, inner: int, taps: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    shapes = [(nights, length, 2 * inner), (taps, inner), (inner,), (nights, taps - 1, inner)]
    x, *rest = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)
    x_BLI = x.chunk(2, 2)[0]  # a view, as the layer has it
    return [t.requires_grad_() for t in (x_BLI, *rest[:2])] + rest[2:]


def output_and_gradients(function: Any, inputs: list[Tensor]) -> list[Tensor]:
    out = function(*inputs)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).sin()
    return [out, *torch.autograd.grad(out, inputs[:3], weight.to(out.dtype))]


def test_three_steps_by_hand() -> None:
    # 2 x_t + 10 x_{t-1} + 1, the first looking back at 5: 53, 15, 27; silu(v) = v to 1e-5 there
    x = torch.tensor([[[1.0], [2.0], [3.0]]])
    weight, bias = torch.tensor([[10.0], [2.0]]), torch.ones(1)
    out = causal_conv_silu(x, weight, bias, torch.tensor([[[5.0]]]))
    assert out.flatten().tolist() == pytest.approx([53.0, 15.0, 27.0], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernel", "twin"])
@pytest.mark.parametrize(
    ("nights", "length", "inner", "taps"),
    [(1, 1, 1, 4), (2, 33, 17, 4), (3, 70, 270, 4), (2, 32, 16, 1), (2, 2, 5, 4)],
)
def test_value_and_every_gradient_are_those_of_conv1d(
    nights: int, length: int, inner: int, taps: int, dtype: torch.dtype
) -> None:
    expected = output_and_gradients(by_conv1d, conv_inputs(nights, length, inner, taps))
    inputs = conv_inputs(nights, length, inner, taps, dtype)
    for found, exact in zip(output_and_gradients(causal_conv_silu, inputs), expected, strict=True):
        assert (found - exact).norm() <= 2e-6 * exact.norm()


@needs_compiler
def test_the_kernel_is_what_runs_on_a_cpu() -> None:
    out = causal_conv_silu(*conv_inputs(1, 3, 4, 4, torch.float32))
    assert type(out.grad_fn).__name__ == "_ConvSiLUBackward"


@needs_compiler
def test_any_number_of_threads_gives_the_same_bits() -> None:
    inputs, before, found = conv_inputs(3, 70, 600, 4, torch.float32), torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            found.append(output_and_gradients(causal_conv_silu, inputs))
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_bfloat16_goes_to_the_twin() -> None:
    inputs = conv_inputs(1, 20, 4, 4, torch.bfloat16)
    assert not causal_conv.usable(*inputs)
    out = causal_conv_silu(*inputs)
    exact = by_conv1d(*(t.double() for t in inputs))
    assert out.dtype == torch.bfloat16
    assert ((out - exact).norm() / exact.norm()).item() < 2**-6
