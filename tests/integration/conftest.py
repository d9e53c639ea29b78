"""What the tests of the service share."""

import numpy as np
import pytest

from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle with random weights."""
    folder = str(tmp_path_factory.mktemp("bundle") / "bundle")
    save_bundle(folder, random_bundle())
    return folder


@pytest.fixture(scope="session")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three and a half minutes of noise on three channels."""
    rng = np.random.default_rng(2)
    seconds = 210
    channels = [
        WriteChannel(
            label=label,
            unit="uV",
            sample_rate_hz=rate,
            samples=rng.normal(0, 30, seconds * rate),
            physical_min=-500.0,
            physical_max=500.0,
        )
        for label, rate in (("C4-M1", 128), ("EOG left", 100), ("EMG chin", 200))
    ]
    path = tmp_path_factory.mktemp("edf") / "night.edf"
    write_edf(path, channels)
    return path.read_bytes()
