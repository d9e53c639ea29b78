"""One probe task on exported embeddings, from the first check to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from sleepmami.config import Level, ProbeConfig, Task
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation import device_shift, epoch_tasks, person_tasks, retrieval
from sleepmami.evaluation.embeddings import BASELINE, Embeddings, ProbeNight, open_embeddings
from sleepmami.evaluation.fitted_probe import FittedProbe, result_probe
from sleepmami.evaluation.folds import Fold, make_folds
from sleepmami.evaluation.labels import with_labels
from sleepmami.evaluation.metrics import Array
from sleepmami.evaluation.results import PredictionSink, ProbeResult
from sleepmami.evaluation.task_settings import (
    EPOCH_TASKS,
    level_of,
    refuse_to_keep,
    refuse_without_effect,
)
from sleepmami.psg import MODALITIES, UNTRAINED

# Takes the fitted probe; None where nobody wants it
KeepProbe: TypeAlias = Callable[[FittedProbe], None] | None


def run_probe(
    task: Task,
    uri: str,
    labels: Sequence[str],
    config: ProbeConfig,
    sink: PredictionSink = None,
    keep: KeepProbe = None,
    targets: str | None = None,
) -> ProbeResult:
    """Fit a linear probe on frozen embeddings and test it on other subjects.

    Args:
        task: what is asked.
        uri: the OUT folder of `embed cohort`, or a folder of the .npz files of `embed file`.
        labels: corpora and tables of people; none where the embeddings know enough themselves.
        config: see ProbeConfig.
        sink: takes predictions; not for few-shot and retrieval.
        keep: takes the fitted probe of a task of epochs, in one fold.
        targets: of retrieval: other embeddings by the same encoder, in which to look.

    Raises:
        ConfigError: a setting that has no effect on the task, or a level it cannot be asked at.
        TableError: vectors of several models, no labels, one class only, or too few subjects.
    """
    level = level_of(task, config)
    refuse_without_effect(task, config, sink)
    if targets is not None and task != "retrieval":
        raise ConfigError(f"targets have no effect on {task}; they are for retrieval")
    if keep is not None:
        refuse_to_keep(task, config)
    embeddings = open_embeddings(uri)
    montages = config.split.kind == "device" and config.split.device == "montage"
    nights = with_labels(embeddings.nights, labels, events=task == "apnea", montages=montages)
    nameless = sum(night.subject_id is None for night in nights)
    request = _Request(
        task=task,
        level=level,
        embeddings=embeddings,
        nights=[_with_subject(night) for night in nights],
        labels=tuple(labels),
        config=config,
        sink=sink,
        keep=keep,
        targets=embeddings if targets is None else open_embeddings(targets),
    )
    places, left_out = among(request.nights, config)
    _require_nights(places, left_out)
    asks = {"retrieval": _of_blocks, **dict.fromkeys(EPOCH_TASKS, _of_epochs)}
    result = asks.get(task, _of_people)(request, places, left_out)
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
    keep: KeepProbe
    targets: Embeddings

    def result(
        self, tested: Sequence[ProbeNight], notes: Sequence[str], **found: Any
    ) -> ProbeResult:
        # Any: fields of ProbeResult
        """The answer, with what does not depend on it."""
        seen = _seen_in_training(self.task, self.level, tested)
        if self.embeddings.model_id.startswith(BASELINE):
            seen = ()  # nothing was trained
        if self.embeddings.model_id.startswith(UNTRAINED):
            seen = ("the encoder was never trained: its weights are random",)
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


def among(nights: Sequence[ProbeNight], config: ProbeConfig) -> tuple[list[int], Counter[str]]:
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


def folds_of(nights: Sequence[ProbeNight], config: ProbeConfig, why: Counter[str]) -> list[Fold]:
    """The folds of nights that have labels; `why` others have none is said where none is left."""
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
    devices: list[str] | None = None
    if config.split.kind == "device" and nights:
        devices = device_shift.recorders(nights, config.split)
        people = [str(night.subject_id) for night in nights]
        folds = device_shift.device_folds(people, devices, config.split.num_folds, config.seed)
    else:
        folds = folds_of(nights, config, left_out)
    asked = epoch_tasks.AskedNights(
        embeddings=request.embeddings,
        level=request.level,
        places=[place for place, _ in usable],
        nights=nights,
        targets=[target for _, target in usable],
        folds=folds,
    )
    if devices is None:
        found = epoch_tasks.answer(request.task, asked, config, request.sink)
    else:
        found = device_shift.answer(request.task, asked, devices, config)
    result = request.result(
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
    if request.keep is not None:
        request.keep(result_probe(result, found.question.classes, found.probes[0]))
    return result


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
            folds = folds_of(nights, config, left_out + reasons)
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


def _of_blocks(request: _Request, places: Sequence[int], left_out: Counter[str]) -> ProbeResult:
    own, others, config = request.embeddings, request.targets, request.config
    if own.weights_sha256 != others.weights_sha256:
        raise TableError(
            f"{others.uri}: found vectors of {others.model_id}; expected those of {own.model_id}"
        )
    place_of = {night.recording_id: place for place, night in enumerate(others.nights)}
    usable = [place for place in places if request.nights[place].recording_id in place_of]
    if len(usable) < len(places):
        left_out["not among the targets"] = len(places) - len(usable)
    nights = [request.nights[place] for place in usable]
    folds = folds_of(nights, config, left_out)

    def read(numbers: Sequence[int]) -> Iterator[retrieval.NightBlocks]:
        number_of = {usable[number]: number for number in numbers}
        for query in own.read(list(number_of), "micro"):
            target = query
            number = number_of[query.place]
            if others is not own:
                (target,) = others.read([place_of[nights[number].recording_id]], "micro")
                if len(target.x_LF) != len(query.x_LF):
                    raise TableError(
                        f"{others.uri}: {nights[number].recording_id}: found {len(target.x_LF)} "
                        f"epochs; expected {len(query.x_LF)}, as {own.uri} has"
                    )
            yield retrieval.NightBlocks(
                number, *(_blocks(nights[number], x.x_LF) for x in (query, target))
            )

    subject_N = np.unique([str(n.subject_id) for n in nights], return_inverse=True)[1]
    found = retrieval.answer(read, subject_N, folds, config)
    notes = list(found.notes)
    if others is own and not own.model_id.startswith(BASELINE):
        notes.append(
            "query and target were embedded together: where the encoder lets modalities hear each "
            "other, a block may hold a copy of the others' signals"
        )
    return request.result(
        [nights[number] for number in found.asked],
        notes,
        unit="query",
        num_rows=found.num_rows,
        figures=found.figures,
        num_events={},
        confusion=None,
        folds=found.folds,
        left_out=left_out + found.left_out,
    )


def _blocks(night: ProbeNight, x_LF: Array) -> Array:
    """Micro vectors as [L, modalities, D]."""
    if x_LF.shape[1] % len(MODALITIES):
        raise TableError(
            f"{night.recording_id}: found micro vectors of {x_LF.shape[1]} numbers; expected "
            f"{len(MODALITIES)} blocks of one width"
        )
    return x_LF.reshape(len(x_LF), len(MODALITIES), -1)


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
