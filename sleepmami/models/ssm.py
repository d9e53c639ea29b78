"""Mamba (Gu & Dao 2024), the selective state space layer of the Macro-Encoder, section 3.2.

Parameters have the names, shapes and initial values of `mamba_ssm.Mamba`, so state dicts go both
ways. The recurrence runs in plain torch anywhere, and in mamba_ssm's CUDA kernel where the tensors
are on a GPU and the compiled kernel is really there (docs/gpu.md).

Shapes: B nights, L epochs, D width, I inner width (expand x D), N states, R rank of the step size;
inside the plain scan, T steps of one chunk, time first.

The scan, for every night and inner channel, with s_t = softplus(delta_t + bias):

    h_t = exp(s_t A) h_{t-1} + s_t u_t B_t        out_t = (<h_t, C_t> + skip u_t) silu(z_t)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

STEP_MIN, STEP_MAX, STEP_FLOOR = 1e-3, 1e-1, 1e-4  # range of softplus(bias) at the start
CHUNK_STEPS = 32  # the backward pass keeps one state per chunk and recomputes those between
LOG2_E = math.log2(math.e)
BLOCK_ELEMENTS = 2**19  # elements of one chunk's states; 2 MiB in float32 stays near the core

Kernel = Callable[..., Any]  # Any: mamba_ssm is untyped


class Mamba(nn.Module):
    """One selective state space layer; causal, so padding at the end never enters.

    Args:
        dim: width D of input and output.
        state_dim: N, states per inner channel.
        conv_kernel: taps of the causal depthwise convolution.
        expand: inner width over `dim`.
    """

    def __init__(self, dim: int, state_dim: int, conv_kernel: int, expand: int) -> None:
        super().__init__()
        inner = expand * dim
        self.rank = math.ceil(dim / 16)
        self.state_dim = state_dim
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv_kernel, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state_dim, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        spread = math.log(STEP_MAX / STEP_MIN)
        step_I = (torch.rand(inner) * spread + math.log(STEP_MIN)).exp().clamp(min=STEP_FLOOR)
        with torch.no_grad():  # the inverse of softplus
            self.dt_proj.bias.copy_(step_I + torch.log(-torch.expm1(-step_I)))
        self.A_log = nn.Parameter(torch.arange(1.0, state_dim + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        for parameter in (self.A_log, self.D, self.dt_proj.bias):  # Table 9: no decay on these
            cast(Any, parameter)._no_weight_decay = True  # mamba_ssm's mark; a Parameter has none

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]; position t sees positions 0..t."""
        x_BLI, z_BLI = self.in_proj(hidden_BLD).chunk(2, dim=-1)
        u_BLI = F.silu(self._convolve(x_BLI))
        delta_BLR, B_BLN, C_BLN = self.x_proj(u_BLI).split(
            [self.rank, self.state_dim, self.state_dim], dim=-1
        )
        delta_BLI = F.linear(delta_BLR, self.dt_proj.weight)  # its bias is added inside the scan
        inputs = (u_BLI, delta_BLI, -_wide(self.A_log).exp(), B_BLN, C_BLN, self.D, z_BLI)
        return cast(Tensor, self.out_proj(selective_scan(*inputs, self.dt_proj.bias)))

    def _convolve(self, x_BLI: Tensor) -> Tensor:
        """Causal depthwise convolution as shifted multiplies; conv1d takes 7 x as long on a CPU."""
        weight_KI = self.conv1d.weight.squeeze(1).t().to(x_BLI.dtype)
        taps, length = weight_KI.shape[0], x_BLI.shape[1]
        padded = F.pad(x_BLI, (0, 0, taps - 1, 0))
        result = cast(Tensor, self.conv1d.bias).to(x_BLI.dtype)
        for k in range(taps):
            result = torch.addcmul(result, padded[:, k : k + length], weight_KI[k])
        return result


