"""Staging by every subset of modalities: one night after another on Ray actors, kept as they end.

OUT/nights holds the counts of each night, so that a run that was interrupted goes on;
OUT/missing_modalities.json is the answer.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.embed_nights import may_go_on
from pipelines.refit_subsets import read_refit, refit_probes
from pipelines.run_folder import remember_run, require_same_run
from pipelines.stored_nights import CorpusVersions
from pipelines.subset_actors import (
    Corpus,
    NumberedSubset,
    SubsetWorker,
    embed_subsets,
    file_of_night,
    tell_outcomes,
)
from sleepmami import storage
from sleepmami.config import MissingConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import CheckpointError, TableError
from sleepmami.evaluation import missing
from sleepmami.evaluation.embeddings import TABLE, open_embeddings
from sleepmami.evaluation.labels import with_labels
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import night_embeddings_schema
from sleepmami.training.checkpoint import load_bundle

ANSWER = "missing_modalities.json"
STEP = "missing modalities"
FAILED = "could not be read or embedded"


def missing_modalities(
    corpus: str, bundle: str, cohort: str, output: str, config: MissingConfig
) -> dict[str, Any]:  # Any: JSON
    """Test staging probes of whole vectors on vectors of fewer modalities, for all 63 subsets.

    Needs a Ray session.

    Args:
        corpus: the signals, and the labels.
        bundle: the model that embedded the cohort.
        cohort: the OUT folder of `embed cohort`, whose vectors the probes are fitted on.
        output: where counts and the answer go; a run that was interrupted is continued.
        config: see MissingConfig.

    Returns:
        What OUT/missing_modalities.json holds; docs/evaluation.md says what.

    Raises:
        CheckpointError: the bundle is missing, altered, or has no Macro-Encoder, or a vector is
            not finite.
        TableError: a table is missing, is of another model, or knows too few labels.
        ConfigError: OUT holds a run with other settings or labels.
    """
    model = load_bundle(bundle)
    if model.macro is None:
        raise CheckpointError(
            f"{bundle}: found a bundle without Macro-Encoder; expected what `pretrain macro` made"
        )
    table = storage.join(cohort, TABLE)
    if not may_go_on(table, model.model_id, config.embed, night_embeddings_schema()):
        raise TableError(f"{table}: found no table; expected what `embed cohort` makes")
    embeddings = open_embeddings(cohort)
    plan = missing.plan(embeddings, with_labels(embeddings.nights, [corpus], events=False), config)
    hashes = _source_hashes(corpus, table, [night.recording_id for night in plan.labelled])
    settings = {
        "fill": config.fill,
        **({"refit_epochs": config.refit_epochs} if config.refit else {}),
        "probe": to_dict(config.probe),
        "precision": config.embed.precision,
        "both_halves": config.embed.both_halves,
        "weights_sha256": model.weights_sha256,
        "nights_digest": _digest(plan, hashes),
    }
    require_same_run(output, "missing_modalities", settings)
    remember_run(output, "missing_modalities", settings)
    where = Corpus(corpus)
    needed = plan.labelled if config.refit else plan.nights
    absent = where.absent(night.recording_id for night in needed)
    if absent:
        raise TableError(
            f"{corpus}: found no signals of {len(absent)} nights such as {absent[0]}; expected the "
            "corpus that was embedded"
        )
    notes = refit_probes(where, bundle, output, plan, config) if config.refit else []
    failed = _tally(where, bundle, output, plan, config)
    done = [
        (night, _read_counts(output, night.recording_id))
        for night in plan.nights
        if night.recording_id not in failed
    ]
    if failed:
        plan.left_out[FAILED] = len(failed)
    counts, cosine = (np.stack(part) for part in zip(*(found for _, found in done), strict=True))
    nights = [night for night, _ in done]
    entries = missing.matrix(nights, counts, cosine, config)
    tested = dataclasses.replace(plan, nights=tuple(nights))
    answer = missing.result(embeddings, corpus, tested, entries, config, notes)
    text = json.dumps(answer, indent=1, allow_nan=False) + "\n"
    storage.write_bytes(storage.join(output, ANSWER), text.encode())
    return answer


def _tally(
    corpus: Corpus, bundle: str, output: str, plan: missing.MissingPlan, config: MissingConfig
) -> set[str]:
    """Counts of the nights that have none yet; returns those that could not be had."""
    tests = {test.recording_id: test for test in plan.tests}
    todo = sorted(name for name in tests if not storage.exists(_counts_file(output, name)))
    failures = embed_subsets(
        STEP,
        corpus,
        [(name, tests[name]) for name in todo],
        functools.partial(
            CountWorker, corpus.uri, corpus.versions, bundle, output, to_dict(config)
        ),
        config.embed,
    )
    tell_outcomes(STEP, len(tests), len(todo), failures, done="tested", not_done="not tested")
    return set(failures)


class CountWorker(SubsetWorker[missing.TestNight]):
    """An actor that reads a night, fuses it by each subset and writes its counts."""

    def __init__(
        self,
        corpus: str,
        versions: CorpusVersions,
        bundle: str,
        output: str,
        config: dict[str, Any],  # Any: a MissingConfig's plain dict
    ) -> None:
        settings = from_dict(MissingConfig, config)
        super().__init__(corpus, versions, bundle, settings.embed)
        self._output, self._fill, self._refit = output, settings.fill, settings.refit
        self._probes: dict[int, list[missing.SubsetProbe]] = {}  # of folds

    def file_of(
        self, asked: missing.TestNight, subsets: Iterator[NumberedSubset]
    ) -> tuple[str, bytes]:
        """Counts of all subsets."""
        refit = None
        if self._refit:
            if asked.fold not in self._probes:
                self._probes[asked.fold] = read_refit(self._output, asked.fold)
            refit = self._probes[asked.fold]
        tally = missing.NightTally(asked, self._fill, refit)
        for number, vectors in subsets:
            tally.add(number, vectors)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, counts=tally.counts, cosine=tally.cosine)
        return _counts_file(self._output, asked.recording_id), buffer.getvalue()


def _counts_file(output: str, recording_id: str) -> str:
    return storage.join(output, "nights", file_of_night(recording_id))


def _read_counts(output: str, recording_id: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    data = io.BytesIO(storage.read_bytes(_counts_file(output, recording_id)))
    with np.load(data, allow_pickle=False) as stored:
        return stored["counts"], stored["cosine"]


def _source_hashes(corpus: str, table: str, names: Sequence[str]) -> dict[str, str | None]:
    """Of the signals of some nights; TableError where others were embedded."""
    stored, embedded = (
        {row["recording_id"]: row["source_hash"] for row in found.to_pylist()}
        for uri in (storage.join(corpus, "recordings.lance"), table)
        for found in [lance_io.read_table(uri, ["recording_id", "source_hash"])]
    )
    changed = sorted(name for name in names if stored.get(name) != embedded[name])
    if changed:
        raise TableError(
            f"{table}: found vectors of {len(changed)} nights such as {changed[0]} whose signals "
            f"{corpus} has otherwise; expected the same: run `embed cohort` again"
        )
    return {name: stored[name] for name in names}


def _digest(plan: missing.MissingPlan, hashes: Mapping[str, str | None]) -> str:
    """Of who is tested, on which signals and labels, and who is fitted on."""
    digest = hashlib.sha256()
    for night in sorted(plan.labelled, key=lambda night: night.recording_id):
        cells = (night.recording_id, night.subject_id, night.split, hashes[night.recording_id])
        digest.update(json.dumps(cells).encode())
        digest.update(b"" if night.hypnogram is None else night.hypnogram.tobytes())
    return digest.hexdigest()
