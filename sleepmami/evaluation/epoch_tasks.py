"""Staging, apnea and few-shot staging: a class per epoch from its vector.

Nights are read twice: once for the epochs that probes are fitted on, which stay in memory, and once
night by night for the predictions. Shapes: L epochs, N fit epochs, K parts of an epoch, C classes,
S subjects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.errors import TableError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import estimate, resampled_counts
from sleepmami.evaluation.embeddings import Embeddings, NightVectors, ProbeNight
from sleepmami.evaluation.fitted_probe import softmax
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.linear_probe import LinearProbe, ProbeFit, fit_probe
from sleepmami.evaluation.metrics import Array, Bools, Ints
from sleepmami.evaluation.probe_losses import CrossEntropy, class_weights
from sleepmami.evaluation.results import Cell, Confusion, Figure, FoldResult, PredictionSink
from sleepmami.evaluation.targets import (
    NOT_ASKED,
    Question,
    apnea_question,
    breathing,
    stages,
    staging_question,
)
from sleepmami.psg import EPOCH_S

EVERYBODY = "all"
FIGURES = {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1, "kappa": metrics.kappa}


@dataclass(frozen=True, kw_only=True)
class AskedNights:
    """Nights with targets, and where their vectors are.

    Attributes:
        level: micro, macro or second.
        places: of each night among the embeddings'.
        targets: of each night, [L, K]; of seconds, [30 L, 1].
        folds: of the nights.
    """

    embeddings: Embeddings
    level: Level
    places: Sequence[int]
    nights: Sequence[ProbeNight]
    targets: Sequence[Ints]
    folds: Sequence[Fold]

    @cached_property
    def subject_N(self) -> Ints:
        """Number of each night's subject."""
        names = [str(night.subject_id) for night in self.nights]
        return np.asarray(np.unique(names, return_inverse=True)[1])

    def read(self, wanted_N: Bools) -> Iterator[tuple[int, NightVectors]]:
        """Number and vectors of some nights."""
        number_of = {self.places[n]: n for n in np.flatnonzero(wanted_N).tolist()}
        for vectors in self.embeddings.read(list(number_of), self.level):
            yield number_of[vectors.place], vectors


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochAnswer:
    """Figures, see ProbeResult, and the probe of each fold, few-shot's of everybody."""

    question: Question
    num_rows: int
    figures: tuple[Figure, ...]
    confusion: Confusion | None
    folds: tuple[FoldResult, ...]
    notes: tuple[str, ...]
    probes: tuple[LinearProbe, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochModel:
    """A fitted probe and where its counts go: which group of figures, which draw of subjects."""

    group: str
    draw: int
    loss: CrossEntropy
    fitted: ProbeFit
    num_fit_subjects: int
    num_fit_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FitRows:
    """Epochs of all nights that a probe is fitted on; `place_N` is the night of each."""

    x_NF: Array
    target_NK: Ints
    place_N: Ints


def epoch_targets(
    task: Task, nights: Sequence[ProbeNight], config: ProbeConfig
) -> tuple[list[Ints | None], Counter[str]]:
    """The target [L, K] of each night, None where it cannot be asked, and why those cannot."""
    targets: list[Ints | None] = []
    left_out: Counter[str] = Counter()
    for night in nights:
        target, reason = None, None
        if task == "apnea":
            reason = "no scored events" if night.events is None else None
            level = config.level or "macro"
            target = None if reason else breathing(night, config.apnea, level)
        elif night.hypnogram is None:
            reason = "no hypnogram"
        else:
            target = stages(night.hypnogram, config.wake_min)
            reason = None if (target != NOT_ASKED).any() else "no sleep in the hypnogram"
        targets.append(None if reason else target)
        if reason:
            left_out[reason] += 1
    return targets, left_out


def answer(
    task: Task, asked: AskedNights, config: ProbeConfig, sink: PredictionSink = None
) -> EpochAnswer:
    """Fit and test the probes of a task.

    Args:
        task: staging, apnea or few-shot.
        asked: the nights that have targets.
        config: see ProbeConfig.
        sink: takes each night's predictions.

    Raises:
        TableError: too few classes or subjects to fit on.
    """
    question = question_of(task, asked, config)
    rows, share = fit_rows(asked, config)
    by_fold = _fitted(task, question, rows, asked, config)
    groups = list(dict.fromkeys(model.group for models in by_fold for model in models))
    counts = _test_counts(question, groups, by_fold, asked, sink)
    notes = []
    if share < 1:
        notes.append(
            f"fitted on {share:.1%} of the {'seconds' if asked.level == 'second' else 'epochs'} of "
            f"each night (max_fit_epochs={config.max_fit_epochs}); all were tested"
        )
    too_many = [n for n in config.few_shot.num_subjects if f"n={n}" not in groups]
    if task == "few-shot" and too_many:
        some = ", ".join(map(str, too_many))
        notes.append(f"n = {some} left out: there are not more subjects to fit on than that")
    return EpochAnswer(
        question=question,
        num_rows=int(counts[0, 0].sum()),
        figures=_figures(question, groups, counts, config),
        confusion=None if task == "few-shot" else _confusion(question, counts),
        folds=tuple(
            fold_result(model, fold, asked.subject_N)
            for fold, models in zip(asked.folds, by_fold, strict=True)
            for model in models
            if model.group != EVERYBODY or not model.draw
        ),
        notes=tuple(notes),
        probes=tuple(models[-1].fitted.probe for models in by_fold),
    )


def question_of(task: Task, asked: AskedNights, config: ProbeConfig) -> Question:
    """What a task asks of each row."""
    return apnea_question(config.apnea, asked.level) if task == "apnea" else staging_question()


def staging_probes(asked: AskedNights, config: ProbeConfig) -> list[LinearProbe]:
    """The probe of each fold; a class that its fit set does not have is never guessed.

    Raises:
        TableError: too few classes to fit on.
    """
    rows, _ = fit_rows(asked, config)
    folds = _fitted("staging", staging_question(), rows, asked, config)
    return [model.fitted.probe for models in folds for model in models]


def _fitted(
    task: Task, question: Question, rows: FitRows, asked: AskedNights, config: ProbeConfig
) -> list[list[EpochModel]]:
    """The probes of each fold."""
    subject_N = asked.subject_N
    if task != "few-shot":
        fits = [np.flatnonzero(fold.fit_N) for fold in asked.folds]
        return [[fit_model(question, rows, fit, subject_N, config)] for fit in fits]
    smallest = min(len(np.unique(subject_N[fold.fit_N])) for fold in asked.folds)
    sizes = [size for size in config.few_shot.num_subjects if size < smallest]
    return [
        _few_shot_models(question, rows, fold, sizes, subject_N, config) for fold in asked.folds
    ]


def _test_counts(
    question: Question,
    groups: Sequence[str],
    by_fold: Sequence[Sequence[EpochModel]],
    asked: AskedNights,
    sink: PredictionSink,
) -> Ints:
    """Confusion [groups, draws, S, C, C] of the tested subjects, read night by night."""
    num_draws = 1 + max(model.draw for models in by_fold for model in models)
    num_classes, num_subjects = len(question.classes), int(asked.subject_N.max()) + 1
    counts = np.zeros((len(groups), num_draws, num_subjects, num_classes, num_classes), np.int64)
    for fold, models in zip(asked.folds, by_fold, strict=True):
        for number, vectors in asked.read(fold.test_N):
            asked_L = asked_epochs(vectors, asked.targets[number])
            target_NK, x_NF = asked.targets[number][asked_L], vectors.x_LF[asked_L]
            for model in models:
                score_NO = model.fitted.probe.scores(x_NF)
                guess_NK = model.loss.classes(score_NO)
                counts[groups.index(model.group), model.draw, asked.subject_N[number]] += (
                    metrics.confusion(target_NK, guess_NK, num_classes)
                )
                if sink is not None:
                    night = asked.nights[number]
                    sink(_predictions(night, question, asked_L, target_NK, guess_NK, score_NO))
    return np.asarray(counts[:, :, counts.sum((0, 1, 3, 4)) > 0])


def asked_epochs(vectors: NightVectors, target_LK: Ints) -> Bools:
    """Which epochs [L] of a night are valid and have a target."""
    return np.asarray(vectors.valid_L & (target_LK[:, 0] != NOT_ASKED))


def fit_rows(asked: AskedNights, config: ProbeConfig) -> tuple[FitRows, float]:
    """Epochs of every night that is in a fit set, and which share of each night that is."""
    wanted_N = np.any([fold.fit_N for fold in asked.folds], axis=0)
    pairs = zip(asked.targets, wanted_N, strict=True)
    total = sum(int((target[:, 0] != NOT_ASKED).sum()) for target, wanted in pairs if wanted)
    share = min(1.0, config.max_fit_epochs / max(total, 1))
    parts: list[tuple[Array, Ints, Ints]] = []
    for number, vectors in asked.read(wanted_N):
        target_LK = asked.targets[number]
        rows = np.flatnonzero(asked_epochs(vectors, target_LK))
        if share < 1:
            rng = np.random.default_rng([config.seed, number])
            rows = np.sort(rng.permutation(rows)[: int(np.ceil(share * len(rows)))])
        parts.append((vectors.x_LF[rows], target_LK[rows], np.full(len(rows), number)))
    if not sum(len(part[0]) for part in parts):
        raise TableError("found no valid epoch with a label to fit on; expected some")
    x, target, place = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return FitRows(x_NF=x, target_NK=target, place_N=place), share


def fit_model(
    question: Question,
    rows: FitRows,
    fit: Ints,
    subject_N: Ints,
    config: ProbeConfig,
    group: str = "",
    draw: int = 0,
) -> EpochModel:
    """A probe of the epochs of some nights."""
    chosen = np.isin(rows.place_N, fit)
    target_NK = rows.target_NK[chosen]
    weighting = question.weighting if config.class_weights == "table_10" else "none"
    weight_C = class_weights(target_NK, len(question.classes), weighting)
    loss = CrossEntropy(target_NK, weight_C)
    fitted = fit_probe(
        rows.x_NF if chosen.all() else rows.x_NF[chosen],  # a copy of gigabytes less
        subject_N[rows.place_N[chosen]],
        loss,
        penalties=config.penalties,
        inner_folds=config.inner_folds,
        seed=config.seed,
        max_choice_rows=config.max_choice_epochs,
    )
    probe = replace(fitted.probe, bias_O=loss.without_absent(fitted.probe.bias_O))
    return EpochModel(
        group=group,
        draw=draw,
        loss=loss,
        fitted=replace(fitted, probe=probe),
        num_fit_subjects=len(np.unique(subject_N[fit])),
        num_fit_rows=len(target_NK),
    )


def _few_shot_models(
    question: Question,
    rows: FitRows,
    fold: Fold,
    sizes: Sequence[int],
    subject_N: Ints,
    config: ProbeConfig,
) -> list[EpochModel]:
    """Probes of n subjects for each n there are enough for in every fold, and of all.

    A draw is an order of the subjects, so that its larger sets hold its smaller ones.
    """
    pool = np.unique(subject_N[fold.fit_N])
    models = []
    for draw in range(config.few_shot.num_draws):
        order = np.random.default_rng([config.seed, draw]).permutation(pool)
        for size in sizes:
            fit = np.flatnonzero(fold.fit_N & np.isin(subject_N, order[:size]))
            try:
                model = fit_model(question, rows, fit, subject_N, config, f"n={size}", draw)
            except TableError as error:
                raise TableError(f"probe of n={size}, draw {draw}: {error}") from error
            models.append(model)
    # there is one way to take everybody: it is each draw's, so that groups are of one shape
    whole = fit_model(question, rows, np.flatnonzero(fold.fit_N), subject_N, config, EVERYBODY)
    return models + [replace(whole, draw=draw) for draw in range(config.few_shot.num_draws)]


def _figures(
    question: Question,
    groups: Sequence[str],
    counts: Ints,
    config: ProbeConfig,
) -> tuple[Figure, ...]:
    """Figures of each group, a mean over its draws."""
    num_subjects = counts.shape[2]
    drawn_BS = resampled_counts(num_subjects, config.num_resamples, config.seed)
    figures = []
    for group, own in zip(groups, counts, strict=True):  # [draws, S, C, C]
        summed = np.einsum("bs,dsij->bdij", drawn_BS, own, optimize=True)
        for name, figure in FIGURES.items():
            values_B = figure(summed).mean(1)
            figures.append(Figure(name, group, estimate(values_B, config.confidence)))
        if len(groups) == 1:
            f1_BC = metrics.class_f1(summed).mean(1)
            figures += [
                Figure(f"f1_{label}", group, estimate(f1_BC[:, c], config.confidence))
                for c, label in enumerate(question.classes)
            ]
    return tuple(figures)


def _confusion(question: Question, counts: Ints) -> Confusion:
    whole = counts[0, 0].sum(0)
    return Confusion(classes=question.classes, counts=tuple(tuple(row) for row in whole.tolist()))


def fold_result(model: EpochModel, fold: Fold, subject_N: Ints) -> FoldResult:
    """What a result says of a fitted probe."""
    return FoldResult(
        group=model.group,
        num_fit_subjects=model.num_fit_subjects,
        num_fit_rows=model.num_fit_rows,
        num_test_subjects=len(np.unique(subject_N[fold.test_N])),
        penalty=model.fitted.penalty,
        penalty_chosen=model.fitted.chosen,
    )


def _predictions(
    night: ProbeNight,
    question: Question,
    asked_L: Bools,
    target_NK: Ints,
    guess_NK: Ints,
    score_NO: metrics.Floats,
) -> dict[str, Sequence[Cell]]:
    """One row per epoch, or second: truth, guess and the probability of each class."""
    num_parts, rows = question.num_parts, np.flatnonzero(asked_L)
    likely = softmax(score_NO.reshape(-1, len(question.classes)))
    second_N = np.tile(np.arange(num_parts), len(rows))
    if question.unit == "second" and num_parts == 1:  # a row is a second
        rows, second_N = np.divmod(rows, EPOCH_S)
    epochs: list[int] = np.repeat(rows, num_parts).tolist()
    columns: dict[str, Sequence[Cell]] = {
        "recording_id": [night.recording_id] * len(epochs),
        "subject_id": [str(night.subject_id)] * len(epochs),
        "epoch": epochs,
    }
    if question.unit == "second":
        columns["second"] = second_N.tolist()
    columns["truth"] = [question.classes[c] for c in target_NK.ravel().tolist()]
    columns["guess"] = [question.classes[c] for c in guess_NK.ravel().tolist()]
    for number, name in enumerate(question.classes):
        columns[f"p_{name}"] = likely[:, number].round(6).tolist()
    return columns
