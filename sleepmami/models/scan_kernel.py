"""How the C kernel in selective_scan.c is called; selective_scan.py has its twin in plain torch.

It takes float32 on a CPU and any number of threads, with the same result for any number. Sequences
may be views, as chunks of a projection are, as long as the numbers of a step lie side by side.
compiled_c.py says where it comes from: it is compiled once for each number of states.
"""

from __future__ import annotations

import ctypes
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sleepmami.models import compiled_c
from sleepmami.models.cpu_kernels import has_memory, rows_side_by_side
from sleepmami.models.selective_scan import ScanInputs, ScanOutput

CHUNK = (
    16  # steps between the states that the forward pass stores; a chunk then fits the first cache
)
GROUP = 256  # channels of a task; more tasks than threads even for one night of the paper's width
POINTERS = ("A_NI", "skip_I", "bias_I", "length_B", "state_BNI", "starts_BKNI", "out_BLI")
GRADIENT_POINTERS = (
    "u_gradient_BLI",
    "delta_gradient_BLI",
    "z_gradient_BLI",
    "B_gradient_BGLN",
    "C_gradient_BGLN",
    "A_gradient_BNI",
    "skip_gradient_BI",
    "bias_gradient_BI",
    "scratch",
)
SIZES = ("nights", "steps", "inner", "threads")


class _Sequence(ctypes.Structure):
    """`struct sequence` of selective_scan.c."""

    _fields_ = (
        ("at", ctypes.c_void_p),
        ("per_night", ctypes.c_ssize_t),
        ("per_step", ctypes.c_ssize_t),
    )

    @classmethod
    def of(cls, tensor_BLX: Tensor) -> _Sequence:
        return cls(tensor_BLX.data_ptr(), tensor_BLX.stride(0), tensor_BLX.stride(1))


class _Scan(ctypes.Structure):
    """`struct scan` of selective_scan.c."""

    _fields_ = (
        *((name, _Sequence) for name in ("u", "delta", "z", "B", "C", "gradient")),
        *((name, ctypes.c_void_p) for name in (*POINTERS, *GRADIENT_POINTERS)),
        *((name, ctypes.c_ssize_t) for name in SIZES),
    )

    @classmethod
    def of(cls, inputs: ScanInputs, length_B: Tensor | None) -> _Scan:
        u, delta, B, C, z, A, skip, bias = inputs
        nights, steps, inner = u.shape
        assert u.shape == delta.shape == z.shape, "C would read what is not there"
        assert B.shape == C.shape == (nights, steps, len(A))
        assert A.shape[1:] == skip.shape == bias.shape == (inner,)
        assert length_B is None or length_B.shape == (nights,)
        scan = cls(nights=nights, steps=steps, inner=inner, threads=torch.get_num_threads())
        for name, sequence in {"u": u, "delta": delta, "z": z, "B": B, "C": C}.items():
            setattr(scan, name, _Sequence.of(sequence))
        scan.point(A_NI=A, skip_I=skip, bias_I=bias, length_B=length_B)
        return scan

    def point(self, **tensors: Tensor | None) -> None:
        """Set pointers to tensors, whose owner is the caller; None is NULL."""
        for name, tensor in tensors.items():
            assert tensor is None or tensor.is_contiguous(), name
            setattr(self, name, None if tensor is None else tensor.data_ptr())


def usable(inputs: ScanInputs) -> bool:
    """Whether the kernel takes these inputs, here and now."""
    return (
        inputs.u_BLI.numel() > 0  # without nights there is no first part to hold a sum
        and all(has_memory(tensor) and tensor.dtype == torch.float32 for tensor in inputs)
        and _library(inputs.A_NI.shape[0]) is not None
    )


def kernel_scan(inputs: ScanInputs, state_BNI: Tensor, length_B: Tensor | None) -> ScanOutput:
    """`selective_scan.plain_scan` by the C kernel; ask `usable` first."""
    if length_B is not None:
        length_B = length_B.to("cpu", torch.int64).contiguous()
    assert state_BNI.shape == (len(inputs.u_BLI), *inputs.A_NI.shape)
    assert has_memory(state_BNI)
    assert state_BNI.dtype == torch.float32, "C would read numbers of another size"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        found = _KernelScan.apply(length_B, state_BNI, *inputs)  # type: ignore[no-untyped-call]  # torch gives no types
        return ScanOutput(*cast(tuple[Tensor, Tensor], found))
    found, _ = _forward(_with_rows(inputs), state_BNI, length_B, keep_starts=False)
    return found


