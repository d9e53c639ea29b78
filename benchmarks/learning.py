"""Does Micro-Encoder pretraining learn, and what: small models on simulated nights, on a CPU.

One process, one thread, no Ray. A run is a variant and a seed; runs that the JSON holds already are
skipped, so that a stopped study goes on. docs/learning.md says what came of it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_step import machine_with
from learning_data import StudyNight, simulated_nights, training_batch
from learning_evaluation import (
    ProbeSet,
    copying,
    evaluate,
    health,
    health_batches,
    hearing,
    probe_scores,
    probe_set,
)
from provenance import git_state

from sleepmami.config import EngineConfig, MicroEncoderConfig, MicroPretrainConfig, WorkersConfig
from sleepmami.config_edit import replace_at, to_dict
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import tiny
from sleepmami.psg import Stage
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.engine import build_engine
from sleepmami.training.objectives import MicroObjective

STUDY = MicroEncoderConfig(  # between tiny and paper: 3.8 M parameters
    patch_channels=(16, 32, 64),
    lower_dim=64,
    lower_depth=1,
    higher_dim=128,
    higher_depth=1,
    num_heads=4,
    shared_depth=2,
    fusion_depth=1,
    upsample_dim=64,
    decoder_dim=32,
    decoder_depth=1,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What differs from eq. 3 as it stands: settings, and how windows are cut in training."""

    changes: dict[str, Any]  # Any: values of settings
    offset_s: int = 60


LITERAL = {"loss.contrastive_view": "same", "loss.slot_negatives": "all"}  # eq. 2 as it stands
VARIANTS = {  # each changes LITERAL, which was the default when they were named
    "full": Variant(changes={}),  # eq. 3 as it is
    "no_own": Variant(changes={"loss.slot_negatives": "other_segments"}),
    "mae": Variant(changes={"loss.lambda_cl": 0.0, "loss.lambda_koleo": 0.0}),
    "private": Variant(  # Table 11, row 1; "mae" keeps the shared encoder, "full" is row 2
        changes={
            "model.shared_depth": 0,
            "model.fusion_depth": 0,
            "loss.lambda_cl": 0.0,
            "loss.lambda_koleo": 0.0,
        }
    ),
    "blocked": Variant(changes={"model.shared_view": "blocked"}),
    "offset": Variant(changes={}, offset_s=30),
    "no_own_blocked": Variant(
        changes={"loss.slot_negatives": "other_segments", "model.shared_view": "blocked"}
    ),
    "no_own_offset": Variant(changes={"loss.slot_negatives": "other_segments"}, offset_s=30),
    "place": Variant(changes={"loss.slot_negatives": "same_place"}),
    "place_blocked": Variant(
        changes={"loss.slot_negatives": "same_place", "model.shared_view": "blocked"}
    ),
    "view_place": Variant(  # the defaults: place_blocked with fusion that hears all modalities
        changes={"loss.slot_negatives": "same_place", "loss.contrastive_view": "blocked"}
    ),
    "text": Variant(changes={"loss.temporal_negatives": "text"}),
}
CURVE_EVERY = 20  # steps of which a training curve shows the mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Cohort:
    """Three groups of simulated subjects; no subject is in two."""

    train: list[StudyNight]
    fit: ProbeSet
    test: ProbeSet
    health: list[SegmentBatch]


