"""Nights of a corpus -> vectors: for Macro pretraining, or for other teams' probes.

A pool of Ray actors, each holding the Embedder, takes one night at a time. Finished nights are
committed in groups; one that cannot be embedded is left out and listed at the end. A run that was
interrupted embeds only what is missing, and nights whose metadata, scoring or length in the corpus
is another by now.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from pipelines.progress import console, print_outcomes, stage
from pipelines.ray_data import as_ours, map_on_actors
from pipelines.ray_session import require_cluster
from pipelines.stored_nights import (
    CorpusVersions,
    StoredNight,
    corpus_versions,
    find_nights,
    nights_of_cohorts,
    read_night,
)
from sleepmami import storage
from sleepmami.config import EmbedConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import CheckpointError, SleepMaMiError, TableError
from sleepmami.inference.embedder import Embedder, EpochEmbedding
from sleepmami.models.cpu import prepare_cpu
from sleepmami.psg import Night
from sleepmami.tables import lance_io
from sleepmami.tables.arrays import list_values
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import (
    micro_night_row,
    night_embedding_row,
    rows_table,
)
from sleepmami.tables.schemas import (
    Row,
    micro_nights_schema,
    night_embeddings_schema,
    provenance,
    second_embeddings_schema,
)
from sleepmami.tables.second_vectors import SECOND_TABLE, second_row
from sleepmami.training.checkpoint import load_bundle

Kind = Literal["micro", "night"]
SCHEMAS = {"micro": micro_nights_schema(), "night": night_embeddings_schema()}
SECOND_SCHEMA = second_embeddings_schema()
IDENTITY_COLUMNS = ("subject_id", "cohort", "split", "source_hash")
MAX_SHOWN = 50  # of the nights that were not embedded
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


def embed_cohort(
    corpus: str, bundle: str, output: str, config: EmbedConfig, *, seconds: bool = False
) -> str:
    """Every accepted night of a corpus -> OUT/night_embeddings.lance; returns its URI.

    OUT/cohort_report.html is a map of all nights of the table. With `seconds` the tokens that
    vectors of seconds are made of go to OUT/second_embeddings.lance, float16. Without, a night that
    is embedded again loses those it had there.

    Raises:
        CheckpointError: the bundle is missing, altered, or has no Macro-Encoder.
        TableError: the corpus is missing, or the table holds vectors of another model.
    """
    table = storage.join(output, "night_embeddings.lance")
    _embed("night", corpus, bundle, table, config, seconds)
    if lance_io.exists(table):
        from pipelines.write_report import write_cohort_report  # pictures: not for the actors

        page = write_cohort_report(table, storage.join(output, "cohort_report.html"))
        console.print(f"map of the nights: {page}")
    return table


@dataclass(frozen=True, kw_only=True, slots=True)
class NightResult:
    """How a night ended: an uncommitted fragment, or why there is none."""

    recording_id: str
    fragment: str | None = None
    second_fragment: str | None = None
    failure: SleepMaMiError | None = None


def _embed(
    kind: Kind,
    corpus: str,
    bundle: str,
    output: str,
    config: EmbedConfig,
    seconds: bool = False,
) -> None:
    model = load_bundle(bundle)  # a bad bundle is refused before any actor starts
    if kind == "night" and model.macro is None:
        raise CheckpointError(
            f"{bundle}: found a bundle without Macro-Encoder; expected what `pretrain macro` made"
        )
    versions = corpus_versions(corpus)
    nights = find_nights(corpus, versions)
    wanted = shared_cells(storage.join(corpus, "recordings.lance"), versions.recordings)
    nights = nights_of_cohorts(nights, wanted, config.cohorts, corpus)
    there = shared_cells(output) if may_go_on(output, model.model_id, config, SCHEMAS[kind]) else {}
    with_seconds = _with_seconds(output, model.model_id, config) if kind == "night" else set()
    todo = sorted(
        name
        for name in nights
        if there.get(name) != wanted[name] or (seconds and name not in with_seconds)
    )
    num_actors = min(config.num_actors, len(todo))
    num_gpus = 1 if config.use_gpu else 0
    require_cluster(
        config.cpus_per_actor,
        num_gpus,
        f"embed {kind}",
        count=num_actors,
        settings="num_actors or cpus_per_actor" + (", or use_gpu=false" if num_gpus else ""),
    )
    metadata = provenance(
        {"embed": to_dict(config), "model_id": model.model_id}, versions._asdict()
    )
    committer = Committer(
        kind, output, there, metadata, config.nights_per_commit, with_seconds=with_seconds
    )
    committer.outcomes["already there"] = len(nights) - len(todo)
    with stage(f"embed {kind}", len(todo), unit="nights") as advance:
        try:
            for result in map_on_actors(
                [nights[name] for name in todo],
                functools.partial(
                    NightWorker, kind, corpus, versions, bundle, output, to_dict(config), seconds
                ),
                lost=lost_night,
                num_actors=num_actors,
                num_cpus=config.cpus_per_actor,
                num_gpus=num_gpus,
            ):
                committer.add(result)
                advance(1, result.recording_id)
        finally:  # what is done stays done, also when the run is interrupted
            committer.flush()
    print_account(kind, committer, len(nights))


def lost_night(stored: StoredNight) -> NightResult:
    """The result of a night whose actor died each time."""
    failure = SleepMaMiError(
        f"{stored.recording_id}: found that the process died each time it embedded this night; "
        "expected it to fit into memory"
    )
    return NightResult(recording_id=stored.recording_id, failure=failure)


@dataclass(slots=True)
class Committer:
    """Makes finished nights visible, `size` at a time, and keeps the account."""

    kind: Kind
    output: str
    there: Mapping[str, Row]
    metadata: Mapping[str, str]
    size: int
    with_seconds: Collection[str] = ()
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, SleepMaMiError] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    pending_seconds: list[str] = field(default_factory=list)

    def add(self, result: NightResult) -> None:
        """Take a night's result; commits where there are enough."""
        if result.failure:
            self.failures[result.recording_id] = result.failure
        if result.fragment:
            self.pending[result.recording_id] = result.fragment
        if result.second_fragment:
            self.pending_seconds.append(result.second_fragment)
        if len(self.pending) >= self.size:
            self.flush()

    def flush(self) -> None:
        """Commit what waits."""
        group, self.pending = self.pending, {}  # a commit that fails is not tried twice
        seconds, self.pending_seconds = self.pending_seconds, []
        if not group:
            return
        # seconds first: a night whose vectors are there without them would count as finished
        table = _second_table(self.output)
        lance_io.delete_recordings(table, [name for name in group if name in self.with_seconds])
        if seconds:
            lance_io.commit(table, seconds, SECOND_SCHEMA, metadata=self.metadata)
        outdated = [name for name in group if name in self.there]
        lance_io.delete_recordings(self.output, outdated)
        fragments, schema = list(group.values()), SCHEMAS[self.kind]
        lance_io.commit(self.output, fragments, schema, metadata=self.metadata)
        self.outcomes["embedded again"] += len(outdated)
        self.outcomes["embedded"] += len(group) - len(outdated)


