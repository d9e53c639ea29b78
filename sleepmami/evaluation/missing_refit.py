"""Probes of staging that are fitted on vectors of each subset of modalities.

So would one fit a probe who has fewer channels. Of each night that is fitted on some epochs, at
random, are embedded by all subsets and kept. A Micro probe reads the blocks of its subset alone.
Shapes: U subsets, N epochs, F features, L epochs of a night.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from sleepmami.config import ProbeConfig
from sleepmami.errors import CheckpointError, TableError
from sleepmami.evaluation.epoch_tasks import FitRows, fit_model
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.evaluation.metrics import Array, Ints
from sleepmami.evaluation.missing import (
    LEVELS,
    SUBSETS,
    MissingPlan,
    SubsetProbe,
    SubsetVectors,
    subset_vectors,
)
from sleepmami.evaluation.targets import NOT_ASKED, staging_question

_ARRAYS = tuple(item.name for item in fields(LinearProbe))
ReadSample = Callable[[int, int], "SubsetSample | None"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitNight:
    """Some epochs [N] of a night, ascending, which probes are fitted on."""

    recording_id: str
    epoch_N: Ints


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetSample:
    """Vectors of a night's epochs by one subset, a level each, and which of the epochs they are."""

    vectors: tuple[Array, ...]
    place_N: Ints


def fit_nights(plan: MissingPlan, max_epochs: int, config: ProbeConfig) -> dict[int, FitNight]:
    """The labelled nights that some fold fits on, by their number, and which epochs of them.

    Args:
        plan: who is fitted on.
        max_epochs: of each night; fewer where all would be more than `max_fit_epochs`.
        config: of the probes.
    """
    wanted = np.flatnonzero(np.any([fold.fit_N for fold in plan.folds], axis=0)).tolist()
    each = max(1, min(max_epochs, config.max_fit_epochs // max(len(wanted), 1)))
    chosen = {}
    for number in wanted:
        asked = np.flatnonzero(plan.targets[number] != NOT_ASKED)
        drawn = np.random.default_rng([config.seed, number]).permutation(asked)[:each]
        chosen[number] = FitNight(
            recording_id=plan.labelled[number].recording_id, epoch_N=np.sort(drawn)
        )
    return chosen


def sample_of(night: FitNight, subset: int, found: SubsetVectors) -> dict[str, Array]:
    """Arrays of one subset for the night's file; epochs in which it has no signal are not there.

    Raises:
        CheckpointError: a vector that is not finite in half precision.
    """
    place_N = np.flatnonzero(found.valid_LM[night.epoch_N].any(1))
    arrays: dict[str, Array] = {f"{subset}_place": place_N.astype(np.int32)}
    vectors = subset_vectors(subset, found, night.epoch_N[place_N])
    for level, x_NF in zip(LEVELS, vectors, strict=True):
        with np.errstate(over="ignore"):
            half_NF = x_NF.astype(np.float16)
        if not np.isfinite(half_NF).all():
            raise CheckpointError(
                f"{night.recording_id}: {'+'.join(SUBSETS[subset])}: found {level} vectors that "
                "are not finite in half precision; expected numbers from every subset"
            )
        arrays[f"{subset}_{level}"] = half_NF
    return arrays


def read_sample(stored: Mapping[str, Array], subset: int) -> SubsetSample:
    """A subset of a night's file."""
    return SubsetSample(
        vectors=tuple(stored[f"{subset}_{level}"].astype(np.float32) for level in LEVELS),
        place_N=stored[f"{subset}_place"].astype(np.int64),
    )


def fit_subset(
    subset: int,
    plan: MissingPlan,
    nights: Mapping[int, FitNight],
    read: ReadSample,
    config: ProbeConfig,
) -> list[SubsetProbe]:
    """The probes of a subset, of each fold.

    Args:
        subset: its number.
        plan: who is fitted on.
        nights: of `fit_nights`.
        read: a night's sample by its number and the subset's; None where there is none.
        config: of the probes.
    """
    parts: list[tuple[tuple[Array, ...], Ints, Ints]] = []
    for number, night in nights.items():
        sample = read(number, subset)
        if sample is not None and len(sample.place_N):
            target_N = plan.targets[number][night.epoch_N[sample.place_N]]
            parts.append((sample.vectors, target_N, np.full(len(target_N), number)))
    if not parts:
        return [(None,) * len(LEVELS)] * len(plan.folds)
    target_NK = np.concatenate([part[1] for part in parts])[:, None]
    place_N = np.concatenate([part[2] for part in parts])
    subject_N = np.unique([str(n.subject_id) for n in plan.labelled], return_inverse=True)[1]
    by_level: list[list[LinearProbe | None]] = []
    for level in range(len(LEVELS)):
        x_NF = np.concatenate([part[0][level] for part in parts])
        rows = FitRows(x_NF=x_NF, target_NK=target_NK, place_N=place_N)
        by_level.append(
            [_fitted(rows, np.flatnonzero(f.fit_N), subject_N, config) for f in plan.folds]
        )
    return list(zip(*by_level, strict=True))


def _fitted(rows: FitRows, fit: Ints, subject_N: Ints, config: ProbeConfig) -> LinearProbe | None:
    try:
        return fit_model(staging_question(), rows, fit, subject_N, config).fitted.probe
    except TableError:  # one stage or none: a modality that few nights have; the answer says so
        return None


def probes_bytes(by_subset: Sequence[SubsetProbe]) -> bytes:
    """A file of the probes of one fold, by subset."""
    arrays = {
        f"{subset}_{level}_{name}": getattr(probe, name)
        for subset, probes in enumerate(by_subset)
        for level, probe in zip(LEVELS, probes, strict=True)
        if probe is not None
        for name in _ARRAYS
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def probes_of_bytes(data: bytes) -> list[SubsetProbe]:
    """The probes of a file of `probes_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        there = set(stored.files)

        def probe(key: str) -> LinearProbe | None:
            if f"{key}_{_ARRAYS[0]}" not in there:
                return None
            return LinearProbe(**{name: stored[f"{key}_{name}"] for name in _ARRAYS})

        return [
            tuple(probe(f"{subset}_{level}") for level in LEVELS) for subset in range(len(SUBSETS))
        ]


def not_fitted(by_fold: Sequence[Sequence[SubsetProbe]]) -> list[str]:
    """A note about subsets that some fold had too few stages to fit on."""
    names = [
        "+".join(SUBSETS[subset])
        for subset in range(len(SUBSETS))
        if any(None in probes[subset] for probes in by_fold)
    ]
    if not names:
        return []
    return [
        f"no probe could be fitted on {', '.join(names)} in each fold: too few nights have that"
    ]
