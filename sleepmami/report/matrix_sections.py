"""Sections of matrices: missing modalities, retrieval across modalities, hardware shift.

Shapes of what is read (`StoredResult.rows`): missing {"modalities", "level"}, retrieval {"query",
"target"}, hardware {"train", "test"}, each with figures; `level` may stand in any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations

from sleepmami.errors import TableError
from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.stored_results import MatrixRow, StoredResult
from sleepmami.psg import Modality
from sleepmami.report.pictures import Picture, picture
from sleepmami.report.result_figures import heat_map
from sleepmami.report.sections import Missing, Section
from sleepmami.report.wording import figure_name

ROW_MODALITIES = (Modality.EEG, Modality.EOG, Modality.EMG)
COLUMN_MODALITIES = (Modality.ECG, Modality.RESP, Modality.SPO2)
CROSSED = {  # task -> what its rows and columns are
    "retrieval": ("query", "target"),
    "hardware": ("train", "test"),
}
MISSING_LABELS = ("EEG, EOG, EMG that are there", "ECG, RESP, SPO2 that are there")
Cells = dict[tuple[str, str], Estimate]


def missing_section(results: Sequence[StoredResult], missing: Sequence[Missing]) -> Section:
    """What is left without a modality: all 63 sets that a night may have."""
    pictures: list[Picture] = []
    rows, columns = subset_names(ROW_MODALITIES), subset_names(COLUMN_MODALITIES)
    for title, name, found in _panels(results):
        cells = {_subset_place(row): row.figures[name] for row in found}
        best, worst = _extremes({" + ".join(k for k in key if k != "none"): e
                                 for key, e in cells.items()})  # fmt: skip
        pictures.append(
            picture(
                f"missing_{len(pictures)}",
                partial(heat_map, rows, columns, cells, MISSING_LABELS),
                alt=f"{title}, {figure_name(name)} by the modalities that are there: highest "
                f"{best}, lowest {worst}.",
                caption=f"{title}: {figure_name(name)}",
            )
        )
    return Section(
        key="missing-modalities",
        title="What is left without a modality",
        finding=" ".join(one.alt for one in pictures),
        pictures=pictures,
        missing=() if pictures else missing,
    )


def crossed_section(
    task: str, title: str, results: Sequence[StoredResult], missing: Sequence[Missing]
) -> Section:
    """A matrix of two things of a kind: modality by modality, or device by device."""
    first, second = labels = CROSSED[task]
    pictures: list[Picture] = []
    for panel, name, found in _panels(results):
        names = list(dict.fromkeys(str(row.about[key]) for key in (first, second) for row in found))
        cells = {(str(r.about[first]), str(r.about[second])): r.figures[name] for r in found}
        best, worst = _extremes({f"{first} {a}, {second} {b}": e for (a, b), e in cells.items()})
        alt = f"{panel}, {figure_name(name)}: highest {best}, lowest {worst}."
        pictures.append(
            picture(
                f"{task}_{len(pictures)}",
                partial(heat_map, _there(names, cells, 0), _there(names, cells, 1), cells, labels),
                alt=alt,
                caption=f"{panel}: {figure_name(name)}",
            )
        )
    return Section(
        key=task,
        title=title,
        finding=" ".join(one.alt for one in pictures),
        pictures=pictures,
        missing=() if pictures else missing,
    )


def _panels(results: Sequence[StoredResult]) -> list[tuple[str, str, list[MatrixRow]]]:
    """Title, name of the figure and rows of each picture: one per level, model and figure."""
    panels = []
    for result in results:
        levels = list(
            dict.fromkeys(str(row.about.get("level", result.level)) for row in result.rows)
        )
        for level in levels:
            rows = [r for r in result.rows if str(r.about.get("level", result.level)) == level]
            title = " ".join(word for word in (result.name, level.capitalize()) if word)
            for name in dict.fromkeys(name for row in rows for name in row.figures):
                panels.append((title, name, [row for row in rows if name in row.figures]))
    return panels


def subset_names(modalities: Sequence[Modality]) -> list[str]:
    """All subsets of three modalities, the empty one first, as the axis names them."""
    return [
        " ".join(chosen) or "none"
        for size in range(len(modalities) + 1)
        for chosen in combinations([m.value for m in modalities], size)
    ]


def _subset_place(row: MatrixRow) -> tuple[str, str]:
    there = set(row.about["modalities"])
    known = {m.value for m in (*ROW_MODALITIES, *COLUMN_MODALITIES)}
    if not there or not there <= known:
        raise TableError(f"found modalities {sorted(there)}; expected some of {sorted(known)}")
    chosen = [
        " ".join(m.value for m in part if m.value in there) or "none"
        for part in (ROW_MODALITIES, COLUMN_MODALITIES)
    ]
    return chosen[0], chosen[1]


def _there(names: Sequence[str], cells: Cells, side: int) -> list[str]:
    return [name for name in names if any(key[side] == name for key in cells)]


def _extremes(cells: dict[str, Estimate]) -> tuple[str, str]:
    ordered = sorted(cells.items(), key=lambda item: item[1].value)
    (low, lowest), (high, highest) = ordered[0], ordered[-1]
    return f"{highest.value:.2f} ({high})", f"{lowest.value:.2f} ({low})"
