"""The corpus of table_4.py: simulated people in three splits, and what encoders say of each epoch.

Everybody's night goes through EDF, scoring and the ingest as a library. A small Micro-Encoder is
pretrained on nights of split train alone; then each night is embedded by it, by the same encoder
with random weights, and by band powers, and kept as one file: a stopped run goes on.

Shapes: L epochs of a night, M modalities, D micro width, F band powers, E events.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from learning import variant_config
from learning_data import StudyNight, band_powers, study_night, training_batch, windows
from learning_evaluation import MODALITY_S
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig, SimulateConfig
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import (
    EPOCH_S,
    MODALITIES,
    SEGMENT_EPOCHS,
    EventKind,
    Night,
    ScoredEvent,
    Stage,
)
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.cohort import write_cohort_night
from sleepmami.simulation.effects import effects
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.night_files import edf_path, xml_path
from sleepmami.simulation.subjects import Subject, simulate_subject
from sleepmami.training.engine import build_engine
from sleepmami.training.objectives import MicroObjective

EMBED_BATCH = 60
MICRO_VARIANT, MICRO_BATCH = "view_place", 16  # of learning.py
RESPIRATORY = (
    EventKind.OBSTRUCTIVE_APNEA,
    EventKind.CENTRAL_APNEA,
    EventKind.MIXED_APNEA,
    EventKind.APNEA,
    EventKind.HYPOPNEA,
)


def split_of(index: int) -> Literal["train", "validation", "test"]:
    """Five ninths, a ninth and a third; odd, so that both sexes, who alternate, are in each."""
    place = index % 9
    if place % 3 == 2:
        return "test"
    return "validation" if place == 4 else "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSettings:
    """What the files of a corpus depend on; a folder holds files of one of these."""

    seed: int = 20261130
    hours: float = 3.0
    effects: Literal["plain", "published"] = "published"
    spectra: Literal["smooth", "measured"] = "measured"
    micro_subjects: int = 60  # the first of split train, whose signals the Micro-Encoder hears
    micro_steps: int = 240

    def simulate(self, num_subjects: int) -> SimulateConfig:
        """The settings of `sleepmami simulate` that give these nights."""
        return SimulateConfig(
            num_subjects=num_subjects,
            duration_h=self.hours,
            seed=self.seed,
            effects=self.effects,
            spectra=self.spectra,
        )

    def subject(self, index: int) -> Subject:
        """Who sleeps in night `index`."""
        return simulate_subject(index, self.seed, effects(self.effects))


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusNight:
    """One person's night as three encoders see it.

    Attributes:
        micro_LMD: float16 vectors of the pretrained encoder, zeros where not valid.
        random_LMD: of the same encoder before its first step.
        bands_LF: float32 band powers.
        valid_LM: bool.
        stage_L: Stage codes.
        events: as scored.
    """

    subject: Subject
    micro_LMD: NDArray[np.float16]
    random_LMD: NDArray[np.float16]
    bands_LF: NDArray[np.float32]
    valid_LM: NDArray[np.bool_]
    stage_L: NDArray[np.int8]
    events: tuple[ScoredEvent, ...]

    @property
    def ahi(self) -> float:
        """Apneas and hypopneas an hour of sleep, as this night's scoring counts them."""
        asleep_h = np.count_nonzero(self.stage_L > Stage.WAKE) * EPOCH_S / 3600
        return sum(event.kind in RESPIRATORY for event in self.events) / max(asleep_h, 1 / 120)


def corpus(folder: Path, settings: CorpusSettings, num_subjects: int) -> list[CorpusNight]:
    """Everybody's night; what `folder` lacks is made first."""
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder / "settings.json", asdict(settings))
    encoders = functools.cache(lambda: _encoders(folder / "micro.pt", settings))
    nights = []
    for index in range(num_subjects):
        subject = settings.subject(index)
        file = folder / f"{subject.subject_id}.npz"
        if not file.exists():
            began = time.process_time()
            _embed_night(file, *encoders(), _recorded(subject, settings))
            print(f"{file.name} {time.process_time() - began:.1f} CPU s", flush=True)
        nights.append(_read(file, subject))
    return nights


def planned(settings: CorpusSettings, num_subjects: int) -> list[CorpusNight]:
    """Everybody's night as planned, without signals or vectors of them: milliseconds each."""
    nights = []
    for index in range(num_subjects):
        subject = settings.subject(index)
        plan = plan_night(subject, settings.hours, settings.seed)
        length = len(plan.hypnogram)
        nothing = np.zeros((length, len(MODALITIES), 0), np.float16)
        events = tuple(
            ScoredEvent(
                start_s=event.start_s,
                duration_s=event.duration_s,
                kind=EventKind(event.kind.value),
            )
            for event in plan.events
        )
        nights.append(
            CorpusNight(
                subject=subject,
                micro_LMD=nothing,
                random_LMD=nothing,
                bands_LF=np.zeros((length, 0), np.float32),
                valid_LM=np.ones((length, len(MODALITIES)), np.bool_),
                stage_L=plan.hypnogram,
                events=events,
            )
        )
    return nights


