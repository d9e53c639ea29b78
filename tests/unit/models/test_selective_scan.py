"""The selective scan, in C and in plain torch, against a naive loop in float64."""

import logging
import math
import shutil
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sleepmami.models import compiled_c, scan_kernel
from sleepmami.models import selective_scan as twin
from sleepmami.models.ssm import selective_scan
from tests.unit.models.naive_scan import (
    naive_scan,
    output_and_gradients,
    scan_inputs,
    worst_relative_error,
)

F32, F64 = torch.float32, torch.float64
KERNEL_WAYS = [pytest.param(True, id="kernel"), pytest.param(False, id="twin")]
SHAPES = [  # nights, steps, channels, states: around chunks, lanes and groups of channels
    (1, 1, 1, 1),
    (3, 15, 16, 8),
    (2, 16, 17, 1),
    (2, 33, 6, 3),
    (1, 100, 31, 16),
    (2, 50, 270, 16),
]


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def choose(monkeypatch: pytest.MonkeyPatch, *, kernel: bool) -> None:
    """Make selective_scan take one of its two ways on a CPU."""
    if kernel and not any(map(shutil.which, compiled_c.COMPILERS)):
        pytest.skip("needs a C compiler")
    if not kernel:
        monkeypatch.setattr("sleepmami.models.ssm.usable", lambda inputs: False)


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


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scan_is_the_naive_loop_in_value_and_every_gradient(
    monkeypatch: pytest.MonkeyPatch, kernel: bool, shape: tuple[int, int, int, int]
) -> None:
    choose(monkeypatch, kernel=kernel)
    expected = output_and_gradients(naive_scan, scan_inputs(*shape))
    found = output_and_gradients(selective_scan, scan_inputs(*shape, dtype=F32))
    pairs = zip(found, expected, strict=True)
    errors = [(a - b).norm() / (b.norm() + 1e-6) for a, b in pairs]  # one step: no gradient of A
    assert max(errors).item() < 5e-6


def test_float64_goes_to_the_twin_and_stays_exact() -> None:
    inputs = scan_inputs(3, 100)
    expected = output_and_gradients(naive_scan, inputs)
    assert worst_relative_error(output_and_gradients(selective_scan, inputs), expected) < 1e-12


def test_the_kernel_is_what_runs_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, kernel=True)
    out, *_ = selective_scan(*scan_inputs(1, 3, dtype=F32))
    assert type(out.grad_fn).__name__ == "_KernelScanBackward"


def test_blocks_of_nights_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "BLOCK_ELEMENTS", 2 * 32 * 3 * 6)  # two nights at a time, of five
    expected = output_and_gradients(naive_scan, scan_inputs(5, 70))
    found = output_and_gradients(selective_scan, scan_inputs(5, 70))
    assert worst_relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
def test_long_steps_that_forget_everything_stay_finite_and_right(
    monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    choose(monkeypatch, kernel=kernel)
    expected = output_and_gradients(naive_scan, scan_inputs(2, 70, states=16, step=30.0))
    inputs = scan_inputs(2, 70, states=16, step=30.0, dtype=F32)
    assert worst_relative_error(output_and_gradients(selective_scan, inputs), expected) < 1e-5


def test_a_gradient_that_dies_out_backwards_becomes_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, kernel=True)
    u, *rest = scan_inputs(1, 400, states=3, step=2.0, dtype=F32)
    out, _ = selective_scan(u, *rest)
    (gradient_BLI,) = torch.autograd.grad(out[0, -1].sum(), u)
    assert gradient_BLI[0, 0].eq(0).all()  # after a decay of e^-120
    smallest = gradient_BLI.abs()[gradient_BLI != 0].min().item()
    assert smallest >= torch.finfo(F32).tiny  # no number that x86 is slow with
    assert torch.tensor(1e-39).item() != 0.0  # and it is so inside the kernel only
    assert (torch.tensor(1e-38) * 0.1).item() != 0.0


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = scan_inputs(1, 34, inner=2, states=2)
    assert torch.autograd.gradcheck(lambda *t: selective_scan(*t)[0], inputs, fast_mode=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-10), (F32, 1e-4)])
