import math

import numpy as np
import pytest

from sleepmami.errors import ConfigError
from sleepmami.simulation.subjects import expected_ahi, simulate_subject

COHORT = [simulate_subject(index, seed=3) for index in range(300)]


def test_a_subject_depends_on_seed_and_index_alone() -> None:
    assert simulate_subject(17, seed=3) == COHORT[17]
    assert simulate_subject(17, seed=4) != COHORT[17]


def test_names_count_from_one() -> None:
    assert [COHORT[0].subject_id, COHORT[299].subject_id] == ["sim-0001", "sim-0300"]


def test_twelve_subjects_already_span_ages_and_sexes() -> None:
    ages = [s.age_years for s in COHORT[:12]]
    assert min(ages) < 30
    assert max(ages) > 75
    assert [s.sex for s in COHORT[:12]].count("male") == 6


def test_ages_of_each_sex_fill_the_range_evenly() -> None:
    for sex in ("female", "male"):
        ages = [s.age_years for s in COHORT if s.sex == sex]
        assert np.mean(ages) == pytest.approx(54, abs=1)  # middle of 20..88
        assert np.std(ages) == pytest.approx(68 / math.sqrt(12), abs=1)


def test_ten_percent_more_weight_means_a_third_more_events() -> None:
    assert expected_ahi(50, "male", 33.0) / expected_ahi(50, "male", 30.0) == pytest.approx(1.32)


def test_reference_subjects_have_the_published_medians() -> None:
    assert expected_ahi(57, "male", 25.6) == pytest.approx(14.9)
    assert expected_ahi(57, "female", 25.6) == pytest.approx(6.9)


def test_ahi_grows_with_bmi_and_is_higher_in_men() -> None:
    log_ahi = np.log([s.ahi_per_h for s in COHORT])
    log_bmi = np.log([s.bmi for s in COHORT])
    male = np.array([s.sex == "male" for s in COHORT])
    age = np.minimum([s.age_years for s in COHORT], 60)
    design = np.column_stack([log_bmi, male, age, np.ones(len(COHORT))])
    bmi_power, log_sex_ratio, per_year, _ = np.linalg.lstsq(design, log_ahi, rcond=None)[0]
    # Standard errors with 300 subjects: 0.8 / sqrt(300) / sd of each column.
    assert bmi_power == pytest.approx(math.log(1.32) / math.log(1.1), abs=0.85)
    assert log_sex_ratio == pytest.approx(math.log(14.9 / 6.9), abs=0.3)
    assert per_year == pytest.approx(0.025, abs=0.011)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed"):
        simulate_subject(0, seed=-1)
