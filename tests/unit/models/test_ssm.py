"""The selective scan against a naive loop, and the layer against mamba_ssm's conventions."""

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sleepmami.models import selective_scan as twin
from sleepmami.models import ssm
from sleepmami.models.ssm import Mamba, cuda_kernel, cuda_scan, selective_scan

Scan = Callable[..., Any]


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


def test_two_steps_by_hand() -> None:
    # s = softplus(log(e - 1)) = 1 and exp(s A) = 1/2: h = 4, then 4/2 + 2 = 4.
    u = torch.tensor([[[4.0], [2.0]]])
    delta = torch.full((1, 2, 1), math.log(math.e - 1))
    one = torch.ones(1, 2, 1)
    out = selective_scan(
        u,
        delta,
        torch.tensor([[-math.log(2)]]),
        one,
        one,
        torch.tensor([10.0]),
        one,
        torch.zeros(1),
    ).out_BLI
    silu_of_1 = 0.7310586
    assert out.flatten().tolist() == pytest.approx([44 * silu_of_1, 24 * silu_of_1])


@pytest.mark.parametrize("length", [1, 31, 32, 33, 100])  # around the chunk of 32 steps
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_scan_is_the_naive_loop_in_value_and_every_gradient(
    length: int, dtype: torch.dtype, tolerance: float
) -> None:
    expected = output_and_gradients(naive_scan, scan_inputs(3, length))
    found = output_and_gradients(selective_scan, scan_inputs(3, length, dtype=dtype))
    assert worst_relative_error(found, expected) < tolerance


def test_blocks_of_nights_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssm, "BLOCK_ELEMENTS", 2 * 32 * 3 * 6)  # two nights at a time, of five
    expected = output_and_gradients(naive_scan, scan_inputs(5, 70))
    found = output_and_gradients(selective_scan, scan_inputs(5, 70))
    assert worst_relative_error(found, expected) < 1e-12


def test_long_steps_that_forget_everything_stay_finite_and_right() -> None:
    expected = output_and_gradients(naive_scan, scan_inputs(2, 70, states=16, step=30.0))
    found = output_and_gradients(
        selective_scan, scan_inputs(2, 70, states=16, step=30.0, dtype=torch.float32)
    )
    assert worst_relative_error(found, expected) < 1e-4


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = scan_inputs(1, 34, inner=2, states=2)
    assert torch.autograd.gradcheck(selective_scan, inputs, fast_mode=True)


def test_backward_takes_gradients_of_any_layout() -> None:
    inputs = scan_inputs(2, 40)
    expected = torch.autograd.grad(naive_scan(*inputs).transpose(1, 2).sum((0, 2)).prod(), inputs)
    found = torch.autograd.grad(selective_scan(*inputs).transpose(1, 2).sum((0, 2)).prod(), inputs)
    assert worst_relative_error(list(found), list(expected)) < 1e-10


def test_backward_keeps_one_state_per_chunk() -> None:
    inputs = scan_inputs(2, 320, inner=6, states=8)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        selective_scan(*inputs)
    states_of_all_steps = 2 * 320 * 6 * 8
    assert sum(kept) < sum(t.numel() for t in inputs) + states_of_all_steps / 30


