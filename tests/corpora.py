"""Small tables for the training tests, written as the pipelines write them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sleepmami import storage
from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import to_dict
from sleepmami.psg import (
    MODALITIES,
    SEGMENT_S,
    STORED_RATE_HZ,
    STORED_SCALE,
    ChannelStatistics,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import (
    micro_night_row,
    recording_row,
    recordings_table,
    rows_table,
    segments_table,
)
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS, micro_nights_schema, provenance


def sine_night(
    recording_id: str, num_epochs: int, seed: int, modalities: Sequence[Modality] = MODALITIES
) -> Night:
    """Every modality is a slow sine of its own frequency under noise: easy to learn."""
    generator = np.random.default_rng(seed)
    segments = len(segment_start_epochs(num_epochs))
    signals = {}
    for order, modality in enumerate(modalities):
        rate_hz = STORED_RATE_HZ[modality]
        time_s = np.arange(SEGMENT_S * rate_hz) / rate_hz
        wave = np.sin(2 * np.pi * (0.1 + 0.02 * order) * time_s)
        noise = generator.normal(0, 0.2, (segments, len(time_s)))
        signals[modality] = (STORED_SCALE * (wave + noise)).astype(np.int16)
    return Night(
        recording_id=recording_id,
        num_epochs=num_epochs,
        signals=signals,
        usable={m: np.ones(num_epochs, np.bool_) for m in modalities},
        statistics={m: ChannelStatistics(mean=0.0, std=1.0, unit="uV") for m in modalities},
        channels=(),
        hypnogram=None,
    )


def write_corpus(
    folder: Path,
    *,
    num_train: int,
    num_test: int,
    num_epochs: int,
    num_validation: int = 0,
    cohorts: Sequence[str] = ("made-up",),
) -> str:
    """Recordings and segments of sine nights, of the train, the validation and the test split.

    The first night has no EOG and no SPO2. Nights belong to the cohorts in turn.
    """
    corpus = str(folder)
    few = [m for m in MODALITIES if m not in (Modality.EOG, Modality.SPO2)]
    nights = [
        sine_night(f"night{n}", num_epochs, n, MODALITIES if n else few)
        for n in range(num_train + num_validation + num_test)
    ]
    splits = ["train"] * num_train + ["validation"] * num_validation + ["test"] * num_test
    rows = [
        recording_row(
            night,
            recording_id=night.recording_id,
            subject_id=f"subject{number}",
            cohort=cohorts[number % len(cohorts)],
            split=splits[number],
            source_hash="",
            segments=segments_table(night),
            demographics=None,
        )
        for number, night in enumerate(nights)
    ]
    metadata = provenance({"preprocess": to_dict(PreprocessConfig())})
    recordings = storage.join(corpus, "recordings.lance")
    fragments = lance_io.write_fragments(recordings_table(rows), recordings, RECORDINGS)
    lance_io.commit(recordings, fragments, RECORDINGS, metadata=metadata)
    uri = storage.join(corpus, "segments.lance")
    for night in nights:
        fragments = lance_io.write_fragments(segments_table(night), uri, SEGMENTS)
        lance_io.commit(uri, fragments, SEGMENTS, metadata=metadata)
    return corpus


def write_micro_nights(
    run: Path, *, num_nights: int, dim: int, model_id: str, without_bmi: Sequence[int] = ()
) -> str:
    """Nights of random vectors, of lengths 13, 14, ... epochs, for the recordings of a corpus."""
    generator = np.random.default_rng(5)
    rows = []
    for number in range(num_nights):
        length = 13 + number
        rows.append(
            micro_night_row(
                recording_id=f"night{number}",
                subject_id=f"subject{number}",
                cohort="made-up",
                split="train",
                source_hash=None,
                micro=generator.normal(size=(length, len(MODALITIES), dim)),
                modality_valid=np.ones((length, len(MODALITIES)), np.bool_),
                demographics=Demographics(
                    subject_id=f"subject{number}",
                    age_years=30.0 + 3 * number,
                    sex="female" if number % 2 else "male",
                    bmi=None if number in without_bmi else 20.0 + number,
                ),
                hypnogram=None,
                model_id=model_id,
                weights_sha256="ab" * 32,
            )
        )
    uri, schema = storage.join(str(run), "micro_nights.lance"), micro_nights_schema()
    fragments = lance_io.write_fragments(rows_table(rows, schema), uri, schema)
    lance_io.commit(uri, fragments, schema, metadata=provenance({}))
    return uri
