"""How a C source beside this file is compiled, found again and loaded.

The first use compiles it for this processor (a second or two) into the user's cache folder, under a
name made of the sources, compiler options and processor, so that many workers may do it at once.
Where there is no C compiler, `load` gives None after one warning, and the callers compute the same
in plain torch.
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
from pathlib import Path

FOLDER = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = (
    "-O3",
    "-march=native",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-pthread",
    "-shared",
    "-fPIC",
)

_log = logging.getLogger(__name__)


@functools.cache
def load(source: str, **constants: int) -> ctypes.CDLL | None:
    """The library made of a source, or None where it cannot be made, with a warning that says why.

    Args:
        source: name of a .c file in this folder; it may include the headers beside it.
        constants: numbers that the compiler is to know, as macros.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        library = compiled(compiler, source, constants, cache_folder())
        try:
            return ctypes.CDLL(str(library))
        except OSError:  # damaged where it lies, or no program may be loaded from there
            library.unlink(missing_ok=True)
        return ctypes.CDLL(str(compiled(compiler, source, constants, cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or error
        _log.warning(
            "%s does not compile or load, its layers run as plain torch: %s", source, reason
        )
        return None


def forget() -> None:
    """Look for compiler and libraries anew at the next `load`."""
    load.cache_clear()
    _compiler.cache_clear()


@functools.cache
def _compiler() -> str | None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        _log.warning("found no C compiler (%s): layers run as plain torch", ", ".join(COMPILERS))
    return compiler


def compiled(compiler: str, source: str, constants: dict[str, int], folder: Path) -> Path:
    """The shared library in `folder`, compiled unless an earlier process has done it."""
    macros = [f"-D{name}={value}" for name, value in sorted(constants.items())]
    command = [compiler, *OPTIONS, *macros, str(FOLDER / source), "-lm"]
    texts = [file.read_text() for file in (FOLDER / source, *sorted(FOLDER.glob("*.h")))]
    made_of = (*texts, " ".join(command), processor())
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    finished = folder / f"{Path(source).stem}_{key}.so"
    if not finished.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            output = Path(scratch) / "library.so"
            subprocess.run([*command, "-o", output], check=True, capture_output=True, text=True)
            with output.open("rb") as file:
                os.fsync(file.fileno())  # a library cut short by a crash would end every process
            output.replace(finished)  # whole or not there, whoever else is compiling
    return finished


def processor() -> str:
    """What -march=native looks at: a folder may be shared by machines of several kinds."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return flags[0] if flags else f"{platform.machine()} {platform.processor()}"


def cache_folder() -> Path:
    """The user's own, never a shared temporary folder, where others could plant a library."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "sleepmami"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # no home, or none to write to: compile for this process alone
        return _folder_of_this_process()


@functools.cache
def _folder_of_this_process() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sleepmami-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