def main() -> None:
    """Run what is missing, write the JSON after each run, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--looks", nargs="*", type=int, help="steps to look at, beside the last")
    parser.add_argument("--batch-size", type=int, default=16, help="windows per step")
    parser.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument(
        "--subjects", nargs=3, type=int, default=[20, 12, 8], metavar=("TRAIN", "FIT", "TEST")
    )
    parser.add_argument("--hours", type=float, default=3.0, help="length of a night")
    parser.add_argument("--cohort-seed", type=int, default=20261130)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        name: getattr(arguments, name)
        for name in ("steps", "batch_size", "subjects", "hours", "cohort_seed")
    }
    result = _opened(arguments.json, settings)
    looks = [arguments.steps // 4] if arguments.looks is None else arguments.looks
    cohort = simulated_cohort(arguments.subjects, arguments.hours, arguments.cohort_seed)
    if "cohort" not in result:
        result["cohort"] = describe(cohort)
        _write(arguments.json, result)
    for seed in arguments.seeds:
        for variant in ("random", *arguments.variants):
            if any(r["variant"] == variant and r["seed"] == seed for r in result["runs"]):
                continue
            steps = [0] if variant == "random" else [*looks, arguments.steps]
            run = one_run(variant, seed, cohort, steps, arguments.batch_size)
            result["runs"].append(run)
            _write(arguments.json, result)
            print(summary(run), flush=True)


def _opened(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    if not file.exists():
        return {
            "settings": settings,
            "model": to_dict(STUDY),
            "machine": machine_with(torch.device("cpu")),
            "code": git_state("../sleepmami", "learning.py"),
            "runs": [],
        }
    result: dict[str, Any] = json.loads(file.read_text())
    for name, expected in (("settings", settings), ("model", to_dict(STUDY))):
        if result[name] != expected:
            raise SystemExit(f"{file}: found runs of {result[name]}, expected {expected}")
    return result


def _write(file: Path, result: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(file)


def simulated_cohort(subjects: list[int], hours: float, seed: int) -> Cohort:
    """Subjects to pretrain on, to fit probes on, and to test them on."""
    train, fit, test = np.cumsum(subjects).tolist()
    test_nights = simulated_nights(fit, test, hours, seed)
    return Cohort(
        train=simulated_nights(0, train, hours, seed),
        fit=probe_set(simulated_nights(train, fit, hours, seed)),
        test=probe_set(test_nights),
        health=health_batches(test_nights),
    )


def describe(cohort: Cohort) -> dict[str, Any]:
    """Epochs of the probes, and what band powers and guessing the commonest class reach."""
    stages = {
        stage.name: int((cohort.test.stage_N == stage).sum()) for stage in Stage if stage >= 0
    }
    fit_NF, test_NF = (part.bands_NF.astype(np.float64) for part in (cohort.fit, cohort.test))
    return {
        "train_segments": sum(night.num_epochs // 2 for night in cohort.train),
        "fit_epochs": len(cohort.fit.stage_N),
        "test_epochs": len(cohort.test.stage_N),
        "test_stages": stages,
        "test_apnea_share": float(cohort.test.apnea_N.mean()),
        "band_powers": probe_scores(cohort.fit, cohort.test, fit_NF, test_NF),
    }


def variant_config(variant: str, batch_size: int) -> MicroPretrainConfig:
    """The settings of a run; `random` is `full` that is never trained."""
    base = MicroPretrainConfig(
        model=STUDY,
        optimizer=tiny().micro.optimizer,
        batch_size=batch_size,
        engine=EngineConfig(kind="plain", zero_stage=0, micro_batch=batch_size),
        workers=WorkersConfig(num_workers=1),
    )
    changes = VARIANTS[variant].changes if variant != "random" else {}
    return replace_at(base, LITERAL | changes)


def one_run(
    variant: str, seed: int, cohort: Cohort, looks: list[int], batch_size: int
) -> dict[str, Any]:
    """Train a variant and look at it after so many steps, most closely at the end.

    The same seed gives every variant the same initial weights, masks and order of draws.
    """
    started = time.process_time()
    torch.manual_seed(seed)
    config = variant_config(variant, batch_size)
    model = MicroEncoder(config.model)
    engine = build_engine(
        MicroObjective(model, config, seed), config.engine, config.optimizer, max(looks), 1
    )
    rng = np.random.default_rng(seed)
    curve: list[dict[str, float]] = []
    recent: list[dict[str, float]] = []
    evaluations = []
    for step in range(looks[-1] + 1):
        if step in looks:
            observer = MicroObjective(model, config, seed)
            last = step == looks[-1]
            found = {"step": step, **evaluate(model, cohort.fit, cohort.test, deep=last)}
            found["health"] = health(observer, cohort.health)
            if last and config.model.shared_depth:
                found["hearing"] = hearing(model, cohort.health[0])
                found["copying"] = copying(observer, cohort.health[:1])
            evaluations.append(found)
        if step == looks[-1]:
            break
        batch = training_batch(cohort.train, batch_size, _offset_s(variant), rng)
        recent.append({name: float(v) for name, v in engine.train_step([batch]).items()})
        if len(recent) == CURVE_EVERY:
            means = {name: float(np.nanmean([r[name] for r in recent])) for name in recent[0]}
            curve.append({"step": step + 1, **means})
            recent = []
    return {
        "variant": variant,
        "seed": seed,
        "cpu_s": time.process_time() - started,
        "evaluations": evaluations,
        "curve": curve,
    }


def _offset_s(variant: str) -> int:
    return VARIANTS[variant].offset_s


def summary(run: dict[str, Any]) -> str:
    """One line of a run."""
    last = run["evaluations"][-1]
    staging, apnea, half = last["probe"]["staging"], last["probe"]["apnea"], last["half"]
    return (
        f"{run['variant']:15s} seed {run['seed']}: {run['cpu_s']:.0f} CPU s, staging accuracy "
        f"{staging['accuracy']:.3f} kappa {staging['kappa']:.3f}, apnea AUROC "
        f"{apnea['auroc']:.3f}, cosine of halves {half['cosine']:.2f}, "
        f"half explains {half['half_explains']:.1%}"
    )


if __name__ == "__main__":
    main()
