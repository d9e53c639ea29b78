"""Does the Macro-Encoder learn age, sex and BMI of whole nights, and no shortcut? docs/macro.md.

One process, no Ray: simulated subjects, micro vectors made once, Macro-Encoders trained on them
with the project's loss, sampler and engine, and ridge probes of night vectors on subjects that no
training saw. Runs that the JSON holds already are skipped, so that a stopped study goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import variant_config
from macro_nights import StudySubject, study_cohort, trained_micro
from numpy.typing import NDArray
from provenance import git_state, machine

from sleepmami.config import (
    EngineConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    OptimizerConfig,
    WorkersConfig,
)
from sleepmami.config_edit import replace_at, to_dict
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.psg import Stage
from sleepmami.tables.demographics import Demographics, DemographicStatistics
from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.training.batches import macro_batch
from sleepmami.training.engine import build_engine
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.micro_statistics import micro_statistics
from sleepmami.training.probes import auroc, r_squared
from sleepmami.training.stratified import stratified_batches

Floats = NDArray[np.float64]

STUDY = MacroPretrainConfig(  # a quarter as wide as Table 8, half as deep
    model=MacroEncoderConfig(dim=128, forward_depth=1, backward_depth=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_fraction=0.05),
    loop=LoopConfig(num_passes=40, log_every=1, checkpoint_every=50),
    engine=EngineConfig(kind="plain", zero_stage=0, micro_batch=40),
    workers=WorkersConfig(num_workers=1),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "shuffled": {},  # everybody has the age, sex and BMI of somebody else: the control
    "age": {"dgcl.factors": ["age"]},
    "sex": {"dgcl.factors": ["sex"]},
    "bmi": {"dgcl.factors": ["bmi"]},
    "age_sex": {"dgcl.factors": ["age", "sex"]},
    "include_self": {"dgcl.include_self": True},
    "raw": {"model.input_scale": "raw"},
    "sharp": {"dgcl.v": 0.1},
}
PENALTIES = np.logspace(-3, 5, 25)
BOOTSTRAPS = 2000


def main() -> None:
    """Run what is missing, write the JSON after each run, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the micro vectors")
    parser.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument(
        "--subjects", nargs=3, type=int, default=[200, 80, 80], metavar=("TRAIN", "FIT", "TEST")
    )
    parser.add_argument("--hours", type=float, default=7.5, help="length of a night")
    parser.add_argument("--cohort-seed", type=int, default=20261130)
    parser.add_argument("--micro-variant", default="view_place", help="of learning.py")
    parser.add_argument("--micro-steps", type=int, default=240)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        name: getattr(arguments, name)
        for name in ("passes", "subjects", "hours", "cohort_seed", "micro_variant", "micro_steps")
    }
    result = _opened(arguments.json, settings)
    num_train, num_fit, num_test = arguments.subjects
    everybody = study_cohort(
        arguments.cache,
        lambda: trained_micro(
            variant_config(arguments.micro_variant, 16), arguments.micro_steps, seed=0
        ),
        num_train + num_fit + num_test,
        num_train,
        arguments.hours,
        arguments.cohort_seed,
    )
    train, rest = everybody[:num_train], everybody[num_train:]
    fit, test = rest[:num_fit], rest[num_fit:]
    if "baselines" not in result:
        result["baselines"] = {
            name: probes(features(fit), features(test), fit, test)
            for name, features in (
                ("stage_shares", stage_shares),
                ("micro_mean", micro_means),
                ("micro_mean_and_deviation", micro_means_and_deviations),
            )
        }
        _write(arguments.json, result)
    for name, found in result["baselines"].items():
        print(f"{name:25s} {line(found)}", flush=True)
    for seed in arguments.seeds:
        for variant in ("random", *arguments.variants):
            if any(r["variant"] == variant and r["seed"] == seed for r in result["runs"]):
                continue
            passes = 0 if variant == "random" else arguments.passes
            run = one_run(variant, seed, passes, train, fit, test)
            result["runs"].append(run)
            _write(arguments.json, result)
            print(f"{variant:18s} seed {seed} {run['cpu_s']:5.0f} CPU s {line(run)}", flush=True)


def line(found: dict[str, Any]) -> str:
    """The scores that a reader looks for."""
    names = ("age_r2", "sex_auroc", "bmi_r2", "log_ahi_r2", "site_auroc")
    return "  ".join(f"{name} {found['probes'][name]['value']:.3f}" for name in names)


