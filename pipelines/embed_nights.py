"""Nights of a corpus -> vectors: for Macro pretraining, or for other teams' probes.

A pool of Ray Data actors, each holding the Embedder, takes one night at a time. Finished nights are
committed in groups; a run that was interrupted embeds only what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from ray.data import ActorPoolStrategy

from pipelines.progress import print_outcomes, stage
from pipelines.ray_data import map_each
from sleepmami import storage
from sleepmami.config import EmbedConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import CheckpointError, TableError
from sleepmami.inference.embedder import Embedder
from sleepmami.psg import Night
from sleepmami.tables import lance_io
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
    rows = lance_io.read_table(
        recordings_uri, columns=["recording_id"], filter="rejected_code IS NULL"
    )
    wanted = sorted(rows.column("recording_id").to_pylist())
    done = _done(output, model.model_id)
    todo = [recording_id for recording_id in wanted if recording_id not in done]
    metadata = provenance(
        {"embed": to_dict(config), "model_id": model.model_id},
        {"recordings": lance_io.version(recordings_uri)},
    )
    outcomes = Counter({"already there": len(wanted) - len(todo)})
    with stage(f"embed {kind}", len(todo), unit="nights") as advance:
        pending: list[str] = []
        for result in _results(kind, corpus, bundle, output, todo, config):
            pending.append(result["fragment"])
            outcomes["embedded"] += 1
            advance(1, result["recording_id"])
            if len(pending) >= config.nights_per_commit:
                lance_io.commit(output, pending, SCHEMAS[kind], metadata=metadata)
                pending = []
        if pending:
            lance_io.commit(output, pending, SCHEMAS[kind], metadata=metadata)
    print_outcomes(f"embed {kind}", outcomes, [])


def _done(output: str, model_id: str) -> set[str]:
    if not lance_io.exists(output):
        return set()
    table = lance_io.read_table(output, columns=["recording_id", "model_id"])
    others = set(table.column("model_id").to_pylist()) - {model_id}
    if others:
        raise TableError(
            f"{output}: found vectors of {', '.join(sorted(others))}; expected only those of "
            f"{model_id}: vectors of different models do not mix, use a new folder"
        )
    return set(table.column("recording_id").to_pylist())


def _results(
    kind: Kind, corpus: str, bundle: str, output: str, todo: list[str], config: EmbedConfig
) -> Iterator[dict[str, Any]]:
    return map_each(
        [{"recording_id": recording_id} for recording_id in todo],
        NightWorker,
        fn_constructor_args=(kind, corpus, bundle, output, to_dict(config)),
        compute=ActorPoolStrategy(size=min(config.num_actors, max(len(todo), 1))),
        num_cpus=config.cpus_per_actor,
        num_gpus=1 if config.use_gpu else 0,
    )


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

    def __call__(self, row: Mapping[str, str]) -> dict[str, str]:
        """One recording id -> its fragment."""
        recording, night = read_night(self._corpus, row["recording_id"])
        built = (
            self._micro_row(recording, night)
            if self._kind == "micro"
            else self._night_row(recording, night)
        )
        schema = SCHEMAS[self._kind]
        table = rows_table([built], schema)
        (fragment,) = lance_io.write_fragments(table, self._output, schema)
        return {"recording_id": row["recording_id"], "fragment": fragment}

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
        **{name: recording[name] for name in ("recording_id", "subject_id", "cohort", "split")},
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
