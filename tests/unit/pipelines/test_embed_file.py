"""The settings of `embed file`: each has its effect or is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines import embed_file
from sleepmami.config import EmbedConfig
from sleepmami.errors import CheckpointError, ConfigError


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
