"""Probes of each subset's own vectors for the matrix of missing modalities.

OUT/refit_nights holds vectors of some epochs of each night that is fitted on, by all subsets, until
OUT/refit holds the probes of each fold; a run that was interrupted goes on with either.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.progress import stage
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
from sleepmami.config import EmbedConfig, MissingConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.evaluation import missing, missing_refit

STEP = "subsets to fit on"
NIGHTS = "refit_nights"


def refit_probes(
    corpus: Corpus, bundle: str, output: str, plan: missing.MissingPlan, config: MissingConfig
) -> list[str]:
    """Fit the probes that OUT/refit lacks; returns what a reader of their figures has to know."""
    folds = range(len(plan.folds))
    if not all(storage.exists(_probes_file(output, fold)) for fold in folds):
        nights = missing_refit.fit_nights(plan, config.refit_epochs, config.probe)
        _embed(corpus, bundle, output, nights, config)
        for fold, by_subset in enumerate(_fitted(output, plan, nights, config)):
            data = missing_refit.probes_bytes(by_subset)
            storage.write_bytes(_probes_file(output, fold), data)
    storage.delete(storage.join(output, NIGHTS))  # gigabytes, of no more use
    return missing_refit.not_fitted([read_refit(output, fold) for fold in folds])


def read_refit(output: str, fold: int) -> list[missing.SubsetProbe]:
    """The probes of a fold, by subset."""
    return missing_refit.probes_of_bytes(storage.read_bytes(_probes_file(output, fold)))


class FitWorker(SubsetWorker[missing_refit.FitNight]):
    """An actor that reads a night, fuses it by each subset and writes vectors of some epochs."""

    def __init__(
        self,
        corpus: str,
        versions: CorpusVersions,
        bundle: str,
        output: str,
        config: dict[str, Any],  # Any: an EmbedConfig's plain dict
    ) -> None:
        super().__init__(corpus, versions, bundle, from_dict(EmbedConfig, config))
        self._output = output

    def file_of(
        self, asked: missing_refit.FitNight, subsets: Iterator[NumberedSubset]
    ) -> tuple[str, bytes]:
        """All subsets in one file."""
        arrays: dict[str, Any] = {}  # Any: numpy's savez mixes arrays with a flag
        for number, vectors in subsets:
            arrays |= missing_refit.sample_of(asked, number, vectors)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return _night_file(self._output, asked.recording_id), buffer.getvalue()


def _embed(
    corpus: Corpus,
    bundle: str,
    output: str,
    nights: dict[int, missing_refit.FitNight],
    config: MissingConfig,
) -> None:
    todo = {
        night.recording_id: night
        for night in nights.values()
        if not storage.exists(_night_file(output, night.recording_id))
    }
    failures = embed_subsets(
        STEP,
        corpus,
        sorted(todo.items()),
        functools.partial(
            FitWorker, corpus.uri, corpus.versions, bundle, output, to_dict(config.embed)
        ),
        config.embed,
    )
    tell_outcomes(
        STEP,
        len(nights),
        len(todo),
        failures,
        done="embedded",
        not_done="not embedded, and not fitted on",
    )


def _fitted(
    output: str,
    plan: missing.MissingPlan,
    nights: dict[int, missing_refit.FitNight],
    config: MissingConfig,
) -> list[list[missing.SubsetProbe]]:
    """By fold, then by subset; one subset's vectors are in memory at a time."""

    def read(number: int, subset: int) -> missing_refit.SubsetSample | None:
        file = _night_file(output, nights[number].recording_id)
        if not storage.exists(file):
            return None
        with storage.reading(file) as stream:
            data = stream if stream.seekable() else io.BytesIO(stream.read())
            with np.load(data, allow_pickle=False) as stored:
                return missing_refit.read_sample(stored, subset)

    by_subset = []
    with stage("probes of subsets", len(missing.SUBSETS), unit="subsets") as advance:
        for subset, names in enumerate(missing.SUBSETS):
            by_subset.append(missing_refit.fit_subset(subset, plan, nights, read, config.probe))
            advance(1, "+".join(names))
    return [list(probes) for probes in zip(*by_subset, strict=True)]


def _night_file(output: str, recording_id: str) -> str:
    return storage.join(output, NIGHTS, file_of_night(recording_id))


def _probes_file(output: str, fold: int) -> str:
    return storage.join(output, "refit", f"fold_{fold}.npz")
