"""Fixtures every test may use."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# how long an example takes says how busy the machine is, not whether it is right
hypothesis.settings.register_profile("sleepmami", deadline=None)
hypothesis.settings.load_profile("sleepmami")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings beside the checkout, or $SLEEPMAMI_TEST_DATA; skips when absent."""
    folder = Path(os.environ.get("SLEEPMAMI_TEST_DATA", SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set SLEEPMAMI_TEST_DATA to a folder like it")
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Path]:
    """One Ray cluster for the whole session; tests that use it are marked `ray`.

    Yields the folder that its logs lie under.
    """
    import ray

    from pipelines.ray_session import start_local

    with tempfile.TemporaryDirectory(prefix="smm-ray-", ignore_cleanup_errors=True) as folder:
        start_local(Path(folder), num_cpus=6)
        yield Path(folder)
        ray.shutdown()
