"""Nights of a corpus -> vectors: for Macro pretraining, or for other teams' probes.

A pool of Ray actors, each holding the Embedder, takes one night at a time. Finished nights are
committed in groups. A run that was interrupted embeds only what is missing, and nights whose
metadata, scoring or length in the corpus is another by now.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any, Literal

import torch

from pipelines.progress import print_outcomes, stage
from pipelines.ray_data import map_on_actors
from sleepmami import storage
from sleepmami.config import EmbedConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import CheckpointError, TableError
from sleepmami.inference.embedder import Embedder
from sleepmami.psg import Night
from sleepmami.tables import lance_io
from sleepmami.tables.arrays import list_values
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import (
    micro_night_row,
    night_embedding_row,
    night_from_rows,
    rows_table,
)
from sleepmami.tables.schemas import (
    Row,
    micro_nights_schema,
    night_embeddings_schema,
    provenance,
)
from sleepmami.training.checkpoint import load_bundle

Kind = Literal["micro", "night"]
SCHEMAS = {"micro": micro_nights_schema(), "night": night_embeddings_schema()}
IDENTITY_COLUMNS = ("subject_id", "cohort", "split", "source_sha256")
SHARED_COLUMNS = (*IDENTITY_COLUMNS, "age_years", "sex", "bmi", "num_epochs")


def embed_micro_nights(corpus: str, run: str, config: EmbedConfig) -> str:
    """Every accepted night of a corpus -> RUN/micro_nights.lance; returns its URI.

    Raises:
        CheckpointError: RUN/micro is missing or altered.
        TableError: the corpus is missing, or the table holds vectors of another model.
    """
    output = storage.join(run, "micro_nights.lance")
    _embed("micro", corpus, storage.join(run, "micro"), output, config)
    return output


def embed_cohort(corpus: str, bundle: str, output: str, config: EmbedConfig) -> str:
    """Every accepted night of a corpus -> OUT/night_embeddings.lance; returns its URI.

    Raises:
        CheckpointError: the bundle is missing, altered, or has no Macro-Encoder.
        TableError: the corpus is missing, or the table holds vectors of another model.
    """
    table = storage.join(output, "night_embeddings.lance")
    _embed("night", corpus, bundle, table, config)
    return table


def _embed(kind: Kind, corpus: str, bundle: str, output: str, config: EmbedConfig) -> None:
    model = load_bundle(bundle)  # a bad bundle is refused before any actor starts
    if kind == "night" and model.macro is None:
        raise CheckpointError(
            f"{bundle}: found a bundle without Macro-Encoder; expected what `pretrain macro` made"
        )
    recordings_uri = storage.join(corpus, "recordings.lance")
    wanted = _shared_cells(recordings_uri, filter="rejected_code IS NULL")
    there = _embedded_cells(output, model.model_id)
    todo = sorted(name for name, cells in wanted.items() if there.get(name) != cells)
    metadata = provenance(
        {"embed": to_dict(config), "model_id": model.model_id},
        {"recordings": lance_io.version(recordings_uri)},
    )
    outcomes = Counter({"already there": len(wanted) - len(todo)})
    pending: dict[str, str] = {}

    def commit() -> None:
        outdated = [name for name in pending if name in there]
        lance_io.delete_recordings(output, outdated)
        lance_io.commit(output, list(pending.values()), SCHEMAS[kind], metadata=metadata)
        outcomes["embedded again"] += len(outdated)
        outcomes["embedded"] += len(pending) - len(outdated)
        pending.clear()

    with stage(f"embed {kind}", len(todo), unit="nights") as advance:
        for recording_id, fragment in map_on_actors(
            todo,
            functools.partial(NightWorker, kind, corpus, bundle, output, to_dict(config)),
            num_actors=config.num_actors,
            num_cpus=config.cpus_per_actor,
            num_gpus=1 if config.use_gpu else 0,
        ):
            pending[recording_id] = fragment
            advance(1, recording_id)
            if len(pending) >= config.nights_per_commit:
                commit()
        if pending:
            commit()
    print_outcomes(f"embed {kind}", outcomes, [])


def _shared_cells(uri: str, filter: str | None = None) -> dict[str, Row]:
    """What a night's vectors must agree on with its recording, by recording id."""
    columns = ["recording_id", *SHARED_COLUMNS, "hypnogram"]
    table = lance_io.read_table(uri, columns=columns, filter=filter)
    rows = table.drop_columns(["hypnogram"]).to_pylist()
    for row, hypnogram in zip(rows, list_values(table.column("hypnogram")), strict=True):
        row["hypnogram"] = None if hypnogram is None else hypnogram.tobytes()
    return {row["recording_id"]: row for row in rows}


