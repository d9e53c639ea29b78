"""What the tests of compiled kernels share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sleepmami.models import compiled_c


@pytest.fixture
def own_kernel_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Kernels are compiled into a folder of the test's own, and found anew after it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled_c.forget()
    yield
    compiled_c.forget()
