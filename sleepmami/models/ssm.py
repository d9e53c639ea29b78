"""Mamba (Gu & Dao 2024), the selective state space layer of the Macro-Encoder, section 3.2.

Parameters have the names, shapes and initial values of `mamba_ssm.Mamba`, so state dicts go both
ways. The recurrence runs in a C kernel on a CPU (scan_kernel.py), in mamba_ssm's CUDA kernel where
the tensors are on a GPU and the compiled kernel is really there (docs/gpu.md), and in plain torch
anywhere (selective_scan.py).

Shapes: B nights, L epochs, D width, I inner width (expand x D), N states, R rank of the step size,
K taps of the convolution, of which K - 1 look back.

The scan, for every night and inner channel, with s_t = softplus(delta_t + bias):

    h_t = exp(s_t A) h_{t-1} + s_t u_t B_t        out_t = (<h_t, C_t> + skip u_t) silu(z_t)

A night may come in pieces: the state that a piece leaves behind is where the next one starts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sleepmami.models.causal_conv import causal_conv_silu
from sleepmami.models.scan_kernel import kernel_scan, usable
from sleepmami.models.selective_scan import ScanInputs, ScanOutput, plain_scan

STEP_MIN, STEP_MAX, STEP_FLOOR = 1e-3, 1e-1, 1e-4  # range of softplus(bias) at the start

Kernel = Callable[..., Any]  # Any: mamba_ssm is untyped


class MambaState(NamedTuple):
    """What a layer remembers of the epochs so far; cut from the graph."""

    conv_BKI: Tensor  # the last K - 1 inputs of the convolution, oldest first
    scan_BNI: Tensor  # h


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

    def forward(self, hidden_BLD: Tensor, length_B: Tensor | None = None) -> Tensor:
        """[B, L, D] to [B, L, D]; position t sees positions 0..t.

        With `length_B` rows at and after a night's length cost no scan, are zero and pass no
        gradient, whatever they hold; without it all rows count.
        """
        return self.resume(hidden_BLD, None, length_B)[0]

    def resume(
        self, hidden_BLD: Tensor, state: MambaState | None, length_B: Tensor | None = None
    ) -> tuple[Tensor, MambaState]:
        """`forward` on the next piece of each night, and the state at each one's own end.

        Args:
            hidden_BLD: the piece.
            state: what the piece before left behind; None at the start of the nights.
            length_B: epochs of the piece in each night, 0..L; a night of 0 keeps its state.

        Raises:
            ValueError: the state does not fit, or asks for a gradient: gradients stop at the
                beginning of a piece.
        """
        if length_B is not None:  # NaN times a gradient of zero is no zero
            steps_L = torch.arange(hidden_BLD.shape[1], device=length_B.device)
            hidden_BLD = hidden_BLD.masked_fill((steps_L >= length_B[:, None]).unsqueeze(2), 0)
        x_BLI, z_BLI = self.in_proj(hidden_BLD).chunk(2, dim=-1)
        conv_BKI, scan_BNI = self._fitting(state, x_BLI)
        weight_KI = self.conv1d.weight.squeeze(1).t()
        u_BLI = causal_conv_silu(x_BLI, weight_KI, cast(Tensor, self.conv1d.bias), conv_BKI)
        delta_BLR, B_BLN, C_BLN = self.x_proj(u_BLI).split(
            [self.rank, self.state_dim, self.state_dim], dim=-1
        )
        delta_BLI = F.linear(delta_BLR, self.dt_proj.weight)  # its bias is added inside the scan
        inputs = (u_BLI, delta_BLI, -_wide(self.A_log).exp(), B_BLN, C_BLN, self.D, z_BLI)
        out_BLI, scan_BNI = selective_scan(*inputs, self.dt_proj.bias, scan_BNI, length_B)
        conv_BKI = _last_rows(conv_BKI, x_BLI.detach(), length_B)
        return self.out_proj(out_BLI), MambaState(conv_BKI, scan_BNI)

    def _fitting(self, state: MambaState | None, x_BLI: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two parts of the state before these rows; ValueError unless it fits them."""
        nights, _, inner = x_BLI.shape
        shapes = (nights, self.conv1d.kernel_size[0] - 1, inner), (nights, self.state_dim, inner)
        if state is None:
            return x_BLI.new_zeros(shapes[0]), None
        found = tuple(tuple(tensor.shape) for tensor in state)
        if found != shapes:
            raise ValueError(f"the state has shapes {found}, expected {shapes}")
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in state):
            raise ValueError(
                "the state asks for a gradient, and none goes through it; "
                "expected the state that the piece before left behind, or one detached"
            )
        return state.conv_BKI.to(x_BLI), _wide(state.scan_BNI)


