"""Pretraining on two real Ray Train workers, and what happens when something dies."""

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import cli, pretrain_macro, pretrain_micro
from sleepmami.config import (
    DGCLConfig,
    EngineConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    MicroPretrainConfig,
    OptimizerConfig,
    WorkersConfig,
)
from sleepmami.config_edit import replace_at, to_dict
from sleepmami.errors import ConfigError, TableError, TrainingError
from sleepmami.losses.dgcl import demographic_distance
from sleepmami.tables import lance_io
from sleepmami.training.checkpoint import bundle_exists, load_bundle, save_bundle
from sleepmami.training.macro_objective import dgcl_floor
from tests.bundles import SMALLEST_MICRO, random_bundle
from tests.corpora import write_corpus, write_micro_nights
from tests.processes import clean_environment, left_in_session, started

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

MICRO = MicroPretrainConfig(
    model=SMALLEST_MICRO,
    optimizer=OptimizerConfig(learning_rate=3e-3),
    batch_size=8,
    shuffle_buffer=16,
    loop=LoopConfig(num_passes=100, max_steps=60, log_every=1, checkpoint_every=20),
    engine=EngineConfig(micro_batch=4),
)
MACRO = MacroPretrainConfig(
    model=MacroEncoderConfig(dim=8, forward_depth=1, backward_depth=1, state_dim=4),
    dgcl=DGCLConfig(cycle_epochs=4),
    batch_subjects=8,
    max_epochs=16,
    loop=LoopConfig(num_passes=6, log_every=1, checkpoint_every=4),
    engine=EngineConfig(micro_batch=4),
)
NUM_NIGHTS = 12  # to train on: two batches of eight subjects a pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, num_train=NUM_NIGHTS, num_test=1, num_epochs=8)


def watched(
    stage: str,
    folder: Path,
    *,
    kill_before: int | None = None,
    poison_before: int | None = None,
) -> Callable[[dict[str, Any]], None]:
    """The stage's own worker, whose rank 1 notes the steps it began and meets its fate before one.

    It is killed once, and poisoned with a weight that is NaN every time. Nested functions travel
    to the workers by value; patching there changes nothing here.
    """
    folder.mkdir()
    killed = folder / "killed"

    def worker(config: dict[str, Any]) -> None:
        import importlib

        from sleepmami.training import collectives
        from sleepmami.training.engine import Engine

        train_step = Engine.train_step

        def fateful(engine: Engine, batches: Any) -> dict[str, torch.Tensor]:
            if collectives.rank() == 1:
                with (folder / "steps").open("a") as steps:
                    steps.write(f"{engine.step}\n")
                if engine.step == kill_before and not killed.exists():
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                if engine.step == poison_before:
                    next(engine.objective.parameters()).data.fill_(float("nan"))
            return train_step(engine, batches)

        Engine.train_step = fateful  # type: ignore[method-assign]
        importlib.import_module(f"pipelines.pretrain_{stage}").train_worker(config)

    return worker


def steps_begun(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "steps").read_text().split()]


