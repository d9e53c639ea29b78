"""Macro pretraining on two real Ray Train workers, on DeepSpeed ZeRO 1 as it is by default.

Is an interrupted training, bit for bit, the one that nothing interrupted? And is that of one worker,
or that of plain torch, the one of two on DeepSpeed?
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
from sleepmami.errors import TableError, TrainingError
from sleepmami.training.checkpoint import Bundle, load_bundle, save_bundle
from tests.bundles import random_bundle
from tests.corpora import write_corpus, write_micro_nights
from tests.interrupted_runs import Stage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NUM_NIGHTS = 20  # to train on; of 13 to 32 epochs: some fit, some are cropped
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


@functools.cache
def bundle_of_micro() -> Bundle:
    return replace(random_bundle(), macro=None, macro_state=None)


def prepared(run: Path, model_id: str | None = None) -> Path:
    """A run folder as `embed micro` leaves it."""
    micro = bundle_of_micro()
    save_bundle(str(run / "micro"), micro)
    write_micro_nights(
        run,
        num_nights=NUM_NIGHTS,
        dim=16,
        model_id=model_id or micro.model_id,
        without_bmi=(1, 6),
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


@pytest.mark.endurance  # one death, restarted within the run, is in test_pretrain_micro.py
def test_a_killed_worker_costs_a_few_steps_and_changes_no_loss_and_no_weight(
    macro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = prepared(tmp_path / "run")
    begun = macro.run_killed(run, [(16, 1)])
    assert begun[17] in (15, 12)  # the last one may not yet have counted
    assert begun == [*range(17), *range(begun[17], NUM_STEPS)]
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
    """So the contrast of two runs over the nights of both."""
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
    # the floor of the loss is a function of the nights compared
    floors = [[row["loss/floor"] for row in macro.rows(each)] for each in (run, undisturbed)]
    assert floors[0] == pytest.approx(floors[1], rel=1e-6, abs=0)
    assert len(set(floors[0])) > NUM_STEPS // 2


@pytest.mark.endurance  # test_tune.py compares the two as well, to a thousandth
def test_plain_torch_has_the_losses_of_deepspeed(
    macro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = prepared(tmp_path / "run")
    engine = EngineConfig(kind="plain", zero_stage=0, micro_batch=2)
    macro.start(str(run), replace(CONFIG, engine=engine))
    assert macro.losses(run) == pytest.approx(macro.losses(undisturbed), abs=1e-4)


def test_the_bundle_holds_both_encoders_and_their_lineage(undisturbed: Path) -> None:
    bundle = load_bundle(str(undisturbed))
    assert bundle.macro == CONFIG
    assert bundle.lineage["macro"]["steps"] == NUM_STEPS
    assert bundle.weights_sha256 != bundle_of_micro().weights_sha256


def test_nights_of_another_micro_encoder_are_refused(macro: Stage, tmp_path: Path) -> None:
    run = prepared(tmp_path, "sleepmami-of-yesterday")
    with pytest.raises(TableError, match="found vectors of sleepmami-of-yesterday, expected"):
        macro.start(str(run), CONFIG)


def test_fewer_subjects_than_a_batch_are_refused_in_numbers(macro: Stage, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    config = replace_at(CONFIG, {"batch_subjects": 24, "engine.micro_batch": 12})
    with pytest.raises(TrainingError, match=r"20 subjects .* batch_subjects=24"):
        macro.start(str(run), config)
