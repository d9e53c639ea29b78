"""Is an interrupted Micro training, bit for bit, the one that nothing interrupted?

Losses are those of every step, in metrics.jsonl; weights are compared by their hash.
"""

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import pretrain_micro
from sleepmami.config import (
    EngineConfig,
    LoopConfig,
    MicroPretrainConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.errors import TrainingError
from sleepmami.training.checkpoint import load_bundle
from tests.bundles import SMALLEST_MICRO
from tests.corpora import write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NUM_STEPS = 24  # passes of 6 steps: checkpoints and deaths fall into the middle of them
CONFIG = MicroPretrainConfig(
    model=SMALLEST_MICRO,
    batch_size=8,
    shuffle_buffer=8,
    mixing=(("a", 0.5), ("b", 1.5)),
    loop=LoopConfig(num_passes=100, max_steps=NUM_STEPS, log_every=1, checkpoint_every=5),
    engine=EngineConfig(micro_batch=4),
)
Death = tuple[int, int]  # (step, rank) of a worker that is killed before its part of the step


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, num_train=12, num_test=1, num_epochs=8, cohorts=("a", "b"))


@pytest.fixture(scope="module")
def undisturbed(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two workers that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    pretrain_micro.pretrain_micro(corpus, str(folder), CONFIG)
    return folder


def mortal(folder: Path, deaths: Sequence[Death]) -> Callable[[dict[str, Any]], None]:
    """The stage's own worker, but each death happens once; travels to the workers by value."""
    folder.mkdir(exist_ok=True)

    def worker(config: dict[str, Any]) -> None:
        import importlib

        from sleepmami.training import collectives
        from sleepmami.training.engine import Engine

        train_step = Engine.train_step

        def fateful(engine: Engine, batches: Any) -> dict[str, torch.Tensor]:
            died = folder / f"step{engine.step}"
            if (engine.step, collectives.rank()) in deaths and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return train_step(engine, batches)

        Engine.train_step = fateful  # type: ignore[method-assign]
        importlib.import_module("pipelines.pretrain_micro").train_worker(config)

    return worker


def random_deaths(count: int, seed: int) -> list[Death]:
    rng = np.random.default_rng(seed)
    steps = sorted(rng.choice(np.arange(1, NUM_STEPS), count, replace=False).tolist())
    return [(step, int(rng.integers(2))) for step in steps]


def losses(folder: Path) -> list[float]:
    text = (folder / "micro" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [*range(1, NUM_STEPS + 1)]
    return [row["loss/total"] for row in rows]


def weights(folder: Path) -> str:
    return load_bundle(str(folder / "micro")).weights_sha256


def killed_run(corpus: str, folder: Path, deaths: list[Death]) -> Path:
    config = replace_at(CONFIG, {"workers.max_failures": len(deaths)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_micro, "train_worker", mortal(folder / "died", deaths))
        pretrain_micro.pretrain_micro(corpus, str(folder / "run"), config)
    assert len(list((folder / "died").iterdir())) == len(deaths)
    return folder / "run"


def test_workers_killed_at_two_random_steps_change_no_loss_and_no_weight(
    corpus: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = killed_run(corpus, tmp_path, random_deaths(2, seed=1))
    assert losses(run) == losses(undisturbed)
    assert weights(run) == weights(undisturbed)


@pytest.mark.endurance
def test_workers_killed_at_ten_random_steps_change_no_loss_and_no_weight(
    corpus: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = killed_run(corpus, tmp_path, random_deaths(10, seed=2))
    assert losses(run) == losses(undisturbed)
    assert weights(run) == weights(undisturbed)


def test_a_run_that_stopped_in_a_pass_and_was_started_again_is_the_same_run(
    corpus: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace_at(CONFIG, {"workers.max_failures": 0})
    run = str(tmp_path / "run")
    monkeypatch.setattr(pretrain_micro, "train_worker", mortal(tmp_path / "died", [(16, 0)]))
    with pytest.raises(TrainingError, match="died"):
        pretrain_micro.pretrain_micro(corpus, run, config)
    pretrain_micro.pretrain_micro(corpus, run, config)
    assert losses(Path(run)) == losses(undisturbed)
    assert weights(Path(run)) == weights(undisturbed)


def test_one_worker_with_two_micro_batches_has_the_losses_of_two_workers(
    corpus: str, undisturbed: Path, tmp_path: Path
) -> None:
    config = replace_at(CONFIG, {"workers.num_workers": 1})
    pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)
    assert losses(tmp_path) == pytest.approx(losses(undisturbed), rel=0, abs=1e-6)
