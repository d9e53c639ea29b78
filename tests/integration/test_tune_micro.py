"""Trials that are Ray Train runs of their own, and what is left of one that ASHA ends."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sleepmami.config import SweepConfig
from sleepmami.config_edit import replace_at
from sleepmami.presets import preset
from tests.corpora import write_corpus
from tests.integration.test_pretrain_micro import CONFIG
from tune_spaces import stages
from tune_spaces.trials import MicroTrial

pytestmark = [  # endurance: it starts four trainings of Ray Train, two minutes
    pytest.mark.ray,
    pytest.mark.endurance,
    pytest.mark.usefixtures("ray_cluster"),
]

OBJECTIVE = "validation/contrast_accuracy_blocked"
START = replace_at(
    CONFIG, {"mixing": (), "loop.max_steps": 12, "loop.validate_every": 4, "loop.validate_rows": 16}
)


class Hopeless(MicroTrial):
    """Tells Tune an objective of -1 unless it is trial 0."""

    def step(self) -> dict[str, Any]:
        row = super().step()
        return row if self.config["loss.tau"] == 0.07 else {**row, OBJECTIVE: -1.0}


def training_processes() -> list[str]:
    """Ray names its processes by the actor that they are."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if command.startswith("ray::") and ("RayTrainWorker" in command or "Controller" in command):
            found.append(command)
    return [name for name in found if "ServeController" not in name]


def test_trials_train_in_runs_of_their_own_and_one_that_is_ended_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(
        tmp_path / "corpus", num_train=4, num_validation=5, num_test=0, num_epochs=8
    )
    monkeypatch.setattr(stages, "MicroTrial", Hopeless)
    settings = SweepConfig(
        objective="contrast_accuracy_blocked", num_trials=3, search="random", reduction_factor=2
    )
    sweep = tmp_path / "sweep"
    stages.tune_micro(corpus, str(sweep), START, settings, "paper")

    trials = json.loads((sweep / "trials.json").read_text())
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert trials[0]["status"] == "finished"
    assert [row["step"] for row in trials[0]["rows"]] == [4, 8, 12]
    assert 0 <= trials[0]["rows"][-1][OBJECTIVE] <= 1
    assert "stopped" in [trial["status"] for trial in trials]
    deadline = time.monotonic() + 60
    while training_processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert training_processes() == []

    best = json.loads((sweep / "best.json").read_text())
    assert best["about"]["trial"] == "trial_000"
    assert preset(str(sweep / "best.json")).micro.model == START.model
