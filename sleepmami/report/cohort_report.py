"""One self-contained HTML page about the night vectors of a cohort: a map, and who is near whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.report.night_maps import NightPeople, map_pictures, plane
from sleepmami.report.page import page

MAX_COMPARED = 2000  # nights whose most similar one is looked for; the map shows all


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortReport:
    """What the page shows of N nights.

    Attributes:
        vectors: float32[N, width], the night vectors.
        subject_id: whose each is.
        cohort: where each is from.
        age_years: NaN where unknown, as the next two.
        bmi: in kg/m^2.
        female: 1 or 0.
        model_id: what made the vectors.
        weights_sha256: of its weights.
    """

    vectors: NDArray[np.float32]
    subject_id: Sequence[str]
    cohort: Sequence[str]
    age_years: NDArray[np.float64]
    bmi: NDArray[np.float64]
    female: NDArray[np.float64]
    model_id: str
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How alike two nights are in one value: the most similar ones, and any two.

    Attributes:
        what: is compared, in words.
        nearest: mean over nights and their most similar night of another subject.
        chance: mean over all pairs of nights of different subjects.
        num_nights: of which the value is known.
    """

    what: str
    nearest: float
    chance: float
    num_nights: int


def render(report: CohortReport) -> str:
    """The page as HTML; nothing in it is loaded from elsewhere."""
    return page(
        "cohort.html.j2",
        report=report,
        num_nights=len(report.vectors),
        num_subjects=len(set(report.subject_id)),
        cohorts=sorted(Counter(report.cohort).items()),
        maps=map_pictures(
            plane(report.vectors),
            NightPeople(age_years=report.age_years, bmi=report.bmi, female=report.female),
            "map",
        ),
        agreement=agreements(report),
    )


def agreements(report: CohortReport) -> list[Agreement]:
    """Of age, BMI, sex and cohort, as far as two subjects are known; on MAX_COMPARED nights."""
    num_nights = len(report.vectors)
    chosen = np.random.default_rng(0).permutation(num_nights)[:MAX_COMPARED]
    subject = np.unique(report.subject_id, return_inverse=True)[1][chosen]
    cohort = np.unique(report.cohort, return_inverse=True)[1][chosen].astype(np.float64)
    compared = [
        ("difference in age (years)", report.age_years[chosen], False),
        ("difference in BMI (kg/m\u00b2)", report.bmi[chosen], False),
        ("share of the same sex", report.female[chosen], True),
    ]
    if len(set(cohort)) > 1:
        compared.append(("share of the same cohort", cohort, True))
    rows = []
    for what, values, is_class in compared:
        known = np.isfinite(values)
        if len(set(subject[known])) > 1:
            vectors = report.vectors[chosen][known]
            rows.append(_agreement(what, vectors, subject[known], values[known], is_class))
    return rows


def _agreement(
    what: str,
    vectors: NDArray[np.float32],
    subject: NDArray[np.int64],
    values: NDArray[np.float64],
    is_class: bool,
) -> Agreement:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    others = subject[:, None] != subject
    nearest = np.where(others, unit @ unit.T, -np.inf).argmax(axis=1)
    apart = np.abs(values[:, None] - values)
    score = (apart == 0).astype(np.float64) if is_class else apart
    rows = np.arange(len(values))
    return Agreement(
        what=what,
        nearest=float(score[rows, nearest].mean()),
        chance=float(score[others].mean()),
        num_nights=len(values),
    )
