import math

import pytest

from sleepmami.errors import TableError
from sleepmami.tables.demographics import (
    Demographics,
    DemographicStatistics,
    Outcome,
    demographic_cells,
    person_cells,
)


def test_statistics_are_of_the_known_values() -> None:
    subjects = [
        Demographics(age_years=40.0, bmi=20.0),
        Demographics(age_years=60.0),
        Demographics(bmi=30.0),
        Demographics(),
    ]
    assert DemographicStatistics.fit(subjects) == DemographicStatistics(
        age_mean=50.0, age_std=10.0, bmi_mean=25.0, bmi_std=5.0
    )


def test_nan_is_unknown() -> None:
    ages = [Demographics(age_years=age, bmi=20.0) for age in (40.0, float("nan"), 60.0)]
    assert DemographicStatistics.fit(ages) == DemographicStatistics.fit([ages[0], ages[2]])


def test_a_value_that_never_varies_is_not_divided_by_zero() -> None:
    statistics = DemographicStatistics.fit([Demographics(age_years=0.1, bmi=22.0)] * 3)
    assert (statistics.age_std, statistics.bmi_std) == (1.0, 1.0)
    assert math.isclose(statistics.age_mean, 0.1)


def test_statistics_of_nobody_are_refused() -> None:
    with pytest.raises(TableError, match="found no BMI among 1 training entries"):
        DemographicStatistics.fit([Demographics(age_years=50.0)])


def test_what_nobody_needs_may_be_known_of_nobody() -> None:
    statistics = DemographicStatistics.fit([Demographics(age_years=50.0)], needed=("age", "sex"))
    assert (statistics.bmi_mean, statistics.bmi_std) == (None, None)
    age, bmi = statistics.z_scores([51.0, None], [20.0, None])
    assert age[0] == 1.0
    assert [math.isnan(value) for value in (age[1], *bmi)] == [True] * 3


def test_cells_of_a_person() -> None:
    person = Demographics(
        subject_id="s",
        age_years=90.0,
        age_top_coded=True,
        sex="male",
        ahi=12.0,
        outcomes=(Outcome(name="stroke", event=True, time_days=30.0),),
    )
    assert person_cells(person) == {
        "age_years": 90.0,
        "age_top_coded": True,
        "sex": "male",
        "bmi": None,
        "ahi": 12.0,
        "outcomes": [{"name": "stroke", "event": True, "time_days": 30.0, "prevalent": False}],
    }


def test_cells_of_nobody_are_all_null() -> None:
    assert set(person_cells(None).values()) == {None}
    assert demographic_cells(None) == {"age_years": None, "sex": None, "bmi": None}
