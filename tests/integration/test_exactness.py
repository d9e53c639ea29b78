"""Is an interrupted Micro training, bit for bit, the one that nothing interrupted?"""

import functools
from pathlib import Path

import pytest

from pipelines import pretrain_micro
from sleepmami.config import EngineConfig, LoopConfig, MicroPretrainConfig
from sleepmami.config_edit import replace_at
from tests.bundles import SMALLEST_MICRO
from tests.corpora import write_corpus
from tests.interrupted_runs import Stage

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


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("corpus")
    corpus = write_corpus(folder, num_train=12, num_test=1, num_epochs=8, cohorts=("a", "b"))
    return Stage(
        module=pretrain_micro,
        start=functools.partial(pretrain_micro.pretrain_micro, corpus),
        config=CONFIG,
        num_steps=NUM_STEPS,
        bundle="micro",
        metrics="micro/metrics.jsonl",
    )


@pytest.fixture(scope="module")
def undisturbed(micro: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two workers that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    micro.start(str(folder), CONFIG)
    return folder


def test_workers_killed_at_two_random_steps_change_no_loss_and_no_weight(
    micro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    micro.run_killed(run, micro.random_deaths(2, seed=1))
    assert micro.losses(run) == micro.losses(undisturbed)
    assert micro.weights(run) == micro.weights(undisturbed)


@pytest.mark.endurance
def test_workers_killed_at_ten_random_steps_change_no_loss_and_no_weight(
    micro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    micro.run_killed(run, micro.random_deaths(10, seed=2))
    assert micro.losses(run) == micro.losses(undisturbed)
    assert micro.weights(run) == micro.weights(undisturbed)


def test_a_run_that_stopped_in_a_pass_and_was_started_again_is_the_same_run(
    micro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    micro.run_stopped_and_started_again(run, (16, 0))
    assert micro.losses(run) == micro.losses(undisturbed)
    assert micro.weights(run) == micro.weights(undisturbed)


def test_one_worker_with_two_micro_batches_has_the_losses_of_two_workers(
    micro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    micro.start(str(tmp_path), replace_at(CONFIG, {"workers.num_workers": 1}))
    assert micro.losses(tmp_path) == pytest.approx(micro.losses(undisturbed), rel=0, abs=1e-6)
