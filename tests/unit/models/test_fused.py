"""The C kernels against their plain twins: values, gradients, layouts, half precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sleepmami.models import cpu_kernels, fused

DTYPES = [torch.float32, torch.bfloat16]
# bfloat16 keeps 8 bits: the twins round after every operator, the kernels once at the end
TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (0.03, 0.03)}


@pytest.fixture(autouse=True)
def one_thread_and_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    if not cpu_kernels.available():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def agree(
    kernel: Callable[..., Tensor], twin: Callable[..., Tensor], *inputs: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Output and gradient of each input, of both."""
    results = []
    for function in (kernel, twin):
        leaves = [x.detach().clone(memory_format=torch.preserve_format) for x in inputs]
        for leaf in leaves:
            leaf.requires_grad_()
        out = function(*leaves)
        torch.manual_seed(1)
        gradients = torch.autograd.grad(out, leaves, torch.randn(out.shape).to(out.dtype))
        results.append([out.detach(), *gradients])
    return list(zip(*results, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("dim", [384, 30])  # whole vectors and a remainder
def test_rms_norm_and_its_gradients(dtype: torch.dtype, stacked: bool, dim: int) -> None:
    torch.manual_seed(0)
    x_SBTD = (3 * torch.randn(2, 3, 5, dim)).to(dtype)
    scale = torch.randn(2, dim) if stacked else torch.randn(dim)
    pairs = agree(
        lambda x, s: fused.rms_norm(x, s, 1e-6),
        lambda x, s: fused.plain_rms_norm(x, s, 1e-6),
        x_SBTD,
        scale,
    )
    rtol, atol = TOLERANCE[dtype]
    for found, expected in pairs:
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=rtol, atol=4 * atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_a_residual_sum_beside_its_norm_and_their_gradients(
    dtype: torch.dtype, stacked: bool, added: bool
) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 5, 30).to(dtype) for _ in range(1 + added)]
    scale = torch.randn(2, 30) if stacked else torch.randn(30)

    def read_both(pair: tuple[Tensor, Tensor]) -> Tensor:
        return 2 * pair[0] + pair[1].sin()

    pairs = agree(
        lambda s, x, delta=None: read_both(fused.add_norm(x, delta, s, 1e-6)),
        lambda s, x, delta=None: read_both(fused.plain_add_norm(x, delta, s, 1e-6)),
        scale,
        *inputs,
    )
    rtol, atol = TOLERANCE[dtype]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=rtol, atol=8 * atol)


def test_a_residual_sum_whose_norm_nobody_reads_is_a_sum() -> None:
    torch.manual_seed(0)
    pairs = agree(
        lambda x, delta: fused.add_norm(x, delta, torch.ones(30), 1e-6)[0],
        torch.add,
        torch.randn(2, 5, 30),
        torch.randn(2, 5, 30),
    )
    for found, expected in pairs:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_and_its_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gate_up = (4 * torch.randn(3, 7, 2 * 50)).to(dtype)
    rtol, atol = TOLERANCE[dtype]
    for found, expected in agree(fused.swiglu, fused.plain_swiglu, gate_up):
        torch.testing.assert_close(found, expected, rtol=rtol, atol=4 * atol)


def test_swiglu_holds_at_the_ends_of_the_exponential() -> None:
    gate = torch.tensor([-1e4, -100.0, -88.0, 0.0, 88.0, 100.0, 1e4])
    found = fused.swiglu(torch.cat([gate, torch.ones(7)]))
    torch.testing.assert_close(found, torch.nn.functional.silu(gate), rtol=1e-6, atol=1e-30)


def test_a_nan_stays_a_nan() -> None:
    assert fused.swiglu(torch.tensor([torch.nan, 1.0])).isnan().all()
    assert fused.rms_norm(torch.tensor([[torch.nan, 1.0]]), torch.ones(2), 1e-6).isnan().all()
    half = torch.tensor([[torch.nan, 1.0]], dtype=torch.bfloat16)
    assert fused.rms_norm(half, torch.ones(2), 1e-6).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own_positions", [True, False])