def test_backward_takes_gradients_of_any_layout(dtype: torch.dtype, tolerance: float) -> None:
    def of_transposed(out_BLI: Tensor) -> Tensor:
        return out_BLI.transpose(1, 2).sum((0, 2)).prod()

    inputs = scan_inputs(2, 40)
    expected = torch.autograd.grad(of_transposed(naive_scan(*inputs)), inputs)
    inputs = scan_inputs(2, 40, dtype=dtype)
    found = torch.autograd.grad(of_transposed(selective_scan(*inputs)[0]), inputs)
    assert worst_relative_error(list(found), list(expected)) < tolerance


def test_views_give_what_their_copies_give() -> None:
    u, delta, A, B, C, skip, z, bias = scan_inputs(2, 40, inner=20, dtype=F32)
    uz_BLX = torch.cat([u, z], 2).detach().requires_grad_()
    BC_BLX = torch.cat([B, C], 2).detach().requires_grad_()
    turned_BLI = delta.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    views = (*uz_BLX.split(20, 2), *BC_BLX.split(3, 2))
    found = selective_scan(views[0], turned_BLI, A, views[2], views[3], skip, views[1], bias)[0]
    expected = selective_scan(u, delta, A, B, C, skip, z, bias)[0]
    assert torch.equal(found, expected)
    weight = torch.linspace(-1, 1, found.numel()).view(found.shape)
    g_uz, g_BC, g_delta = torch.autograd.grad(found, (uz_BLX, BC_BLX, turned_BLI), weight)
    g_u, g_z, g_B, g_C, g_d = torch.autograd.grad(expected, (u, z, B, C, delta), weight)
    assert torch.equal(g_uz, torch.cat([g_u, g_z], 2))
    assert torch.equal(g_BC, torch.cat([g_B, g_C], 2))
    assert torch.equal(g_delta, g_d)


