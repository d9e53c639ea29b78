import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.errors import TableError
from sleepmami.tables.demographics import (
    Demographics,
    DemographicStatistics,
    demographic_cells,
    demographics_of,
    read_demographics,
)

HEADER = "recording_id,subject_id,age_years,sex,bmi\n"
UNKNOWN = Demographics()


def read(text: str) -> dict[str, Demographics]:
    return read_demographics(text.encode(), name="people.csv")


def read_one(age: str = "", sex: str = "", bmi: str = "") -> Demographics:
    return read(f"{HEADER}n1,,{age},{sex},{bmi}\n")["n1"]


# ------------------------------------------------------------------------------ generic dialect


def test_a_generic_row() -> None:
    assert read(f"{HEADER}n1,s1,61.5,female,27.3\n") == {
        "n1": Demographics(subject_id="s1", age_years=61.5, sex="female", bmi=27.3)
    }


def test_columns_may_come_in_any_order_and_case_among_others() -> None:
    text = "BMI, Sex ,site,Age_Years,recording_id\n22,m,Reykjavik,30,n1\n"
    assert read(text) == {"n1": Demographics(age_years=30.0, sex="male", bmi=22.0)}


@pytest.mark.parametrize(
    "data",
    [
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".encode("utf-8-sig"),  # Excel's "CSV UTF-8"
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".encode("utf-16"),
        f"{HEADER}n\u00e4,s,61.5,f,27.5".encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n\n,,,,\n".replace("\n", "\r\n").encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".replace(",", "\t").encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".replace(",", ";").encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".replace(",", ";").replace(".", ",").encode(),
        f'{HEADER}"n\u00e4","s","61.5","f","27.5"\n'.encode(),
    ],
    ids=[
        "bom",
        "utf-16",
        "no last newline",
        "crlf",
        "tabs",
        "semicolons",
        "decimal comma",
        "quotes",
    ],
)
def test_one_table_in_the_ways_programs_write_it(data: bytes) -> None:
    expected = Demographics(subject_id="s", age_years=61.5, sex="female", bmi=27.5)
    assert read_demographics(data) == {"n\u00e4": expected}


@pytest.mark.parametrize("word", ["", " ", "NA", "n/a", "NaN", ".", "null", "None", "Unknown"])
def test_an_unknown_value_is_none(word: str) -> None:
    assert read_one(age=word, sex=word, bmi=word) == UNKNOWN


@pytest.mark.parametrize(
    ("word", "sex"),
    [("F", "female"), ("Female", "female"), ("WOMAN", "female"), ("m", "male"), ("MALE", "male")],
)
def test_spellings_of_sex(word: str, sex: str) -> None:
    assert read_one(sex=word).sex == sex


@pytest.mark.parametrize("code", ["0", "1", "2", "1.0"])
def test_a_number_for_sex_is_ambiguous_between_cohorts(code: str) -> None:
    with pytest.raises(TableError) as caught:
        read_one(sex=code)
    assert str(caught.value) == (
        f"people.csv: line 2, column 'sex': found '{code}'; expected female or male: bare numbers mean "
        "different sexes in different cohorts (1 is male in SHHS and MESA, female in MrOS)"
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("age", "-9"),
        ("age", "121"),
        ("age", "999"),
        ("age", "1_0"),  # Python's float() would take it for ten
        ("age", "inf"),
        ("age", "sixty"),
        ("age", ">89"),
        ("bmi", "0"),
        ("bmi", "7.9"),
        ("bmi", "271"),
        ("bmi", "27,3 kg"),
        ("sex", "X7"),
    ],
)
def test_a_value_out_of_range_names_file_line_and_column(column: str, value: str) -> None:
    name = {"age": "age_years"}.get(column, column)
    quoted = f'"{value}"'
    with pytest.raises(TableError) as caught:
        read_one(**{column: quoted})
    assert str(caught.value).startswith(
        f"people.csv: line 2, column '{name}': found '{value}'; expected "
    )


