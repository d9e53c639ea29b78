"""The Mamba layer against mamba_ssm's conventions, and nights that come in pieces."""

import math
import sys
from itertools import pairwise
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sleepmami.models import ssm
from sleepmami.models.selective_scan import ScanInputs
from sleepmami.models.ssm import Mamba, MambaState, cuda_kernel, cuda_scan, selective_scan
from tests.unit.models.naive_scan import (
    naive_scan,
    output_and_gradients,
    scan_inputs,
    worst_relative_error,
)

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


# --------------------------------------------------------------------------- a night in pieces


def in_pieces(layer: Mamba, hidden: Tensor, cuts: list[int]) -> tuple[Tensor, MambaState]:
    state, parts, edges = None, [], [0, *cuts, hidden.shape[1]]
    for start, stop in pairwise(edges):
        out, state = layer.resume(hidden[:, start:stop], state)
        parts.append(out)
    assert state is not None
    return torch.cat(parts, 1), state


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_state_kept_in_another_type_is_read_as_numbers(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    layer, hidden = Mamba(8, 4, 4, 2), torch.randn(2, 20, 8)
    with torch.no_grad():
        _, state = layer.resume(hidden[:, :10], None)
        kept = MambaState(state.conv_BKI.to(dtype), state.scan_BNI.to(dtype))
        found, last = layer.resume(hidden[:, 10:], kept)
        expected, _ = layer.resume(hidden[:, 10:], state)
    assert last.scan_BNI.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if dtype == torch.float64 else 1e-2)


@pytest.mark.parametrize(("nights", "epochs"), [(0, 5), (2, 0), (0, 0)])
def test_no_nights_or_an_empty_piece_change_nothing(nights: int, epochs: int) -> None:
    torch.manual_seed(3)
    layer = Mamba(8, 4, 4, 2)
    _, before = layer.resume(torch.randn(nights, 3, 8), None)
    out, after = layer.resume(torch.randn(nights, epochs, 8), before)
    assert out.shape == (nights, epochs, 8)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    out.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("conv_kernel", [1, 4])
@pytest.mark.parametrize("cuts", [[20], [1], [1, 2, 3], [38, 39], [7, 8, 24]])
def test_pieces_of_a_night_are_the_whole_night(conv_kernel: int, cuts: list[int]) -> None:
    torch.manual_seed(3)
    layer, hidden = Mamba(8, 4, conv_kernel, 2), torch.randn(2, 40, 8)
    whole, last = layer.resume(hidden, None)
    out, state = in_pieces(layer, hidden, cuts)
    assert torch.equal(whole, layer(hidden))
    assert torch.allclose(out, whole, rtol=0, atol=1e-6)
    for found, expected in zip(state, last, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_each_night_leaves_the_state_of_its_own_end() -> None:
    torch.manual_seed(4)
    layer, hidden = Mamba(8, 4, 4, 2), torch.randn(3, 12, 8)
    lengths = torch.tensor([12, 2, 7])  # 2: shorter than the convolution looks back
    hidden[1, 2:], hidden[2, 7:] = torch.nan, torch.nan
    out, state = layer.resume(hidden, None, lengths)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    for night, length in enumerate(lengths.tolist()):
        alone, own = layer.resume(hidden[night : night + 1, :length], None)
        assert torch.allclose(out[night, :length], alone[0], rtol=0, atol=1e-6)
        assert out[night, length:].eq(0).all()
        for found, expected in zip(state, own, strict=True):
            assert torch.allclose(found[night], expected[0], rtol=0, atol=1e-6)


def test_a_night_that_has_ended_keeps_its_state() -> None:
    torch.manual_seed(5)
    layer = Mamba(8, 4, 4, 2)
    _, before = layer.resume(torch.randn(2, 9, 8), None)
    _, after = layer.resume(torch.randn(2, 5, 8), before, torch.tensor([5, 0]))
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[1], new[1])
        assert not torch.equal(old[0], new[0])


def test_a_state_that_asks_for_a_gradient_or_does_not_fit_is_refused() -> None:
    layer, hidden = Mamba(8, 4, 4, 2), torch.randn(2, 5, 8)
    _, state = layer.resume(hidden, None)
    assert not any(tensor.requires_grad for tensor in state)
    asking = state._replace(scan_BNI=state.scan_BNI.clone().requires_grad_())
    with pytest.raises(ValueError, match="asks for a gradient"):
        layer.resume(hidden, asking)
    with torch.no_grad():
        layer.resume(hidden, asking)
    with pytest.raises(ValueError, match=r"\(\(2, 3, 16\), \(2, 4, 16\)\), expected \(\(1, 3"):
        layer.resume(hidden[:1], state)


# ------------------------------------------------------------------------------- the CUDA kernel


def time_last_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor, delta_softplus: bool, return_last_state: bool) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The signature and layout of mamba_ssm's selective_scan_fn: (B, D, L) and (B, N, L)."""
    assert delta_softplus
    assert return_last_state
    u, delta, B, C, z = (t.transpose(1, 2) for t in (u, delta, B, C, z))
    out = naive_scan(u, delta, A, B, C, D, z, delta_bias).transpose(1, 2)
    return out, torch.full((len(out), *A.shape), 3.0)


def on_stand_in(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor, z: Tensor, bias: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    return cuda_scan(time_last_scan, ScanInputs(u, delta, B, C, z, A.t(), skip, bias), length)


def test_cuda_adapter_only_moves_time_last_and_back() -> None:
    inputs = scan_inputs(2, 20)
    found = output_and_gradients(on_stand_in, inputs)
    assert worst_relative_error(found, output_and_gradients(naive_scan, inputs)) < 1e-12
    assert on_stand_in(*inputs)[1].shape == (2, 3, 6)


def test_cuda_adapter_keeps_padding_out() -> None:
    inputs, lengths = scan_inputs(2, 20), torch.tensor([20, 7])
    expected = output_and_gradients(lambda *t: selective_scan(*t, None, lengths), inputs)
    found = output_and_gradients(lambda *t: on_stand_in(*t, lengths), inputs)
    assert worst_relative_error(found, expected) < 1e-12


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
    return selective_scan(*(t.cuda() for t in inputs))[0].cpu()


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