def _last_rows(tail_BKI: Tensor, x_BLI: Tensor, length_B: Tensor | None) -> Tensor:
    """As many rows as `tail_BKI` has, up to each night's end, out of the tail and then x."""
    nights, num_rows, inner = tail_BKI.shape
    if not x_BLI.shape[1]:
        return tail_BKI
    if length_B is None:
        length_B = torch.full((nights,), x_BLI.shape[1], device=x_BLI.device)
    row_BKI = (length_B[:, None] + torch.arange(-num_rows, 0, device=length_B.device)).unsqueeze(2)
    row_BKI = row_BKI.expand(-1, -1, inner)
    new_BKI = x_BLI.gather(1, row_BKI.clamp(min=0))
    old_BKI = tail_BKI.gather(1, (row_BKI + num_rows).clamp(max=num_rows - 1))
    return torch.where(row_BKI < 0, old_BKI, new_BKI)


def selective_scan(
    u_BLI: Tensor,
    delta_BLI: Tensor,
    A_IN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    skip_I: Tensor,
    z_BLI: Tensor,
    bias_I: Tensor,
    state_BNI: Tensor | None = None,
    length_B: Tensor | None = None,
) -> ScanOutput:
    """The recurrence of the module docstring in at least float32, output in the type of `u`.

    Args:
        u_BLI: what is scanned; `delta_BLI`, `B_BLN`, `C_BLN` and `z_BLI` go with it.
        delta_BLI: step sizes before bias and softplus.
        A_IN: below zero.
        B_BLN: how a step enters the states.
        C_BLN: how the states leave.
        skip_I: weight of `u` in the output.
        z_BLI: gate, before its SiLU.
        bias_I: of the step sizes.
        state_BNI: h before the first step, without gradient; None is zero.
        length_B: steps of each night, None is all; output after them is zero.
    """
    u, delta, A, B, C, skip, z, bias = (
        _wide(t) for t in (u_BLI, delta_BLI, A_IN, B_BLN, C_BLN, skip_I, z_BLI, bias_I)
    )
    with torch.autocast(u_BLI.device.type, enabled=False):
        inputs = ScanInputs(u, delta, B, C, z, A.t().contiguous(), skip, bias)
        kernel = cuda_kernel() if u.is_cuda and state_BNI is None else None  # it starts at zero
        if state_BNI is None:
            state_BNI = u.new_zeros(len(u), *inputs.A_NI.shape)
        state_BNI = state_BNI.to(u)  # the kernel would read a float64 as two float32
        if kernel is not None:
            found = cuda_scan(kernel, inputs, length_B)
        elif usable(inputs):
            found = kernel_scan(inputs, state_BNI, length_B)
        else:
            found = plain_scan(inputs, state_BNI, length_B)
    return ScanOutput(found.out_BLI.to(u_BLI.dtype), found.state_BNI)


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


def cuda_scan(kernel: Kernel, inputs: ScanInputs, length_B: Tensor | None) -> ScanOutput:
    """The scan from zero states on by mamba_ssm's function, whose layout has time last.

    Tested with a plain-torch function of the same signature; never run with the kernel itself.
    """
    if length_B is not None:
        inputs = inputs.without_padding(length_B)
    u, delta, B, C, z = (t.transpose(1, 2) for t in inputs[:5])
    options = {"z": z, "delta_bias": inputs.bias_I, "delta_softplus": True}
    A_IN = inputs.A_NI.t().contiguous()
    out_BIL, state_BIN = kernel(
        u, delta, A_IN, B, C, inputs.skip_I, **options, return_last_state=True
    )
    out_BLI = out_BIL.transpose(1, 2)
    if length_B is not None:
        out_BLI = out_BLI.masked_fill(inputs.outside(length_B), 0)
    return ScanOutput(out_BLI, state_BIN.detach().transpose(1, 2))