def one_run(
    variant: str,
    seed: int,
    passes: int,
    train: list[StudySubject],
    fit: list[StudySubject],
    test: list[StudySubject],
) -> dict[str, Any]:
    """Train a variant and probe its night vectors; a seed gives all the same first weights."""
    began_cpu, began = time.process_time(), time.perf_counter()
    config = replace_at(STUDY, VARIANTS.get(variant, {}))
    torch.manual_seed(seed)
    model = MacroEncoder(config.model, train[0].micro_LMD.shape[2])
    curve = []
    if config.model.input_scale == "standardized":
        nights = (_row(study, study.subject) for study in train)
        model.standardize(*map(torch.from_numpy, micro_statistics(nights)))
    if passes:
        curve = train_macro(model, config, train, seed, passes, shuffled=variant == "shuffled")
    trained_cpu, trained = time.process_time(), time.perf_counter()
    model.eval()
    (fit_KF, fit_mean_KF), (test_KF, test_mean_KF) = (night_vectors(model, p) for p in (fit, test))
    train_KF, _ = night_vectors(model, train)
    return {
        "variant": variant,
        "seed": seed,
        "steps": len(curve),
        "cpu_s": trained_cpu - began_cpu,
        "wall_s": trained - began,
        **probes(fit_KF, test_KF, fit, test),
        "mean_of_states": probes(fit_mean_KF, test_mean_KF, fit, test)["probes"],
        "train_age_r2": ridge_r2(fit_KF, ages(fit), train_KF, ages(train)),
        "mean_cosine": mean_cosine(test_KF),
        "curve": curve,
    }


def train_macro(
    model: MacroEncoder,
    config: MacroPretrainConfig,
    train: list[StudySubject],
    seed: int,
    passes: int,
    *,
    shuffled: bool,
) -> list[dict[str, float]]:
    subjects = [study.subject for study in train]
    if shuffled:
        order = np.random.default_rng([seed, 1]).permutation(len(subjects))
        others = [subjects[index] for index in order]
        subjects = [
            replace(own, age_years=other.age_years, sex=other.sex, bmi=other.bmi)
            for own, other in zip(subjects, others, strict=True)
        ]
    statistics = DemographicStatistics.fit(
        Demographics(age_years=s.age_years, bmi=s.bmi) for s in subjects
    )
    rows = [_row(study, subject) for study, subject in zip(train, subjects, strict=True)]
    length, age, bmi, female = (
        np.array(values)
        for values in zip(
            *((len(r.micro), r.age_years, r.bmi, r.sex == "female") for r in rows), strict=True
        )
    )
    size = config.batch_subjects
    plan = [stratified_batches(length, age, bmi, female, size, seed, p) for p in range(passes)]
    batches = [batch for one_pass in plan for batch in one_pass]
    objective = MacroObjective(model, config)
    engine = build_engine(objective, config.engine, config.optimizer, len(batches), 1)
    curve = []
    for chosen in batches:
        batch = macro_batch([rows[index] for index in chosen], statistics, config.max_epochs)
        metrics = engine.train_step([batch])
        curve.append({name: float(metrics[name]) for name in ("loss/total", "loss/excess")})
    return curve


def _row(study: StudySubject, person: Any) -> MicroNight:  # Any: a Subject, perhaps shuffled
    return MicroNight(
        recording_id=study.subject.subject_id,
        subject_id=study.subject.subject_id,
        cohort="study",
        split="train",
        source_hash=None,
        modality_valid=study.valid_LM,
        age_years=person.age_years,
        sex=person.sex,
        bmi=person.bmi,
        hypnogram=study.stage_L,
        model_id="study",
        micro=study.micro_LMD,
    )


# ------------------------------------------------------------------------------ features, [K, F]


@torch.inference_mode()
def night_vectors(model: MacroEncoder, subjects: list[StudySubject]) -> tuple[Floats, Floats]:
    """Of each subject the mean of the cycles' ends, what `night` was, and of all states."""
    nights, means = [], []
    for study in subjects:
        micro_BLMD = torch.from_numpy(study.micro_LMD.astype(np.float32))[None]
        valid_BLM = torch.from_numpy(study.valid_LM.copy())[None]
        length_B = torch.tensor([len(study.micro_LMD)])
        vectors = model.night_vectors(micro_BLMD, valid_BLM, length_B)
        nights.append(vectors.cycle_BCD[0].double().mean(0).numpy())
        means.append(vectors.macro_BLD[0].double().mean(0).numpy())
    return np.stack(nights), np.stack(means)


def micro_means(subjects: list[StudySubject]) -> Floats:
    """Mean of the valid epochs of each modality."""
    return np.stack([_moments(study)[0] for study in subjects])


def micro_means_and_deviations(subjects: list[StudySubject]) -> Floats:
    """The same beside the deviations."""
    return np.stack([np.concatenate(_moments(study)) for study in subjects])


def _moments(study: StudySubject) -> tuple[Floats, Floats]:
    micro_LMD = study.micro_LMD.astype(np.float64)
    count_M1 = np.maximum(study.valid_LM.sum(0), 1)[:, None]
    mean_MD = micro_LMD.sum(0) / count_M1
    squares_MD = ((micro_LMD - mean_MD) ** 2 * study.valid_LM[:, :, None]).sum(0)
    return mean_MD.ravel(), np.sqrt(squares_MD / count_M1).ravel()


