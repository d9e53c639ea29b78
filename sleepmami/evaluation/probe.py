"""One probe task on exported embeddings, from the first check to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.config_edit import flatten, to_dict
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation import epoch_tasks, person_tasks
from sleepmami.evaluation.embeddings import Embeddings, ProbeNight, open_embeddings
from sleepmami.evaluation.folds import Fold, make_folds
from sleepmami.evaluation.labels import with_labels
from sleepmami.evaluation.results import Figure, FoldResult, PredictionSink, ProbeResult

EPOCH_TASKS: tuple[Task, ...] = ("staging", "few-shot", "apnea")
# settings that only some tasks look at
ONLY_FOR: dict[str, tuple[Task, ...]] = {
    "class_weights": EPOCH_TASKS,
    "max_fit_epochs": EPOCH_TASKS,
    "wake_min": ("staging", "few-shot"),
    "apnea.": ("apnea",),
    "few_shot.": ("few-shot",),
    "outcomes": ("survival",),
}


def run_probe(
    task: Task,
    uri: str,
    labels: Sequence[str],
    config: ProbeConfig,
    sink: PredictionSink = None,
) -> ProbeResult:
    """Fit a linear probe on frozen embeddings and test it on other subjects.

    Args:
        task: what is asked.
        uri: the OUT folder of `embed cohort`, or a folder of the .npz files of `embed file`.
        labels: corpora and tables of people; none where the embeddings know enough themselves.
        config: see ProbeConfig.
        sink: takes predictions; not for few-shot, whose probes are many.

    Raises:
        ConfigError: a setting that has no effect on the task, or a level it cannot be asked at.
        TableError: vectors of several models, no labels, one class only, or too few subjects.
    """
    level = _level(task, config)
    _refuse_without_effect(task, config, sink)
    embeddings = open_embeddings(uri)
    nights = with_labels(embeddings.nights, labels, events=task == "apnea")
    notes = []
    if any(night.subject_id is None for night in nights):
        nameless = sum(night.subject_id is None for night in nights)
        notes.append(f"{nameless} recordings without a known subject count as a person each")
        nights = [
            night if night.subject_id is not None else replace(night, subject_id=night.recording_id)
            for night in nights
        ]
    places, left_out = _among(nights, config)
    if task in EPOCH_TASKS:
        result = _of_epochs(task, embeddings, level, nights, places, left_out, labels, config, sink)
    else:
        result = _of_people(task, embeddings, level, nights, places, left_out, labels, config, sink)
    return replace(result, notes=(*notes, *result.notes))


def _level(task: Task, config: ProbeConfig) -> Level:
    if task not in EPOCH_TASKS:
        return config.level or "night"
    if config.level == "night":
        raise ConfigError(f"level='night' has one vector per night, {task} asks for each epoch; "
                          "expected micro or macro")  # fmt: skip
    return config.level or "macro"


def _refuse_without_effect(task: Task, config: ProbeConfig, sink: PredictionSink) -> None:
    default = dict(flatten(to_dict(ProbeConfig())))
    for name, value in flatten(to_dict(config)):
        tasks = next((only for key, only in ONLY_FOR.items() if name.startswith(key)), (task,))
        if task not in tasks and value != default[name]:
            raise ConfigError(f"{name} has no effect on {task}; it is for {', '.join(tasks)}")
    if task == "few-shot" and sink is not None:
        raise ConfigError("predictions of few-shot are of many probes; write those of staging")


def _among(nights: Sequence[ProbeNight], config: ProbeConfig) -> tuple[list[int], Counter[str]]:
    """Places of the nights that may be used, and how many may not."""
    left_out: Counter[str] = Counter()
    places = list(range(len(nights)))
    if config.split.among == "held_out":
        if any(night.split is None for night in nights):
            raise TableError(
                "found nights of which the split is not known; expected --labels CORPUS, or "
                "split.among=all"
            )
        places = [place for place in places if nights[place].split != "train"]
        if len(places) < len(nights):
            left_out["in split train"] = len(nights) - len(places)
    return places, left_out


def _folds(nights: Sequence[ProbeNight], config: ProbeConfig, why: Counter[str]) -> list[Fold]:
    if not nights:
        reasons = ", ".join(f"{count} nights: {reason}" for reason, count in why.items())
        raise TableError(
            f"found no night with labels ({reasons}); expected --labels with a corpus or a table "
            "of people that has them"
        )
    return make_folds(
        [str(night.subject_id) for night in nights],
        [night.split for night in nights],
        config.split,
        config.seed,
    )


def _of_epochs(
    task: Task,
    embeddings: Embeddings,
    level: Level,
    nights: Sequence[ProbeNight],
    places: Sequence[int],
    left_out: Counter[str],
    labels: Sequence[str],
    config: ProbeConfig,
    sink: PredictionSink,
) -> ProbeResult:
    all_targets, reasons = epoch_tasks.epoch_targets(task, [nights[p] for p in places], config)
    left_out += reasons
    pairs = zip(places, all_targets, strict=True)
    asked = [(place, target) for place, target in pairs if target is not None]
    places, targets = [place for place, _ in asked], [target for _, target in asked]
    chosen = [nights[place] for place in places]
    folds = _folds(chosen, config, left_out)
    found = epoch_tasks.answer(
        task, embeddings, level, places, chosen, targets, folds, config, sink
    )
    tested = [night for night, there in zip(chosen, _tested(folds), strict=True) if there]
    return ProbeResult(
        task=task,
        level=level,
        unit=found.question.unit,
        embeddings=embeddings.uri,
        labels=tuple(labels),
        model_id=embeddings.model_id,
        weights_sha256=embeddings.weights_sha256,
        num_subjects=len({night.subject_id for night in tested}),
        num_nights=len(tested),
        num_rows=found.num_rows,
        figures=found.figures,
        num_events={},
        confusion=found.confusion,
        folds=found.folds,
        left_out=left_out,
        notes=(*found.notes, *_seen_in_training(task, level, tested)),
        config=config,
    )


def _of_people(
    task: Task,
    embeddings: Embeddings,
    level: Level,
    nights: Sequence[ProbeNight],
    places: Sequence[int],
    left_out: Counter[str],
    labels: Sequence[str],
    config: ProbeConfig,
    sink: PredictionSink,
) -> ProbeResult:
    x_NF, valid_N = person_tasks.night_features(embeddings, level, places)
    if not valid_N.all():
        left_out["no valid epoch"] = int((~valid_N).sum())
    candidates = [nights[place] for place, valid in zip(places, valid_N, strict=True) if valid]
    x_NF = x_NF[valid_N]
    figures: list[Figure] = []
    fold_results: list[FoldResult] = []
    notes: list[str] = []
    tested: dict[str, ProbeNight] = {}
    num_events: dict[str, int] = {}
    outcomes = config.outcomes if task == "survival" else (None,)
    for outcome in outcomes:
        usable, reasons = person_tasks.labelled_nights(task, candidates, outcome)
        chosen = [candidates[number] for number in usable]
        if not chosen and outcome != outcomes[-1]:
            notes.append(f"{outcome}: nobody has a follow-up of it")
            continue
        try:
            folds = _folds(chosen, config, reasons)
            found = person_tasks.answer(
                task, x_NF[np.array(usable)], chosen, folds, config, outcome, sink
            )
        except TableError as error:
            # the other diseases may have their people and events
            if len(outcomes) == 1 or (outcome == outcomes[-1] and not figures):
                raise
            notes.append(
                f"{outcome}: {error}" if chosen else f"{outcome}: nobody has a follow-up of it"
            )
            continue
        left_out += reasons
        if outcome:
            num_events[outcome] = found.num_events
        figures += found.figures
        fold_results += found.folds
        for night, there in zip(chosen, _tested(folds), strict=True):
            if there:
                tested[night.recording_id] = night
    return ProbeResult(
        task=task,
        level=level,
        unit="night",
        embeddings=embeddings.uri,
        labels=tuple(labels),
        model_id=embeddings.model_id,
        weights_sha256=embeddings.weights_sha256,
        num_subjects=len({night.subject_id for night in tested.values()}),
        num_nights=len(tested),
        num_rows=len(tested),
        figures=tuple(figures),
        num_events=num_events,
        confusion=None,
        folds=tuple(fold_results),
        left_out=left_out,
        notes=(*notes, *_seen_in_training(task, level, list(tested.values()))),
        config=config,
    )


def _tested(folds: Sequence[Fold]) -> list[bool]:
    tested: list[bool] = np.any([fold.test_N for fold in folds], axis=0).tolist()
    return tested


def _seen_in_training(task: Task, level: Level, tested: Sequence[ProbeNight]) -> tuple[str, ...]:
    """Whether the encoder had learned from the people it is tested on."""
    people = {night.subject_id for night in tested}
    seen = {night.subject_id for night in tested if night.split == "train"}
    unknown = {night.subject_id for night in tested if night.split is None}
    if unknown:
        return (f"whether the encoder was trained on {len(unknown)} of {len(people)} tested "
                "subjects is not known: their split is not",)  # fmt: skip
    if not seen:
        return ()
    labels = ""
    if level != "micro" and task in ("age", "sex", "bmi"):
        labels = f", and DGCL may have seen their {task}: this figure is too good"
    return (f"{len(seen)} of {len(people)} tested subjects are in split train: the encoder may "
            f"have been trained on their nights{labels}; split.among=held_out leaves them "
            "out",)  # fmt: skip
