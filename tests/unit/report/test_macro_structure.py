"""Shares of stages by group are those of the hypnograms."""

import numpy as np
import pytest

from sleepmami.psg import Stage
from sleepmami.report.macro_structure import (
    AGE_2,
    AGE_3,
    BIN_EPOCHS,
    GRIDS,
    SEX,
    STAGE_ORDER,
    ScoredNight,
    grouped,
    sleep_shares,
    stage_shares,
)
from sleepmami.report.macro_structure_figures import stage_areas
from sleepmami.report.pictures import LIGHT

N2, N3 = STAGE_ORDER.index(Stage.N2), STAGE_ORDER.index(Stage.N3)


def bins(*stages: Stage) -> np.ndarray:
    """Whole bins of one stage each."""
    return np.repeat(np.array(stages, np.int8), BIN_EPOCHS)


def night(subject: str, hypnogram: np.ndarray, **known: object) -> ScoredNight:
    nothing = dict.fromkeys(("age_years", "sex", "bmi", "ahi"))
    return ScoredNight(subject_id=subject, hypnogram=hypnogram, **(nothing | known))  # type: ignore[arg-type]


def test_time_begins_with_sleep() -> None:
    early = bins(Stage.WAKE, Stage.WAKE, Stage.N2, Stage.N3)
    shares = stage_shares([early, bins(Stage.N2, Stage.N3)])
    assert shares[:, [N2, N3]].tolist() == [[1, 0], [0, 1]]


def test_shares_are_of_scored_epochs_and_nights_count_alike() -> None:
    half = bins(Stage.N2)
    half[: BIN_EPOCHS // 2] = Stage.N3
    unscored = bins(Stage.N2, Stage.N3)
    unscored[5:25] = Stage.UNKNOWN
    shares = stage_shares([half, unscored])
    assert shares[0, [N2, N3]].tolist() == [0.75, 0.25]


def test_a_group_lasts_as_long_as_half_of_its_nights() -> None:
    lengths = [
        stage_shares([bins(*[Stage.N2] * n) for n in hours]) for hours in ([1, 2, 5], [1, 5])
    ]
    assert [len(one) for one in lengths] == [2, 5]


def test_a_night_without_sleep_is_no_night() -> None:
    assert len(stage_shares([bins(Stage.WAKE), bins(Stage.UNKNOWN)])) == 0


@pytest.mark.parametrize(
    ("age", "two", "three"),
    [
        (17.9, None, None),
        (18, "18-59 y", "18-44 y"),
        (59.9, "18-59 y", "45-64 y"),
        (60, "60 y and over", "45-64 y"),
        (65, "60 y and over", "65 y and over"),
        (None, None, None),
    ],
)
def test_groups_of_age_are_the_papers(
    age: float | None, two: str | None, three: str | None
) -> None:
    person = night("a", bins(Stage.N2), age_years=age)
    assert (AGE_2.group(person), AGE_3.group(person)) == (two, three)


def test_everybody_with_known_values_is_in_one_panel_of_a_grid() -> None:
    rng = np.random.default_rng(0)
    nights = [
        night(
            f"s{number}",
            bins(Stage.N2),
            age_years=float(rng.uniform(18, 90)),
            sex=str(rng.choice(["female", "male"])),
            bmi=float(rng.uniform(15, 45)),
            ahi=float(rng.uniform(0, 60)),
        )
        for number in range(60)
    ]
    for grid in GRIDS:
        assert sum(group.num_nights for row in grouped(nights, grid) for group in row) == 60


def test_people_count_once_in_a_share_of_sleep() -> None:
    nights = [
        night("a", bins(Stage.N3, Stage.WAKE), sex="female"),
        night("a", bins(Stage.N2, Stage.N3), sex="female"),
        night("b", bins(Stage.N2), sex="female"),
    ]
    ((estimate, num),) = sleep_shares(nights, SEX, Stage.N3).values()
    assert (estimate.value, num) == (pytest.approx((0.75 + 0) / 2), 2)
    assert estimate.low == 0
    assert estimate.high == 0.75


def test_every_grid_has_a_panel_for_each_group() -> None:
    for grid in GRIDS:
        groups = grouped([night("a", bins(Stage.N2), age_years=30.0)], grid)
        assert len(stage_areas(groups, LIGHT).axes) == sum(map(len, groups))


def test_an_empty_group_says_so_and_areas_add_up_to_one() -> None:
    nights = [night("a", bins(Stage.N2, Stage.N3), age_years=30.0, sex="male")]
    groups = grouped(nights, GRIDS[1])
    panels = stage_areas(groups, LIGHT).axes
    assert [len(panel.texts) for panel in panels] == [1, 0, 1, 1, 1, 1]
    top = panels[1].patches[-1].get_data().values
    assert top.tolist() == [1, 1]