def selective_scan(
    u_BLI: Tensor,
    delta_BLI: Tensor,
    A_IN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    skip_I: Tensor,
    z_BLI: Tensor,
    bias_I: Tensor,
) -> Tensor:
    """The recurrence of the module docstring in at least float32, returned in the type of `u`."""
    inputs = [_wide(t) for t in (u_BLI, delta_BLI, A_IN, B_BLN, C_BLN, skip_I, z_BLI, bias_I)]
    kernel = cuda_kernel() if u_BLI.is_cuda else None
    with torch.autocast(u_BLI.device.type, enabled=False):
        if kernel is not None:
            out_BLI = kernel_scan(kernel, *inputs)
        else:
            u, delta, A, B, C, skip, z, bias = inputs
            A_NI = A.t().contiguous()  # channels last, as everything in there
            out_BLI = _PlainScan.apply(  # type: ignore[no-untyped-call]  # torch gives no types
                u, delta, B, C, z, A_NI, skip, bias
            )
    return out_BLI.to(u_BLI.dtype)


def _wide(tensor: Tensor) -> Tensor:
    """Products of a thousand decays need float32; float64 stays for the tests."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


# ------------------------------------------------------------------------------- the CUDA kernel


@functools.cache
def cuda_kernel() -> Kernel | None:
    """mamba_ssm's `selective_scan_fn`, or None where its compiled kernel is absent.

    The package alone proves nothing: builds without the kernel import well and fail when called.
    """
    try:
        from mamba_ssm.ops import selective_scan_interface as interface
    except ImportError:
        return None
    if getattr(interface, "selective_scan_cuda", None) is None:
        return None
    return cast(Kernel, interface.selective_scan_fn)


def kernel_scan(
    kernel: Kernel,
    u_BLI: Tensor,
    delta_BLI: Tensor,
    A_IN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    skip_I: Tensor,
    z_BLI: Tensor,
    bias_I: Tensor,
) -> Tensor:
    """`selective_scan` by mamba_ssm's function, whose layout has time last.

    Tested with a plain-torch function of the same signature; never run with the kernel itself.
    """
    u, delta, B, C, z = (t.transpose(1, 2) for t in (u_BLI, delta_BLI, B_BLN, C_BLN, z_BLI))
    out_BIL: Tensor = kernel(
        u, delta, A_IN, B, C, skip_I, z=z, delta_bias=bias_I, delta_softplus=True
    )
    return out_BIL.transpose(1, 2)


# ------------------------------------------------------------------------------ the scan in torch


class _Night(NamedTuple):
    """The scan's inputs for a block of nights, time first; views, or those of the gradients."""

    u_LBI: Tensor
    delta_LBI: Tensor
    B_LBN: Tensor
    C_LBN: Tensor
    z_LBI: Tensor
    A_NI: Tensor
    skip_I: Tensor
    bias_I: Tensor

    @classmethod
    def of(cls, tensors: Sequence[Tensor], rows: slice) -> _Night:
        """Some nights of the inputs of `_PlainScan`; the parameters are the same for all."""
        return cls(*[*(t[rows].transpose(0, 1) for t in tensors[:5]), *tensors[5:]])

    def at(self, times: slice) -> _Night:
        """The same at some steps only."""
        return _Night(*[*(t[times] for t in self[:5]), *self[5:]])


class _Chunk(NamedTuple):
    """What one chunk computes on the way from its first state to its output."""

    step_TBI: Tensor  # s_t
    drive_TBI: Tensor  # s_t u_t
    decay_TBNI: Tensor  # exp(s_t A)
    states_TBNI: Tensor  # T + 1 of them: the first is the state before the chunk
    y_TBI: Tensor  # <h_t, C_t> + skip u_t