def _claim(file: Path, settings: dict[str, object]) -> None:
    if not file.exists():
        file.write_text(json.dumps(settings) + "\n")
    found = json.loads(file.read_text())
    if found != settings:
        raise SystemExit(f"{file}: found nights of {found}, expected {settings}")


def _recorded(subject: Subject, settings: CorpusSettings) -> Night:
    with tempfile.TemporaryDirectory(prefix="smm-table-4-") as folder:
        write_cohort_night(folder, settings.simulate(subject.index + 1), subject)
        return load_night(
            edf_path(Path(folder, "edf"), subject),
            PreprocessConfig(),
            recording_id=subject.subject_id,
            annotation=xml_path(Path(folder, "annotations"), subject),
        )


def _encoders(file: Path, settings: CorpusSettings) -> tuple[MicroEncoder, MicroEncoder]:
    """The Micro-Encoder after its steps, and as it began."""
    config = variant_config(MICRO_VARIANT, MICRO_BATCH)
    torch.manual_seed(0)
    untrained = MicroEncoder(config.model)
    model = MicroEncoder(config.model)
    model.load_state_dict(untrained.state_dict())
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
    else:
        began = time.process_time()
        train = (index for index in itertools.count() if split_of(index) == "train")
        nights = [
            study_night(_recorded(settings.subject(index), settings))
            for index in itertools.islice(train, settings.micro_subjects)
        ]
        print(f"nights of the Micro-Encoder: {time.process_time() - began:.0f} CPU s", flush=True)
        began = time.process_time()
        objective = MicroObjective(model, config, 0)
        engine = build_engine(objective, config.engine, config.optimizer, settings.micro_steps, 1)
        rng = np.random.default_rng(0)
        for step in range(settings.micro_steps):
            metrics = engine.train_step([training_batch(nights, MICRO_BATCH, 60, rng)])
            if step % 40 == 39:
                shown = {name: round(float(v), 3) for name, v in metrics.items() if "_" not in name}
                print(step + 1, f"{time.process_time() - began:.0f} CPU s", shown, flush=True)
        torch.save(model.state_dict(), file)
    return model.eval().requires_grad_(False), untrained.eval().requires_grad_(False)


@torch.inference_mode()
def _embed_night(file: Path, trained: MicroEncoder, untrained: MicroEncoder, night: Night) -> None:
    study = study_night(night)
    vectors: dict[str, NDArray[np.float16]] = {}
    for name, model in (("micro_LMD", trained), ("random_LMD", untrained)):
        vectors[name] = _vectors(model, study)
    assert night.events is not None
    partial = file.with_suffix(".partial.npz")
    np.savez(
        partial,
        **vectors,
        bands_LF=band_powers(study, np.arange(study.num_epochs)),
        valid_LM=study.usable_SL.T,
        stage_L=study.stage_L,
        event_kind_E=np.array([event.kind.value for event in night.events], dtype="U32"),
        event_s_E2=np.array([[e.start_s, e.duration_s] for e in night.events]).reshape(-1, 2),
    )
    partial.replace(file)


def _vectors(model: MicroEncoder, study: StudyNight) -> NDArray[np.float16]:
    starts_s = np.arange(0, study.num_epochs, SEGMENT_EPOCHS) * EPOCH_S
    parts = []
    for first in range(0, len(starts_s), EMBED_BATCH):
        batch = windows(study, starts_s[first : first + EMBED_BATCH])
        epoch_SBED = model.embed(batch.signal_SBT, MODALITY_S, batch.valid_SB)
        parts.append(epoch_SBED.permute(1, 2, 0, 3).flatten(0, 1))
    vector_LMD: NDArray[np.float16] = torch.cat(parts).numpy().astype(np.float16)
    vector_LMD[~study.usable_SL.T] = 0
    return vector_LMD


def _read(file: Path, subject: Subject) -> CorpusNight:
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    pairs = zip(arrays.pop("event_kind_E"), arrays.pop("event_s_E2"), strict=True)
    events = tuple(
        ScoredEvent(start_s=float(start_s), duration_s=float(duration_s), kind=EventKind(str(kind)))
        for kind, (start_s, duration_s) in pairs
    )
    return CorpusNight(subject=subject, events=events, **arrays)
