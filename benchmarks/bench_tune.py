"""What ASHA saves in a sweep over rho, v and lambda_sex, and what the sweep finds.

A made-up cohort (tune_cohort.py) on the CPU. The steps saved are counted, not estimated: a trial
that is ended early has trained so many of the steps it would have. README.md says who reads this.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from provenance import git_state, machine
from tune_cohort import write_tune_cohort

from pipelines.pretrain_macro import pretrain_macro
from pipelines.ray_session import ray_session
from sleepmami import __version__
from sleepmami.config import (
    DGCLConfig,
    EngineConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    MicroEncoderConfig,
    MicroPretrainConfig,
    OptimizerConfig,
    PreprocessConfig,
    SweepConfig,
    WorkersConfig,
)
from sleepmami.config_edit import flatten, to_dict
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.training.checkpoint import Bundle, save_bundle
from tune_spaces.record import SweepRecord
from tune_spaces.spaces import DGCL, default_point
from tune_spaces.stages import tune_dgcl

OBJECTIVE = "validation/probe"
PEOPLE = {"num_train": 240, "num_validation": 80}
START = MacroPretrainConfig(
    model=MacroEncoderConfig(dim=32, forward_depth=1, backward_depth=1, state_dim=8),
    dgcl=DGCLConfig(cycle_epochs=12),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_fraction=0.05),
    batch_subjects=24,
    max_epochs=48,
    loop=LoopConfig(num_passes=9, log_every=90, checkpoint_every=90),
    engine=EngineConfig(micro_batch=12),
    workers=WorkersConfig(cpus_per_worker=2.0),  # of the 4 that a private cluster says it has
)


def micro_bundle() -> Bundle:
    """A Micro-Encoder as narrow as it can be: its vectors are made up."""
    torch.manual_seed(0)
    small = MicroEncoderConfig(
        patch_channels=(4, 8, 8),
        lower_dim=8,
        lower_depth=1,
        higher_dim=32,
        higher_depth=1,
        num_heads=2,
        shared_depth=1,
        fusion_depth=1,
        upsample_dim=8,
        decoder_dim=8,
        decoder_heads=2,
        decoder_depth=1,
    )
    config = MicroPretrainConfig(model=small)
    state = MicroEncoder(small).state_dict()
    return Bundle(
        micro=config, micro_state=state, preprocess=PreprocessConfig(), macro=None,
        macro_state=None, demographics=None, lineage={},
    )  # fmt: skip


def alone(corpus: str, run: str, folder: str) -> dict[str, float]:
    """Wall seconds of the default's training: on two Ray Train workers, all of it."""
    os.makedirs(folder)
    for name in ("micro", "micro_nights.lance"):
        os.symlink(os.path.join(run, name), os.path.join(folder, name))
    began = time.perf_counter()
    workers = WorkersConfig(cpus_per_worker=1.0)
    pretrain_macro(corpus, folder, replace(START, workers=workers))
    return {"ray_train_two_workers_s": time.perf_counter() - began}


def measure(num_trials: int, pictures: str) -> dict[str, Any]:
    """One sweep, and one training of the default on Ray Train to compare the start-up with."""
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as base, ray_session():
        corpus, run, sweep = (f"{base}/{name}" for name in ("corpus", "run", "sweep"))
        micro = micro_bundle()
        save_bundle(f"{run}/micro", micro)
        write_tune_cohort(corpus, run, num_epochs=36, dim=32, model_id=micro.model_id, **PEOPLE)
        config = SweepConfig(objective=OBJECTIVE, num_trials=num_trials)
        began = time.perf_counter()
        best = tune_dgcl(corpus, run, sweep, START, config, "paper")
        sweep_s = time.perf_counter() - began
        record = SweepRecord(sweep)
        about = json.loads(Path(best).read_text())
        for picture in ("parallel.png", "slices.png") if pictures else ():
            shutil.copy(f"{sweep}/{picture}", pictures)
        cost = alone(corpus, run, f"{base}/alone")
    total = about["about"]["steps"]
    steps = [trial.steps for trial in record.trials]
    return {
        "trials": [
            {
                "name": trial.name,
                "status": trial.status,
                "steps": trial.steps,
                **trial.overrides,
                OBJECTIVE: trial.value(OBJECTIVE),
            }
            for trial in record.trials
        ],
        "steps_trained": sum(steps),
        "steps_of_all_to_the_end": total * len(steps),
        "share_of_steps_saved": 1 - sum(steps) / (total * len(steps)),
        "sweep_s": sweep_s,
        "s_per_trial": sweep_s / len(steps),
        **cost,
        "best": about,
        "default": default_point(DGCL, dict(flatten(to_dict(START)))),
        "default_value": about["about"]["default_value"],
        "people": PEOPLE,
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--pictures", default="", help="keep the sweep's pictures in this folder")
    parser.add_argument("--trials", type=int, default=24)
    options = parser.parse_args()
    result = {
        **measure(options.trials, options.pictures),
        "machine": machine(),
        "git": git_state("../sleepmami", "../pipelines", "../tune_spaces", "."),
        "versions": {
            "sleepmami": __version__,
            **{name: version(name) for name in ("ray", "torch", "optuna", "pylance")},
        },
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