class _PlainScan(torch.autograd.Function):
    """A few nights and CHUNK_STEPS steps at a time, so that what is computed stays in cache.

    The forward pass keeps the first state of each chunk; the backward pass recomputes the rest.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # Any: torch gives the context no type
        u_BLI, A_NI = inputs[0], inputs[5]
        chunks = _chunks(u_BLI.shape[1])
        starts_KBNI = u_BLI.new_empty(len(chunks), len(u_BLI), *A_NI.shape)
        out_BLI = u_BLI.new_empty(u_BLI.shape)
        blocks, work = _blocks(starts_KBNI, buffers=2)
        for rows in blocks:
            night = _Night.of(inputs, rows)
            state_BNI = torch.zeros_like(starts_KBNI[0, rows])
            for k, times in enumerate(chunks):
                starts_KBNI[k, rows] = state_BNI
                chunk = _run_chunk(night.at(times), state_BNI, work)
                gated_TBI = chunk.y_TBI.mul_(F.silu(night.z_LBI[times]))
                out_BLI[rows, times] = gated_TBI.transpose(0, 1)
                state_BNI = chunk.states_TBNI[-1].clone()
        ctx.save_for_backward(*inputs, starts_KBNI)
        return out_BLI

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLI: Tensor) -> tuple[Tensor, ...]:
        *inputs, starts_KBNI = ctx.saved_tensors
        # Sequences are written once, parameters are summed over chunks and nights.
        sequences = [t.new_empty(t.shape) for t in inputs[:5]]
        gradients = [*sequences, *(t.new_zeros(t.shape) for t in inputs[5:])]
        chunks = _chunks(gradient_BLI.shape[1])
        blocks, work = _blocks(starts_KBNI, buffers=3)
        with torch.autocast(starts_KBNI.device.type, enabled=False):
            for rows in blocks:
                night, into = _Night.of(inputs, rows), _Night.of(gradients, rows)
                carry_BNI = torch.zeros_like(starts_KBNI[0, rows])
                for k, times in reversed(list(enumerate(chunks))):
                    part = night.at(times)
                    chunk = _run_chunk(part, starts_KBNI[k, rows], work)
                    gradient_TBI = gradient_BLI[rows, times].transpose(0, 1)
                    g_TBNI = _state_gradients(part, chunk, gradient_TBI, carry_BNI, work[2])
                    carry_BNI = chunk.decay_TBNI[0] * g_TBNI[0]
                    _add_gradients(part, chunk, gradient_TBI, g_TBNI, into.at(times))
        return tuple(gradients)


def _run_chunk(night: _Night, start_BNI: Tensor, work: Tensor) -> _Chunk:
    """The recurrence over the steps of `night`; sequential is one addcmul per step, no more."""
    steps, nights = night.u_LBI.shape[:2]
    decay_TBNI, states_TBNI = work[0, :steps, :nights], work[1, : steps + 1, :nights]
    step_TBI = F.softplus(night.delta_LBI + night.bias_I)
    drive_TBI = step_TBI * night.u_LBI
    # A CPU takes 2 ** x in a third of the time of exp(x).
    torch.mul(step_TBI.unsqueeze(2), night.A_NI * LOG2_E, out=decay_TBNI).exp2_()
    torch.mul(drive_TBI.unsqueeze(2), night.B_LBN.unsqueeze(3), out=states_TBNI[1:])
    states_TBNI[0] = start_BNI
    states, decay = states_TBNI.unbind(0), decay_TBNI.unbind(0)
    for t in range(steps):
        states[t + 1].addcmul_(states[t], decay[t])
    y_TBI = (night.C_LBN.unsqueeze(2) @ states_TBNI[1:]).squeeze(2)
    y_TBI.addcmul_(night.u_LBI, night.skip_I)
    return _Chunk(step_TBI, drive_TBI, decay_TBNI, states_TBNI, y_TBI)


def _state_gradients(
    night: _Night, chunk: _Chunk, gradient_TBI: Tensor, carry_BNI: Tensor, buffer_TBNI: Tensor
) -> Tensor:
    """Gradient g of the states: g_t = C_t y'_t + decay_{t+1} g_{t+1}, last step first.

    Args:
        night: the inputs of the chunk.
        chunk: what `_run_chunk` made of them.
        gradient_TBI: gradient of the scan's output.
        carry_BNI: decay_{t+1} g_{t+1} at the chunk's last step.
        buffer_TBNI: where g is written.
    """
    g_TBNI = buffer_TBNI[: gradient_TBI.shape[0], : gradient_TBI.shape[1]]
    y_gradient_TBI = gradient_TBI * F.silu(night.z_LBI)
    torch.mul(y_gradient_TBI.unsqueeze(2), night.C_LBN.unsqueeze(3), out=g_TBNI)
    g, decay = g_TBNI.unbind(0), chunk.decay_TBNI.unbind(0)
    g[-1].add_(carry_BNI)
    for t in range(len(g) - 2, -1, -1):
        g[t].addcmul_(decay[t + 1], g[t + 1])
    return g_TBNI


def _add_gradients(
    night: _Night, chunk: _Chunk, gradient_TBI: Tensor, g_TBNI: Tensor, into: _Night
) -> None:
    """Write one chunk's gradients into the views `into`; uses up `chunk` and `g_TBNI`."""
    gate_TBI = torch.sigmoid(night.z_LBI)
    slope_TBI = gate_TBI * (1 + night.z_LBI * (1 - gate_TBI))  # of silu
    into.z_LBI.copy_(gradient_TBI * chunk.y_TBI * slope_TBI)
    y_gradient_TBI = gradient_TBI * night.z_LBI * gate_TBI
    # A row times a transposed matrix: ten times as fast as the matrix times a column.
    into.C_LBN.copy_((y_gradient_TBI.unsqueeze(2) @ chunk.states_TBNI[1:].mT).squeeze(2))
    into.B_LBN.copy_((chunk.drive_TBI.unsqueeze(2) @ g_TBNI.mT).squeeze(2))
    drive_gradient_TBI = (night.B_LBN.unsqueeze(2) @ g_TBNI).squeeze(2)
    exponent_TBNI = chunk.decay_TBNI.mul_(chunk.states_TBNI[:-1]).mul_(g_TBNI)  # of s_t A
    step_gradient_TBI = torch.mul(exponent_TBNI, night.A_NI, out=g_TBNI).sum(2)
    step_gradient_TBI.addcmul_(drive_gradient_TBI, night.u_LBI)
    delta_gradient_TBI = step_gradient_TBI.mul_(torch.sigmoid(night.delta_LBI + night.bias_I))
    into.A_NI.add_(exponent_TBNI.mul_(chunk.step_TBI.unsqueeze(2)).sum((0, 1)))
    into.delta_LBI.copy_(delta_gradient_TBI)
    into.bias_I.add_(delta_gradient_TBI.sum((0, 1)))
    into.u_LBI.copy_(drive_gradient_TBI.mul_(chunk.step_TBI).addcmul_(y_gradient_TBI, night.skip_I))
    into.skip_I.add_(y_gradient_TBI.mul_(night.u_LBI).sum((0, 1)))


def _chunks(length: int) -> list[slice]:
    return [slice(start, start + CHUNK_STEPS) for start in range(0, length, CHUNK_STEPS)]


def _blocks(starts_KBNI: Tensor, *, buffers: int) -> tuple[list[slice], Tensor]:
    """Nights that go through the scan together, and buffers for one block's chunk.

    On a CPU as many nights as fit its cache, elsewhere all.
    """
    batch, num_states, inner = starts_KBNI.shape[1:]
    block = batch
    if starts_KBNI.device.type == "cpu":
        block = max(1, min(batch, BLOCK_ELEMENTS // (CHUNK_STEPS * num_states * inner)))
    work = starts_KBNI.new_empty(buffers, CHUNK_STEPS + 1, block, num_states, inner)
    return [slice(start, start + block) for start in range(0, batch, block)], work
