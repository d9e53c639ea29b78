"""A cohort of made-up nights that know a little of age, sex and stage: what a sweep is tried on.

A person has a weak constant pattern of age and one of sex, under stronger noise that is constant in
a night and noise of each epoch; stages come in runs and have patterns of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleepmami import storage
from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import to_dict
from sleepmami.psg import MODALITIES, STORED_RATE_HZ, ChannelStatistics, Modality, Night
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import (
    micro_night_row,
    recording_row,
    recordings_table,
    rows_table,
    segments_table,
)
from sleepmami.tables.schemas import RECORDINGS, micro_nights_schema, provenance

NUM_STAGES = 5


def write_tune_cohort(
    corpus: str,
    run: str,
    *,
    num_train: int,
    num_validation: int,
    num_epochs: int,
    dim: int,
    model_id: str,
    seed: int = 0,
    night_noise: float = 0.5,
) -> None:
    """CORPUS/recordings.lance and RUN/micro_nights.lance.

    Args:
        corpus: folder.
        run: folder.
        num_train: people of the train split, one night each.
        num_validation: people of the validation split.
        num_epochs: of the shortest night; others are up to a third longer.
        dim: of one modality's vector.
        model_id: of the Micro-Encoder that is to have made them.
        seed: of everything.
        night_noise: standard deviation of what is constant in a night, of a signal of 1 or less.
    """
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=(2 + NUM_STAGES, len(MODALITIES), dim))
    recordings, nights = [], []
    for number in range(num_train + num_validation):
        split = "train" if number < num_train else "validation"
        person = Demographics(
            subject_id=f"subject{number}",
            age_years=float(rng.uniform(20, 90)),
            sex="female" if rng.random() < 0.5 else "male",
            bmi=float(rng.normal(27, 5)),
        )
        length = int(num_epochs + rng.integers(num_epochs // 3 + 1))
        stages = _stages(length, rng)
        micro = _vectors(person, stages, pattern, night_noise, rng)
        identity = {"recording_id": f"night{number}", "cohort": "made-up", "split": split}
        night = _short_night(identity["recording_id"])
        recordings.append(
            recording_row(
                night,
                **identity,
                subject_id=f"subject{number}",
                source_hash="",
                segments=segments_table(night),
                demographics=person,
            )
        )
        nights.append(
            micro_night_row(
                **identity,
                subject_id=f"subject{number}",
                source_hash=None,
                micro=micro,
                modality_valid=np.ones(micro.shape[:2], np.bool_),
                demographics=person,
                hypnogram=stages,
                model_id=model_id,
                weights_sha256="00" * 32,  # nothing made them: they are planted
            )
        )
    uri = storage.join(corpus, "recordings.lance")
    fragments = lance_io.write_fragments(recordings_table(recordings), uri, RECORDINGS)
    metadata = provenance({"preprocess": to_dict(PreprocessConfig())})
    lance_io.commit(uri, fragments, RECORDINGS, metadata=metadata)
    uri, schema = storage.join(run, "micro_nights.lance"), micro_nights_schema()
    fragments = lance_io.write_fragments(rows_table(nights, schema), uri, schema)
    lance_io.commit(uri, fragments, schema, metadata=provenance({}))


def _stages(length: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Stages that last 12 epochs or so."""
    changes = np.cumsum(rng.random(length) < 1 / 12)
    return rng.integers(0, NUM_STAGES, changes[-1] + 1)[changes].astype(np.int8)


def _vectors(
    person: Demographics,
    stages: NDArray[np.int8],
    pattern: NDArray[np.float64],
    night_noise: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    assert person.age_years is not None
    age = (person.age_years - 55) / 20
    constant = 0.15 * age * pattern[0] + 0.15 * (person.sex == "female") * pattern[1]
    constant = constant + rng.normal(0, night_noise, pattern[0].shape)
    noise = rng.normal(0, 1.0, (len(stages), *pattern.shape[1:]))
    return constant + 0.5 * pattern[2 + stages] + noise


def _short_night(recording_id: str) -> Night:
    """One minute of one modality: what recordings.lance says of it is not read here."""
    modality = Modality.SPO2
    return Night(
        recording_id=recording_id,
        num_epochs=2,
        signals={modality: np.zeros((1, 60 * STORED_RATE_HZ[modality]), np.int16)},
        usable={modality: np.ones(2, np.bool_)},
        statistics={modality: ChannelStatistics(mean=0.0, std=1.0, unit="%")},
        channels=(),
        hypnogram=None,
    )
