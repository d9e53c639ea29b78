"""The settings of `embed file`: each has its effect or is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines import embed_file
from sleepmami.config import EmbedConfig, PreprocessConfig
from sleepmami.errors import CheckpointError, ConfigError
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.inference.embedder import Embedder
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import write_night
from sleepmami.simulation.subjects import simulate_subject
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (EmbedConfig(num_actors=8), "num_actors=8"),
        (EmbedConfig(cpus_per_actor=2.0), "cpus_per_actor=2.0"),
        (EmbedConfig(nights_per_commit=4), "nights_per_commit=4"),
    ],
)
def test_a_setting_without_effect_is_refused(config: EmbedConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said} has no effect on embed file"):
        embed_file.embed_file("night.edf", "no bundle", "out.npz", config)


def test_the_threads_asked_for_are_used(tmp_path: Path) -> None:
    wanted = torch.get_num_threads() + 1
    with pytest.raises(CheckpointError):  # after the threads are set
        embed_file.embed_file(
            "night.edf", str(tmp_path), "out.npz", EmbedConfig(threads_per_actor=wanted)
        )
    assert torch.get_num_threads() == wanted


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_files_seconds_are_the_librarys_and_those_that_a_probe_reads(
    tmp_path: Path, suffix: str
) -> None:
    subject = simulate_subject(0, 3)
    write_night(tmp_path / "edf", subject, simulate_night(subject, 0.1, 3))
    (edf,) = (tmp_path / "edf").glob("*.edf")
    save_bundle(str(tmp_path / "bundle"), random_bundle())
    out = tmp_path / "out" / f"night{suffix}"
    found = embed_file.embed_file(
        str(edf), str(tmp_path / "bundle"), str(out), EmbedConfig(), seconds=True
    )
    embedder = Embedder(random_bundle(), windows_per_batch=32)
    night = load_night(edf, PreprocessConfig(), recording_id=edf.stem)
    expected = embedder.night(night, seconds=True).second
    assert expected is not None
    assert expected.shape == (12 * 30, 6 * 16)
    assert found.second is not None
    np.testing.assert_array_equal(found.second, expected)
    if suffix == ".npz":
        (read,) = open_embeddings(str(tmp_path / "out")).read([0], "second")
        np.testing.assert_array_equal(read.x_LF, expected)
    else:
        rows = pq.read_table(out)["second"].to_pylist()
        np.testing.assert_array_equal(np.array(rows, np.float32).reshape(360, -1), expected)
