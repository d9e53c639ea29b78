"""What an evaluation report is made of, read from a run, embeddings, a corpus and results.

Needs no torch and no Ray: of a bundle only its manifest and its logs are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepmami import storage
from sleepmami.errors import CheckpointError, TableError
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.evaluation.stored_results import StoredResult, read_results
from sleepmami.report.dataset_statistics import CorpusNight
from sleepmami.report.night_maps import NightPeople
from sleepmami.report.training_curves import History
from sleepmami.tables import lance_io
from sleepmami.tables.arrays import list_values
from sleepmami.tables.demographics import known_number
from sleepmami.tables.schemas import ANY_RECORDINGS

CORPUS_COLUMNS = ("recording_id", "subject_id", "cohort", "split", "num_epochs", "age_years", "sex",
                  "bmi", "ahi", "rejected_code")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLog:
    """What a run says of itself.

    Attributes:
        uri: of the run.
        manifest: of its bundle; empty where the Macro-Encoder is not trained yet.
        micro: metrics of Micro pretraining.
        macro: metrics of Macro pretraining.
    """

    uri: str
    manifest: dict[str, Any]  # Any: JSON values
    micro: History
    macro: History

    @property
    def model_id(self) -> str | None:
        """Of the bundle's weights."""
        return self.manifest.get("model_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class NightVectors:
    """Night vectors [N, width] and what is known of the nights; `model_id` is whose they are."""

    vectors: NDArray[np.float32]
    people: NightPeople
    model_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportInputs:
    """Everything that a page may show; None or empty where it was not given.

    Attributes:
        run: the run.
        embeddings: address of the exported embeddings.
        corpus: address of the corpus.
        results_folder: address of the results.
        nights: vectors of `embeddings`.
        recordings: rows of `corpus`.
        results: of `results_folder`.
        not_read: JSON files in it that are no results.
    """

    run: RunLog
    embeddings: str | None = None
    corpus: str | None = None
    results_folder: str | None = None
    nights: NightVectors | None = None
    recordings: Sequence[CorpusNight] = ()
    results: Sequence[StoredResult] = ()
    not_read: Sequence[str] = ()


def read_inputs(
    run: str, embeddings: str | None, corpus: str | None, results: str | None
) -> ReportInputs:
    """Read what is given.

    Raises:
        CheckpointError: RUN is no training run.
        TableError: embeddings, a corpus or results that are not there, or not what they should be.
    """
    found, others = read_results(results) if results is not None else ([], [])
    return ReportInputs(
        run=read_run(run),
        embeddings=embeddings,
        corpus=corpus,
        results_folder=results,
        nights=read_nights(embeddings) if embeddings is not None else None,
        recordings=read_recordings(corpus) if corpus is not None else (),
        results=found,
        not_read=others,
    )


def read_run(uri: str) -> RunLog:
    """Manifest and metrics of a run; of one that is not finished what there is."""
    manifest_uri = storage.join(uri, storage.MANIFEST)
    manifest: dict[str, Any] = {}
    if storage.exists(manifest_uri):
        try:
            manifest = json.loads(storage.read_bytes(manifest_uri))
            manifest["model_id"], manifest["weights_sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{manifest_uri}: found no manifest of a bundle ({error!r}); expected one"
            ) from error
    micro = _history(storage.join(uri, "micro", "metrics.jsonl"))
    macro = _history(storage.join(uri, "macro_metrics.jsonl"))
    if not (manifest or micro or macro):
        raise CheckpointError(
            f"{uri}: found neither a bundle nor logs of training; expected the RUN of `pretrain`"
        )
    return RunLog(uri=uri, manifest=manifest, micro=micro, macro=macro)


def _history(uri: str) -> list[dict[str, float]]:
    if not storage.exists(uri):
        return []
    try:
        rows = [json.loads(line) for line in storage.read_bytes(uri).decode().splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{uri}: found no JSON lines ({error}); expected metrics") from error
    odd = [row for row in rows if not isinstance(row, dict) or "step" not in row]
    if odd:
        raise CheckpointError(f"{uri}: found a line {odd[0]!r}; expected metrics of a step")
    return rows


def read_nights(uri: str) -> NightVectors:
    """The night vector of every night."""
    found = open_embeddings(uri)
    places = range(len(found.nights))
    vectors = np.stack([night.x_LF[0] for night in found.read(places, "night")])
    nights = found.nights
    female = [np.nan if n.sex is None else float(n.sex == "female") for n in nights]
    return NightVectors(
        vectors=vectors,
        people=NightPeople(
            age_years=np.array([n.age_years for n in nights], np.float64),  # None becomes NaN
            bmi=np.array([n.bmi for n in nights], np.float64),
            female=np.array(female),
        ),
        model_id=found.model_id,
    )


def read_recordings(uri: str) -> list[CorpusNight]:
    """Every recording of a corpus, ordered by its id; TableError without one."""
    table = lance_io.read_table(
        storage.join(uri, "recordings.lance"), [*CORPUS_COLUMNS, "hypnogram"], schema=ANY_RECORDINGS
    )
    rows = table.drop_columns(["hypnogram"]).to_pylist()
    hypnograms = list_values(table.column("hypnogram"))
    if not rows:
        raise TableError(f"{uri}: found no recording; expected some")
    nights = [
        CorpusNight(
            **row | {name: known_number(row[name]) for name in ("age_years", "bmi", "ahi")},
            hypnogram=hypnogram,
        )
        for row, hypnogram in zip(rows, hypnograms, strict=True)
    ]
    return sorted(nights, key=lambda night: night.recording_id)
