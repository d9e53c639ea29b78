"""Two gloo processes, started once for all tests of training."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.unit.training import two_workers


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two workers saw."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which the processes of `pytest -n` share
    folder = base / "workers"
    with (base / "workers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = tempfile.mkdtemp(dir=base)
            torch.multiprocessing.spawn(two_workers.work, args=(made,), nprocs=2)
            Path(made).rename(folder)
    return [torch.load(folder / f"worker-{rank}.pt") for rank in range(2)]
