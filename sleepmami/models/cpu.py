"""How a process computes on CPU cores: how many threads, and what becomes of freed memory."""

from __future__ import annotations

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
KEPT_BYTES = 2**31 - 1  # the most that mallopt's int holds


def prepare_cpu(num_threads: int) -> None:
    """Pin torch's threads and keep freed memory; call it once, where a process starts its work."""
    torch.set_num_threads(num_threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let the C library keep freed blocks for the next batch, where it is glibc.

    By default every large tensor is mapped from the kernel and given back when freed: each batch
    then pays for clearing all its pages anew, a fifth of an embedding. The price is that a process
    never shrinks below its peak.

    Returns:
        Whether it is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_ARENA_MAX, 1))
    return all(mallopt(name, value) == 1 for name, value in settings)
