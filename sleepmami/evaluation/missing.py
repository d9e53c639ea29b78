"""What is left of staging and of the vectors when modalities are missing: all 63 subsets of six.

Probes are fitted on vectors of whole nights and tested on vectors of the same people with fewer
modalities; with `refit` also probes that were fitted on vectors of those modalities. An epoch is
asked where some modality of the subset is valid in it, so that a subset may be asked less than
another: each says how much.

Shapes: U subsets, V levels (of the fixed probes, then of the refitted), S subjects, C classes, L
epochs, M modalities, D and F features.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sleepmami import __version__
from sleepmami.config import Level, MissingConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import CheckpointError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import Estimate, estimate, resampled_counts
from sleepmami.evaluation.embeddings import Embeddings, ProbeNight
from sleepmami.evaluation.epoch_tasks import FIGURES, AskedNights, epoch_targets, staging_probes
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.evaluation.metrics import Array, Bools, Floats, Ints
from sleepmami.evaluation.probe import among, folds_of
from sleepmami.evaluation.targets import NOT_ASKED, STAGES
from sleepmami.psg import MODALITIES, UNTRAINED, Modality

SUBSETS: tuple[tuple[Modality, ...], ...] = tuple(
    subset
    for size in range(1, len(MODALITIES) + 1)
    for subset in itertools.combinations(MODALITIES, size)
)
WHOLE = len(SUBSETS) - 1  # its place: all six
LEVELS: tuple[Level, ...] = ("micro", "macro")
COSINES = ("micro", "macro", "night")
REFIT = tuple(f"{level}_refit" for level in LEVELS)
Fill = Literal["mean", "zero"]
SubsetProbe = tuple[LinearProbe | None, ...]  # as LEVELS; None where there was nothing to fit on


@dataclass(frozen=True, kw_only=True, slots=True)
class TestNight:
    """A night to be tested, and the probe of each level that was fitted on others."""

    recording_id: str
    target_L: Ints
    probes: tuple[LinearProbe, ...]  # as LEVELS
    fold: int = 0  # that tests it


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetVectors:
    """Vectors of a night by one subset."""

    micro_LMD: Array
    valid_LM: Bools
    macro_LF: Array
    night_F: Array


class NightTally:
    """Counts of one night, subset after subset; the whole one comes first.

    Attributes:
        counts: int64 [U, V, C, C], truth and guess.
        cosine: [U, 3, 2], sum over epochs of the cosine with the whole night's vectors, and their
            number; Micro's of blocks, those of the subset alone.
    """

    def __init__(
        self, night: TestNight, fill: Fill, refit: Sequence[SubsetProbe] | None = None
    ) -> None:
        self._night, self._fill, self._refit = night, fill, refit
        num_levels = len(LEVELS) * (1 if refit is None else 2)
        self.counts = np.zeros((len(SUBSETS), num_levels, len(STAGES), len(STAGES)), np.int64)
        self.cosine = np.zeros((len(SUBSETS), len(COSINES), 2))
        self._whole: SubsetVectors | None = None

    def add(self, subset: int, found: SubsetVectors) -> None:
        """Count a subset.

        Raises:
            CheckpointError: a vector is not finite.
        """
        for name in ("micro_LMD", "macro_LF", "night_F"):
            if not np.isfinite(getattr(found, name)).all():
                names = "+".join(SUBSETS[subset])
                raise CheckpointError(
                    f"{self._night.recording_id}: {names}: found {name} that is not finite; "
                    "expected numbers from every subset"
                )
        if subset == WHOLE:
            self._whole = found
        assert self._whole is not None, "the whole subset comes first"
        valid_L = found.valid_LM.any(1)
        asked_L = valid_L & (self._night.target_L != NOT_ASKED)
        truth_N = self._night.target_L[asked_L]
        micro_probe, macro_probe = self._night.probes
        guesses = (
            micro_probe.scores(self._filled(found, asked_L, micro_probe)).argmax(1),
            macro_probe.scores(found.macro_LF[asked_L]).argmax(1),
        )
        for level, guess_N in enumerate(guesses):
            self.counts[subset, level] = metrics.confusion(truth_N, guess_N, len(STAGES))
        if self._refit is not None:
            vectors = subset_vectors(subset, found, asked_L)
            for level, (x_NF, probe) in enumerate(
                zip(vectors, self._refit[subset], strict=True), start=len(LEVELS)
            ):
                if probe is not None:
                    guess_N = probe.scores(x_NF).argmax(1)
                    self.counts[subset, level] = metrics.confusion(truth_N, guess_N, len(STAGES))
        any_valid = int(valid_L.any())
        both = (
            (found.micro_LMD[found.valid_LM], self._whole.micro_LMD[found.valid_LM]),
            (found.macro_LF[valid_L], self._whole.macro_LF[valid_L]),
            (found.night_F[None][:any_valid], self._whole.night_F[None][:any_valid]),
        )
        self.cosine[subset] = [(cosines(*pair).sum(), len(pair[0])) for pair in both]

    def _filled(self, found: SubsetVectors, asked_L: Bools, probe: LinearProbe) -> Array:
        """Micro vectors of the asked epochs as the probe reads them."""
        block_LMD = found.micro_LMD[asked_L]
        if self._fill == "mean":
            mean_MD = probe.mean_F.reshape(block_LMD.shape[1:])
            block_LMD = np.where(found.valid_LM[asked_L][..., None], block_LMD, mean_MD)
        return side_by_side(block_LMD)


def subset_vectors(subset: int, found: SubsetVectors, chosen_L: Array) -> tuple[Array, Array]:
    """Micro's blocks of a subset side by side, and Macro's vectors, of some epochs: a level each.

    Where a modality of the subset is not valid its block is zero, as `embed cohort` exports it.
    """
    own_M = np.isin(MODALITIES, SUBSETS[subset])
    block_NMD = found.micro_LMD[chosen_L][:, own_M]
    return side_by_side(block_NMD), found.macro_LF[chosen_L]


def side_by_side(block_NMD: Array) -> Array:
    """[N, M, D] as [N, M D], also of no epoch, of which numpy cannot tell the width."""
    return block_NMD.reshape(len(block_NMD), math.prod(block_NMD.shape[1:]))


def cosines(one_NF: Array, other_NF: Array) -> Floats:
    """Of rows, in double precision; 0 where one of them is zero."""
    one_NF, other_NF = one_NF.astype(np.float64), other_NF.astype(np.float64)
    lengths_N = np.linalg.norm(one_NF, axis=1) * np.linalg.norm(other_NF, axis=1)
    cosine_N = (one_NF * other_NF).sum(1) / np.where(lengths_N > 0, lengths_N, 1)
    return np.asarray(np.clip(cosine_N, -1, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingPlan:
    """Who is tested by which probes.

    Attributes:
        labelled: nights that are fitted on or tested.
        targets: of the same nights, the stage of each epoch.
        folds: of the same nights.
        nights: that are tested.
        tests: of the same nights.
        left_out: nights without labels or splits, by the reason.
    """

    labelled: tuple[ProbeNight, ...]
    nights: tuple[ProbeNight, ...]
    tests: tuple[TestNight, ...]
    left_out: Counter[str]
    targets: tuple[Ints, ...] = ()
    folds: tuple[Fold, ...] = ()


def plan(
    embeddings: Embeddings, nights: Sequence[ProbeNight], config: MissingConfig
) -> MissingPlan:
    """Fit the staging probes of each fold on whole vectors.

    Args:
        embeddings: of `embed cohort`.
        nights: what is known of its nights, in its order.
        config: see MissingConfig.

    Raises:
        TableError: too few people with labels.
    """
    own = config.probe
    places, left_out = among(nights, own)
    targets, reasons = epoch_targets("staging", [nights[place] for place in places], own)
    left_out += reasons
    usable = [(p, t) for p, t in zip(places, targets, strict=True) if t is not None]
    asked_nights = [nights[place] for place, _ in usable]
    folds = folds_of(asked_nights, own, left_out)
    by_level = [
        staging_probes(
            AskedNights(
                embeddings=embeddings,
                level=level,
                places=[place for place, _ in usable],
                nights=asked_nights,
                targets=[target for _, target in usable],
                folds=folds,
            ),
            own,
        )
        for level in LEVELS
    ]
    chosen = [
        (number, fold, tuple(probes[fold] for probes in by_level))
        for fold, parts in enumerate(folds)
        for number in np.flatnonzero(parts.test_N).tolist()
    ]
    return MissingPlan(
        labelled=tuple(asked_nights),
        nights=tuple(asked_nights[number] for number, *_ in chosen),
        tests=tuple(
            TestNight(
                recording_id=asked_nights[number].recording_id,
                target_L=usable[number][1][:, 0],
                probes=probes,
                fold=fold,
            )
            for number, fold, probes in chosen
        ),
        left_out=left_out,
        targets=tuple(target[:, 0] for _, target in usable),
        folds=tuple(folds),
    )


def matrix(
    nights: Sequence[ProbeNight], counts: Ints, cosine: Floats, config: MissingConfig
) -> list[dict[str, Any]]:  # Any: JSON
    """One entry for each subset, as docs/evaluation.md has it.

    Args:
        nights: that were tested.
        counts: [N, U, V, C, C] of the nights.
        cosine: [N, U, 3, 2].
        config: see MissingConfig.
    """
    subject_N = np.unique([str(n.subject_id) for n in nights], return_inverse=True)[1]
    by_subject = np.zeros((int(subject_N.max()) + 1, *counts.shape[1:]), np.int64)
    np.add.at(by_subject, subject_N, counts)
    cosine_S = np.zeros((len(by_subject), *cosine.shape[1:]))
    np.add.at(cosine_S, subject_N, cosine)
    own = config.probe
    drawn_BS = resampled_counts(len(by_subject), own.num_resamples, own.seed)
    whole = [_figures(drawn_BS, by_subject[:, WHOLE, level]) for level in range(len(LEVELS))]
    entries = []
    for number, subset in enumerate(SUBSETS):
        entry: dict[str, Any] = {
            "modalities": [modality.value for modality in subset],
            "num_epochs": int(counts[:, number, 0].sum()),
            "num_subjects": int((by_subject[:, number, 0].sum((1, 2)) > 0).sum()),
        }
        for place, name in enumerate(COSINES):
            sums_B2 = drawn_BS @ cosine_S[:, number, place]
            mean_B = _share(sums_B2[:, 0], sums_B2[:, 1])
            figures = {"cosine": mean_B}
            if name in LEVELS:
                level = LEVELS.index(name)
                found = _figures(drawn_BS, by_subject[:, number, level])
                change_B = found["macro_f1"] - whole[level]["macro_f1"]
                figures |= {**found, "macro_f1_change": change_B}
            entry[name] = _estimates(figures, own.confidence)
        for level in range(len(LEVELS), counts.shape[2]):
            found = _figures(drawn_BS, by_subject[:, number, level])
            # of the same people: a fold that could not fit its probe has answered nobody
            asked_S11 = by_subject[:, number, level].any((1, 2), keepdims=True)
            fixed = _figures(drawn_BS, by_subject[:, number, level - len(LEVELS)] * asked_S11)
            figures = {**found, "macro_f1_gain": found["macro_f1"] - fixed["macro_f1"]}
            entry[REFIT[level - len(LEVELS)]] = _estimates(figures, own.confidence)
        entries.append(entry)
    return entries


def result(
    embeddings: Embeddings,
    corpus: str,
    plan: MissingPlan,
    entries: list[dict[str, Any]],
    config: MissingConfig,
    notes: Sequence[str] = (),
) -> dict[str, Any]:  # Any: JSON
    """The whole answer as plain JSON types; docs/evaluation.md documents it."""
    trained = not embeddings.model_id.startswith(UNTRAINED)
    said = [] if trained else ["the encoder was never trained: its weights are random"]
    seen = sum(night.split == "train" for night in plan.nights)
    if seen and trained:
        said.append(
            f"{seen} of {len(plan.nights)} tested nights are in split train: the encoder may have "
            "been trained on them"
        )
    return {
        "kind": "missing_modalities",
        "task": "staging",
        "model_id": embeddings.model_id,
        "weights_sha256": embeddings.weights_sha256,
        "embeddings": embeddings.uri,
        "corpus": corpus,
        "modalities": [modality.value for modality in MODALITIES],
        "num_subjects": len({night.subject_id for night in plan.nights}),
        "num_nights": len(plan.nights),
        "subsets": entries,
        "left_out": dict(plan.left_out),
        "notes": [*said, *notes],
        "config": to_dict(config),
        "code_version": __version__,
    }


def _estimates(
    figures: dict[str, Floats], confidence: float
) -> dict[str, dict[str, float | int | None]]:
    return {label: _plain(estimate(values_B, confidence)) for label, values_B in figures.items()}


def _figures(drawn_BS: Ints, counts_SCC: Ints) -> dict[str, Floats]:
    summed = np.einsum("bs,sij->bij", drawn_BS, counts_SCC)
    return {name: figure(summed) for name, figure in FIGURES.items()}


def _share(over_B: Array, under_B: Array) -> Floats:
    nothing: Floats = np.full(len(over_B), np.nan)
    return np.divide(over_B, under_B, out=nothing, where=under_B > 0)


def _plain(found: Estimate) -> dict[str, float | int | None]:
    values = dataclasses.asdict(found)
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