@pytest.mark.parametrize(("column", "value"), [("age", 0), ("age", 120), ("bmi", 8), ("bmi", 100)])
def test_the_ends_of_the_ranges_are_inside(column: str, value: int) -> None:
    assert demographic_cells(read_one(**{column: str(value)})).get(
        {"age": "age_years"}.get(column, column)
    ) == float(value)


def test_a_quoted_line_break_does_not_shift_the_line_of_an_error() -> None:
    text = 'recording_id,note,age_years,sex,bmi\nn1,"two\nlines",50,f,25\nn2,,500,f,25\n'
    with pytest.raises(TableError, match="line 4, column 'age_years': found '500'"):
        read(text)


def test_a_repeated_recording_is_refused_with_both_lines() -> None:
    with pytest.raises(TableError, match=r"line 4, column 'recording_id': found 'n1'.*line 2"):
        read(f"{HEADER}n1,,50,f,25\nn2,,50,f,25\nn1,,51,f,25\n")


def test_a_file_name_stands_for_its_recording() -> None:
    assert list(read(f"{HEADER}n1.edf,,50,f,25\nn2.REC,,50,f,25\n")) == ["n1", "n2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: found columns \[\]; expected \['recording_id'"),
        ("recording_id,age,sex,bmi\nn1,50,f,25\n", r"found columns \['recording_id', 'age'"),
        ("recording_id,age_years,sex\nn1,50,f\n", "leave the cells empty"),
        ("recording_id,sex,sex,age_years,bmi\n", r"columns \['sex'\] more than once"),
        (f"{HEADER}n1,s,50,f\n", "line 2: found 4 cells; expected 5"),
        (f"{HEADER},s,50,f,25\n", "line 2, column 'recording_id': found ''"),
    ],
)
def test_a_malformed_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(text)


def test_bytes_of_another_encoding_are_refused() -> None:
    with pytest.raises(TableError, match="expected UTF-8"):
        read_demographics(f"{HEADER}caf\u00e9,,50,f,25\n".encode("latin-1"))


def test_a_file_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(f"{HEADER}n1,,50,f,25\n")
    assert read_demographics(tmp_path / "people.csv")["n1"].age_years == 50
    with pytest.raises(TableError, match=r"none\.csv: could not be read"):
        read_demographics(str(tmp_path / "none.csv"))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: (HEADER + t).encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        people = read_demographics(data)
    except TableError:
        return
    for person in people.values():
        assert person.age_years is None or 0 <= person.age_years <= 120
        assert person.bmi is None or 8 <= person.bmi <= 100
        assert person.sex in (None, "female", "male")


# --------------------------------------------------------------------------------- NSRR dialect

SHHS = (
    "nsrrid,pptid,visitnumber,nsrr_age,nsrr_age_gt89,nsrr_sex,nsrr_bmi,gender\n"
    "200001,1,1,55,no,male,21.8,1\n"
    "200001,1,2,60,no,male,22.5,1\n"
    "200002,2,1,78,no,not reported,,2\n"
)
MESA = "mesaid,nsrr_age,nsrr_sex,nsrr_bmi\n1,69,female,\n1234,70,male,30.1\n"
MROS = "nsrrid,visit,nsrr_age,nsrr_sex,nsrr_bmi\nAA0001,1,90,male,27.1\n"
SOF = "nsrrid,visit,nsrr_age,nsrr_sex,nsrr_bmi\n7,8,85,female,24\n8,8,86,female,25\n"
NO_VISIT = "nsrrid,nsrr_age,nsrr_sex,nsrr_bmi\n800002,41,female,33\n"


