"""One service with keys and a folder for its state, which all tests of this folder ask."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_apps.keys import add_key
from sleepmami.config import ServeConfig


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key file."""
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="package")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps uploads and jobs."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="package")
def client(
    ray_cluster: object, bundle_folder: str, keys: Path, state: Path
) -> Iterator[httpx.Client]:
    """A client with a key, of an Encoder that hears two windows at a time and waits for none."""
    from serve_apps.embedding_app import start, stop

    text, _ = add_key(keys, "clinic-a")
    config = ServeConfig(
        port=0,
        max_body_mb=64,
        keys_file=str(keys),
        state_dir=str(state),
        windows_per_batch=2,
        batch_wait_ms=0.0,
    )
    url, headers = start(bundle_folder, config), {"authorization": f"Bearer {text}"}
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
        yield client
    stop()
