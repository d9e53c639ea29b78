"""Is an interrupted Macro training, bit for bit, the one that nothing interrupted?

And is that of one worker the one of two? Both on DeepSpeed ZeRO 1, as it is by default.
"""

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import pretrain_macro
from sleepmami.config import (
    DGCLConfig,
    EngineConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    OptimizerConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle
from tests.corpora import write_corpus, write_micro_nights
from tests.interrupted_runs import Stage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NUM_NIGHTS = 20  # of 13 to 32 epochs: some fit, some are cropped
NUM_STEPS = 24  # passes of 5 steps: checkpoints and deaths fall into the middle of them
CONFIG = MacroPretrainConfig(
    model=MacroEncoderConfig(dim=8, forward_depth=1, backward_depth=1, state_dim=4),
    dgcl=DGCLConfig(cycle_epochs=4, missing="available", partial_cycle="last"),
    optimizer=OptimizerConfig(learning_rate=2e-3),
    batch_subjects=4,
    max_epochs=16,
    loop=LoopConfig(num_passes=100, max_steps=NUM_STEPS, log_every=1, checkpoint_every=3),
    engine=EngineConfig(micro_batch=2),
)


def prepared(run: Path) -> Path:
    """A run folder as `embed micro` leaves it."""
    micro = replace(random_bundle(), macro=None, macro_state=None)
    save_bundle(str(run / "micro"), micro)
    write_micro_nights(
        run, num_nights=NUM_NIGHTS, dim=16, model_id=micro.model_id, without_bmi=(1, 6)
    )
    return run


@pytest.fixture(scope="module")
def macro(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("corpus")
    corpus = write_corpus(folder, num_train=NUM_NIGHTS, num_test=1, num_epochs=4)
    return Stage(
        module=pretrain_macro,
        start=functools.partial(pretrain_macro.pretrain_macro, corpus),
        config=CONFIG,
        num_steps=NUM_STEPS,
        bundle="",
        metrics="macro_metrics.jsonl",
    )


@pytest.fixture(scope="module")
def undisturbed(macro: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two workers that nothing happens to."""
    run = prepared(tmp_path_factory.mktemp("undisturbed"))
    macro.start(str(run), CONFIG)
    return run


def test_workers_killed_at_two_random_steps_change_no_loss_and_no_weight(
    macro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = prepared(tmp_path / "run")
    macro.run_killed(run, macro.random_deaths(2, seed=1))
    assert macro.losses(run) == macro.losses(undisturbed)
    assert macro.weights(run) == macro.weights(undisturbed)


@pytest.mark.endurance
def test_workers_killed_at_ten_random_steps_change_no_loss_and_no_weight(
    macro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = prepared(tmp_path / "run")
    macro.run_killed(run, macro.random_deaths(10, seed=2))
    assert macro.losses(run) == macro.losses(undisturbed)
    assert macro.weights(run) == macro.weights(undisturbed)


def test_a_run_that_stopped_in_a_pass_and_was_started_again_is_the_same_run(
    macro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = prepared(tmp_path / "run")
    macro.run_stopped_and_started_again(run, (16, 1))
    assert macro.losses(run) == macro.losses(undisturbed)
    assert macro.weights(run) == macro.weights(undisturbed)


def test_one_worker_with_all_nights_has_the_losses_of_two_workers(
    macro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = prepared(tmp_path / "run")
    alone = replace(
        CONFIG,
        workers=replace_at(CONFIG.workers, {"num_workers": 1}),
        engine=EngineConfig(micro_batch=4),
    )
    assert (alone.engine.kind, alone.engine.zero_stage) == ("deepspeed", 1)
    macro.start(str(run), alone)
    ours, theirs = macro.losses(run), macro.losses(undisturbed)
    assert ours == pytest.approx(theirs, rel=1e-6, abs=0)
    assert min(ours) < 0.7 * max(ours)  # it has gone somewhere