class _KernelScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # Any: torch gives the context no type
        length_B: Tensor | None,
        state_BNI: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        inputs = _with_rows(ScanInputs(*tensors))
        found, starts_BKNI = _forward(inputs, state_BNI, length_B, keep_starts=True)
        ctx.save_for_backward(*inputs, starts_BKNI, length_B)
        ctx.mark_non_differentiable(found.state_BNI)
        return found.out_BLI, found.state_BNI

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLI: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, starts_BKNI, length_B = ctx.saved_tensors
        inputs = ScanInputs(*tensors)
        return None, None, *_backward(inputs, gradient_BLI, starts_BKNI, length_B)


def _forward(
    inputs: ScanInputs, state_BNI: Tensor, length_B: Tensor | None, *, keep_starts: bool
) -> tuple[ScanOutput, Tensor | None]:
    """Output and last states, and the states before each chunk if they are kept."""
    u_BLI, A_NI = inputs.u_BLI, inputs.A_NI
    out_BLI = torch.empty_like(u_BLI, memory_format=torch.contiguous_format)
    last_BNI = state_BNI.clone(memory_format=torch.contiguous_format)
    starts_BKNI = None
    if keep_starts:
        num_chunks = -(-u_BLI.shape[1] // CHUNK)
        starts_BKNI = u_BLI.new_empty(u_BLI.shape[0], num_chunks, *A_NI.shape)
    scan = _Scan.of(inputs, length_B)
    scan.point(state_BNI=last_BNI, starts_BKNI=starts_BKNI, out_BLI=out_BLI)
    _loaded(len(A_NI)).scan_forward(ctypes.byref(scan))
    return ScanOutput(out_BLI, last_BNI), starts_BKNI


def _backward(
    inputs: ScanInputs, gradient_BLI: Tensor, starts_BKNI: Tensor, length_B: Tensor | None
) -> tuple[Tensor, ...]:
    """The gradients of `inputs`, in its order."""
    u_BLI, A_NI = inputs.u_BLI, inputs.A_NI
    nights, steps, inner = u_BLI.shape
    groups, library = -(-inner // GROUP), _loaded(len(A_NI))
    gradient_BLI = rows_side_by_side(gradient_BLI)
    u, delta, z = (u_BLI.new_empty(u_BLI.shape) for _ in range(3))
    B_BGLN, C_BGLN = (u_BLI.new_empty(nights, groups, steps, len(A_NI)) for _ in range(2))
    A_BNI = u_BLI.new_empty(nights, *A_NI.shape)
    skip_BI, bias_BI = (u_BLI.new_empty(nights, inner) for _ in range(2))
    threads = torch.get_num_threads()
    scratch = torch.empty(threads * library.scan_scratch_bytes(), dtype=torch.uint8)
    scan = _Scan.of(inputs, length_B)
    scan.gradient = _Sequence.of(gradient_BLI)
    scan.point(
        starts_BKNI=starts_BKNI,
        u_gradient_BLI=u,
        delta_gradient_BLI=delta,
        z_gradient_BLI=z,
        B_gradient_BGLN=B_BGLN,
        C_gradient_BGLN=C_BGLN,
        A_gradient_BNI=A_BNI,
        skip_gradient_BI=skip_BI,
        bias_gradient_BI=bias_BI,
        scratch=scratch,
    )
    library.scan_backward(ctypes.byref(scan))
    return u, delta, B_BGLN[:, 0], C_BGLN[:, 0], z, A_BNI[0], skip_BI[0], bias_BI[0]


def _with_rows(inputs: ScanInputs) -> ScanInputs:
    """Copies only of what is laid out as the kernel cannot read it."""
    return ScanInputs(*map(rows_side_by_side, inputs[:5]), *(t.contiguous() for t in inputs[5:]))


def _library(num_states: int) -> ctypes.CDLL | None:
    return compiled_c.load("selective_scan.c", STATES=num_states, CHUNK=CHUNK, GROUP=GROUP)


def _loaded(num_states: int) -> ctypes.CDLL:
    library = _library(num_states)
    assert library is not None, "ask usable() first"
    return library
