"""Embeddings whose truth is planted, as `embed cohort` writes them, and the corpus they are of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import MODALITIES
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.embedding_rows import night_embedding_row
from sleepmami.tables.rows import recordings_table
from sleepmami.tables.schemas import (
    RECORDINGS,
    night_embeddings_schema,
    provenance,
    rows_table,
    second_embeddings_schema,
)
from sleepmami.tables.second_vectors import SECOND_TABLE, second_row, seconds_from_tokens

MODEL = "sleepmami-planted"


@dataclass(kw_only=True)
class PlantedNight:
    """One night; what is not given is unknown, or noise."""

    recording_id: str
    subject_id: str
    split: str = "train"
    cohort: str = "planted"
    macro: NDArray[np.float64] = field(default_factory=lambda: np.zeros((4, 3)))
    night: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    tokens: NDArray[np.float64] | None = None  # [L, T, F], what vectors of seconds are made from
    epoch_valid: NDArray[np.bool_] | None = None
    hypnogram: NDArray[np.int8] | None = None
    age_years: float | None = None
    sex: Any = None
    bmi: float | None = None
    ahi: float | None = None
    outcomes: list[dict[str, Any]] | None = None
    events: list[dict[str, Any]] | None = None
    channels: list[dict[str, Any]] | None = None
    source_hash: str | None = None
    model_id: str = MODEL


def write_embeddings(folder: Path, nights: list[PlantedNight]) -> str:
    """OUT/night_embeddings.lance; returns OUT."""
    rows = []
    for night in nights:
        length = len(night.macro)
        valid = np.ones(length, np.bool_) if night.epoch_valid is None else night.epoch_valid
        rows.append(
            night_embedding_row(
                recording_id=night.recording_id,
                subject_id=night.subject_id,
                cohort=night.cohort,
                split=night.split,
                source_hash=night.source_hash,
                micro=np.repeat(night.macro, 2, axis=1),
                macro=night.macro,
                night=night.night,
                epoch_valid=valid,
                modality_valid=np.repeat(valid[:, None], len(MODALITIES), axis=1),
                demographics=Demographics(
                    subject_id=night.subject_id,
                    age_years=night.age_years,
                    sex=night.sex,
                    bmi=night.bmi,
                ),
                hypnogram=night.hypnogram,
                model_id=night.model_id,
                weights_sha256="ab" * 32,
                channels_used=[],
                modalities_missing=[],
            )
        )
    uri, schema = str(folder / "night_embeddings.lance"), night_embeddings_schema()
    fragments = lance_io.write_fragments(rows_table(rows, schema), uri, schema)
    lance_io.commit(uri, fragments, schema, metadata=provenance({}))
    _write_seconds(folder, nights)
    return str(folder)


def _write_seconds(folder: Path, nights: list[PlantedNight]) -> None:
    rows = [
        second_row(
            recording_id=night.recording_id,
            source_hash=None,
            tokens=night.tokens,
            model_id=night.model_id,
            weights_sha256="ab" * 32,
        )
        for night in nights
        if night.tokens is not None
    ]
    if rows:
        uri, schema = str(folder / SECOND_TABLE), second_embeddings_schema()
        fragments = lance_io.write_fragments(rows_table(rows, schema), uri, schema)
        lance_io.commit(uri, fragments, schema, metadata=provenance({}))


def write_corpus(folder: Path, nights: list[PlantedNight]) -> str:
    """CORPUS/recordings.lance, with what the embeddings do not say; returns CORPUS."""
    rows = []
    for night in nights:
        row = dict.fromkeys(RECORDINGS.names)
        names = (
            "recording_id",
            "subject_id",
            "split",
            "age_years",
            "sex",
            "bmi",
            "ahi",
            "outcomes",
            "events",
            "channels",
            "cohort",
            "source_hash",
        )
        row |= {name: getattr(night, name) for name in names}
        row |= {"num_epochs": len(night.macro)}
        if night.hypnogram is not None:
            row["hypnogram"] = night.hypnogram.tolist()
        rows.append(row)
    uri = str(folder / "recordings.lance")
    fragments = lance_io.write_fragments(recordings_table(rows), uri, RECORDINGS)
    lance_io.commit(uri, fragments, RECORDINGS, metadata=provenance({}))
    return str(folder)


def write_npz(folder: Path, nights: list[PlantedNight]) -> str:
    """A folder of what `embed file` writes; returns it."""
    from sleepmami.inference.export import to_npz_bytes

    @dataclass
    class Night:
        micro: Any
        macro: Any
        cycles: Any
        night: Any
        epoch_valid: Any
        modality_valid: Any
        info: Any
        second: Any

    folder.mkdir(parents=True, exist_ok=True)
    for night in nights:
        macro = night.macro.astype(np.float32)
        valid = np.ones(len(macro), np.bool_)
        info = {
            "recording_id": night.recording_id,
            "model_id": night.model_id,
            "weights_sha256": "ab" * 32,
            "night_vector": "mean_of_valid_epochs",
            "num_epochs": len(macro),
        }
        second = None if night.tokens is None else seconds_from_tokens(night.tokens)
        vectors = Night(
            np.repeat(macro, 2, axis=1), macro, macro[:0], night.night.astype(np.float32), valid, valid, info, second
        )  # fmt: skip
        data = to_npz_bytes(vectors)  # type: ignore[arg-type]  # as a NightEmbedding, without torch
        (folder / f"{night.recording_id}.npz").write_bytes(data)
    return str(folder)