@pytest.mark.parametrize("beside_values", [True, False])  # keys as a view into keys and values
@pytest.mark.parametrize("width", [16, 48, 12])  # two of the paper's, one of no one's
def test_rotation_and_its_gradient(
    dtype: torch.dtype, own_positions: bool, beside_values: bool, width: int
) -> None:
    torch.manual_seed(0)
    leading = (2, 3) if own_positions else ()
    angle = torch.randn(*leading, 5, 1, width // 2)
    x = torch.randn(2, 3, 5, 2 if beside_values else 1, 4, width).to(dtype)
    rtol, atol = TOLERANCE[dtype]
    pairs = agree(
        lambda x: fused.rotate(x[:, :, :, 0], angle.cos(), angle.sin()),
        lambda x: fused.plain_rotate(x[:, :, :, 0], angle.cos(), angle.sin()),
        x,
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def test_rotation_takes_any_layout() -> None:
    torch.manual_seed(0)
    x_NTHC = torch.randn(2, 4, 5, 16).transpose(1, 2)  # heads before positions in memory
    angle = torch.randn(5, 1, 8)
    found = fused.rotate(x_NTHC, angle.cos(), angle.sin())
    torch.testing.assert_close(found, fused.plain_rotate(x_NTHC, angle.cos(), angle.sin()))


def test_angles_of_some_leading_dimensions_only_go_to_the_twin() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4, 16)
    angle = torch.randn(3, 5, 1, 8)  # broadcast over the first dimension
    found = fused.rotate(x, angle.cos(), angle.sin())
    torch.testing.assert_close(found, fused.plain_rotate(x, angle.cos(), angle.sin()))


def test_double_precision_and_several_threads_go_to_the_twins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cpu_kernels.usable(torch.ones(1))
    assert not cpu_kernels.usable(torch.ones(1, dtype=torch.float64))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not cpu_kernels.usable(torch.ones(1))


def test_tensors_without_memory_go_to_the_twins() -> None:
    with FakeTensorMode():
        fake = torch.empty(2, 8)
        assert not cpu_kernels.usable(fake)
        assert fused.swiglu(fake).shape == (2, 4)


def test_the_same_input_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 9, 384)
    first = agree(fused.swiglu, fused.swiglu, x)
    assert all(torch.equal(a, b) for a, b in first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("added", [True, False])
def test_the_sum_over_experts_and_its_gradients(dtype: torch.dtype, added: bool) -> None:
    torch.manual_seed(0)
    place_Nk = torch.randperm(14).view(7, 2)
    rtol, atol = TOLERANCE[dtype]
    pairs = agree(
        lambda x, gate, *base: fused.combine(x, gate, place_Nk, *base),
        lambda x, gate, *base: fused.plain_combine(x, gate, place_Nk, *base),
        torch.randn(14, 30).to(dtype),
        torch.rand(7, 2),
        *[torch.randn(7, 30).to(dtype)] * added,
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=rtol, atol=4 * atol)


def test_taken_rows_and_their_gradient_are_those_of_index_select() -> None:
    torch.manual_seed(0)
    order_A = torch.randperm(14)
    pairs = agree(
        lambda x: fused.take(x, order_A // 2, order_A.argsort(), 2),
        lambda x: x.index_select(0, order_A // 2),
        torch.randn(7, 5),
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)


def test_rotation_takes_heads_before_tokens_as_attentions_gradients_come() -> None:
    x_NTHC = torch.randn(3, 4, 5, 16).transpose(1, 2)
    cos_TC, sin_TC = torch.randn(2, 5, 1, 8)
    pairs = agree(
        lambda x: fused.rotate(x, cos_TC, sin_TC).transpose(1, 2).contiguous(),
        lambda x: fused.plain_rotate(x, cos_TC, sin_TC).transpose(1, 2).contiguous(),
        x_NTHC,
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1024, 384, 50])  # whole chunks, a part of one, no whole vector
def test_a_gate_past_the_cache_gives_the_same(
    dtype: torch.dtype, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    gate_up = torch.randn(3, 7, 2 * width).to(dtype)
    by_way_of_cache = agree(fused.swiglu, fused.plain_swiglu, gate_up)
    monkeypatch.setattr(fused, "CACHE_BYTES", 0)
    past_it = agree(fused.swiglu, fused.plain_swiglu, gate_up)
    for (found, _), (expected, _) in zip(past_it, by_way_of_cache, strict=True):
        assert torch.equal(found, expected)
