"""Who fits and who is tested: whole subjects, so that nobody is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sleepmami.config import ProbeSplitConfig
from sleepmami.errors import TableError
from sleepmami.evaluation.metrics import Bools, Ints

FIT_SPLITS = ("train", "validation")
MIN_SUBJECTS = 2  # on either side: one to choose the penalty on, and an interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """Nights a probe is fitted on, and those it is tested on; bool[N] each, never both."""

    fit_N: Bools
    test_N: Bools


def make_folds(
    subject_ids: Sequence[str],
    splits: Sequence[str | None],
    config: ProbeSplitConfig,
    seed: int,
) -> list[Fold]:
    """The folds of N nights.

    Args:
        subject_ids: whose each night is.
        splits: the corpus' split of each night; None where it is not known.
        config: `stored` is one fold, fitted on train and validation and tested on test; `folds`
            tests every subject once.
        seed: of the folds.

    Raises:
        TableError: too few subjects on a side, a subject in two splits, or no splits known.
    """
    subject_N = np.asarray(subject_ids, dtype=object)
    if config.kind == "stored":
        folds = [_stored(subject_ids, splits)]
    else:
        fold_N = subject_folds(subject_ids, config.num_folds, seed)
        folds = [
            Fold(fit_N=fold_N != number, test_N=fold_N == number)
            for number in range(config.num_folds)
        ]
    for fold in folds:
        both = set(subject_N[fold.fit_N]) & set(subject_N[fold.test_N])
        if both:
            raise TableError(
                f"found {len(both)} subjects to fit and to test on, such as {min(both)}; "
                "expected each in one split"
            )
    _require_subjects(subject_N, folds, config)
    return folds


def subject_folds(subject_ids: Sequence[str], num_folds: int, seed: int) -> Ints:
    """The fold of each night [N]: subjects in a seeded order, dealt out in turn."""
    subjects, subject_N = np.unique(np.asarray(subject_ids, dtype=str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(subjects))
    fold_S = np.empty(len(subjects), np.int64)
    fold_S[order] = np.arange(len(subjects)) % num_folds
    return np.asarray(fold_S[subject_N])


def _stored(subject_ids: Sequence[str], splits: Sequence[str | None]) -> Fold:
    if len(subject_ids) and None in splits:
        raise TableError(
            "found nights of which the split is not known; expected split.kind=folds for them, or "
            "--labels CORPUS, which knows it"
        )
    split_N = np.asarray(splits, dtype=object)
    return Fold(fit_N=np.isin(split_N, FIT_SPLITS), test_N=split_N == "test")


def _require_subjects(subject_N: Ints, folds: Sequence[Fold], config: ProbeSplitConfig) -> None:
    fit = min(len(set(subject_N[fold.fit_N])) for fold in folds)
    tested = len(set(subject_N[np.any([fold.test_N for fold in folds], axis=0)]))
    if config.kind == "folds" and tested < config.num_folds:
        raise TableError(
            f"found {tested} subjects with labels; expected at least one for each of "
            f"split.num_folds={config.num_folds}"
        )
    if fit < MIN_SUBJECTS or tested < MIN_SUBJECTS:
        hint = "; split.kind=folds tests everybody in turn" if config.kind == "stored" else ""
        raise TableError(
            f"found {fit} subjects to fit and {tested} to test on, of {len(set(subject_N))} with "
            f"labels; expected at least {MIN_SUBJECTS} of each{hint}"
        )