def stage_shares(subjects: list[StudySubject]) -> Floats:
    """Share of each true stage in each third of the night: what the hypnogram alone says."""
    stages = [stage for stage in Stage if stage >= 0]
    rows = []
    for study in subjects:
        thirds = np.array_split(study.stage_L, 3)
        rows.append([float((third == stage).mean()) for third in thirds for stage in stages])
    return np.array(rows)


# ------------------------------------------------------------------------------------------ probes


def ages(subjects: list[StudySubject]) -> Floats:
    """Years."""
    return np.array([study.subject.age_years for study in subjects])


def probes(
    fit_KF: Floats, test_KF: Floats, fit: list[StudySubject], test: list[StudySubject]
) -> dict[str, Any]:
    """Ridge probes fitted on `fit`, scored on `test`, with 95 % intervals over its subjects."""
    values = {
        "age_r2": lambda s: s.subject.age_years,
        "bmi_r2": lambda s: s.subject.bmi,
        "log_ahi_r2": lambda s: np.log(s.subject.ahi_per_h),
        "sex_auroc": lambda s: s.subject.sex == "female",
        "site_auroc": lambda s: s.second_site,
    }
    found = {}
    for name, value in values.items():
        fit_K, test_K = (np.array([value(s) for s in part], dtype=float) for part in (fit, test))
        guess_K = ridge(fit_KF, fit_K, test_KF)
        score = r_squared if name.endswith("r2") else _auroc
        rng = np.random.default_rng(0)
        draws = (rng.integers(len(test_K), size=len(test_K)) for _ in range(BOOTSTRAPS))
        interval = np.nanpercentile([score(test_K[d], guess_K[d]) for d in draws], [2.5, 97.5])
        found[name] = {"value": score(test_K, guess_K), "interval": interval.tolist()}
        if name == "age_r2":
            found["age_mae_years"] = {"value": float(np.abs(guess_K - test_K).mean())}
    return {"probes": found}


def ridge(fit_KF: Floats, fit_K: Floats, test_KF: Floats) -> Floats:
    """Ridge regression on z-scored features, penalty by leaving one subject out."""
    mean_F, std_F = fit_KF.mean(0), fit_KF.std(0) + 1e-9
    x_KF, z_KF = (fit_KF - mean_F) / std_F, (test_KF - mean_F) / std_F
    target_K = fit_K - fit_K.mean()
    u_KR, s_R, vt_RF = np.linalg.svd(x_KF, full_matrices=False)
    projected_R = u_KR.T @ target_K
    errors = []
    for penalty in PENALTIES:
        shrink_R = s_R**2 / (s_R**2 + penalty)
        leverage_K = (u_KR**2 * shrink_R).sum(1) + 1 / len(x_KF)  # and of the mean
        residual_K = target_K - u_KR @ (shrink_R * projected_R)
        errors.append(float(((residual_K / (1 - leverage_K).clip(1e-9)) ** 2).mean()))
    best = PENALTIES[int(np.argmin(errors))]
    weight_F = vt_RF.T @ (s_R / (s_R**2 + best) * projected_R)
    guess: Floats = z_KF @ weight_F + fit_K.mean()
    return guess


def ridge_r2(fit_KF: Floats, fit_K: Floats, test_KF: Floats, test_K: Floats) -> float:
    """R2 on `test` of the ridge probe fitted on `fit`."""
    return r_squared(test_K, ridge(fit_KF, fit_K, test_KF))


def _auroc(label_K: Floats, score_K: Floats) -> float:
    label = label_K > 0.5
    return auroc(label, score_K) if 0 < label.sum() < len(label) else float("nan")


def mean_cosine(vector_KF: Floats) -> float:
    """Of all pairs of subjects; 1 is collapse."""
    unit_KF = vector_KF / np.linalg.norm(vector_KF, axis=1, keepdims=True)
    cosine_KK = unit_KF @ unit_KF.T
    count = len(unit_KF)
    return float((cosine_KK.sum() - count) / (count * (count - 1)))


# -------------------------------------------------------------------------------------------- file


def _opened(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    if not file.exists():
        return {
            "settings": settings,
            "config": to_dict(STUDY),
            "machine": machine(),
            "code": git_state("../sleepmami", "macro_learning.py", "macro_nights.py"),
            "runs": [],
        }
    result: dict[str, Any] = json.loads(file.read_text())
    for name, expected in (("settings", settings), ("config", to_dict(STUDY))):
        if result[name] != expected:
            raise SystemExit(f"{file}: found runs of {result[name]}, expected {expected}")
    return result


def _write(file: Path, result: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(file)


if __name__ == "__main__":
    main()