def print_account(kind: Kind, committer: Committer, num_nights: int) -> None:
    """Counts by outcome, then the nights left out; SleepMaMiError when those are all there are."""
    failures = sorted(committer.failures.items())
    committer.outcomes["not embedded"] = len(failures)
    print_outcomes(f"embed {kind}", committer.outcomes, [])
    if not failures:
        return
    codes = Counter(failure.code for _, failure in failures)
    details = [(name, failure.code, str(failure)) for name, failure in failures]
    print_outcomes("not embedded", codes, details[:MAX_SHOWN])
    if len(failures) == num_nights:  # then no night is to blame
        raise failures[0][1]


def shared_cells(uri: str, version: int | None = None) -> dict[str, Row]:
    """What a night's vectors must agree on with its recording, by recording id."""
    columns = ["recording_id", *SHARED_COLUMNS, "hypnogram"]
    table = lance_io.read_table(uri, columns, version=version)
    rows = table.drop_columns(["hypnogram"]).to_pylist()
    for row, hypnogram in zip(rows, list_values(table.column("hypnogram")), strict=True):
        row["hypnogram"] = None if hypnogram is None else hypnogram.tobytes()
    return {row["recording_id"]: row for row in rows}


def _with_seconds(output: str, model_id: str, config: EmbedConfig) -> set[str]:
    """Nights whose vectors of seconds are there."""
    table = _second_table(output)
    if not may_go_on(table, model_id, config, SECOND_SCHEMA):
        return set()
    return set(lance_io.read_table(table, ["recording_id"]).column(0).to_pylist())


def _second_table(output: str) -> str:
    return storage.join(output.rpartition("/")[0], SECOND_TABLE)


