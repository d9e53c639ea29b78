"""What this machine can run, and what would have to be done for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from typing import Literal

REQUIRED = ("numpy", "scipy", "pyarrow", "pyedflib", "typer", "rich", "httpx")
DISTRIBUTED = ("torch", "ray", "pylance", "deepspeed", "safetensors", "fastapi", "matplotlib")
GPU = ("mamba-ssm", "causal-conv1d", "flash-attn")
COMPILERS = ("cc", "gcc", "clang")  # those of sleepmami.models.compiled_c
MIN_MEMORY_GIB = 8
MIN_DISK_GIB = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at. `fail` means that the stages named in `found` cannot run."""

    name: str
    status: Literal["ok", "note", "fail"]
    found: str


def examine() -> list[Finding]:
    """Look at Python, packages, processors, memory, disk and accelerators. Starts nothing."""
    return [
        _python(),
        *_packages(),
        _compiler(),
        _memory(),
        _shared_memory(),
        _disk(),
        *_accelerator(),
    ]


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info[:2] < (3, 13)
    found = f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} CPUs"
    return Finding(name="python", status="ok" if ok else "fail", found=found)


def _packages() -> list[Finding]:
    findings = []
    for group, names, hint in (
        ("base packages", REQUIRED, "pip install sleepmami"),
        ("distributed stack", DISTRIBUTED, "pip install 'sleepmami[ray]'"),
        ("GPU kernels", GPU, "docs/gpu.md; the plain-torch twins are used"),
    ):
        versions = {name: _version(name) for name in names}
        absent = [name for name, version in versions.items() if version is None]
        found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        if absent:
            found = f"absent: {', '.join(absent)} ({hint})" + (
                f"; present: {found}" if found else ""
            )
        status: Literal["ok", "note", "fail"] = "ok"
        if absent:
            status = "note" if group == "GPU kernels" else "fail"
        findings.append(Finding(name=group, status=status, found=found))
    return findings


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiler() -> Finding:
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if found:
        return Finding(name="C compiler", status="ok", found=found)
    absent = f"none of {', '.join(COMPILERS)}; models run as plain torch, slower on a CPU"
    return Finding(name="C compiler", status="note", found=absent)


def _memory() -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    enough = gib >= MIN_MEMORY_GIB
    found = f"{gib:.1f} GiB" + ("" if enough else f"; training wants {MIN_MEMORY_GIB} GiB or more")
    return Finding(name="memory", status="ok" if enough else "note", found=found)


def _shared_memory() -> Finding:
    if not os.path.isdir("/dev/shm"):
        return Finding(name="shared memory", status="note", found="no /dev/shm; Ray uses files")
    free = shutil.disk_usage("/dev/shm").free / 2**30
    found = f"{free:.1f} GiB free" + ("" if free >= 1 else "; Ray's object store wants 1 GiB")
    return Finding(name="shared memory", status="ok" if free >= 1 else "note", found=found)


def _disk() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    enough = free >= MIN_DISK_GIB
    found = f"{free:.1f} GiB free in {tempfile.gettempdir()}"
    return Finding(name="disk", status="ok" if enough else "note", found=found)


def _accelerator() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return []
    import torch  # a second of start-up that the other checks do not need

    if not torch.cuda.is_available():
        return [Finding(name="GPU", status="note", found="none; everything runs on the CPU")]
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    found = f"{torch.cuda.device_count()} x {', '.join(sorted(names))}"
    return [Finding(name="GPU", status="ok", found=found)]
