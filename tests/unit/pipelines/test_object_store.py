"""How large the object store of a cluster on this machine is, from laptop to server."""

import os
import shutil
from types import SimpleNamespace

import pytest

from pipelines.ray_session import object_store_bytes

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory_gib", "shared_gib", "expected_gib"),
    [(16, 8, 1), (1000, 500, 50), (1000, 20, 10), (1000, 0.0625, 1), (1000, None, 1)],
    ids=["laptop", "server", "little shared memory", "container", "no shared memory"],
)
def test_its_size_follows_memory_and_shared_memory(
    memory_gib: int, shared_gib: float | None, expected_gib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory_gib * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(os.path, "isdir", lambda path: shared_gib is not None)
    free = SimpleNamespace(free=int((shared_gib or 0) * GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert object_store_bytes() == expected_gib * GIB