def may_go_on(output: str, model_id: str, config: EmbedConfig, schema: pa.Schema) -> bool:
    """Whether a table is there; TableError when its vectors are made in another way.

    A table of an earlier schema is refused here, and not when the first nights are committed.
    """
    if not lance_io.exists(output):
        return False
    made_with = json.loads(lance_io.metadata(output)["config"])["embed"]
    for name in ("precision", "both_halves"):
        expected = getattr(config, name)
        found = made_with.get(name, getattr(EmbedConfig(), name))  # older tables had no choice
        if found != expected:
            raise TableError(
                f"{output}: found vectors of {name}={found}; expected those of {expected} alone: "
                "set it as before, or use a new folder"
            )
    _require_model(output, model_id, schema)
    return True


def cells_of_model(output: str, model_id: str) -> dict[str, Row]:
    """What the nights of night_embeddings agree on with their recordings.

    Raises:
        TableError: vectors of another model, or a table of another schema.
    """
    if not lance_io.exists(output):
        return {}
    _require_model(output, model_id, SCHEMAS["night"])
    return shared_cells(output)


def _require_model(output: str, model_id: str, schema: pa.Schema) -> None:
    table = lance_io.read_table(output, ["model_id"], schema=schema)
    others = set(table.column("model_id").unique().to_pylist()) - {model_id}
    if others:
        raise TableError(
            f"{output}: found vectors of {', '.join(sorted(others))}; expected only those of "
            f"{model_id}: vectors of different models do not mix, use a new folder"
        )


class NightWorker:
    """An actor that reads a night, embeds it and writes its uncommitted fragment."""

    def __init__(
        self,
        kind: Kind,
        corpus: str,
        versions: CorpusVersions,
        bundle: str,
        output: str,
        config: dict[str, Any],  # Any: an EmbedConfig's plain dict
        seconds: bool = False,
    ) -> None:
        settings = from_dict(EmbedConfig, config)
        prepare_cpu(settings.threads_per_actor)
        self._kind = kind
        self._corpus = corpus
        self._versions = versions
        self._output = output
        self._seconds = seconds
        self._embedder = Embedder.configured(bundle, settings)

    def __call__(self, stored: StoredNight) -> NightResult:
        """Embed a night; only a table that cannot be written is raised, because it ends the run."""
        recording_id = stored.recording_id
        try:
            recording, night = read_night(self._corpus, self._versions, stored)
            epochs = self._embedder.epochs(night, seconds=self._seconds)
            row_of = self._micro_row if self._kind == "micro" else self._night_row
            built = row_of(recording, night, epochs)
            second = self._second_row(recording, epochs) if self._seconds else None
        except Exception as error:  # one night costs itself at most
            return NightResult(recording_id=recording_id, failure=as_ours(error, recording_id))
        seconds = None
        if second is not None:
            seconds = _written(second, _second_table(self._output), SECOND_SCHEMA)
        fragment = _written(built, self._output, SCHEMAS[self._kind])
        return NightResult(recording_id=recording_id, fragment=fragment, second_fragment=seconds)

    def _micro_row(self, recording: Row, night: Night, epochs: EpochEmbedding) -> Row:
        return micro_night_row(
            **identity_cells(recording, night),
            micro=epochs.micro_LMD,
            modality_valid=epochs.modality_valid_LM,
            model_id=self._embedder.bundle.model_id,
            weights_sha256=self._embedder.bundle.weights_sha256,
        )

    def _second_row(self, recording: Row, epochs: EpochEmbedding) -> Row:
        bundle = self._embedder.bundle
        return second_row(
            recording_id=recording["recording_id"],
            source_hash=recording["source_hash"],
            tokens=epochs.tokens(),
            model_id=bundle.model_id,
            weights_sha256=bundle.weights_sha256,
        )

    def _night_row(self, recording: Row, night: Night, epochs: EpochEmbedding) -> Row:
        embedding = self._embedder.in_context(night, epochs)
        info = embedding.info
        return night_embedding_row(
            **identity_cells(recording, night),
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


def _written(row: Row, uri: str, schema: pa.Schema) -> str:
    (fragment,) = lance_io.write_fragments(rows_table([row], schema), uri, schema)
    return fragment


def identity_cells(recording: Row, night: Night) -> dict[str, Any]:  # Any: cells of several types
    """The cells that a night's vectors share with its row of recordings.lance."""
    return {
        **{name: recording[name] for name in ("recording_id", *IDENTITY_COLUMNS)},
        "demographics": Demographics(
            **{name: recording[name] for name in ("subject_id", "age_years", "sex", "bmi")}
        ),
        "hypnogram": night.hypnogram,
    }