def test_scan_stays_in_float32_under_bfloat16_autocast() -> None:
    inputs = scan_inputs(2, 70, dtype=torch.float32)
    expected = output_and_gradients(selective_scan, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = output_and_gradients(selective_scan, inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_bfloat16_inputs_give_a_bfloat16_output() -> None:
    inputs = scan_inputs(2, 40, dtype=torch.bfloat16)
    out, *gradients = output_and_gradients(selective_scan, inputs)
    exact = selective_scan(*(t.double() for t in inputs))
    assert out.dtype == torch.bfloat16
    assert {g.dtype for g in gradients} == {torch.bfloat16}
    assert ((out - exact).norm() / exact.norm()).item() < 2**-8


# ------------------------------------------------------------------------------------ the layer


def test_state_dict_is_that_of_mamba_ssm_at_the_papers_width() -> None:
    shapes = {name: tuple(t.shape) for name, t in Mamba(512, 16, 4, 2).state_dict().items()}
    assert shapes == {
        "A_log": (1024, 16),
        "D": (1024,),
        "in_proj.weight": (2048, 512),
        "conv1d.weight": (1024, 1, 4),
        "conv1d.bias": (1024,),
        "x_proj.weight": (64, 1024),
        "dt_proj.weight": (1024, 32),
        "dt_proj.bias": (1024,),
        "out_proj.weight": (512, 1024),
    }


def test_weight_decay_is_switched_off_on_the_ssm_parameters_only() -> None:
    layer = Mamba(16, 4, 4, 2)
    marked = {n for n, p in layer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_proj.bias"}


def test_initial_values_are_those_of_mamba_ssm() -> None:
    torch.manual_seed(0)
    layer = Mamba(64, 16, 4, 2)
    step = F.softplus(layer.dt_proj.bias)
    assert 0.000999 < step.min().item() < 0.002  # log-uniform on [0.001, 0.1]
    assert 0.05 < step.max().item() < 0.1001
    assert step.log().mean().item() == pytest.approx(math.log(0.01), abs=0.5)
    assert torch.allclose(layer.A_log.exp(), torch.arange(1.0, 17).expand(128, 16))
    assert torch.equal(layer.D, torch.ones(128))
    assert layer.dt_proj.weight.abs().max().item() <= 0.5  # rank 4 ** -0.5


def literal_layer(layer: Mamba, hidden: Tensor) -> Tensor:
    """Gu & Dao's reference implementation, written out with conv1d and the naive scan."""
    x, z = F.linear(hidden, layer.in_proj.weight).chunk(2, -1)
    weight, bias = layer.conv1d.weight, layer.conv1d.bias
    padded = F.pad(x.transpose(1, 2), (weight.shape[2] - 1, 0))
    u = F.silu(F.conv1d(padded, weight, bias, groups=len(weight)).transpose(1, 2))
    rank, states = layer.dt_proj.weight.shape[1], layer.A_log.shape[1]
    delta, B, C = F.linear(u, layer.x_proj.weight).split([rank, states, states], -1)
    delta = delta @ layer.dt_proj.weight.T
    y = naive_scan(u, delta, -layer.A_log.exp(), B, C, layer.D, z, layer.dt_proj.bias)
    return F.linear(y, layer.out_proj.weight)


@pytest.mark.parametrize("conv_kernel", [1, 4])
def test_layer_is_the_reference_implementation(conv_kernel: int) -> None:
    torch.manual_seed(1)
    layer = Mamba(8, 4, conv_kernel, 2).double()
    hidden = torch.randn(2, 40, 8, dtype=torch.float64, requires_grad=True)
    inputs = [hidden, *layer.parameters()]
    found = output_and_gradients(lambda *_: layer(hidden), inputs)
    expected = output_and_gradients(lambda *_: literal_layer(layer, hidden), inputs)
    assert worst_relative_error(found, expected) < 1e-12


def test_no_position_sees_a_later_one() -> None:
    torch.manual_seed(2)
    layer, hidden = Mamba(8, 4, 4, 2), torch.randn(2, 70, 8)
    changed = hidden.clone()
    changed[:, 40:] = 100.0
    assert torch.equal(layer(hidden)[:, :40], layer(changed)[:, :40])


def test_every_position_sees_the_first() -> None:
    torch.manual_seed(2)
    layer, hidden = Mamba(8, 4, 4, 2), torch.randn(1, 70, 8)
    changed = hidden.clone()
    changed[:, 0] += 1
    assert ((layer(hidden) - layer(changed)).abs().amax(2) > 0).all()


# ------------------------------------------------------------------------------- the CUDA kernel


def time_last_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor, delta_softplus: bool) -> Tensor:  # fmt: skip
    """The signature and layout of mamba_ssm's selective_scan_fn: (B, D, L) and (B, N, L)."""
    assert delta_softplus
    u, delta, B, C, z = (t.transpose(1, 2) for t in (u, delta, B, C, z))
    return naive_scan(u, delta, A, B, C, D, z, delta_bias).transpose(1, 2)


def test_kernel_adapter_only_moves_time_last_and_back() -> None:
    inputs = scan_inputs(2, 20)
    found = output_and_gradients(lambda *t: kernel_scan(time_last_scan, *t), inputs)
    assert worst_relative_error(found, output_and_gradients(naive_scan, inputs)) < 1e-12


@pytest.mark.parametrize("compiled", [None, object()], ids=["without kernel", "with kernel"])
def test_kernel_counts_only_when_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch, compiled: object
) -> None:
    interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.__dict__.update(selective_scan_cuda=compiled, selective_scan_fn=time_last_scan)
    ops = ModuleType("mamba_ssm.ops")
    ops.__dict__["selective_scan_interface"] = interface
    monkeypatch.setitem(sys.modules, "mamba_ssm", ModuleType("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", ops)
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    found = cuda_kernel.__wrapped__()
    assert found is (time_last_scan if compiled else None)


def test_without_the_package_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # importing it fails
    assert cuda_kernel.__wrapped__() is None


# ---------------------------------------------------------- on a GPU; see docs/gpu.md, never run yet

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def on_cuda(*inputs: Tensor) -> Tensor:
    return selective_scan(*(t.cuda() for t in inputs)).cpu()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("use_kernel", [False, True])
def test_scan_on_cuda_is_the_naive_loop(monkeypatch: pytest.MonkeyPatch, use_kernel: bool) -> None:
    if use_kernel and cuda_kernel() is None:
        pytest.skip("mamba_ssm's compiled kernel is not installed")
    if not use_kernel:
        monkeypatch.setattr(ssm, "cuda_kernel", lambda: None)
    expected = output_and_gradients(naive_scan, scan_inputs(3, 100, states=16))
    inputs = scan_inputs(3, 100, states=16, dtype=torch.float32)
    assert worst_relative_error(output_and_gradients(on_cuda, inputs), expected) < 1e-4


@pytest.mark.gpu
@needs_cuda
def test_layer_on_cuda_is_mamba_ssms_own() -> None:
    mamba_ssm = pytest.importorskip("mamba_ssm", exc_type=ImportError)
    ours, theirs = Mamba(64, 16, 4, 2).cuda(), mamba_ssm.Mamba(64, 16, 4, 2).cuda()
    theirs.load_state_dict(ours.state_dict())
    hidden = torch.randn(2, 100, 64, device="cuda")
    expected = theirs(hidden)
    assert ((ours(hidden) - expected).norm() / expected.norm()).item() < 1e-4
