"""The order of Table 4 on one simulated corpus: band powers, random weights, Micro, Macro.

Everything is probed by the project's linear probes, fitted on split train and validation and tested
on split test (table_4_probes.py): staging and apnea of each epoch, age, sex, AHI and BMI of each
person. Rows that the JSON holds are skipped. docs/benchmark_simulated.md says what came of it.

Shapes: B nights, L epochs of a night, M modalities, D micro width, F features.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from macro_learning import STUDY, mean_cosine, train_macro
from macro_nights import StudySubject
from numpy.typing import NDArray
from provenance import git_state, machine
from table_4_corpus import RESPIRATORY, CorpusNight, CorpusSettings, corpus, planned, split_of
from table_4_probes import EPOCH_TASKS, FIT_ON, PROBE, Vectors, probed

from sleepmami.config import MacroPretrainConfig, ProbeConfig
from sleepmami.config_edit import from_dict, replace_at, to_dict
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.psg import EPOCH_S, EventKind
from sleepmami.signals.events import event_mask
from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.training.micro_statistics import micro_statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroVariant:
    """A training of the Macro-Encoder.

    Attributes:
        changes: of settings.
        steps: 0 leaves it as it begins.
        batch: nights.
        reads: what stands for epochs: micro vectors, or the truth about them.
        shuffled: everybody has the age, sex and BMI of somebody else.
    """

    changes: dict[str, Any]
    steps: int = 120
    batch: int = 40
    reads: Literal["micro", "truth"] = "micro"
    shuffled: bool = False


MEANS = {"dgcl.reads": "running_mean"}
VARIANTS = {
    "untrained": MacroVariant(changes={}, steps=0),
    "default": MacroVariant(changes={}),
    "short": MacroVariant(changes={}, steps=15),
    "running_means": MacroVariant(changes=MEANS),
    "short_running_means": MacroVariant(changes=MEANS, steps=15),
    "shuffled": MacroVariant(changes=MEANS, shuffled=True),
    "batch_100": MacroVariant(changes={}, steps=48, batch=100),  # as many nights in all
    "batch_100_running_means": MacroVariant(changes=MEANS, steps=48, batch=100),
    "age_sex_running_means": MacroVariant(changes=MEANS | {"dgcl.factors": ["age", "sex"]}),
    "slow": MacroVariant(changes={"optimizer.learning_rate": 2e-4}),
    "short_shuffled": MacroVariant(changes=MEANS, steps=15, shuffled=True),
    "truth_untrained": MacroVariant(changes={}, steps=0, reads="truth"),
    "truth": MacroVariant(changes={}, reads="truth"),
    "truth_short_running_means": MacroVariant(changes=MEANS, steps=15, reads="truth"),
    "truth_running_means": MacroVariant(changes=MEANS, reads="truth"),
    "truth_shuffled": MacroVariant(changes=MEANS, reads="truth", shuffled=True),
    "long": MacroVariant(changes={}, steps=360),
    "long_running_means": MacroVariant(changes=MEANS, steps=360),
}


# ------------------------------------------------------------------------------------------- rows


def band_vectors(night: CorpusNight) -> NDArray[np.float32]:
    """Log powers in bands and the like, of each modality."""
    return night.bands_LF


def micro_vectors(night: CorpusNight) -> NDArray[np.float32]:
    """Six modalities side by side."""
    return night.micro_LMD.reshape(len(night.micro_LMD), -1).astype(np.float32)


def random_vectors(night: CorpusNight) -> NDArray[np.float32]:
    """The same of random weights."""
    return night.random_LMD.reshape(len(night.random_LMD), -1).astype(np.float32)


TRUE_FEATURES = 12  # two to a modality, as the Macro-Encoder reads six


def true_vectors(night: CorpusNight) -> NDArray[np.float32]:
    """What a scorer knows of each epoch, without any signal: all that macro-structure is made of.

    Five stages, and the share of the epoch within apneas or hypopneas, desaturations and arousals;
    the rest is zeros.
    """
    length = len(night.stage_L)
    true_LF = np.zeros((length, TRUE_FEATURES), np.float32)
    scored_L = night.stage_L >= 0
    true_LF[np.flatnonzero(scored_L), night.stage_L[scored_L]] = 1
    kinds = (RESPIRATORY, (EventKind.DESATURATION,), (EventKind.AROUSAL,))
    for number, kind in enumerate(kinds, start=5):
        second_T = event_mask(night.events, kind, length * EPOCH_S)
        true_LF[:, number] = second_T.reshape(length, EPOCH_S).mean(1)
    return true_LF


# ------------------------------------------------------------------------------------------- Macro


def macro_row(
    variant: MacroVariant, seed: int, nights: Sequence[CorpusNight], vectors: Vectors
) -> dict[str, Any]:
    """Train a Macro-Encoder on split train and probe its vectors of epochs and of the night.

    Args:
        variant: what is trained.
        seed: of the first weights and the batches.
        nights: everybody's.
        vectors: what the Macro-Encoder reads, six modalities side by side.
    """
    began = time.process_time()
    config = replace_at(
        STUDY,
        {"batch_subjects": variant.batch, "engine.micro_batch": variant.batch} | variant.changes,
    )
    train = [study(n, vectors) for n in nights if split_of(n.subject.index) == "train"]
    torch.manual_seed(seed)
    model = MacroEncoder(config.model, train[0].micro_LMD.shape[2])
    rows = (micro_night(one) for one in train)
    model.standardize(*map(torch.from_numpy, micro_statistics(rows)))
    curve = []
    if variant.steps:
        passes = -(-variant.steps // -(-len(train) // variant.batch))
        curve = train_macro(model, config, train, seed, passes, shuffled=variant.shuffled)
    model.eval()
    trained_s = time.process_time() - began
    states = {
        night.subject.index: macro_vectors(model, config, study(night, vectors)) for night in nights
    }
    found = probed(nights, lambda night: states[night.subject.index])
    test = [index for index in states if split_of(index) == "test"]
    means = np.stack([states[index].mean(0, dtype=np.float64) for index in test])
    return {
        "variant": asdict(variant),
        "seed": seed,
        "steps": len(curve),
        "train_cpu_s": trained_s,
        "first_excess": curve[0]["loss/excess"] if curve else None,
        "last_excess": float(np.mean([c["loss/excess"] for c in curve[-5:]])) if curve else None,
        "mean_cosine": mean_cosine(means),
        **found,
    }


@torch.inference_mode()
def macro_vectors(
    model: MacroEncoder, config: MacroPretrainConfig, night: StudySubject
) -> NDArray[np.float32]:
    """States of all epochs [L, 2 x dim]; their mean over valid epochs is the night vector."""
    micro_BLMD = torch.from_numpy(night.micro_LMD.astype(np.float32))[None]
    length_B = torch.tensor([len(night.micro_LMD)])
    macro_BLD, _ = model.embed(micro_BLMD, torch.from_numpy(night.valid_LM.copy())[None], length_B)
    states: NDArray[np.float32] = macro_BLD[0].numpy()
    return states


def study(night: CorpusNight, vectors: Vectors) -> StudySubject:
    """The night as macro_learning.py trains on it."""
    length, num_modalities = night.valid_LM.shape
    return StudySubject(
        subject=night.subject,
        second_site=False,
        micro_LMD=vectors(night).reshape(length, num_modalities, -1).astype(np.float16),
        valid_LM=night.valid_LM,
        stage_L=night.stage_L,
    )


def micro_night(one: StudySubject) -> MicroNight:
    """The row of micro_nights.lance that it would be."""
    person = one.subject
    return MicroNight(
        recording_id=person.subject_id,
        subject_id=person.subject_id,
        cohort="table_4",
        split="train",
        source_hash=None,
        modality_valid=one.valid_LM,
        age_years=person.age_years,
        sex=person.sex,
        bmi=person.bmi,
        hypnogram=one.stage_L,
        model_id="table_4",
        micro=one.micro_LMD,
    )


# -------------------------------------------------------------------------------------------- main


def main() -> None:
    """Make the corpus, then the rows that the JSON lacks, a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder of the corpus")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--num-subjects", type=int, default=360)
    parser.add_argument("--micro-steps", type=int, default=CorpusSettings().micro_steps)
    parser.add_argument("--variants", nargs="*", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--effects", choices=("plain", "published"), default="published")
    parser.add_argument("--spectra", choices=("smooth", "measured"), default="measured")
    parser.add_argument(
        "--no-signals", action="store_true", help="planned nights and the truth of them alone"
    )
    parser.add_argument("--corpus-only", action="store_true", help="embed the nights, then stop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = CorpusSettings(
        effects=arguments.effects, spectra=arguments.spectra, micro_steps=arguments.micro_steps
    )
    if arguments.no_signals:
        nights = planned(settings, arguments.num_subjects)
    else:
        nights = corpus(arguments.cache, settings, arguments.num_subjects)
    if arguments.corpus_only:
        return
    result = opened(arguments.json, settings, arguments.num_subjects)
    rows = result["rows"]
    encoders = {
        "bands": band_vectors,
        "random": random_vectors,
        "micro": micro_vectors,
        "truth": true_vectors,
    }
    encoders = {"truth": encoders["truth"]} if arguments.no_signals else encoders
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda vectors=vectors: probed(nights, vectors) for name, vectors in encoders.items()
    }
    for seed in arguments.seeds:
        for name in arguments.variants:
            if VARIANTS[name].reads not in encoders:
                continue
            jobs[f"macro {name} {seed}"] = lambda name=name, seed=seed: macro_row(
                VARIANTS[name], seed, nights, encoders[VARIANTS[name].reads]
            )
    for name, job in jobs.items():
        if name not in rows:
            began = time.process_time()
            rows[name] = job()
            rows[name]["cpu_s"] = time.process_time() - began
            write(arguments.json, result)
        print(line(name, rows[name]), flush=True)


