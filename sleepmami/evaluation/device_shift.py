"""Hardware shift: probes fitted on one recorder's nights, tested on every recorder's.

People are dealt into folds once, over all recorders. In each fold a probe per recorder is fitted on
its nights of the other folds' people, and tested on all nights of this fold's people: the same
probe is tested on its own recorder and on the others, and nobody is on both sides, whichever
recorders they slept with. With three recorders or more a probe is also fitted on all but one, and
tested on that.

Shapes: N nights, S subjects, C classes, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sleepmami.config import ProbeConfig, ProbeSplitConfig, Task
from sleepmami.errors import TableError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import estimate, resampled_counts
from sleepmami.evaluation.embeddings import ProbeNight
from sleepmami.evaluation.epoch_tasks import (
    FIGURES,
    AskedNights,
    EpochAnswer,
    EpochModel,
    asked_epochs,
    fit_model,
    fit_rows,
    fold_result,
    question_of,
)
from sleepmami.evaluation.folds import Fold
from sleepmami.evaluation.metrics import Bools, Floats, Ints
from sleepmami.evaluation.results import Figure

OTHERS = "others"
WITHIN, ACROSS = "within", "across"


def recorders(nights: Sequence[ProbeNight], config: ProbeSplitConfig) -> list[str]:
    """The recorder of each night, by its cohort or its montage.

    Raises:
        TableError: it is not known, or all are of one.
    """
    found = [getattr(night, config.device) for night in nights]
    if None in found:
        nameless = nights[found.index(None)].recording_id
        raise TableError(
            f"{nameless}: found no {config.device} of this night; expected --labels CORPUS, which "
            "knows it"
        )
    names = sorted({str(name) for name in found})
    if len(names) < 2:
        other = "montage" if config.device == "cohort" else "cohort"
        raise TableError(
            f"found the {config.device} {names[0]!r} alone; expected at least two: ingest each "
            f"recorder's files with a --cohort of their own, or set split.device={other}"
        )
    return [str(name) for name in found]


def device_folds(
    subject_ids: Sequence[str], device_N: Sequence[str], num_folds: int, seed: int
) -> list[Fold]:
    """Everybody is tested once; the people of each recorder are spread over the folds evenly.

    Raises:
        TableError: a recorder with fewer people than folds.
    """
    people: dict[str, list[str]] = {}
    dealt: dict[str, int] = {}
    for subject, device in sorted(set(zip(subject_ids, device_N, strict=True))):
        people.setdefault(device, []).append(subject)
    for device, subjects in sorted(people.items()):
        if len(subjects) < num_folds:
            raise TableError(
                f"found {len(subjects)} subjects of {device}; expected at least one for each of "
                f"split.num_folds={num_folds}"
            )
        order = np.random.default_rng(seed).permutation(len(subjects))
        counts = np.bincount(
            [dealt[s] for s in subjects if s in dealt], minlength=num_folds
        )  # those who slept with an earlier recorder keep their fold
        for number in order.tolist():
            if subjects[number] not in dealt:
                dealt[subjects[number]] = int(counts.argmin())
                counts[dealt[subjects[number]]] += 1
    fold_N = np.array([dealt[subject] for subject in subject_ids])
    return [Fold(fit_N=fold_N != fold, test_N=fold_N == fold) for fold in range(num_folds)]


def answer(
    task: Task, asked: AskedNights, device_N: Sequence[str], config: ProbeConfig
) -> EpochAnswer:
    """Fit a probe per recorder and fold, test each on all recorders.

    Args:
        task: staging or apnea.
        asked: the nights that have targets, in `device_folds`.
        device_N: the recorder of each.
        config: see ProbeConfig.

    Raises:
        TableError: a recorder whose fit nights show fewer than two classes.
    """
    question = question_of(task, asked, config)
    names, device = sorted(set(device_N)), np.array(device_N, dtype=object)
    rows, share = fit_rows(asked, config)
    num_classes, num_subjects = len(question.classes), int(asked.subject_N.max()) + 1
    counts: dict[tuple[str, str], Ints] = {}
    folds = []
    for fold in asked.folds:
        models: dict[str, EpochModel] = {}
        for source, fit_N in _sources(names, device):
            fit = np.flatnonzero(fold.fit_N & fit_N)
            try:
                model = fit_model(question, rows, fit, asked.subject_N, config, source)
            except TableError as error:
                raise TableError(f"probe of {source}: {error}") from error
            models[source] = model
            folds.append(fold_result(model, fold, asked.subject_N))
        for number, vectors in asked.read(fold.test_N):
            asked_L = asked_epochs(vectors, asked.targets[number])
            target_NK, x_NF = asked.targets[number][asked_L], vectors.x_LF[asked_L]
            target = str(device[number])
            for source, model in models.items():
                if source.startswith(OTHERS) and source != _others_than(target):
                    continue
                guess_NK = model.loss.classes(model.fitted.probe.scores(x_NF))
                label = OTHERS if source.startswith(OTHERS) else source
                cell = counts.setdefault(
                    (label, target), np.zeros((num_subjects, num_classes, num_classes), np.int64)
                )
                cell[asked.subject_N[number]] += metrics.confusion(target_NK, guess_NK, num_classes)
    own_SCC = sum(counts[names[0], target] for target in names)
    notes = [_about(name, device, asked.subject_N) for name in names]
    if share < 1:
        notes.append(f"fitted on {share:.1%} of the epochs of each night; all were tested")
    return EpochAnswer(
        question=question,
        num_rows=int(np.sum(own_SCC)),
        figures=_figures(counts, names, config),
        confusion=None,
        folds=tuple(folds),
        notes=tuple(notes),
        probes=(),
    )


def _others_than(name: str) -> str:
    return f"{OTHERS} than {name}"


def _sources(names: Sequence[str], device_N: metrics.Array) -> list[tuple[str, Bools]]:
    """What is fitted: each recorder's nights, and with three or more all but each one's."""
    sources = [(name, np.asarray(device_N == name)) for name in names]
    if len(names) > 2:
        sources += [(_others_than(name), np.asarray(device_N != name)) for name in names]
    return sources


def _about(name: str, device_N: metrics.Array, subject_N: Ints) -> str:
    own_N = device_N == name
    return f"{name}: {len(np.unique(subject_N[own_N]))} subjects, {int(own_N.sum())} nights"


def _figures(
    counts: dict[tuple[str, str], Ints], names: Sequence[str], config: ProbeConfig
) -> tuple[Figure, ...]:
    """Each cell, then the mean of the cells within a recorder, across two, and their difference."""
    tested_S = np.any([cell.any((1, 2)) for cell in counts.values()], axis=0)
    drawn_BS = resampled_counts(int(tested_S.sum()), config.num_resamples, config.seed)
    found: dict[str, dict[str, Floats]] = {name: {} for name in FIGURES}
    groups: dict[str, dict[str, Floats]] = {}
    for (source, target), cell in sorted(counts.items()):
        summed_BCC = np.einsum("bs,sij->bij", drawn_BS, cell[tested_S])
        values = {name: figure(summed_BCC) for name, figure in FIGURES.items()}
        groups[f"{source}->{target}"] = values
        if source != OTHERS:
            kind = WITHIN if source == target else ACROSS
            for name, value_B in values.items():
                found[name][kind] = found[name].get(kind, 0) + value_B
    num_within, num_across = len(names), len(names) * (len(names) - 1)
    for name, sums in found.items():
        within_B, across_B = sums[WITHIN] / num_within, sums[ACROSS] / num_across
        for kind, value_B in (
            (WITHIN, within_B),
            (ACROSS, across_B),
            ("within - across", within_B - across_B),
        ):
            groups.setdefault(kind, {})[name] = value_B
    return tuple(
        Figure(name, group, estimate(value_B, config.confidence))
        for group, values in groups.items()
        for name, value_B in values.items()
    )
