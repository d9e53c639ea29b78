"""How the C kernels in cpu_kernels.c are compiled, found again and called.

The first use compiles them for this processor (about a second) into the user's cache folder, under
a name made of source, compiler options and processor, so that many workers may do it at once.
Where there is no C compiler, `available` is False after one warning and fused.py computes the same
in plain torch. They serve one thread, as workers run; with more, torch's own operators share the
work between threads.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

SOURCE = Path(__file__).with_name("cpu_kernels.c")
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = (
    "-O3",
    "-march=native",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)
TYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}

_log = logging.getLogger(__name__)


def usable(tensor: Tensor) -> bool:
    """Whether the kernels take this tensor, here and now."""
    return (
        tensor.is_cpu
        and type(tensor) in (Tensor, nn.Parameter)  # others, as FakeTensor, may have no memory
        and tensor.dtype in TYPES
        and not torch.compiler.is_compiling()
        and torch.get_num_threads() == 1
        and available()
    )


def available() -> bool:
    """Whether the kernels are compiled; says once why they are not."""
    return _library() is not None


def call(
    name: str, dtype: torch.dtype, tensors: Sequence[Tensor | None], *sizes: int | float
) -> None:
    """Run kernel `name` on the memory of `tensors`, which must be laid out as it expects."""
    library = _library()
    assert library is not None, "ask usable() first"
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
    numbers = [
        ctypes.c_float(size) if isinstance(size, float) else ctypes.c_ssize_t(size)
        for size in sizes
    ]
    getattr(library, f"{name}_{TYPES[dtype]}")(*pointers, *numbers)


@functools.cache
def _library() -> ctypes.CDLL | None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        _log.warning("found no C compiler (%s): layers run as plain torch", ", ".join(COMPILERS))
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler, _cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or error
        _log.warning("the C kernels do not compile or load, layers run as plain torch: %s", reason)
        return None


def _compiled(compiler: str, folder: Path) -> Path:
    """The shared library, compiled unless an earlier process has done it."""
    command = [compiler, *OPTIONS, str(SOURCE), "-lm"]
    made_of = (SOURCE.read_text(), " ".join(command), _processor())
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    finished = folder / f"cpu_kernels_{key}.so"
    if not finished.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            output = Path(scratch) / "kernels.so"
            subprocess.run([*command, "-o", output], check=True, capture_output=True, text=True)
            output.replace(finished)  # whole or not there, whoever else is compiling
    return finished


def _processor() -> str:
    """What -march=native looks at: a folder may be shared by machines of several kinds."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return flags[0] if flags else f"{platform.machine()} {platform.processor()}"


def _cache_folder() -> Path:
    """The user's own, never a shared temporary folder, where others could plant a library."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "sleepmami"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # no home, or none to write to: compile for this process alone
        folder = Path(tempfile.mkdtemp(prefix="sleepmami-kernels-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
