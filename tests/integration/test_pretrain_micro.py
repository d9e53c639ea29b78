"""Micro pretraining on two real Ray Train workers, and what happens when something dies.

Is an interrupted training, bit for bit, the one that nothing interrupted?
"""

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import cli, pretrain_micro
from sleepmami.config import (
    EngineConfig,
    LoopConfig,
    MicroPretrainConfig,
    WorkersConfig,
)
from sleepmami.config_edit import flatten, replace_at, to_dict
from sleepmami.errors import ConfigError, TrainingError
from sleepmami.psg import MODALITIES
from sleepmami.tables import lance_io
from sleepmami.training.checkpoint import bundle_exists, load_bundle
from tests.bundles import SMALLEST_MICRO
from tests.corpora import write_corpus
from tests.interrupted_runs import Stage, steps_begun
from tests.processes import clean_environment, left_in_session, started

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ROOT = Path(__file__).resolve().parents[2]
NUM_STEPS = 24  # passes of 6 steps: checkpoints and deaths fall into the middle of them
CONFIG = MicroPretrainConfig(
    model=SMALLEST_MICRO,
    batch_size=8,
    shuffle_buffer=8,
    mixing=(("a", 0.5), ("b", 1.5)),
    loop=LoopConfig(
        num_passes=100,
        max_steps=NUM_STEPS,
        log_every=1,
        checkpoint_every=5,
        validate_every=16,
        validate_rows=16,
    ),
    engine=EngineConfig(micro_batch=4),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(
        folder, num_train=12, num_validation=5, num_test=1, num_epochs=8, cohorts=("a", "b")
    )


@pytest.fixture(scope="module")
def micro(corpus: str) -> Stage:
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


def test_the_loss_falls(micro: Stage, undisturbed: Path) -> None:
    values = micro.losses(undisturbed)
    assert max(values[-6:]) < min(values[:3])


def test_held_out_losses_stand_in_the_rows_of_their_steps(micro: Stage, undisturbed: Path) -> None:
    validated = [row for row in micro.rows(undisturbed) if "validation/total" in row]
    assert [row["step"] for row in validated] == [16, 24]
    for row in validated:
        assert {f"validation/reconstruction_{m}" for m in MODALITIES} <= row.keys()
        # sine nights, of which those held out are like the others
        assert row["validation/total"] == pytest.approx(row["loss/total"], rel=0.2)


@pytest.fixture(scope="module")
def survivor(micro: Stage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A run one of whose workers was killed before step 13, and the steps that rank began."""
    run = tmp_path_factory.mktemp("survivor") / "run"
    return run, micro.run_killed(run, [(13, 1)])


def test_a_killed_worker_costs_at_most_the_steps_since_the_last_checkpoint_but_one(
    survivor: tuple[Path, list[int]],
) -> None:
    _, begun = survivor
    assert begun[14] in (10, 5)  # the last one may not yet have counted
    assert begun == [*range(14), *range(begun[14], NUM_STEPS)]


def test_a_killed_worker_changes_no_loss_and_no_weight(
    micro: Stage, undisturbed: Path, survivor: tuple[Path, list[int]]
) -> None:
    run, _ = survivor
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


@pytest.mark.endurance  # an interrupted command is stopped and started again, too; see below
def test_a_run_that_stopped_in_a_pass_and_was_started_again_is_the_same_run(
    micro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    micro.run_stopped_and_started_again(run, (16, 0))
    assert micro.losses(run) == micro.losses(undisturbed)
    assert micro.weights(run) == micro.weights(undisturbed)


@pytest.mark.endurance  # the same of two steps, without Ray: unit/training/test_cached_contrast.py
def test_one_worker_with_two_micro_batches_has_the_losses_of_two_workers(
    micro: Stage, undisturbed: Path, tmp_path: Path
) -> None:
    micro.start(str(tmp_path), replace_at(CONFIG, {"workers.num_workers": 1}))
    assert micro.losses(tmp_path) == pytest.approx(micro.losses(undisturbed), rel=0, abs=1e-6)


def test_a_run_that_lost_a_worker_leaves_a_whole_bundle(
    survivor: tuple[Path, list[int]], corpus: str
) -> None:
    run, _ = survivor
    bundle = load_bundle(str(run / "micro"))
    assert bundle.micro == replace_at(CONFIG, {"workers.max_failures": 1})
    assert bundle.lineage["micro"] == {
        "segments_version": lance_io.version(f"{corpus}/segments.lance"),
        "num_segments": 48,
        "steps": NUM_STEPS,
    }


def test_running_a_finished_run_again_does_nothing(
    micro: Stage, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = micro.weights(undisturbed)
    monkeypatch.setattr(pretrain_micro, "fit", None)
    micro.start(str(undisturbed), CONFIG)
    assert micro.weights(undisturbed) == before


def test_a_run_is_not_continued_with_another_setting(micro: Stage, undisturbed: Path) -> None:
    other = replace_at(CONFIG, {"optimizer.learning_rate": 1e-3})
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate=0\.0005, expected 0\.001"):
        micro.start(str(undisturbed), other)


def test_a_run_is_not_continued_on_other_data(undisturbed: Path, tmp_path: Path) -> None:
    other = write_corpus(
        tmp_path / "corpus", num_train=2, num_test=1, num_epochs=8, cohorts=("a", "b")
    )
    with pytest.raises(ConfigError, match=r"data\.segments_version=\d+, expected 3"):
        pretrain_micro.pretrain_micro(other, str(undisturbed), CONFIG)


SLOWED = """
import sys
from pathlib import Path
from pipelines import cli, pretrain_micro
from tests.interrupted_runs import fateful_worker

folder = Path(sys.argv.pop(1))
pretrain_micro.train_worker = fateful_worker("pipelines.pretrain_micro", folder, slow_from=10)
cli.main()
"""


def test_an_interrupted_command_ends_what_it_started_and_ends_later_as_if_it_had_not_been(
    micro: Stage, undisturbed: Path, corpus: str, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    # Ray's own agents find their raylet gone and spend a minute on telling a control store, which
    # is gone as well (ray._private.utils.publish_error_to_driver)
    environment = clean_environment(RAY_gcs_rpc_server_reconnect_timeout_s="5")
    command = [sys.executable, "-c", SLOWED, str(tmp_path / "slowed")]
    command += ["pretrain", "micro", corpus, str(run), *settings(CONFIG)]
    with (
        log.open("w") as output,
        started(command, env=environment, cwd=ROOT, stdout=output, stderr=output) as process,
    ):
        wait_for(lambda: len(micro.rows(run)) >= 10, process.poll, log)
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C sends
        assert process.wait(timeout=120) != 0
        assert left_in_session(process.pid, seconds=120) == []
    assert "Traceback" not in log.read_text()
    told = len(micro.rows(run))
    assert 10 <= told < NUM_STEPS
    assert not bundle_exists(str(run / "micro"))

    with micro.watched(run) as watch:
        micro.start(str(run), CONFIG)
    begun = steps_begun(watch)
    assert begun[0] in (told // 5 * 5, told // 5 * 5 - 5)  # the last may not yet have counted
    assert begun == [*range(begun[0], NUM_STEPS)]
    assert micro.losses(run) == micro.losses(undisturbed)
    assert micro.weights(run) == micro.weights(undisturbed)


def settings(config: MicroPretrainConfig) -> list[str]:
    return [f"--set={name}={json.dumps(value)}" for name, value in flatten(to_dict(config))]


def wait_for(there: Callable[[], bool], poll: Callable[[], int | None], log: Path) -> None:
    deadline = time.monotonic() + 600  # a guard against hanging, not a claim
    while not there():
        assert poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_a_non_finite_loss_stops_at_once_with_the_workers_own_words(
    micro: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a corpus without a validation split, which trains without it and says so."""
    other = write_corpus(
        tmp_path / "corpus", num_train=4, num_test=1, num_epochs=8, cohorts=("a", "b")
    )
    config = replace_at(CONFIG, {"loop.validate_every": 2})
    run = tmp_path / "run"
    command = ["sleepmami", "pretrain", "micro", other, str(run), *settings(config)]
    monkeypatch.setattr(sys, "argv", command)
    with micro.watched(run, poison_before=3) as watch, pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.EXIT_FAILURE
    said = capsys.readouterr().err
    assert "nothing is validated" in said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: step 3: loss or gradients are not finite")
    assert steps_begun(watch) == [0, 1, 2, 3]  # and no second attempt
    assert not any("validation/total" in row for row in micro.rows(run))
    assert not bundle_exists(str(run / "micro"))


def test_too_little_data_is_refused_in_numbers(corpus: str, tmp_path: Path) -> None:
    config = replace_at(CONFIG, {"batch_size": 64, "loop.validate_rows": 64})
    with pytest.raises(TrainingError, match=r"found 48 segments .* at least batch_size=64"):
        pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)


def test_a_cluster_too_small_is_refused_instead_of_waited_for(corpus: str, tmp_path: Path) -> None:
    config = replace_at(CONFIG, {"workers.num_workers": 8, "engine.micro_batch": 1})
    with pytest.raises(
        ConfigError, match=r"found room for 6 processes of 1 CPU .* expected room for 8"
    ):
        pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)


def test_workers_that_leave_no_cpu_to_read_are_refused(corpus: str, tmp_path: Path) -> None:
    config = replace(CONFIG, workers=WorkersConfig(cpus_per_worker=3))
    with pytest.raises(ConfigError, match="found 6 CPUs, expected 7"):
        pretrain_micro.pretrain_micro(corpus, str(tmp_path), config)
