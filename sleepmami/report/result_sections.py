"""Sections of probes: the finding at a glance, every figure, confusion matrices, few labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.results import Confusion
from sleepmami.report.compared_models import Asked, Compared, Comparison, comparisons
from sleepmami.report.pictures import Picture, picture
from sleepmami.report.result_figures import confusion_matrix, dots, few_shot_curve
from sleepmami.report.sections import Cell, Missing, PageTable, Section, cells
from sleepmami.report.wording import (
    DISEASES,
    NOT_DEFINED,
    SMALLER_IS_BETTER,
    UNITS,
    count,
    figure_name,
    listed,
    sentence,
    signed_with_interval,
    with_interval,
    within_sentence,
)

ERRORS = ("mae", "mae_of_median")  # in units of what is guessed; the others are scores
CHANCE = {"sex": (0.5, "chance"), "survival": (0.5, "chance")}
VERDICTS = {True: "better", False: "worse", None: "not decided"}
OTHER_PEOPLE = "tested on other people"
FEW_SHOT_FIGURES = ("macro_f1", "accuracy")


def headline_section(compared: Compared) -> Section:
    """The finding in five seconds: one figure a question, all models side by side."""
    found = [comparison for asked in compared.questions for comparison in comparisons(asked)]
    tables = []
    if compared.questions:
        tables.append(
            PageTable(
                caption="One figure a question, with its interval; \u25cf marks the best value",
                columns=("question", *compared.models),
                rows=[_headline_row(asked, compared.models) for asked in compared.questions],
            )
        )
    if found:
        tables.append(_comparison_table(compared.models[0], found))
    return Section(
        key="finding",
        title="The finding",
        findings=_findings(compared, found),
        tables=tables,
        notes=_headline_notes(compared),
    )


def _headline_row(asked: Asked, models: Sequence[str]) -> list[Cell]:
    name, group = asked.headline
    found = {model: result.find(name, group) for model, result in asked.results.items()}
    known = [e.value for e in found.values() if e is not None and math.isfinite(e.value)]
    best = (min if name in SMALLER_IS_BETTER else max)(known, default=math.nan)
    unit = f" ({UNITS[asked.task]})" if asked.task in UNITS else ""
    of = f" of {DISEASES.get(group, group)}" if group else ""
    people = sorted({result.num_subjects for result in asked.results.values()})
    tested = f"{listed([f'{num:,}' for num in people])} people"
    what = f"{asked.title}: {figure_name(name)}{of}{unit}, {tested}"
    row = [Cell(text=what)]
    for model in models:
        estimate = found.get(model)
        if estimate is None:
            row.append(Cell(text=NOT_DEFINED))
        else:
            is_best = len(known) > 1 and len(people) == 1 and estimate.value == best
            mark = "\u25cf " if is_best else ""
            row.append(Cell(text=mark + with_interval(estimate), strong=is_best))
    return row


def _comparison_table(lead: str, found: Sequence[Comparison]) -> PageTable:
    """A row per question, a column per other model."""
    others = list(dict.fromkeys(one.other for one in found))
    by_question: dict[str, dict[str, Comparison]] = {}
    for one in found:
        by_question.setdefault(one.asked.title, {})[one.other] = one
    rows = [
        [
            Cell(text=f"{title}: {figure_name(next(iter(own.values())).asked.headline[0])}"),
            *(_verdict(own.get(other)) for other in others),
        ]
        for title, own in by_question.items()
    ]
    return PageTable(
        caption=f"{lead} minus the other, over the same people where there are predictions of both",
        columns=("question", *(f"against {other}" for other in others)),
        rows=rows,
    )


def _verdict(one: Comparison | None) -> Cell:
    if one is None:
        return Cell(text=NOT_DEFINED)
    if one.other_people:
        return Cell(text=OTHER_PEOPLE)
    word = VERDICTS[one.better]
    by = " (not paired)" if one.estimate is None else f": {signed_with_interval(one.estimate)}"
    tested = min(result.num_subjects for result in one.asked.results.values())
    of = f", {one.num_subjects} in common" if 0 < one.num_subjects < tested else ""
    return Cell(text=word + by + of, strong=one.better is not None)


def _findings(compared: Compared, found: Sequence[Comparison]) -> list[str]:
    """Against whom the first model is better, worse and neither; of one model what it reaches."""
    if not compared.questions:
        return ["There are no results yet."]
    if not found:
        said = []
        for asked in compared.questions:
            (model, result), *_ = asked.results.items()
            name, group = asked.headline
            estimate = result.find(name, group)
            value = NOT_DEFINED if estimate is None else with_interval(estimate)
            said.append(f"{asked.title}: {figure_name(name)} {value} ({model}).")
        return ["There is one model for each question, so nothing is compared.", *said]
    sentences = []
    for other in dict.fromkeys(one.other for one in found):
        sorted_out: dict[str, list[str]] = {word: [] for word in VERDICTS.values()}
        for one in found:
            if one.other == other:
                word = OTHER_PEOPLE if one.other_people else VERDICTS[one.better]
                sorted_out.setdefault(word, []).append(within_sentence(one.asked.title))
        parts = [f"{word} in {listed(asked)}" for word, asked in sorted_out.items() if asked]
        lead = next(iter(next(one for one in found if one.other == other).asked.results))
        sentences.append(f"{lead} against {other}: {'; '.join(parts)}.")
    return sentences


def _headline_notes(compared: Compared) -> list[str]:
    if not compared.questions:
        return []
    percent = {100 * r.confidence for asked in compared.questions for r in asked.results.values()}
    notes = [
        f"Intervals are of {listed([f'{p:g}%' for p in sorted(percent)])} over the tested people, "
        "drawn again with all their nights. They do not say how far a figure would move with other "
        "weights. A verdict needs a paired interval without zero, or two intervals that do not "
        "overlap, of the same people; small errors (mean absolute error) and large scores are "
        "better."
    ]
    if any("split train" in note for note in _notes(compared)):
        notes.append(
            "The encoder may have seen nights of some of the tested people: the notes below the "
            "results say which figures may be too good for it."
        )
    return notes


def _notes(compared: Compared) -> list[str]:
    """What the probes say of themselves: each note once, with whose it is."""
    said: dict[str, list[str]] = {}
    for asked in compared.questions:
        for model, result in asked.results.items():
            for note in result.notes:
                said.setdefault(note, []).append(f"{asked.title}, {model}")
    return [
        f"{'; '.join(whose) if len(whose) < 4 else f'{len(whose)} results'}: {note}."
        for note, whose in said.items()
    ]


def results_section(compared: Compared, missing: Sequence[Missing]) -> Section:
    """Every figure of every question, as pictures and as a table."""
    pictures, tables = [], []
    for asked in compared.questions:
        pictures += _result_pictures(asked, compared)
        tables.append(_result_table(asked))
    said = []
    if compared.questions:
        questions = count(len(compared.questions), "question")
        models = count(len(compared.models), "model")
        said = [f"{questions}, {models}: {listed(compared.models)}."]
    return Section(
        key="results",
        title="Results of all tasks",
        findings=said,
        pictures=pictures,
        tables=tables,
        missing=missing,
        notes=_notes(compared),
        folded=True,
    )


def _labels(asked: Asked) -> dict[str, dict[str, Estimate]]:
    """By model, estimates by the label of their row: the figure, and of whom."""
    return {
        model: {
            (
                DISEASES.get(figure.group, figure.group)
                if asked.task == "survival"
                else figure_name(figure.name)
            ): (figure.estimate)
            for figure in result.figures
            if figure.name not in ERRORS
        }
        for model, result in asked.results.items()
    }


def _result_pictures(asked: Asked, compared: Compared) -> list[Picture]:
    """Scores; and errors, which have a unit, on an axis of their own."""
    pictures = []
    scores = _labels(asked)
    if any(scores.values()):
        label = "C-index" if asked.task == "survival" else "score"
        pictures.append(
            _dot_picture(f"results_{asked.key}", asked, compared, scores, label,
                         CHANCE.get(asked.task))
        )  # fmt: skip
    errors = {
        model: {"": found}
        for model, result in asked.results.items()
        if (found := result.find("mae")) is not None
    }
    if errors:
        label = f"mean absolute error ({UNITS.get(asked.task, '')})"
        guesses = [result.find("mae_of_median") for result in asked.results.values()]
        known = [guess.value for guess in guesses if guess is not None]
        reference = (known[0], "the median as the guess for everybody") if known else None
        name = f"results_{asked.key}_error"
        pictures.append(_dot_picture(name, asked, compared, errors, label, reference))
    return pictures


def _dot_picture(
    name: str,
    asked: Asked,
    compared: Compared,
    values: Mapping[str, Mapping[str, Estimate]],
    label: str,
    reference: tuple[float, str] | None,
) -> Picture:
    rows = list(dict.fromkeys(row for found in values.values() for row in found))
    series = compared.series(values)
    first = [
        f"{row or label}: " + ", ".join(
            f"{one.name} {with_interval(one.values[row])}" for one in series if row in one.values
        )
        for row in rows[:3]
    ]  # fmt: skip
    beside = f" {reference[1]}: {reference[0]:.3f}." if reference else ""
    return picture(
        name,
        partial(dots, rows, series, label, reference=reference),
        alt=f"{asked.title}, values with intervals. {'; '.join(first)}.{beside}",
        caption=asked.title,
    )


def _result_table(asked: Asked) -> PageTable:
    rows = []
    keys = dict.fromkeys((f.name, f.group) for r in asked.results.values() for f in r.figures)
    for name, group in keys:
        found = [result.find(name, group) for result in asked.results.values()]
        texts = [NOT_DEFINED if one is None else with_interval(one) for one in found]
        label = figure_name(name)
        if group:
            events = max(result.num_events.get(group, 0) for result in asked.results.values())
            label = f"{DISEASES.get(group, group)}, {count(events, 'event')}"
        rows.append(cells(label, *texts))
    tested = [
        f"{r.num_subjects} / {r.num_nights} / {r.num_rows:,} {r.unit}s"
        for r in asked.results.values()
    ]
    rows.append(cells("tested: subjects / nights / rows", *tested))
    return PageTable(caption=asked.title, columns=("figure", *asked.results), rows=rows)


def confusion_section(compared: Compared, missing: Sequence[Missing]) -> Section:
    """Which class is taken for which (Fig. 11)."""
    pictures, said = [], []
    for asked in compared.questions:
        for model, result in asked.results.items():
            if result.confusion is not None:
                mistake = commonest_mistake(result.confusion)
                said.append(f"{asked.title}, {model}: {mistake}.")
                number = list(compared.models).index(model)
                draw = partial(confusion_matrix, result.confusion)
                pictures.append(
                    picture(
                        f"confusion_{asked.key}_{number}",
                        draw,
                        alt=f"Confusion matrix, {said[-1]}",
                        caption=f"{asked.title}: {model}",
                    )
                )
    return Section(
        key="confusion",
        title="What is taken for what",
        findings=said,
        pictures=pictures,
        missing=missing if not pictures else (),
        notes=["Rows are the truth: shares of a row add up to 100%, counts are below."]
        if pictures
        else (),
    )


def commonest_mistake(confusion: Confusion) -> str:
    """The largest share off the diagonal, in words."""
    mistakes: list[tuple[float, str, str]] = [
        (counts[guess] / sum(counts), confusion.classes[truth], confusion.classes[guess])
        for truth, counts in enumerate(confusion.counts)
        for guess in range(len(counts))
        if guess != truth and any(counts)
    ]
    share, truth, guess = max(mistakes, default=(0.0, "", ""))
    if share == 0:
        return "there is no mistake"
    return f"the commonest mistake is {guess} for {truth} ({share:.0%} of {truth})"


def few_shot_section(compared: Compared, missing: Sequence[Missing]) -> Section:
    """How many people with labels it takes (Fig. 5)."""
    asked = compared.few_shot
    if asked is None:
        return Section(key="few-shot", title="How many labels it takes", missing=missing)
    pictures = []
    for name in FEW_SHOT_FIGURES:
        series = compared.series(_by_size(asked, name))
        ends = [
            f"{one.name} from {_end(one.values, first=True)} to {_end(one.values, first=False)}"
            for one in series
        ]
        pictures.append(
            picture(
                f"few_shot_{name}",
                partial(few_shot_curve, series, figure_name(name)),
                alt=f"{sentence(figure_name(name))} over the number of subjects with labels: "
                f"{'; '.join(ends)}.",
                caption=f"{sentence(figure_name(name))}; hollow: everybody that may be fitted on",
            )
        )
    return Section(
        key="few-shot",
        title="How many labels it takes",
        findings=[pictures[0].alt],
        pictures=pictures,
        notes=["Means of several draws of subjects; intervals are over the tested people."],
    )


def _by_size(asked: Asked, name: str) -> dict[str, dict[str, Estimate]]:
    """By model, estimates by the number of subjects as text."""
    found: dict[str, dict[str, Estimate]] = {}
    for model, result in asked.results.items():
        own = found.setdefault(model, {})
        for figure in result.figures:
            if figure.name != name:
                continue
            if figure.group.startswith("n="):
                own[figure.group.removeprefix("n=")] = figure.estimate
            elif "all" in result.fit_subjects:
                own[f"all {result.fit_subjects['all']:.0f}"] = figure.estimate
    return found


def _end(values: Mapping[str, Estimate], *, first: bool) -> str:
    ordered = sorted(values, key=lambda text: float(text.split()[-1]))
    text = ordered[0 if first else -1]
    return f"{with_interval(values[text])} with {text}"