@pytest.mark.parametrize(
    ("table", "recording_id", "subject_id", "age_years"),
    [
        (SHHS, "shhs1-200001", "200001", 55),
        (SHHS, "shhs2-200001", "200001", 60),
        (SHHS, "polysomnography/edfs/shhs1/shhs1-200002", "200002", 78),
        (MESA, "mesa-sleep-0001", "1", 69),
        (MESA, "mesa-sleep-1234", "1234", 70),
        (MROS, "mros-visit1-aa0001", "AA0001", 90),
        (SOF, "sof-visit-8-00007", "7", 85),
        (NO_VISIT, "cfs-visit5-800002", "800002", 41),
    ],
)
def test_a_recording_is_found_by_the_subject_and_visit_in_its_name(
    table: str, recording_id: str, subject_id: str, age_years: float
) -> None:
    person = demographics_of(recording_id, read(table))
    assert person is not None
    assert (person.subject_id, person.age_years) == (subject_id, age_years)


@pytest.mark.parametrize(
    ("table", "recording_id"),
    [
        (SHHS, "shhs2-200002"),  # no such visit
        (SHHS, "shhs1-20000"),
        (SHHS, "shhs1-2000011"),
        (MROS, "mros-visit2-aa0001"),
        (MESA, "mesa-sleep-0002"),
        ("nsrrid,nsrr_age,nsrr_sex,nsrr_bmi\n8,86,female,25\n", "sof-visit-8-00007"),
        (f"{HEADER}n1,,50,f,25\n", "n2"),
    ],
)
def test_a_recording_of_nobody_in_the_table_is_unknown(table: str, recording_id: str) -> None:
    assert demographics_of(recording_id, read(table)) is None


def test_harmonised_words_for_unknown() -> None:
    person = demographics_of("shhs1-200002", read(SHHS))
    assert person == Demographics(subject_id="200002", age_years=78.0, sex=None, bmi=None)


def test_a_repeated_subject_and_visit_is_refused() -> None:
    with pytest.raises(TableError, match=r"line 5, column 'nsrrid'.*line 2"):
        read(SHHS + "200001,1,1,55,no,male,21.8,1\n")


def test_a_generic_row_is_found_by_path_or_by_name() -> None:
    people = read(f"{HEADER}a/n1,,50,f,25\nn1,,60,f,25\n")
    ages = [
        person.age_years
        for name in ("a/n1", "n1", "b/n1")
        if (person := demographics_of(name, people))
    ]
    assert ages == [50, 60, 60]


# ----------------------------------------------------------------------------------- statistics


def test_statistics_are_of_the_known_values() -> None:
    subjects = [
        Demographics(age_years=40.0, bmi=20.0),
        Demographics(age_years=60.0),
        Demographics(bmi=30.0),
        UNKNOWN,
    ]
    assert DemographicStatistics.fit(subjects) == DemographicStatistics(
        age_mean=50.0, age_std=10.0, bmi_mean=25.0, bmi_std=5.0
    )


def test_a_value_that_never_varies_is_not_divided_by_zero() -> None:
    statistics = DemographicStatistics.fit([Demographics(age_years=0.1, bmi=22.0)] * 3)
    assert (statistics.age_std, statistics.bmi_std) == (1.0, 1.0)
    assert math.isclose(statistics.age_mean, 0.1)


def test_statistics_of_nobody_are_refused() -> None:
    with pytest.raises(TableError, match="found no BMI among 1 training entries"):
        DemographicStatistics.fit([Demographics(age_years=50.0)])


# ------------------------------------------------------------------------------- real cohorts


def test_participants_of_a_public_study_are_read(shared_data: Path) -> None:
    text = (shared_data / "annotations/ds005555/participants.tsv").read_text()
    header, rest = text.split("\n", 1)
    assert header == "participant_id\tage\tsex\tbmi\tpid"
    people = read(f"recording_id\tage_years\tsex\tbmi\tsubject_id\n{rest}")
    assert len(people) == 128
    assert len({person.subject_id for person in people.values()}) == 100
    assert people["sub-1"] == Demographics(subject_id="89", age_years=27.0, sex="female", bmi=19.8)