def opened(file: Path, settings: CorpusSettings, num_subjects: int) -> dict[str, Any]:
    """What the file holds, of the same corpus; a new result where there is none."""
    known = {
        "corpus": asdict(settings),
        "num_subjects": num_subjects,
        "macro": to_dict(STUDY),
        "probe": to_dict(PROBE),
    }
    if not file.exists():
        splits = [split_of(index) for index in range(num_subjects)]
        return {
            "settings": known,
            "num_of_split": {name: splits.count(name) for name in sorted(set(splits))},
            "machine": machine(),
            "code": git_state("../sleepmami", "."),
            "rows": {},
        }
    result: dict[str, Any] = json.loads(file.read_text())
    there = result["settings"]
    for name, kind in (("macro", MacroPretrainConfig), ("probe", ProbeConfig)):
        there[name] = to_dict(from_dict(kind, there[name]))  # what was no setting yet: its default
    if result["settings"] != known:
        raise SystemExit(f"{file}: found rows of {result['settings']}, expected {known}")
    return result


def write(file: Path, result: dict[str, Any]) -> None:
    """All of it, or nothing."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result) + "\n")
    partial.replace(file)


def line(name: str, row: dict[str, Any]) -> str:
    """The figures a reader looks for."""
    tasks = row["tasks"]
    parts = [f"{task} F1 {tasks[task]['figures']['macro_f1']['value']:.3f}" for task in EPOCH_TASKS]
    for who in FIT_ON:
        parts.append(f"| {who}: sex {tasks[f'sex_{who}']['figures']['auroc']['value']:.3f}")
        parts += [
            f"{task} R2 {tasks[f'{task}_{who}']['figures']['r2']['value']:.3f}"
            for task in ("age", "ahi", "bmi")
        ]
    return f"{name:32s} {row['cpu_s']:4.0f} CPU s  " + "  ".join(parts)


if __name__ == "__main__":
    main()
