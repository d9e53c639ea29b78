"""Nights of a corpus on Ray actors, each embedded by all 63 subsets of modalities."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from pipelines.progress import print_outcomes, stage
from pipelines.ray_data import as_ours, map_on_actors
from pipelines.ray_session import require_cluster
from pipelines.stored_nights import (
    CorpusVersions,
    StoredNight,
    corpus_versions,
    find_nights,
    read_night,
)
from sleepmami import storage
from sleepmami.config import EmbedConfig
from sleepmami.errors import SleepMaMiError
from sleepmami.evaluation import missing
from sleepmami.inference.embedder import Embedder
from sleepmami.inference.modality_subsets import SubsetNight
from sleepmami.models.cpu import prepare_cpu

SUBSETS_FIRST_WHOLE = (missing.WHOLE, *range(missing.WHOLE))
NumberedSubset: TypeAlias = tuple[int, missing.SubsetVectors]
Asked = TypeVar("Asked")


class Corpus:
    """The nights of a corpus as they are now.

    Args:
        uri: of the corpus.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.versions = corpus_versions(uri)
        self.nights = find_nights(uri, self.versions)

    def absent(self, names: Iterable[str]) -> list[str]:
        """Recordings it has no night of."""
        return sorted(set(names) - set(self.nights))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a night ended."""

    recording_id: str
    failure: SleepMaMiError | None = None


class SubsetWorker(ABC, Generic[Asked]):
    """An actor that reads a night and fuses it by each subset, the whole one first."""

    def __init__(
        self, corpus: str, versions: CorpusVersions, bundle: str, config: EmbedConfig
    ) -> None:
        prepare_cpu(config.threads_per_actor)
        self._corpus, self._versions = corpus, versions
        self._embedder = Embedder.configured(bundle, config)

    @abstractmethod
    def file_of(self, asked: Asked, subsets: Iterator[NumberedSubset]) -> tuple[str, bytes]:
        """Where a night's answer goes, and what it is, of each subset's number and vectors."""

    def __call__(self, item: tuple[StoredNight, Asked]) -> Outcome:
        """Only a file that cannot be written is raised, because that ends the run."""
        stored, asked = item
        try:
            file, data = self.file_of(asked, self._subsets(stored))
        except Exception as error:  # one night costs itself at most
            failure = as_ours(error, stored.recording_id)
            return Outcome(recording_id=stored.recording_id, failure=failure)
        storage.write_bytes(file, data)
        return Outcome(recording_id=stored.recording_id)

    def _subsets(self, stored: StoredNight) -> Iterator[NumberedSubset]:
        _, night = read_night(self._corpus, self._versions, stored)
        whole = SubsetNight(self._embedder, night)
        for number in SUBSETS_FIRST_WHOLE:
            epochs = whole.epochs(missing.SUBSETS[number])
            vectors = self._embedder.in_context(night, epochs)
            yield (
                number,
                missing.SubsetVectors(
                    micro_LMD=epochs.micro_LMD,
                    valid_LM=epochs.modality_valid_LM,
                    macro_LF=vectors.macro,
                    night_F=vectors.night,
                ),
            )


def embed_subsets(
    step: str,
    corpus: Corpus,
    asked: Sequence[tuple[str, Asked]],
    make_worker: Callable[[], SubsetWorker[Asked]],
    config: EmbedConfig,
) -> dict[str, SleepMaMiError]:
    """Run a worker on some nights; returns why some could not be had, by their recording id.

    Args:
        step: what it is called on the screen.
        corpus: has the nights.
        asked: recording ids, and what the worker is to be told of each.
        make_worker: called in each actor.
        config: how many actors, and of what.
    """
    num_actors, num_gpus = min(config.num_actors, len(asked)), 1 if config.use_gpu else 0
    require_cluster(
        config.cpus_per_actor,
        num_gpus,
        step,
        count=num_actors,
        settings="embed.num_actors or embed.cpus_per_actor"
        + (", or embed.use_gpu=false" if num_gpus else ""),
    )
    failures: dict[str, SleepMaMiError] = {}
    with stage(step, len(asked), unit="nights") as advance:
        for outcome in map_on_actors(
            [(corpus.nights[name], one) for name, one in asked],
            make_worker,
            lost=_lost,
            num_actors=num_actors,
            num_cpus=config.cpus_per_actor,
            num_gpus=num_gpus,
        ):
            if outcome.failure:
                failures[outcome.recording_id] = outcome.failure
            advance(1, outcome.recording_id)
    return failures


def tell_outcomes(
    step: str,
    num_nights: int,
    num_asked: int,
    failures: Mapping[str, SleepMaMiError],
    *,
    done: str,
    not_done: str,
) -> None:
    """Say how the nights of a step ended; raises a failure when all of them failed.

    Args:
        step: as of `embed_subsets`.
        num_nights: of the step, with those of an earlier run.
        num_asked: of these, nights that `embed_subsets` was asked for.
        failures: what it returned.
        done: what a night that succeeded is called.
        not_done: what one that failed is called.
    """
    outcomes = Counter(
        {
            "already there": num_nights - num_asked,
            done: num_asked - len(failures),
            not_done: len(failures),
        }
    )
    details = [(name, error.code, str(error)) for name, error in sorted(failures.items())]
    print_outcomes(step, outcomes, details)
    if failures and len(failures) == num_nights:  # then no night is to blame
        raise next(iter(failures.values()))


def _lost(item: tuple[StoredNight, Asked]) -> Outcome:
    recording_id = item[0].recording_id
    return Outcome(
        recording_id=recording_id,
        failure=SleepMaMiError(
            f"{recording_id}: found that the process died each time it embedded this night; "
            "expected it to fit into memory"
        ),
    )


def file_of_night(recording_id: str) -> str:
    """A recording's id may hold what a file's name may not."""
    return f"{hashlib.sha256(recording_id.encode()).hexdigest()[:24]}.npz"
