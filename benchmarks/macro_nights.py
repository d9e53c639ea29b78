"""Whole simulated nights as micro embeddings, kept in a folder: what the Macro study trains on.

Each subject's night goes through EDF, scoring and the ingest as a library, then through a small
Micro-Encoder. Two sites record: the EEG and EOG of the second were low-passed at 20 Hz before they
were stored, as some amplifiers do. Among the subjects to train on the site goes with age (80 % of
the older half are at the second, 20 % of the younger), so that it is there to be learnt as a
shortcut; among the others it is a coin.

Shapes: L epochs of a night, M modalities, D micro width, F features, K nights.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from learning_data import simulated_nights, study_night, training_batch, windows
from learning_evaluation import MODALITY_S
from numpy.typing import NDArray

from sleepmami.config import MicroPretrainConfig, PreprocessConfig, SimulateConfig
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import EPOCH_S, SEGMENT_EPOCHS
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.cohort import write_cohort_night
from sleepmami.simulation.night_files import edf_path, xml_path
from sleepmami.simulation.subjects import Subject, simulate_subject
from sleepmami.training.engine import build_engine
from sleepmami.training.objectives import MicroObjective

MIDDLE_AGE = 54.0
SECOND_SITE_BAND_HZ = (0.3, 20.0)
MICRO_SUBJECTS, MICRO_HOURS, MICRO_COHORT_SEED = 20, 3.0, 7  # the Micro-Encoder's own cohort
EMBED_BATCH = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySubject:
    """Who was recorded where, and the micro vectors of the night.

    Attributes:
        micro_LMD: float16, zeros where not valid.
        valid_LM: bool.
        stage_L: Stage codes.
    """

    subject: Subject
    second_site: bool
    micro_LMD: NDArray[np.float16]
    valid_LM: NDArray[np.bool_]
    stage_L: NDArray[np.int8]


def second_site(subject: Subject, num_train: int, seed: int) -> bool:
    """Where a subject is recorded; the first `num_train` subjects are those to train on."""
    luck = np.random.default_rng([seed, subject.index, 99]).random()
    if subject.index >= num_train:
        return bool(luck < 0.5)
    return bool(luck < (0.8 if subject.age_years > MIDDLE_AGE else 0.2))


def trained_micro(config: MicroPretrainConfig, steps: int, seed: int) -> MicroEncoder:
    """A Micro-Encoder after `steps` steps on a cohort of its own; 0 leaves it as it began."""
    torch.manual_seed(seed)
    model = MicroEncoder(config.model)
    if steps:
        nights = simulated_nights(0, MICRO_SUBJECTS, MICRO_HOURS, MICRO_COHORT_SEED)
        objective = MicroObjective(model, config, seed)
        engine = build_engine(objective, config.engine, config.optimizer, steps, 1)
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            engine.train_step([training_batch(nights, config.batch_size, 60, rng)])
    return model.eval().requires_grad_(False)


def study_cohort(
    folder: Path,
    encoder: Callable[[], MicroEncoder],
    num_subjects: int,
    num_train: int,
    hours: float,
    seed: int,
) -> list[StudySubject]:
    """Everyone's night; those that `folder` holds already are read from there, of one encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = functools.cache(encoder)
    subjects = []
    for index in range(num_subjects):
        subject = simulate_subject(index, seed)
        elsewhere = second_site(subject, num_train, seed)
        file = folder / f"{subject.subject_id}.npz"
        if not file.exists():
            _embed_night(file, encoder(), subject, elsewhere, hours, seed)
        with np.load(file, allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in ("micro_LMD", "valid_LM", "stage_L")}
        subjects.append(StudySubject(subject=subject, second_site=elsewhere, **parts))
    return subjects


def _embed_night(
    file: Path, model: MicroEncoder, subject: Subject, elsewhere: bool, hours: float, seed: int
) -> None:
    simulate = SimulateConfig(num_subjects=subject.index + 1, duration_h=hours, seed=seed)
    preprocess = PreprocessConfig()
    if elsewhere:
        preprocess = replace(preprocess, eeg_eog_band_hz=SECOND_SITE_BAND_HZ)
    with tempfile.TemporaryDirectory(prefix="smm-macro-") as folder:
        write_cohort_night(folder, simulate, subject)
        night = load_night(
            edf_path(Path(folder, "edf"), subject),
            preprocess,
            recording_id=subject.subject_id,
            annotation=xml_path(Path(folder, "annotations"), subject),
        )
    study = study_night(night)
    valid_LM = study.usable_SL.T
    starts_s = np.arange(0, study.num_epochs, SEGMENT_EPOCHS) * EPOCH_S
    parts = []
    with torch.inference_mode():
        for first in range(0, len(starts_s), EMBED_BATCH):
            batch = windows(study, starts_s[first : first + EMBED_BATCH])
            epoch_SBED = model.embed(batch.signal_SBT, MODALITY_S, batch.valid_SB)
            parts.append(epoch_SBED.permute(1, 2, 0, 3).flatten(0, 1))
    micro_LMD = torch.cat(parts).numpy().astype(np.float16)
    micro_LMD[~valid_LM] = 0
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, micro_LMD=micro_LMD, valid_LM=valid_LM, stage_L=study.stage_L)
    partial.replace(file)