def _embedded_cells(output: str, model_id: str) -> dict[str, Row]:
    if not lance_io.exists(output):
        return {}
    models = lance_io.read_table(output, columns=["model_id"]).column("model_id").unique()
    others = set(models.to_pylist()) - {model_id}
    if others:
        raise TableError(
            f"{output}: found vectors of {', '.join(sorted(others))}; expected only those of "
            f"{model_id}: vectors of different models do not mix, use a new folder"
        )
    return _shared_cells(output)


class NightWorker:
    """An actor that reads a night, embeds it and writes its uncommitted fragment."""

    def __init__(
        self, kind: Kind, corpus: str, bundle: str, output: str, config: dict[str, Any]
    ) -> None:
        settings = from_dict(EmbedConfig, config)
        torch.set_num_threads(settings.threads_per_actor)
        self._kind = kind
        self._corpus = corpus
        self._output = output
        self._embedder = Embedder.from_checkpoint(
            bundle,
            windows_per_batch=settings.windows_per_batch,
            device="cuda" if settings.use_gpu else "cpu",
        )

    def __call__(self, recording_id: str) -> tuple[str, str]:
        """One recording id -> (the same, its fragment)."""
        recording, night = read_night(self._corpus, recording_id)
        built = (
            self._micro_row(recording, night)
            if self._kind == "micro"
            else self._night_row(recording, night)
        )
        schema = SCHEMAS[self._kind]
        table = rows_table([built], schema)
        (fragment,) = lance_io.write_fragments(table, self._output, schema)
        return recording_id, fragment

    def _micro_row(self, recording: Row, night: Night) -> Row:
        epochs = self._embedder.epochs(night)
        return micro_night_row(
            **_identity(recording, night),
            micro=epochs.micro_LMD,
            modality_valid=epochs.modality_valid_LM,
            model_id=self._embedder.bundle.model_id,
        )

    def _night_row(self, recording: Row, night: Night) -> Row:
        embedding = self._embedder.night(night)
        info = embedding.info
        return night_embedding_row(
            **_identity(recording, night),
            micro=embedding.micro,
            macro=embedding.macro,
            night=embedding.night,
            epoch_valid=embedding.epoch_valid,
            modality_valid=embedding.modality_valid,
            model_id=info["model_id"],
            weights_sha256=info["weights_sha256"],
            channels_used=[f"{c['modality']}={c['label']}" for c in info["channels_used"]],
            modalities_missing=info["modalities_missing"],
        )


def _identity(recording: Row, night: Night) -> dict[str, Any]:  # Any: cells of several types
    """The cells that a night's vectors share with its row of recordings.lance."""
    return {
        **{name: recording[name] for name in ("recording_id", *IDENTITY_COLUMNS)},
        "demographics": Demographics(
            **{name: recording[name] for name in ("subject_id", "age_years", "sex", "bmi")}
        ),
        "hypnogram": night.hypnogram,
    }


def read_night(corpus: str, recording_id: str) -> tuple[Row, Night]:
    """One night back from the tables, with its row of recordings.lance."""
    where = lance_io.is_one_of("recording_id", [recording_id])
    recordings = lance_io.read_table(storage.join(corpus, "recordings.lance"), filter=where)
    segments = lance_io.read_table(storage.join(corpus, "segments.lance"), filter=where)
    (recording,) = recordings.to_pylist()
    return recording, night_from_rows(recording, segments)
