"""Layers by hand-worked values, private and shared."""

import math

import pytest
import torch

from sleepmami.models.layers import Linear, RMSNorm, SwiGLU, per_stream, swiglu_width

ANY = torch.tensor([0, 0])  # shared layers ignore it


def test_each_stream_is_mapped_by_its_own_modality() -> None:
    torch.manual_seed(0)
    linear = Linear(3, 2, num_modalities=4, bias=True)
    torch.nn.init.normal_(linear.bias)
    modality_S = torch.tensor([2, 0, 2])  # out of order, one modality twice
    x_SBTI = torch.randn(3, 5, 7, 3)
    out_SBTO = linear(x_SBTI, modality_S)
    for stream, modality in enumerate(modality_S.tolist()):
        expected = x_SBTI[stream] @ linear.weight[modality].T + linear.bias[modality]
        torch.testing.assert_close(out_SBTO[stream], expected)


def test_a_shared_map_takes_any_leading_dimensions() -> None:
    linear = Linear(2, 1, num_modalities=None)
    linear.weight.data = torch.tensor([[2.0, -1.0]])
    assert linear(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), ANY).tolist() == [[2.0], [-1.0]]


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2, num_modalities=2)
    norm.weight.data = torch.tensor([[1.0, 1.0], [2.0, 0.5]])
    x_SBD = torch.tensor([3.0, 4.0]).expand(2, 1, 2)
    rms = math.sqrt(12.5)
    expected = [3 / rms, 4 / rms, 2 * 3 / rms, 0.5 * 4 / rms]
    assert norm(x_SBD, torch.tensor([0, 1])).flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_modalities", [None, 2])
def test_rms_norm_keeps_half_precision(num_modalities: int | None) -> None:
    norm = RMSNorm(4, num_modalities=num_modalities)
    out = norm(torch.ones(2, 3, 4, dtype=torch.bfloat16), torch.tensor([1, 0]))
    assert out.dtype == torch.bfloat16
    assert out.unique().tolist() == [1.0]


def test_swiglu_by_hand() -> None:
    layer = SwiGLU(1, num_modalities=None)
    layer.gate_up.weight.data = torch.zeros_like(layer.gate_up.weight)
    layer.gate_up.weight.data[0], layer.gate_up.weight.data[64] = 1.0, 3.0  # one hidden unit lives
    layer.down.weight.data = torch.ones_like(layer.down.weight)
    silu_of_two = 2 / (1 + math.exp(-2))
    assert layer(torch.tensor([[2.0]]), ANY).item() == pytest.approx(silu_of_two * 6)


@pytest.mark.parametrize(("dim", "hidden"), [(384, 1024), (128, 384), (64, 192), (32, 128)])
def test_swiglu_width_is_eight_thirds_in_whole_64s(dim: int, hidden: int) -> None:
    assert swiglu_width(dim) == hidden


def test_all_modalities_in_order_take_the_stack_without_a_copy() -> None:
    stack = torch.randn(3, 2)
    assert per_stream(stack, torch.tensor([0, 1, 2])) is stack
    assert per_stream(stack, torch.tensor([0, 2, 1])).tolist() == stack[[0, 2, 1]].tolist()
    assert per_stream(stack, torch.tensor([0, 1])).tolist() == stack[:2].tolist()


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_a_stacked_map_are_those_of_autograd(bias: bool) -> None:
    torch.manual_seed(0)
    linear = Linear(3, 2, num_modalities=2, bias=bias)
    x_SRI = torch.randn(2, 4, 3, requires_grad=True)
    leaves = [x_SRI, *linear.parameters()]
    gradient = torch.randn(2, 4, 2)
    found = torch.autograd.grad(linear(x_SRI, torch.tensor([0, 1])), leaves, gradient)
    expected_SRO = torch.einsum("sri,soi->sro", x_SRI, linear.weight)
    if linear.bias is not None:
        expected_SRO = expected_SRO + linear.bias[:, None]
    expected = torch.autograd.grad(expected_SRO, leaves, gradient)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert one.is_contiguous()  # laid out as the weight: nothing is copied into .grad
