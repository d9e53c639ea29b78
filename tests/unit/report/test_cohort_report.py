"""The page of a cohort says who is near whom, and its map shows everybody in every panel."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from sleepmami.report.cohort_report import CohortReport, agreements, render
from sleepmami.report.night_maps import plane, quantity_map, sex_map
from sleepmami.report.pictures import LIGHT


def four_nights() -> CohortReport:
    """Two pairs of like direction: 0 and 1 of 30 and 32 years, 2 and 3 of 70 and 60."""
    return CohortReport(
        vectors=np.array([[9, 0.1], [1, 0], [0.1, 1], [0, 5]], np.float32),
        subject_id=["a", "b", "c", "d"],
        cohort=["x", "x", "y", "x"],
        age_years=np.array([30.0, 32.0, 70.0, 60.0]),
        bmi=np.array([20.0, np.nan, 30.0, np.nan]),
        female=np.array([1.0, 1.0, 0.0, np.nan]),
        model_id="m-1",
        weights_sha256="ab" * 32,
    )


def test_neighbours_by_hand() -> None:
    age, bmi, sex, cohort = agreements(four_nights())
    assert (age.nearest, age.num_nights) == ((2 + 2 + 10 + 10) / 4, 4)
    assert age.chance == pytest.approx((2 + 40 + 30 + 38 + 28 + 10) / 6)
    assert (bmi.nearest, bmi.chance, bmi.num_nights) == (10, 10, 2)
    assert sex.nearest == pytest.approx(2 / 3)  # the third night's is of another sex
    assert sex.chance == pytest.approx(1 / 3)
    assert (cohort.nearest, cohort.chance) == (0.5, 0.5)


def test_two_nights_of_one_subject_are_no_neighbours() -> None:
    report = replace(four_nights(), subject_id=["a", "a", "c", "c"])
    age = agreements(report)[0]
    # 0 -> 2, 1 -> 2, 2 -> 0 and 3 -> 0 are the nearest of somebody else by cosine
    assert age.nearest == (40 + 38 + 40 + 30) / 4


def test_nothing_is_compared_of_one_subject_or_one_cohort() -> None:
    report = replace(four_nights(), subject_id=["a"] * 4, cohort=["x"] * 4)
    assert agreements(report) == []
    assert "nothing to compare" in render(report)


def test_length_of_a_vector_does_not_move_its_night() -> None:
    report = four_nights()
    longer = replace(report, vectors=report.vectors * np.array([[1], [7], [3], [9]], np.float32))
    assert agreements(longer) == agreements(report)


def offsets(report: CohortReport, panel: int) -> list[list[list[float]]]:
    where = plane(report.vectors)
    if panel == 1:
        figure = sex_map(where, report.female, LIGHT)
    else:
        figure = quantity_map(where, (report.age_years, None, report.bmi)[panel], "", LIGHT)
    parts = [part for part in figure.axes[0].collections if isinstance(part, PathCollection)]
    return [np.asarray(part.get_offsets()).tolist() for part in parts]


def test_every_panel_shows_every_night_once() -> None:
    for panel, unknown in ((0, 0), (1, 1), (2, 2)):
        parts = offsets(four_nights(), panel)
        assert len(parts[0]) == unknown  # grey
        points = sorted(tuple(np.round(point, 5)) for part in parts for point in part)
        assert len(set(points)) == len(points) == 4


def test_a_map_of_nobody_known_is_grey() -> None:
    nobody = np.full(4, np.nan)
    report = replace(four_nights(), age_years=nobody, bmi=nobody, female=nobody)
    assert [len(offsets(report, panel)[0]) for panel in range(3)] == [4, 4, 4]
    assert agreements(replace(report, cohort=["x"] * 4)) == []


@pytest.mark.parametrize("num_nights", [1, 2])
def test_one_or_two_nights_are_enough_for_a_page(num_nights: int) -> None:
    part = slice(0, num_nights)
    whole = four_nights()
    report = replace(
        whole,
        vectors=whole.vectors[part],
        subject_id=whole.subject_id[part],
        cohort=whole.cohort[part],
        age_years=whole.age_years[part],
        bmi=whole.bmi[part],
        female=whole.female[part],
    )
    assert f"{num_nights} nights of {num_nights} subjects" in render(report)


def test_a_cohorts_name_cannot_become_markup() -> None:
    html = render(replace(four_nights(), cohort=["<script>", "x", "x", "x"]))
    assert "<script>" not in html
    assert "&lt;script&gt; (1), x (3)" in html
