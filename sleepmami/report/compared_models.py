"""Which results answer the same question, what their models are called, and which is better.

A model is a kind of vector of one set of weights: Micro and Macro of the run are two. The one that
the others are compared with is the run's Macro-Encoder, or the first there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.embeddings import BASELINE
from sleepmami.evaluation.paired import difference
from sleepmami.evaluation.predictions import Predictions
from sleepmami.evaluation.stored_results import StoredResult, read_predictions
from sleepmami.psg import UNTRAINED
from sleepmami.report.result_figures import Series
from sleepmami.report.wording import SMALLER_IS_BETTER

TASK_TITLES = {
    "staging": "Sleep stages",
    "few-shot": "Sleep stages by few labels",
    "apnea": "Apnea and hypopnea",
    "age": "Age",
    "sex": "Sex",
    "bmi": "BMI",
    "ahi": "Apnea-hypopnea index",
    "survival": "Disease in follow-up",
}
HEADLINE = {
    "staging": "macro_f1",
    "apnea": "macro_f1",
    "age": "mae",
    "bmi": "mae",
    "ahi": "mae",
    "sex": "auroc",
    "survival": "c_index",
}
MATRIX_KINDS = {"staging": "hardware", "apnea": "hardware"}  # probes of split.kind=device
LEVEL_NAMES = {"micro": "Micro", "macro": "Macro", "night": "Macro", "second": "Second"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question and every model's answer.

    Attributes:
        key: of its address: the task, and its unit where it was asked in two.
        task: as in the results.
        title: for people.
        results: by the model's name, in the order of all models.
    """

    key: str
    task: str
    title: str
    results: Mapping[str, StoredResult]

    @property
    def headline(self) -> tuple[str, str]:
        """Name and group of the figure that stands for the whole; of diseases the most frequent."""
        events: dict[str, int] = {}
        for result in self.results.values():
            events |= result.num_events
        group = max(sorted(events), key=lambda name: events[name], default="")
        return HEADLINE[self.task], group if self.task == "survival" else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The first model against another in one question's headline.

    Attributes:
        asked: the question.
        other: name of the other model.
        estimate: figure of the first minus that of the other, over the same subjects; None where
            the two have no predictions in common.
        num_subjects: of those.
        better: True or False where it is clear, None where it is not.
        other_people: the two were tested on different people, which decides nothing.
    """

    asked: Asked
    other: str
    estimate: Estimate | None
    num_subjects: int
    better: bool | None
    other_people: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """All questions that a folder of results answers.

    Attributes:
        models: names in the order in which they stand and are coloured everywhere.
        questions: that have a headline.
        few_shot: staging by few labels; None where it was not asked.
        matrices: results of "missing" modalities, "retrieval" and "hardware" shift, each with the
            name of its model.
    """

    models: Sequence[str]
    questions: Sequence[Asked]
    few_shot: Asked | None
    matrices: Mapping[str, Sequence[tuple[str, StoredResult]]]

    def series(self, values: Mapping[str, Mapping[str, Estimate]]) -> list[Series]:
        """By model, with the number that it has everywhere."""
        return [
            Series(name=name, number=number, values=values[name])
            for number, name in enumerate(self.models)
            if values.get(name)
        ]


def compare_models(results: Sequence[StoredResult], model_id: str | None) -> Compared:
    """Sort results by question and model.

    Args:
        results: of any tasks.
        model_id: of the run whose vectors are called Micro and Macro; None where it is not known.
    """
    probes = [result for result in results if not result.subsets and not result.is_matrix]
    unknown = sorted({result.task for result in probes} - set(TASK_TITLES))
    if unknown:
        raise TableError(f"found results of {unknown}; expected some of {list(TASK_TITLES)}")
    by_question: dict[tuple[str, str], dict[str, StoredResult]] = {}
    for result in sorted(probes, key=lambda one: (list(TASK_TITLES).index(one.task), one.file)):
        answers = by_question.setdefault((result.task, result.unit), {})
        answers[_free_name(model_name(result, model_id), result, answers)] = result
    models = sorted({name for answers in by_question.values() for name in answers}, key=_place)
    several = {task for task, _ in by_question if sum(t == task for t, _ in by_question) > 1}
    asked = [
        Asked(
            key=f"{task}-{unit}" if task in several else task,
            task=task,
            title=TASK_TITLES[task] + (f", by {unit}" if task in several else ""),
            results={name: answers[name] for name in models if name in answers},
        )
        for (task, unit), answers in by_question.items()
    ]
    matrices: dict[str, list[tuple[str, StoredResult]]] = {}
    for result in results:
        if result.subsets or result.is_matrix:
            kind = "missing" if result.subsets else MATRIX_KINDS.get(result.task, result.task)
            matrices.setdefault(kind, []).append((model_name(result, model_id), result))
    return Compared(
        models=models,
        questions=[one for one in asked if one.task != "few-shot"],
        few_shot=next((one for one in asked if one.task == "few-shot"), None),
        matrices=matrices,
    )


def model_name(result: StoredResult, model_id: str | None) -> str:
    """Its own name; Micro or Macro of the run; a baseline's; else the model's id and the level."""
    if result.name:
        return result.name
    level = LEVEL_NAMES.get(result.level, result.level)
    if result.level == "macro" and result.unit == "night":
        level = "Macro, mean of epochs"
    if model_id is not None and result.model_id == model_id:
        return level
    if result.model_id.startswith(UNTRAINED):
        return f"Random {level}".strip()
    if result.model_id.startswith(BASELINE):
        return "Band powers, epochs alone" if result.level == "micro" else "Band powers"
    return f"{result.model_id} {level}".strip()


def _free_name(name: str, result: StoredResult, taken: Mapping[str, StoredResult]) -> str:
    """A second result of the same model and question is called by its file, too."""
    stem = result.file.replace("\\", "/").rpartition("/")[2].removesuffix(".json")
    return f"{name} [{stem}]" if name in taken else name


def _place(name: str) -> tuple[int, str]:
    """Macro and what belongs to it, Micro, then the others by name."""
    first = ("Macro", "Micro")
    return next((n for n, word in enumerate(first) if name.startswith(word)), len(first)), name


def comparisons(asked: Asked) -> list[Comparison]:
    """Of the first model with each other one."""
    name, group = asked.headline
    (_, lead), *others = asked.results.items()
    found = []
    own: Predictions | None = None  # read once, and only where another has some too
    for other, result in others:
        estimate, num_subjects = None, 0
        if lead.predictions is not None and result.predictions is not None:
            own = own or read_predictions(lead)
            estimate, num_subjects = _paired(lead, own, result, group)
        other_people = estimate is None and _of_other_people(lead, result)
        better = None
        if estimate is not None:
            better = _sign(estimate.low, estimate.high)
        elif not other_people:
            one, two = lead.find(name, group), result.find(name, group)
            if one is not None and two is not None:  # only intervals without overlap are clear
                better = _sign(one.low - two.high, one.high - two.low)
        if better is not None and name in SMALLER_IS_BETTER:
            better = not better
        found.append(
            Comparison(
                asked=asked,
                other=other,
                estimate=estimate,
                num_subjects=num_subjects,
                better=better,
                other_people=other_people,
            )
        )
    return found


def _of_other_people(one: StoredResult, other: StoredResult) -> bool:
    """Of two without a prediction in common; where there are none, their numbers have to do."""
    if one.predictions is not None and other.predictions is not None:
        return True
    return (one.num_subjects, one.num_nights) != (other.num_subjects, other.num_nights)


def _paired(
    lead: StoredResult, own: Predictions, other: StoredResult, outcome: str
) -> tuple[Estimate | None, int]:
    theirs = read_predictions(other)
    try:
        found = difference(lead.task, own, theirs, lead.confidence, outcome)
    except (TableError, KeyError) as error:  # of two tables, or no such column
        raise TableError(f"{lead.predictions} and {other.predictions}: {error}") from error
    return (found.estimate, found.num_subjects) if found else (None, 0)


def _sign(low: float, high: float) -> bool | None:
    if not (math.isfinite(low) and math.isfinite(high)) or low <= 0 <= high:
        return None
    return low > 0
