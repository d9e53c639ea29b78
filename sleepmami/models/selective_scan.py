"""The selective scan in plain torch: the twin of selective_scan.c, on any device and in float64.

Shapes: B nights, L epochs, I inner channels, N states; inside, T steps of one chunk, time first,
and K chunks of a night. The recurrence is in the docstring of ssm.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_STEPS = 32  # the backward pass keeps one state per chunk and recomputes those between
LOG2_E = math.log2(math.e)
BLOCK_ELEMENTS = 2**19  # elements of one chunk's states; 2 MiB in float32 stays near the core


class ScanInputs(NamedTuple):
    """What a scan reads, in one type of number, on one device."""

    u_BLI: Tensor
    delta_BLI: Tensor
    B_BLN: Tensor
    C_BLN: Tensor
    z_BLI: Tensor
    A_NI: Tensor  # channels last, as everything in here
    skip_I: Tensor
    bias_I: Tensor

    def without_padding(self, length_B: Tensor) -> ScanInputs:
        """Steps of length 0 after a night's end: whatever is there neither enters nor changes."""
        outside_BL1 = self.outside(length_B)
        u, delta, B, C, z = (t.masked_fill(outside_BL1, 0) for t in self[:5])
        return ScanInputs(u, delta.masked_fill(outside_BL1, -torch.inf), B, C, z, *self[5:])

    def outside(self, length_B: Tensor) -> Tensor:
        """bool[B, L, 1], the steps after each night's end."""
        steps_L = torch.arange(self.u_BLI.shape[1], device=length_B.device)
        return (steps_L >= length_B[:, None]).unsqueeze(2)


class ScanOutput(NamedTuple):
    """Output of the scan, and its states after the last step of each night, without gradient."""

    out_BLI: Tensor
    state_BNI: Tensor


def plain_scan(inputs: ScanInputs, state_BNI: Tensor, length_B: Tensor | None) -> ScanOutput:
    """The scan from given states on; rows of padding are zero."""
    if length_B is not None:
        inputs = inputs.without_padding(length_B)
    found = _PlainScan.apply(*inputs, state_BNI)  # type: ignore[no-untyped-call]  # torch gives no types
    out_BLI, last_BNI = cast(tuple[Tensor, Tensor], found)
    if length_B is not None:
        out_BLI = out_BLI.masked_fill(inputs.outside(length_B), 0)
    return ScanOutput(out_BLI, last_BNI)


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
    def forward(
        ctx: Any,  # Any: torch gives the context no type
        *inputs_and_state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        *inputs, first_BNI = inputs_and_state
        u_BLI, A_NI = inputs[0], inputs[5]
        chunks = _chunks(u_BLI.shape[1])
        starts_KBNI = u_BLI.new_empty(len(chunks), len(u_BLI), *A_NI.shape)
        out_BLI, last_BNI = u_BLI.new_empty(u_BLI.shape), torch.empty_like(first_BNI)
        blocks, work = _blocks(starts_KBNI, buffers=2)
        for rows in blocks:
            night = _Night.of(inputs, rows)
            state_BNI = first_BNI[rows]
            for k, times in enumerate(chunks):
                starts_KBNI[k, rows] = state_BNI
                chunk = _run_chunk(night.at(times), state_BNI, work)
                gated_TBI = chunk.y_TBI.mul_(F.silu(night.z_LBI[times]))
                out_BLI[rows, times] = gated_TBI.transpose(0, 1)
                state_BNI = chunk.states_TBNI[-1].clone()
            last_BNI[rows] = state_BNI
        ctx.save_for_backward(*inputs, starts_KBNI)
        ctx.mark_non_differentiable(last_BNI)
        return out_BLI, last_BNI

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLI: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, starts_KBNI = ctx.saved_tensors
        # Sequences are written once, parameters are summed over chunks and nights.
        sequences = [t.new_empty(t.shape) for t in inputs[:5]]
        gradients = [*sequences, *(t.new_zeros(t.shape) for t in inputs[5:])]
        chunks = _chunks(gradient_BLI.shape[1])
        blocks, work = _blocks(starts_KBNI, buffers=3)
        with torch.autocast(starts_KBNI.device.type, enabled=False):
            for rows in blocks:
                night, into = _Night.of(inputs, rows), _Night.of(gradients, rows)
                carry_BNI = starts_KBNI.new_zeros(starts_KBNI[:, rows].shape[1:])
                for k, times in reversed(list(enumerate(chunks))):
                    part = night.at(times)
                    chunk = _run_chunk(part, starts_KBNI[k, rows], work)
                    gradient_TBI = gradient_BLI[rows, times].transpose(0, 1)
                    g_TBNI = _state_gradients(part, chunk, gradient_TBI, carry_BNI, work[2])
                    carry_BNI = chunk.decay_TBNI[0] * g_TBNI[0]
                    _add_gradients(part, chunk, gradient_TBI, g_TBNI, into.at(times))
        return *gradients, None


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