@pytest.mark.parametrize("nights", [1, 5])
def test_any_number_of_threads_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, threads_as_before: None, nights: int
) -> None:
    choose(monkeypatch, kernel=True)
    inputs = scan_inputs(nights, 70, inner=600, states=8, dtype=F32)
    found = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        found.append(output_and_gradients(selective_scan, inputs))
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
@pytest.mark.parametrize("cuts", [[1], [16], [5, 5, 33]])
def test_a_night_in_pieces_is_the_whole_night(
    monkeypatch: pytest.MonkeyPatch, kernel: bool, cuts: list[int]
) -> None:
    choose(monkeypatch, kernel=kernel)
    u, delta, A, B, C, skip, z, bias = scan_inputs(2, 50, dtype=F32)
    whole = selective_scan(u, delta, A, B, C, skip, z, bias)
    state, parts = None, []
    edges = [0, *cuts, 50]
    for start, stop in pairwise(edges):
        pieces = [t[:, start:stop] for t in (u, delta, B, C, z)]
        pu, pd, pB, pC, pz = pieces
        out, state = selective_scan(pu, pd, A, pB, pC, skip, pz, bias, state)
        parts.append(out)
    assert torch.allclose(torch.cat(parts, 1), whole.out_BLI, rtol=0, atol=1e-6)
    assert state is not None
    assert torch.allclose(state, whole.state_BNI, rtol=0, atol=1e-6)
    assert not state.requires_grad


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
def test_what_comes_after_a_nights_end_neither_enters_nor_changes(
    monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    choose(monkeypatch, kernel=kernel)
    lengths = torch.tensor([40, 17, 0, 33])
    inputs = scan_inputs(4, 40, inner=20, dtype=F32)
    for night, length in enumerate(lengths):
        for sequence in (0, 1, 3, 4, 6):
            inputs[sequence].detach()[night, length:] = torch.nan
    first_BNI = torch.randn(4, 3, 20)
    found = selective_scan(*inputs, first_BNI, lengths)
    weight = torch.linspace(-1, 1, found.out_BLI.numel()).view(found.out_BLI.shape)
    gradients = torch.autograd.grad((found.out_BLI * weight).sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.equal(found.state_BNI[2], first_BNI[2])
    parameters = [torch.zeros_like(inputs[i]) for i in (2, 5, 7)]
    for night, length in enumerate(lengths.tolist()):
        assert found.out_BLI[night, length:].eq(0).all()
        if not length:
            continue
        at = slice(night, night + 1)
        alone = [t[at, :length] if t.dim() == 3 else t for t in inputs]
        out, state = selective_scan(*alone, first_BNI[at])
        assert torch.allclose(found.out_BLI[at, :length], out, rtol=0, atol=1e-5)
        assert torch.allclose(found.state_BNI[at], state, rtol=0, atol=1e-5)
        own = torch.autograd.grad((out * weight[at, :length]).sum(), alone)
        for sequence in (0, 1, 3, 4, 6):
            assert gradients[sequence][night, length:].eq(0).all()
            expected = own[sequence][0]
            assert torch.allclose(gradients[sequence][night, :length], expected, atol=1e-5)
        parameters = [a + own[i] for a, i in zip(parameters, (2, 5, 7), strict=True)]
    for a, i in zip(parameters, (2, 5, 7), strict=True):
        assert torch.allclose(gradients[i], a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
def test_a_length_beyond_what_is_there_is_all_of_it(
    monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    choose(monkeypatch, kernel=kernel)
    inputs = scan_inputs(3, 20, dtype=F32)
    found = selective_scan(*inputs, None, torch.tensor([10**6, -5, 20], dtype=torch.int32))
    expected = selective_scan(*inputs, None, torch.tensor([20, 0, 20]))
    assert torch.equal(found.out_BLI, expected.out_BLI)
    assert torch.equal(found.state_BNI, expected.state_BNI)


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
def test_backward_keeps_one_state_per_chunk(monkeypatch: pytest.MonkeyPatch, kernel: bool) -> None:
    choose(monkeypatch, kernel=kernel)
    inputs = scan_inputs(2, 320, inner=6, states=8, dtype=F32)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        selective_scan(*inputs)
    states_of_all_steps = 2 * 320 * 6 * 8
    chunk = scan_kernel.CHUNK if kernel else twin.CHUNK_STEPS
    assert sum(kept) <= sum(t.numel() for t in inputs) + states_of_all_steps / chunk


def test_scan_stays_in_float32_under_bfloat16_autocast() -> None:
    inputs = scan_inputs(2, 70, dtype=F32)
    expected = output_and_gradients(selective_scan, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = output_and_gradients(selective_scan, inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_bfloat16_inputs_give_a_bfloat16_output() -> None:
    inputs = scan_inputs(2, 40, dtype=torch.bfloat16)
    out, *gradients = output_and_gradients(selective_scan, inputs)
    exact, _ = selective_scan(*(t.double() for t in inputs))
    assert out.dtype == torch.bfloat16
    assert {g.dtype for g in gradients} == {torch.bfloat16}
    assert ((out - exact).norm() / exact.norm()).item() < 2**-8


@pytest.mark.parametrize("kernel", KERNEL_WAYS)
def test_a_nan_comes_out_as_one(monkeypatch: pytest.MonkeyPatch, kernel: bool) -> None:
    choose(monkeypatch, kernel=kernel)
    inputs = scan_inputs(1, 40, dtype=F32)
    inputs[1].detach()[0, 20, 2] = torch.nan
    out, _ = selective_scan(*inputs)
    assert out[0, 20:, 2].isnan().all()
    assert out[0, :20].isfinite().all()


def test_without_a_compiler_the_twin_runs_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = scan_inputs(1, 20, states=3, dtype=F32)
    expected = naive_scan(*inputs)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    compiled_c.forget()
    try:
        with caplog.at_level(logging.WARNING):
            found = [selective_scan(*inputs)[0] for _ in range(2)]
    finally:
        compiled_c.forget()
    assert all(torch.allclose(out, expected, rtol=0, atol=1e-5) for out in found)
    assert [record.message for record in caplog.records] == [
        "found no C compiler (cc, gcc, clang): layers run as plain torch"
    ]
