"""Sections about nights and people: maps of vectors, macro-structure, one night, the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import ConfigError
from sleepmami.evaluation.predictions import Predictions
from sleepmami.psg import Stage
from sleepmami.report import dataset_statistics as dataset
from sleepmami.report.macro_structure import (
    AGE_3,
    AHI,
    BMI_3,
    EARLY_H,
    GRIDS,
    SEX,
    Factor,
    GroupedNights,
    ScoredNight,
    grouped,
    sleep_shares,
)
from sleepmami.report.macro_structure_figures import stage_areas
from sleepmami.report.night_maps import MapKind, NightPeople, map_findings, map_pictures, plane
from sleepmami.report.pictures import Picture, picture
from sleepmami.report.result_figures import Series, dots
from sleepmami.report.sections import Missing, Section
from sleepmami.report.staged_night import staged_night_figure, staged_nights, typical

ENOUGH_PEOPLE = 5  # of a group, before a sentence speaks of it
TOO_FEW = f"Fewer than two groups have {ENOUGH_PEOPLE} people or more."
SHARE_FACTORS = (("age", AGE_3), ("sex", SEX), ("BMI", BMI_3), ("AHI", AHI))


def map_section(
    vectors: NDArray[np.float32] | None,
    people: NightPeople | None,
    kinds: Sequence[MapKind],
    missing: Sequence[Missing],
) -> Section:
    """Night vectors on a plane, by age, sex and BMI (Figs. 6 and 10)."""
    title = "Map of the nights"
    if vectors is None or people is None:
        return Section(key="maps", title=title, missing=missing)
    pictures: list[Picture] = []
    said: list[str] = []
    notes = ["One point per night: its night vector, scaled to length 1. Crosses: not known."]
    for kind in kinds:
        where = plane(vectors, kind)
        pictures += map_pictures(where, people, f"map_{kind}")
        if kind == "pca":
            said.append(f"Two principal components explain {where.explained:.0%} of the variance.")
        else:
            notes.append("UMAP keeps neighbours together; its axes and distances mean nothing.")
        if kind == kinds[0]:
            said += map_findings(where, people)
    return Section(
        key="maps",
        title=title,
        findings=said,
        pictures=pictures,
        notes=notes,
    )


def macro_structure_section(nights: Sequence[ScoredNight], missing: Sequence[Missing]) -> Section:
    """How stages lie over the night, and how much there is of them, by group (Figs. 4, 8, 9)."""
    title = "Macro-structure of sleep by group"
    if not nights:
        return Section(key="macro-structure", title=title, missing=missing)
    pictures = [
        share_picture(nights, stage, name)
        for stage, name in ((Stage.N3, "N3"), (Stage.REM, "REM sleep"))
    ]
    for grid in GRIDS:
        groups = grouped(nights, grid)
        pictures.append(
            picture(
                f"macro_structure_{grid.key}",
                partial(stage_areas, groups),
                alt=f"Stages over the night by {grid.title}. {_early_finding(groups)}",
                caption=grid.title[0].upper() + grid.title[1:],
            )
        )
    return Section(
        key="macro-structure",
        title=title,
        findings=[one.alt for one in pictures[:2]],
        pictures=pictures,
        notes=[
            "Time begins with the first epoch of sleep. A group is drawn for as long as half of "
            "its nights last; shares are of the scored epochs of a quarter of an hour. Age, sex, "
            "BMI and AHI go together in people: a picture of one is also one of the others."
        ],
        missing=() if any(night.ahi is not None for night in nights) else missing,
    )


def share_picture(nights: Sequence[ScoredNight], stage: Stage, name: str) -> Picture:
    """Share of sleep in one stage, by each factor alone."""
    values = {
        f"{label} ({num})": found
        for _, factor in SHARE_FACTORS
        for label, (found, num) in sleep_shares(nights, factor, stage).items()
    }
    percent = {
        label: type(found)(value=100 * found.value, low=100 * found.low, high=100 * found.high)
        for label, found in values.items()
    }
    series = [Series(name=f"mean over people ({name})", number=0, values=percent)]
    said = [_share_finding(nights, stage, word, factor) for word, factor in SHARE_FACTORS[:2]]
    return picture(
        f"macro_structure_share_{stage.name.lower()}",
        partial(dots, list(percent), series, f"{name}, % of sleep"),
        alt=f"{name}, share of sleep, by group. " + (" ".join(filter(None, said)) or TOO_FEW),
        caption=f"{name}: mean over people, with intervals; number of people in brackets",
    )


def _share_finding(nights: Sequence[ScoredNight], stage: Stage, word: str, factor: Factor) -> str:
    found = {
        label: estimate
        for label, (estimate, num) in sleep_shares(nights, factor, stage).items()
        if num >= ENOUGH_PEOPLE
    }
    if len(found) < 2:
        return ""
    texts = [f"{label} {e.value:.0%} ({e.low:.0%} to {e.high:.0%})" for label, e in found.items()]
    return f"By {word}: {', '.join(texts)}."


def _early_finding(groups: Sequence[Sequence[GroupedNights]]) -> str:
    every = [g for row in groups for g in row if g.num_subjects]
    many = [group for group in every if group.num_subjects >= ENOUGH_PEOPLE]
    if len(many) < 2:
        return TOO_FEW
    ordered = sorted(many, key=lambda group: group.early_n3())
    low, high = ordered[0], ordered[-1]
    return (
        f"N3 in the first {EARLY_H:.0f} hours, among groups of {ENOUGH_PEOPLE} people or more: "
        f"most in {high.label} ({high.early_n3():.0%}), least in {low.label} "
        f"({low.early_n3():.0%})."
    )


def night_section(
    predictions: Predictions | None,
    model: str,
    wanted: str | None,
    missing: Sequence[Missing],
) -> Section:
    """A hypnogram as scored and as a probe says, with its confidence.

    Args:
        predictions: of staging, with the probability of each stage.
        model: whose.
        wanted: recording id of the night; None takes one of median accuracy.
        missing: the command, where there are no predictions.

    Raises:
        ConfigError: the wanted night is not among them.
    """
    title = "One night: truth, prediction, confidence"
    if predictions is None:
        if wanted is not None:
            raise ConfigError(f"night={wanted!r} has no effect without predictions of staging")
        return Section(key="night", title=title, missing=missing)
    nights = staged_nights(predictions)
    if wanted is None:
        night = typical(nights)
        which = f"The night of median accuracy among {len(nights)}, as {model} vectors stage it."
    else:
        found = [one for one in nights if one.recording_id == wanted]
        if not found:
            some = ", ".join(one.recording_id for one in nights[:5])
            raise ConfigError(f"night={wanted!r}: expected a tested recording, such as {some}")
        night, which = found[0], f"As {model} vectors stage it."
    drawn = picture(
        "night",
        partial(staged_night_figure, night),
        alt=f"Hypnogram as scored, as predicted, and the probability of the prediction. "
        f"{night.finding()}",
    )
    return Section(
        key="night",
        title=title,
        findings=[which, night.finding()],
        pictures=[drawn],
        notes=["Probabilities are of a probe whose classes are weighted, and are not calibrated: "
               "they say where to look, not how often it is right."],
    )  # fmt: skip


def dataset_section(nights: Sequence[dataset.CorpusNight], missing: Sequence[Missing]) -> Section:
    """Who is in the corpus (Tables 5 and 6, Fig. 7)."""
    title = "Statistics of the data"
    if not nights:
        return Section(key="data", title=title, missing=missing)
    usable = [night for night in nights if night.rejected_code is None]
    sexes = [night.sex for night in usable]
    pictures = []
    for name, label, values in (
        ("age", "age (years)", [night.age_years for night in usable]),
        ("bmi", "BMI (kg/m\u00b2)", [night.bmi for night in usable]),
    ):
        known = [value for value in values if value is not None]
        if known:
            pictures.append(
                picture(
                    f"data_{name}",
                    partial(dataset.distribution, values, sexes, label),
                    alt=f"Distribution of {label} by sex: {len(known)} recordings, median "
                    f"{np.median(known):.0f}, from {min(known):.0f} to {max(known):.0f}.",
                )
            )
    return Section(
        key="data",
        title=title,
        findings=[dataset.dataset_finding(nights)],
        pictures=pictures,
        tables=dataset.dataset_tables(nights),
    )
