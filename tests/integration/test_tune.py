"""A sweep of four trials on Ray Tune, whose driver is killed in the middle, and what it leaves."""

import csv
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tune_cohort import write_tune_cohort
from pipelines import pretrain_macro
from sleepmami.config import (
    DGCLConfig,
    EngineConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    OptimizerConfig,
    SweepConfig,
    WorkersConfig,
)
from sleepmami.config_edit import flatten, to_dict
from sleepmami.errors import ConfigError
from sleepmami.presets import preset
from sleepmami.training.checkpoint import load_bundle, save_bundle
from tests.bundles import random_bundle
from tests.processes import clean_environment, started
from tune_spaces import trials
from tune_spaces.stages import tune_dgcl

pytestmark = [pytest.mark.ray]

START = MacroPretrainConfig(
    model=MacroEncoderConfig(dim=8, forward_depth=1, backward_depth=1, state_dim=4),
    dgcl=DGCLConfig(cycle_epochs=8),
    optimizer=OptimizerConfig(learning_rate=3e-3),
    batch_subjects=10,
    max_epochs=32,
    loop=LoopConfig(num_passes=9, log_every=1, checkpoint_every=50, validate_every=4),
    engine=EngineConfig(micro_batch=5),
    workers=WorkersConfig(cpus_per_worker=2),  # two or three trials at once
)
TOTAL = 36  # steps: four batches a pass
SETTINGS = SweepConfig(objective="validation/probe", num_trials=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CORPUS and RUN of forty people to train on and twenty to validate with."""
    base = tmp_path_factory.mktemp("tune")
    micro = replace(random_bundle(), macro=None, macro_state=None)
    save_bundle(str(base / "run" / "micro"), micro)
    write_tune_cohort(
        str(base / "corpus"),
        str(base / "run"),
        num_train=40,
        num_validation=20,
        num_epochs=24,
        dim=16,
        model_id=micro.model_id,
    )
    return base


def recorded(sweep: Path) -> list[dict[str, Any]]:
    file = sweep / "trials.json"
    return json.loads(file.read_text()) if file.exists() else []


def statuses(sweep: Path) -> list[str]:
    return [trial["status"] for trial in recorded(sweep)]


@pytest.fixture(scope="module")
def killed(folder: Path) -> list[dict[str, Any]]:
    """The trials of a sweep whose driver was killed when one had ended and one was under way."""
    sets = [f"--set={name}={json.dumps(value)}" for name, value in flatten(to_dict(START))]
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "tune", "dgcl"]
    command += [str(folder / "corpus"), str(folder / "run"), f"--out={folder / 'sweep'}"]
    command += ["--trials=4", *sets]
    log = folder / "log"
    with (
        log.open("w") as output,
        started(command, env=clean_environment(), stdout=output, stderr=output) as process,
    ):
        deadline = time.monotonic() + 300  # a guard against hanging, not a claim
        while True:
            seen = recorded(folder / "sweep")
            rows = [len(trial["rows"]) for trial in seen if trial["status"] == "running"]
            if any(trial["status"] != "running" for trial in seen) and any(rows):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return recorded(folder / "sweep")


@pytest.fixture(scope="module")
def resumed(folder: Path, killed: list[dict[str, Any]], ray_cluster: Path) -> list[dict[str, Any]]:
    """The same sweep's trials after the same command has been given again."""
    corpus, run, sweep = (str(folder / name) for name in ("corpus", "run", "sweep"))
    tune_dgcl(corpus, run, sweep, START, SETTINGS, "paper")
    return recorded(folder / "sweep")


def test_a_killed_driver_costs_no_trial_and_repeats_none_that_had_ended(
    killed: list[dict[str, Any]], resumed: list[dict[str, Any]]
) -> None:
    had_ended = [trial for trial in killed if trial["status"] != "running"]
    assert 1 <= len(had_ended) < 4
    assert len(resumed) == 4
    assert [trial["number"] for trial in resumed] == [0, 1, 2, 3]
    assert all(trial in resumed for trial in had_ended)  # with its rows, to the last bit
    settings = [json.dumps(trial["overrides"]) for trial in resumed]
    assert len(set(settings)) == 4
    interrupted = [trial["overrides"] for trial in killed if trial["status"] == "running"]
    assert [t["overrides"] for t in resumed if t["overrides"] in interrupted] == interrupted


def test_trial_0_is_the_start_and_ran_to_the_end(resumed: list[dict[str, Any]]) -> None:
    first = resumed[0]
    assert first["overrides"] == {"dgcl.rho": 0.1, "dgcl.v": 0.5, "dgcl.lambda_sex": 1.0}
    assert first["status"] == "finished"
    assert [row["step"] for row in first["rows"]] == [*range(4, TOTAL + 1, 4)]
    assert {trial["status"] for trial in resumed} <= {"finished", "stopped"}


def test_what_it_leaves(folder: Path, resumed: list[dict[str, Any]]) -> None:
    with (folder / "sweep" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["trial"] for row in rows) == [f"trial_00{n}" for n in range(4)]
    whole = [float(row["validation/probe"]) for row in rows if row["status"] == "finished"]
    assert whole == sorted(whole, reverse=True)
    best = json.loads((folder / "sweep" / "best.json").read_text())
    assert best["about"]["trial"] == rows[0]["trial"]
    assert best["about"]["value"] == pytest.approx(whole[0])
    default = next(row for row in rows if row["trial"] == "trial_000")
    gain = whole[0] - float(default["validation/probe"])
    assert best["about"]["above_default"] == pytest.approx(gain, abs=1e-9)
    assert best["about"]["seeds"]["training"] == [START.loop.seed]
    for name in ("parallel.png", "slices.png"):
        assert (folder / "sweep" / name).read_bytes()[:4] == b"\x89PNG"
    assert not (folder / "sweep" / "ray").exists()


def test_pretrain_macro_takes_the_best_as_a_preset_and_trains_as_its_trial_did(
    folder: Path, resumed: list[dict[str, Any]]
) -> None:
    """On two workers and DeepSpeed, where the trial had one process and plain torch."""
    best = json.loads((folder / "sweep" / "best.json").read_text())
    config = preset(str(folder / "sweep" / "best.json")).macro
    assert {**dict(flatten(to_dict(config))), **best["overrides"]} == dict(flatten(to_dict(config)))
    assert config.model == START.model
    run = folder / "run"
    pretrain_macro.pretrain_macro(str(folder / "corpus"), str(run), config)
    assert load_bundle(str(run)).macro == config
    lines = (run / "macro_metrics.jsonl").read_text().splitlines()
    validated = [row for row in map(json.loads, lines) if "validation/probe" in row]
    (trial,) = (t["rows"] for t in resumed if f"trial_{t['number']:03d}" == best["about"]["trial"])
    assert [row["step"] for row in validated] == [row["step"] for row in trial]
    for one, other in zip(validated, trial, strict=True):
        for name in ("loss/total", "validation/dgcl_excess"):
            assert other[name] == pytest.approx(one[name], abs=1e-3)
        assert other["validation/age_r2"] == pytest.approx(one["validation/age_r2"], abs=0.02)


def test_a_finished_sweep_is_left_as_it_is(
    folder: Path, resumed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "train_nights", None)
    corpus, run, sweep = (str(folder / name) for name in ("corpus", "run", "sweep"))
    tune_dgcl(corpus, run, sweep, START, SETTINGS, "paper")
    assert recorded(folder / "sweep") == resumed


def test_another_command_on_the_same_sweep_is_refused(
    folder: Path, resumed: list[dict[str, Any]]
) -> None:
    corpus, run, sweep = (str(folder / name) for name in ("corpus", "run", "sweep"))
    with pytest.raises(ConfigError, match=r"sweep\.num_trials=4, expected 5"):
        tune_dgcl(corpus, run, sweep, START, replace(SETTINGS, num_trials=5), "paper")
    other = replace(START, loop=replace(START.loop, num_passes=8))
    with pytest.raises(ConfigError, match=r"loop\.num_passes=9, expected 8"):
        tune_dgcl(corpus, run, sweep, other, SETTINGS, "paper")


def test_a_trial_that_fails_is_told_by_name_and_reason_and_ends_no_other(
    folder: Path, tmp_path: Path, ray_cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = SweepConfig(objective="probe", num_trials=2, search="random", learning_rate=True)
    start = replace(START, loop=replace(START.loop, num_passes=1))
    from tune_spaces import stages

    def poisoned(overrides: dict[str, Any], *, plan: dict[str, Any]) -> None:
        from sleepmami.errors import TrainingError
        from tune_spaces.trials import dgcl_trial

        if overrides["dgcl.rho"] != 0.1:
            raise TrainingError("step 3: loss or gradients are not finite")
        dgcl_trial(overrides, plan=plan)

    corpus, run = str(folder / "corpus"), str(folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "dgcl_trial", poisoned)
        stages.tune_dgcl(corpus, run, str(tmp_path / "sweep"), start, bad, "paper")
    said = capsys.readouterr().err
    assert "trial_001 failed: step 3: loss or gradients are not finite" in said
    assert statuses(tmp_path / "sweep") == ["finished", "failed"]
