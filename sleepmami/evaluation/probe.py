"""One probe task on exported embeddings, from the first check to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.config_edit import flatten, replace_at, to_dict
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation import epoch_tasks, person_tasks
from sleepmami.evaluation.embeddings import Embeddings, ProbeNight, open_embeddings
from sleepmami.evaluation.folds import Fold, make_folds
from sleepmami.evaluation.labels import with_labels
from sleepmami.evaluation.results import PredictionSink, ProbeResult

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
    nameless = sum(night.subject_id is None for night in nights)
    request = _Request(
        task=task,
        level=level,
        embeddings=embeddings,
        nights=[_with_subject(night) for night in nights],
        labels=tuple(labels),
        config=config,
        sink=sink,
    )
    places, left_out = _among(request.nights, config)
    _require_nights(places, left_out)
    ask = _of_epochs if task in EPOCH_TASKS else _of_people
    result = ask(request, places, left_out)
    if nameless:
        note = f"{nameless} recordings without a known subject count as a person each"
        result = replace(result, notes=(note, *result.notes))
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """What is asked of whom."""

    task: Task
    level: Level
    embeddings: Embeddings
    nights: Sequence[ProbeNight]
    labels: tuple[str, ...]
    config: ProbeConfig
    sink: PredictionSink

    def result(
        self, tested: Sequence[ProbeNight], notes: Sequence[str], **found: Any
    ) -> ProbeResult:
        # Any: fields of ProbeResult
        """The answer, with what does not depend on it."""
        seen = _seen_in_training(self.task, self.level, tested)
        return ProbeResult(
            task=self.task,
            level=self.level,
            embeddings=self.embeddings.uri,
            labels=self.labels,
            model_id=self.embeddings.model_id,
            weights_sha256=self.embeddings.weights_sha256,
            num_subjects=len({night.subject_id for night in tested}),
            num_nights=len(tested),
            notes=(*notes, *seen),
            config=self.config,
            **found,
        )


def _with_subject(night: ProbeNight) -> ProbeNight:
    return night if night.subject_id is not None else replace(night, subject_id=night.recording_id)


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


def with_effect(task: Task, config: ProbeConfig) -> ProbeConfig:
    """The settings without those that the task does not look at, for many tasks of one config."""
    default = dict(flatten(to_dict(ProbeConfig())))
    reset = {
        name: default[name]
        for name in default
        if any(name.startswith(key) and task not in tasks for key, tasks in ONLY_FOR.items())
    }
    return replace_at(config, reset)


def _among(nights: Sequence[ProbeNight], config: ProbeConfig) -> tuple[list[int], Counter[str]]:
    """Places of the nights that may be used, and how many may not."""
    left_out: Counter[str] = Counter()
    places = list(range(len(nights)))
    if config.cohorts:
        if any(night.cohort is None for night in nights):
            raise TableError(
                "found nights of which the cohort is not known; expected --labels CORPUS, or no "
                "cohorts"
            )
        places = [place for place in places if nights[place].cohort in config.cohorts]
        left_out["of other cohorts"] = len(nights) - len(places)
    if config.split.among == "held_out":
        if any(night.split is None for night in nights):
            raise TableError(
                "found nights of which the split is not known; expected --labels CORPUS, or "
                "split.among=all"
            )
        kept = [place for place in places if nights[place].split != "train"]
        left_out["in split train"] = len(places) - len(kept)
        places = kept
    return places, +left_out


def _folds(nights: Sequence[ProbeNight], config: ProbeConfig, why: Counter[str]) -> list[Fold]:
    _require_nights(nights, why)
    return make_folds(
        [str(night.subject_id) for night in nights],
        [night.split for night in nights],
        config.split,
        config.seed,
    )


def _require_nights(nights: Sequence[object], why: Counter[str]) -> None:
    if not nights:
        reasons = ", ".join(f"{count} nights: {reason}" for reason, count in why.items())
        raise TableError(
            f"found no night with labels ({reasons}); expected --labels with a corpus or a table "
            "of people that has them"
        )


def _of_epochs(request: _Request, places: Sequence[int], left_out: Counter[str]) -> ProbeResult:
    config, candidates = request.config, [request.nights[place] for place in places]
    targets, reasons = epoch_tasks.epoch_targets(request.task, candidates, config)
    left_out += reasons
    pairs = zip(places, targets, strict=True)
    usable = [(place, target) for place, target in pairs if target is not None]
    nights = [request.nights[place] for place, _ in usable]
    folds = _folds(nights, config, left_out)
    asked = epoch_tasks.AskedNights(
        embeddings=request.embeddings,
        level=request.level,
        places=[place for place, _ in usable],
        nights=nights,
        targets=[target for _, target in usable],
        folds=folds,
    )
    found = epoch_tasks.answer(request.task, asked, config, request.sink)
    return request.result(
        _tested(nights, folds),
        found.notes,
        unit=found.question.unit,
        num_rows=found.num_rows,
        figures=found.figures,
        num_events={},
        confusion=found.confusion,
        folds=found.folds,
        left_out=left_out,
    )


def _of_people(request: _Request, places: Sequence[int], left_out: Counter[str]) -> ProbeResult:
    task, config = request.task, request.config
    x_NF, valid_N = person_tasks.night_features(request.embeddings, request.level, places)
    if not valid_N.all():
        left_out["no valid epoch"] = int((~valid_N).sum())
    pairs = zip(places, valid_N, strict=True)
    candidates = [request.nights[place] for place, valid in pairs if valid]
    answers: dict[str, person_tasks.PersonAnswer] = {}
    notes: list[str] = []
    tested: dict[str, ProbeNight] = {}
    outcomes = config.outcomes if task == "survival" else ("",)
    for outcome in outcomes:
        usable, reasons = person_tasks.labelled_nights(task, candidates, outcome)
        nights = [candidates[number] for number in usable]
        x_own_NF = x_NF[valid_N][np.array(usable, np.intp)]
        try:
            folds = _folds(nights, config, left_out + reasons)
            answers[outcome] = person_tasks.answer(
                task, x_own_NF, nights, folds, config, outcome, request.sink
            )
        except TableError as error:
            # the other diseases may have their people and events
            if len(outcomes) == 1 or (outcome == outcomes[-1] and not answers):
                raise
            notes.append(f"{outcome}: {error if nights else 'nobody has a follow-up of it'}")
            continue
        left_out += reasons
        tested |= {night.recording_id: night for night in _tested(nights, folds)}
    return request.result(
        list(tested.values()),
        notes,
        unit="night",
        num_rows=len(tested),
        figures=tuple(figure for found in answers.values() for figure in found.figures),
        num_events={name: found.num_events for name, found in answers.items() if name},
        confusion=None,
        folds=tuple(fold for found in answers.values() for fold in found.folds),
        left_out=left_out,
    )


def _tested(nights: Sequence[ProbeNight], folds: Sequence[Fold]) -> list[ProbeNight]:
    there_N = np.any([fold.test_N for fold in folds], axis=0)
    return [night for night, there in zip(nights, there_N, strict=True) if there]


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
