"""Who and what is in a corpus: the rows of Tables 5 and 6, by cohort and split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.report.pictures import PANEL_IN, Theme
from sleepmami.report.sections import Cell, PageTable, cells
from sleepmami.report.wording import NOT_DEFINED, count

STAGES = (Stage.WAKE, Stage.N1, Stage.N2, Stage.N3, Stage.REM)  # as the columns of Table 5
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusNight:
    """One row of recordings.lance; None is unknown.

    Attributes:
        rejected_code: why there is no night; None where there is one.
    """

    recording_id: str
    subject_id: str
    cohort: str
    split: str
    num_epochs: int | None
    hypnogram: NDArray[np.int8] | None
    age_years: float | None
    sex: str | None
    bmi: float | None
    ahi: float | None
    rejected_code: str | None = None


def dataset_tables(nights: Sequence[CorpusNight]) -> list[PageTable]:
    """Of people, and of stages; rejected recordings are in neither."""
    usable = [night for night in nights if night.rejected_code is None]
    groups = [
        (f"{cohort} {split}", own)
        for cohort in sorted({night.cohort for night in usable})
        for split in SPLITS
        if (own := [n for n in usable if (n.cohort, n.split) == (cohort, split)])
    ]
    if len(groups) > 1:
        groups.append(("all", usable))
    stages = ("W", "N1", "N2", "N3", "REM")
    return [
        PageTable(
            caption="People, as in Tables 5 and 6; mean \u00b1 standard deviation over recordings",
            columns=("dataset", "recordings", "subjects", "hours", "age (years)",
                     "BMI (kg/m\u00b2)", "AHI (1/h)", "female / male (%)"),
            rows=[_people_row(name, own) for name, own in groups],
        ),
        PageTable(
            caption="Scored epochs and the share of each stage (%)",
            columns=("dataset", "scored recordings", "epochs", *stages),
            rows=[_stage_row(name, own) for name, own in groups],
        ),
    ]  # fmt: skip


def _people_row(name: str, nights: Sequence[CorpusNight]) -> list[Cell]:
    subjects = len({night.subject_id for night in nights})
    hours = sum(night.num_epochs or 0 for night in nights) * EPOCH_S / 3600
    return cells(
        name,
        f"{len(nights):,}",
        f"{subjects:,}",
        f"{hours:,.0f}",
        _mean([night.age_years for night in nights]),
        _mean([night.bmi for night in nights]),
        _mean([night.ahi for night in nights]),
        _sexes([night.sex for night in nights]),
    )


def _mean(values: Sequence[float | None]) -> str:
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return NOT_DEFINED
    spread = f" \u00b1 {known.std(ddof=1):.1f}" if len(known) > 1 else ""
    of = f" (of {len(known)})" if len(known) < len(values) else ""
    return f"{known.mean():.1f}{spread}{of}"


def _sexes(sexes: Sequence[str | None]) -> str:
    known = Counter(sex for sex in sexes if sex is not None)
    total = known.total()
    if not total:
        return NOT_DEFINED
    of = f" (of {total})" if total < len(sexes) else ""
    return f"{100 * known['female'] / total:.0f} / {100 * known['male'] / total:.0f}{of}"


def _stage_row(name: str, nights: Sequence[CorpusNight]) -> list[Cell]:
    scored = [night.hypnogram for night in nights if night.hypnogram is not None]
    counts = stage_counts(scored)
    total = sum(counts.values())
    shares = [f"{100 * counts[s] / total:.0f}" if total else NOT_DEFINED for s in STAGES]
    return cells(name, f"{len(scored):,}", f"{total:,}", *shares)


def stage_counts(hypnograms: Sequence[NDArray[np.int8]]) -> dict[Stage, int]:
    """Epochs of each stage; unscored ones are not counted."""
    return {stage: int(sum((h == stage).sum() for h in hypnograms)) for stage in STAGES}


def dataset_finding(nights: Sequence[CorpusNight]) -> str:
    """How much there is, and how much was refused."""
    usable = [night for night in nights if night.rejected_code is None]
    hours = sum(night.num_epochs or 0 for night in usable) * EPOCH_S / 3600
    subjects = len({night.subject_id for night in usable})
    said = f"{count(len(usable), 'recording')} of {count(subjects, 'subject')}, {hours:,.0f} hours."
    refused = Counter(night.rejected_code for night in nights if night.rejected_code is not None)
    if refused:
        reasons = ", ".join(f"{code} {num}" for code, num in sorted(refused.items()))
        said += f" Refused: {count(refused.total(), 'file')} ({reasons})."
    return said


def distribution(
    values: Sequence[float | None], sexes: Sequence[str | None], label: str, theme: Theme
) -> Figure:
    """How many recordings have which value, by sex (Fig. 7); women filled, men a dashed outline."""
    figure = Figure(figsize=(PANEL_IN, 2.5), layout="constrained")
    axes = figure.subplots()
    known = np.array([v for v in values if v is not None])
    edges = np.histogram_bin_edges(known, bins=min(20, max(5, round(np.sqrt(len(known))))))
    for sex, colour, filled in (("female", 1, True), ("male", 0, False)):
        own = [v for v, s in zip(values, sexes, strict=True) if s == sex and v is not None]
        counts, _ = np.histogram(own, edges)
        name = f"{sex}, median {np.median(own):.0f}" if own else f"{sex}, nobody"
        axes.stairs(
            counts,
            edges,
            fill=filled,
            alpha=0.6 if filled else 1,
            color=theme.series[colour],
            linestyle="-" if filled else "--",
            linewidth=1.6,
            label=name,
        )
    axes.set_xlabel(label)
    axes.set_ylabel("recordings")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", ncols=2)
    return figure