def history(file: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(file: Path) -> list[float]:
    return [row["loss/total"] for row in history(file)]


@pytest.fixture(scope="module")
def survivor(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Micro run of 60 steps, one of whose workers was killed before step 43."""
    folder = tmp_path_factory.mktemp("survivor")
    with pytest.MonkeyPatch.context() as patch:
        worker = watched("micro", folder / "watch", kill_before=43)
        patch.setattr(pretrain_micro, "train_worker", worker)
        pretrain_micro.pretrain_micro(corpus, str(folder / "run"), MICRO)
    return folder


def test_a_killed_worker_costs_at_most_the_steps_since_the_last_checkpoint_but_one(
    survivor: Path,
) -> None:
    begun = steps_begun(survivor / "watch")
    assert begun[44] in (40, 20)  # the last one may not yet have counted
    assert begun == [*range(44), *range(begun[44], 60)]


def test_metrics_cover_every_step_though_a_worker_was_killed(survivor: Path) -> None:
    rows = history(survivor / "run" / "micro" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [*range(1, 61)]


def test_the_loss_falls_though_a_worker_was_killed(survivor: Path) -> None:
    values = losses(survivor / "run" / "micro" / "metrics.jsonl")
    assert np.mean(values[-15:]) < np.mean(values[:15])


def test_a_run_that_lost_a_worker_leaves_a_whole_bundle(survivor: Path, corpus: str) -> None:
    bundle = load_bundle(str(survivor / "run" / "micro"))
    assert bundle.micro == MICRO
    assert bundle.lineage["micro"] == {
        "segments_version": lance_io.version(f"{corpus}/segments.lance"),
        "num_segments": 48,
        "steps": 60,
    }


def test_running_a_finished_run_again_does_nothing(
    survivor: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_bundle(str(survivor / "run" / "micro")).weights_sha256
    monkeypatch.setattr(pretrain_micro, "fit", None)
    pretrain_micro.pretrain_micro(corpus, str(survivor / "run"), MICRO)
    assert load_bundle(str(survivor / "run" / "micro")).weights_sha256 == before


def test_a_run_is_not_continued_with_another_setting(survivor: Path, corpus: str) -> None:
    other = replace_at(MICRO, {"optimizer.learning_rate": 1e-3})
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate=0\.003, expected 0\.001"):
        pretrain_micro.pretrain_micro(corpus, str(survivor / "run"), other)


def test_a_run_is_not_continued_on_other_data(
    survivor: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write_corpus(tmp_path / "corpus", num_train=2, num_test=1, num_epochs=8)
    with pytest.raises(ConfigError, match=r"data\.segments_version=13, expected 3"):
        pretrain_micro.pretrain_micro(other, str(survivor / "run"), MICRO)


def test_an_interrupted_command_ends_what_it_started_and_continues_later(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    long = replace_at(MICRO, {"loop.max_steps": 120, "loop.checkpoint_every": 10})
    settings = [f"--set={name}={json.dumps(value)}" for name, value in flat(to_dict(long))]
    command = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    command += ["pretrain", "micro", corpus, str(run), *settings]
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        started(command, env=clean_environment(), stdout=output, stderr=output) as process,
    ):
        metrics = run / "micro" / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and len(history(metrics)) >= 20, process.poll, log)
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C sends
        assert process.wait(timeout=120) != 0
        # Ray's own agents find their raylet gone and spend 60 s on telling a control store, which
        # is gone as well (ray._private.utils.publish_error_to_driver)
        assert left_in_session(process.pid, seconds=120) == []
    assert "Traceback" not in log.read_text()
    told = len(history(metrics))
    assert 20 <= told < 120
    assert not bundle_exists(str(run / "micro"))

    monkeypatch.setattr(pretrain_micro, "train_worker", watched("micro", tmp_path / "watch"))
    pretrain_micro.pretrain_micro(corpus, str(run), long)
    begun = steps_begun(tmp_path / "watch")
    assert begun[0] in (told // 10 * 10, told // 10 * 10 - 10, told // 10 * 10 - 20)
    assert begun == [*range(begun[0], 120)]
    assert [row["step"] for row in history(metrics)] == [*range(1, 121)]
    assert load_bundle(str(run / "micro")).lineage["micro"]["steps"] == 120


def flat(values: dict[str, Any], at: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for key, value in values.items():
        pairs += flat(value, f"{at}{key}.") if isinstance(value, dict) else [(at + key, value)]
    return pairs


def wait_for(there: Callable[[], bool], poll: Callable[[], int | None], log: Path) -> None:
    deadline = time.monotonic() + 600  # a guard against hanging, not a claim
    while not there():
        assert poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_a_non_finite_loss_stops_at_once_with_the_workers_own_words(
    corpus: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = watched("micro", tmp_path / "watch", poison_before=3)
    monkeypatch.setattr(pretrain_micro, "train_worker", worker)
    settings = [f"--set={name}={json.dumps(value)}" for name, value in flat(to_dict(MICRO))]
    command = ["sleepmami", "pretrain", "micro", corpus, str(tmp_path / "run"), *settings]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.EXIT_FAILURE
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: step 3: loss or gradients are not finite")
    assert steps_begun(tmp_path / "watch") == [0, 1, 2, 3]  # and no second attempt
    assert not bundle_exists(str(tmp_path / "run" / "micro"))


def test_too_little_data_is_refused_in_numbers(corpus: str, tmp_path: Path) -> None:
    config = replace_at(MICRO, {"batch_size": 64})
    with pytest.raises(TrainingError, match=r"found 48 segments .* at least batch_size=64"):
        pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)


def test_a_cluster_too_small_is_refused_instead_of_waited_for(corpus: str, tmp_path: Path) -> None:
    config = replace_at(MICRO, {"workers.num_workers": 8, "engine.micro_batch": 1})
    with pytest.raises(
        ConfigError, match=r"found room for 6 processes of 1 CPU .* expected room for 8"
    ):
        pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)


def test_workers_that_leave_no_cpu_to_read_are_refused(corpus: str, tmp_path: Path) -> None:
    config = replace(MICRO, workers=WorkersConfig(cpus_per_worker=3))
    with pytest.raises(ConfigError, match="found 6 CPUs, expected 7"):
        pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)


@functools.cache
def bundle_of_micro() -> Any:
    return replace(random_bundle(), macro=None, macro_state=None)


def macro_run(folder: Path, model_id: str) -> str:
    save_bundle(str(folder / "micro"), bundle_of_micro())
    write_micro_nights(folder, num_nights=NUM_NIGHTS + 1, dim=16, model_id=model_id)
    return str(folder)


@pytest.fixture(scope="module")
def macro_survivor(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Macro run on DeepSpeed of 12 steps, one of whose workers was killed before step 6."""
    folder = tmp_path_factory.mktemp("macro")
    run = macro_run(folder / "run", bundle_of_micro().model_id)
    with pytest.MonkeyPatch.context() as patch:
        worker = watched("macro", folder / "watch", kill_before=10)
        patch.setattr(pretrain_macro, "train_worker", worker)
        pretrain_macro.pretrain_macro(corpus, run, MACRO)
    return folder


def test_macro_on_deepspeed_with_a_restart_has_the_losses_of_plain_torch_without(
    macro_survivor: Path, corpus: str, tmp_path: Path
) -> None:
    begun = steps_begun(macro_survivor / "watch")
    assert begun[11] in (8, 4)  # the last checkpoint may not yet have counted
    assert begun == [*range(11), *range(begun[11], 12)]
    run = macro_run(tmp_path, bundle_of_micro().model_id)
    engine = EngineConfig(kind="plain", zero_stage=0, micro_batch=4)
    pretrain_macro.pretrain_macro(corpus, run, replace(MACRO, engine=engine))
    plain = losses(tmp_path / "macro_metrics.jsonl")
    assert len(plain) == 12
    ours = losses(macro_survivor / "run" / "macro_metrics.jsonl")
    assert ours == pytest.approx(plain, abs=1e-4)


def test_the_contrast_runs_over_the_nights_of_all_workers(macro_survivor: Path) -> None:
    # The floor of the loss is a function of the nights compared: of all 8, not of a worker's 4.
    bundle = load_bundle(str(macro_survivor / "run"))
    assert bundle.demographics is not None
    demographics = bundle.demographics
    table = lance_io.read_table(f"{macro_survivor}/run/micro_nights.lance")
    nights = table.select(["num_epochs", "age_years", "bmi", "sex"]).to_pylist()[:NUM_NIGHTS]
    subjects = pretrain_macro.Subjects(
        row=[*range(NUM_NIGHTS)],
        subject_id=[f"subject{n}" for n in range(NUM_NIGHTS)],
        num_epochs=[night["num_epochs"] for night in nights],
        age_years=[night["age_years"] for night in nights],
        bmi=[night["bmi"] for night in nights],
        female=[night["sex"] == "female" for night in nights],
    )
    first = pretrain_macro._batches(subjects, MACRO, pass_index=0)[0]
    age, bmi, female, epochs = (
        torch.tensor(np.array(values)[first])
        for values in (subjects.age_years, subjects.bmi, subjects.female, subjects.num_epochs)
    )
    distance = demographic_distance(
        (age - demographics.age_mean) / demographics.age_std,
        (bmi - demographics.bmi_mean) / demographics.bmi_std,
        female,
        lambda_sex=MACRO.dgcl.lambda_sex,
    )
    cycles = epochs.clamp(max=MACRO.max_epochs) // MACRO.dgcl.cycle_epochs
    present = torch.arange(1, 5)[:, None] <= cycles
    expected = 2 * dgcl_floor(distance, present, MACRO.dgcl)  # both directions
    row = history(macro_survivor / "run" / "macro_metrics.jsonl")[0]
    assert row["loss/floor"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_macro_bundle_holds_both_encoders_and_their_lineage(macro_survivor: Path) -> None:
    bundle = load_bundle(str(macro_survivor / "run"))
    assert bundle.macro == MACRO
    assert bundle.lineage["macro"]["steps"] == 12
    assert bundle.weights_sha256 != bundle_of_micro().weights_sha256


def test_nights_of_another_micro_encoder_are_refused(corpus: str, tmp_path: Path) -> None:
    run = macro_run(tmp_path, "sleepmami-of-yesterday")
    with pytest.raises(TableError, match="found vectors of sleepmami-of-yesterday, expected"):
        pretrain_macro.pretrain_macro(corpus, run, MACRO)


def test_fewer_subjects_than_a_batch_are_refused_in_numbers(corpus: str, tmp_path: Path) -> None:
    run = macro_run(tmp_path, bundle_of_micro().model_id)
    config = replace_at(MACRO, {"batch_subjects": 16, "engine.micro_batch": 8})
    with pytest.raises(TrainingError, match=r"12 subjects .* batch_subjects=16"):
        pretrain_macro.pretrain_macro(corpus, run, config)
