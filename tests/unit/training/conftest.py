"""Two gloo processes, started once for all tests of training."""

from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.unit.training import two_workers


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two workers saw."""
    folder = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(two_workers.work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"worker-{rank}.pt") for rank in range(2)]
