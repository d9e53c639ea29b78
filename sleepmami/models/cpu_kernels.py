"""How the C kernels in cpu_kernels.c and short_attention.c are called.

fused.py and attention.py have their twins in plain torch. They serve one thread, as workers run;
with more, torch's own operators share the work between threads. compiled_c.py says where they come
from.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sleepmami.models import compiled_c

SOURCES = ("cpu_kernels.c", "short_attention.c")
TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def usable(tensor: Tensor) -> bool:
    """Whether the kernels take this tensor, here and now."""
    return (
        has_memory(tensor)
        and tensor.dtype in TYPES
        and torch.get_num_threads() == 1
        and available()
    )


def has_memory(tensor: Tensor) -> bool:
    """Whether C may be given the address of this tensor: FakeTensor, say, has none."""
    return (
        tensor.is_cpu
        and type(tensor) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
    )


def rows_side_by_side(tensor_BLX: Tensor) -> Tensor:
    """The tensor itself where the numbers of a row lie side by side, as in a chunk; else a copy."""
    fits = tensor_BLX.stride(2) == 1 or tensor_BLX.shape[2] == 1
    return tensor_BLX if fits else tensor_BLX.contiguous()


def available() -> bool:
    """Whether the kernels are compiled; says once why they are not."""
    return all(compiled_c.load(source) is not None for source in SOURCES)


def call(
    name: str,
    dtype: torch.dtype,
    tensors: Sequence[Tensor | None],
    *sizes: int | float,
    source: str = SOURCES[0],
) -> None:
    """Run kernel `name` on the memory of `tensors`, which must be laid out as it expects."""
    library = compiled_c.load(source)
    assert library is not None, "ask usable() first"
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
    numbers = [
        ctypes.c_float(size) if isinstance(size, float) else ctypes.c_ssize_t(size)
        for size in sizes
    ]
    getattr(library, f"{name}_{TYPES[dtype]}")(*pointers, *numbers)
