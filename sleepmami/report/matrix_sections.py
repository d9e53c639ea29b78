"""Sections of matrices: missing modalities, retrieval across modalities, hardware shift."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.stored_results import StoredResult
from sleepmami.psg import Modality
from sleepmami.report.compared_models import TASK_TITLES
from sleepmami.report.pictures import Picture, picture
from sleepmami.report.result_figures import heat_map
from sleepmami.report.sections import Missing, Section
from sleepmami.report.wording import figure_name, number, sentence, with_interval

ROW_MODALITIES = (Modality.EEG, Modality.EOG, Modality.EMG)
COLUMN_MODALITIES = (Modality.ECG, Modality.RESP, Modality.SPO2)
MISSING_LABELS = ("EEG, EOG, EMG that are there", "ECG, RESP, SPO2 that are there")
# level and figure of each panel: what a probe still says, and how far the night vector has moved
MISSING_PANELS = {
    ("micro", "macro_f1"): "staging from Micro vectors, macro F1",
    ("micro_refit", "macro_f1"): "staging from Micro vectors, probes fitted on each set, macro F1",
    ("macro", "macro_f1"): "staging from Macro vectors, macro F1",
    ("macro_refit", "macro_f1"): "staging from Macro vectors, probes fitted on each set, macro F1",
    ("night", "cosine"): "cosine of the night vector with that of all six",
}
RETRIEVAL_FIGURES = ("recall_at_1", "recall_at_10")
Named = Sequence[tuple[str, StoredResult]]
Cells = dict[tuple[str, str], Estimate]


def missing_section(results: Named, missing: Sequence[Missing]) -> Section:
    """What is left without a modality: all 63 sets that a night may have."""
    pictures: list[Picture] = []
    rows, columns = subset_names(ROW_MODALITIES), subset_names(COLUMN_MODALITIES)
    for model, result in results:
        for level, name in MISSING_PANELS:  # `model` is empty for the run's own
            cells = _subset_cells(result, level, name)
            if not cells:
                continue
            names = {key: " + ".join(part for part in key if part != "none") for key in cells}
            title = ", ".join(part for part in (model, MISSING_PANELS[level, name]) if part)
            pictures.append(
                picture(
                    f"missing_{len(pictures)}",
                    partial(heat_map, rows, columns, cells, MISSING_LABELS),
                    alt=f"{sentence(title)}, by modalities: {_extremes(cells, names)}.",
                    caption=sentence(title),
                )
            )
    return Section(
        key="missing-modalities",
        title="What is left without a modality",
        findings=[one.alt for one in pictures],
        pictures=pictures,
        missing=() if pictures else missing,
    )


def _subset_cells(result: StoredResult, level: str, name: str) -> Cells:
    found = {}
    for subset in result.subsets:
        estimate = subset.figures.get(level, {}).get(name)
        if estimate is not None:
            found[_subset_place(subset.modalities)] = estimate
    return found


def subset_names(modalities: Sequence[Modality]) -> list[str]:
    """All subsets of three modalities, the empty one first, as the axis names them."""
    return [
        " ".join(chosen) or "none"
        for size in range(len(modalities) + 1)
        for chosen in combinations([m.value for m in modalities], size)
    ]


def _subset_place(modalities: Sequence[str]) -> tuple[str, str]:
    there, known = set(modalities), {m.value for m in (*ROW_MODALITIES, *COLUMN_MODALITIES)}
    if not there or not there <= known:
        raise TableError(f"found modalities {sorted(there)}; expected some of {sorted(known)}")
    chosen = [
        " ".join(m.value for m in part if m.value in there) or "none"
        for part in (ROW_MODALITIES, COLUMN_MODALITIES)
    ]
    return chosen[0], chosen[1]


def retrieval_section(results: Named, missing: Sequence[Missing]) -> Section:
    """How often a modality finds the same 30 s of another."""
    pictures, said = [], []
    for place, (model, result) in enumerate(results):
        mean, chance = (result.find("recall_at_1", group) for group in ("mean", "chance"))
        if mean is not None and chance is not None:
            said.append(f"{model}: recall at 1 is {with_interval(mean)} in the mean of all pairs, "
                        f"{number(chance.value)} by chance.")  # fmt: skip
        for name in RETRIEVAL_FIGURES:
            pictures += _crossed(result, name, model, f"retrieval_{place}", ("query", "target"))
    return Section(
        key="retrieval",
        title="Finding a modality by another",
        findings=said,
        pictures=pictures,
        missing=() if pictures else missing,
        notes=sorted({note for _, result in results for note in result.notes}),
    )


def hardware_section(results: Named, missing: Sequence[Missing]) -> Section:
    """What is lost when a probe is fitted on one recorder and used on another."""
    pictures, said = [], []
    for place, (model, result) in enumerate(results):
        within, across, lost = (
            result.find("macro_f1", group) for group in ("within", "across", "within - across")
        )
        title = f"{TASK_TITLES[result.task]}, {model}"
        if within is not None and across is not None and lost is not None:
            said.append(
                f"{title}: macro F1 {number(within.value)} on the same recorder, "
                f"{number(across.value)} on another, lost {with_interval(lost)}."
            )
        key = f"hardware_{place}_{result.task}"
        pictures += _crossed(result, "macro_f1", title, key, ("fitted on", "tested on"))
    return Section(
        key="hardware",
        title="Fitted on one recorder, tested on another",
        findings=said,
        pictures=pictures,
        missing=() if pictures else missing,
        notes=sorted({note for _, result in results for note in result.notes}),
    )


def _crossed(
    result: StoredResult, name: str, title: str, key: str, labels: tuple[str, str]
) -> list[Picture]:
    """A picture, or none where the result lacks the figure."""
    cells = result.crossed(name)
    if not cells:
        return []
    rows, columns = (list(dict.fromkeys(pair[side] for pair in cells)) for side in (0, 1))
    columns.sort(key=lambda name: rows.index(name) if name in rows else len(rows))  # as the rows
    names = {pair: f"{labels[0]} {pair[0]}, {labels[1]} {pair[1]}" for pair in cells}
    return [
        picture(
            f"{key}_{name}",
            partial(heat_map, rows, columns, cells, labels),
            alt=f"{title}, {figure_name(name)}: {_extremes(cells, names)}.",
            caption=f"{title}: {figure_name(name)}",
        )
    ]


def _extremes(cells: Cells, names: Mapping[tuple[str, str], str]) -> str:
    """The ends of what is defined: no test night may have a modality."""
    known = [key for key, found in cells.items() if math.isfinite(found.value)]
    if not known:
        return "no value is defined"
    low, high = (end(known, key=lambda key: cells[key].value) for end in (min, max))
    return (
        f"highest {cells[high].value:.2f} ({names[high]}), lowest {cells[low].value:.2f} "
        f"({names[low]})"
    )
