"""Generic and NSRR tables of people; the rows are made up."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.errors import TableError
from sleepmami.tables.demographics import Demographics, demographic_cells
from sleepmami.tables.people.reader import read_people
from tests.unit.tables.people_tables import HEADER, MESA, SHHS, SHHS1_RAW, person, read

UNKNOWN = Demographics()


def read_one(age: str = "", sex: str = "", bmi: str = "") -> Demographics:
    return person(f"{HEADER}n1,,{age},{sex},{bmi}\n", "n1")


# ------------------------------------------------------------------------------ generic dialect


def test_a_generic_row() -> None:
    expected = Demographics(subject_id="s1", age_years=61.5, sex="female", bmi=27.3)
    assert person(f"{HEADER}n1,s1,61.5,female,27.3\n", "n1") == expected


def test_columns_may_come_in_any_order_and_case_among_others() -> None:
    text = "BMI, Sex ,site,Age_Years,recording_id\n22,m,Reykjavik,30,n1\n"
    assert person(text, "n1") == Demographics(age_years=30.0, sex="male", bmi=22.0)


def test_a_generic_row_may_know_the_ahi_and_that_the_age_is_a_code() -> None:
    header = "recording_id,age_years,sex,bmi,ahi,age_top_coded\n"
    assert person(f"{header}n,90,f,22,15.5,yes\n", "n") == Demographics(
        age_years=90.0, age_top_coded=True, sex="female", bmi=22.0, ahi=15.5
    )
    assert not person(f"{header}n,90,f,22,,no\n", "n").age_top_coded


@pytest.mark.parametrize(
    "data",
    [
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".encode("utf-8-sig"),  # Excel's "CSV UTF-8"
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".encode("utf-16"),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".encode("cp1252"),  # Excel's "CSV"
        f"{HEADER}n\u00e4,s,61.5,f,27.5".encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n\n,,,,\n".replace("\n", "\r\n").encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".replace(",", "\t").encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".replace(",", ";").encode(),
        f"{HEADER}n\u00e4,s,61.5,f,27.5\n".replace(",", ";").replace(".", ",").encode(),
        f'{HEADER}"n\u00e4","s","61.5","f","27.5"\n'.encode(),
    ],
    ids=["bom", "utf-16", "1252", "no last newline", "crlf", "tabs", "semicolons", "decimal comma", "quotes"],
)  # fmt: skip
def test_one_table_in_the_ways_programs_write_it(data: bytes) -> None:
    expected = Demographics(subject_id="s", age_years=61.5, sex="female", bmi=27.5)
    assert read_people([data]).of("n\u00e4") == expected


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
        ("age", "-5"),
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
    people = read(f"{HEADER}n1.edf,,50,f,25\nn2.REC,,51,f,25\n")
    ages = [found.age_years for name in ("n1", "n2") if (found := people.of(name))]
    assert ages == [50, 51]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: found columns \[\]; expected \['recording_id'"),
        ("recording_id,age,sex,bmi\nn1,50,f,25\n", r"found columns \['recording_id', 'age'"),
        ("recording_id,age_years,sex\nn1,50,f\n", "leave the cells empty"),
        ("recording_id,sex,sex,age_years,bmi\n", r"columns \['sex'\] more than once"),
        (f"{HEADER}n1,s,50,f\n", "line 2: found 4 cells; expected 5"),
        (f"{HEADER},s,50,f,25\n", "line 2, column 'recording_id': found ''"),
        ("pptid,age_s1,gender\n7,50,1\n", "pptid alone; expected nsrrid"),
    ],
)
def test_a_malformed_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(text)


@pytest.mark.parametrize("byte", [b"\x81", b"\0"])  # no letter of Windows-1252
def test_bytes_of_no_encoding_are_refused(byte: bytes) -> None:
    with pytest.raises(TableError, match="expected UTF-8"):
        read_people([f"{HEADER}caf,,50,f,25\n".encode() + byte])


def test_a_file_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(f"{HEADER}n1,,50,f,25\n")
    assert read_people([tmp_path / "people.csv"]).of("n1") == Demographics(
        age_years=50.0, sex="female", bmi=25.0
    )
    with pytest.raises(TableError, match=r"none\.csv: could not be read"):
        read_people([str(tmp_path / "none.csv")])


HEADERS = [
    HEADER,
    "nsrrid,nsrr_age,nsrr_sex,nsrr_bmi\n",
    "subject,age,sex\n",
    "participant_id\tage\tsex\n",
    "nsrrid,vital,censdate\n",
]


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=200)
    | st.tuples(st.sampled_from(HEADERS), st.text(max_size=200)).map(lambda t: "".join(t).encode()),
    st.text(max_size=30),
)
def test_any_bytes_are_read_or_refused(data: bytes, recording_id: str) -> None:
    try:
        found = read_people([data]).of(recording_id) or UNKNOWN
    except TableError:
        return
    assert found.age_years is None or 0 <= found.age_years <= 120
    assert found.bmi is None or 8 <= found.bmi <= 100
    assert found.sex in (None, "female", "male")


# ------------------------------------------------------------------------------------------ NSRR

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
    found = person(table, recording_id)
    assert (found.subject_id, found.age_years) == (subject_id, age_years)


@pytest.mark.parametrize(
    ("table", "recording_id"),
    [
        (SHHS, "shhs2-200002"),  # no such visit
        (SHHS, "shhs1-20000"),
        (SHHS, "shhs1-2000011"),
        (MROS, "mros-visit2-aa0001"),
        (MESA, "mesa-sleep-0002"),
        (NO_VISIT.replace("800002", "8"), "sof-visit-8-00007"),
        (f"{HEADER}n1,,50,f,25\n", "n2"),
    ],
)
def test_a_recording_of_nobody_in_the_table_is_unknown(table: str, recording_id: str) -> None:
    people = read(table)
    assert people.of(recording_id) is None
    assert not people.ambiguous


def test_harmonised_words_for_unknown() -> None:
    expected = Demographics(subject_id="200002", age_years=78.0, sex=None, bmi=None)
    assert person(SHHS, "shhs1-200002") == expected


def test_a_repeated_subject_and_visit_is_refused() -> None:
    with pytest.raises(TableError, match=r"line 5, column 'nsrrid'.*line 2"):
        read(SHHS + "200001,1,1,55,no,male,21.8,1\n")


SHHS2_RAW = "nsrrid,gender,age_s2,bmi_s2,ahi_a0h3\n200001,1,60,22.5,14\n"


def test_raw_shhs_tables_of_two_visits() -> None:
    people = read(SHHS1_RAW, SHHS2_RAW)
    assert people.of("shhs1-200001") == Demographics(
        subject_id="200001", age_years=55.0, sex="male", bmi=21.5, ahi=12.5
    )
    assert people.of("shhs2-200001") == Demographics(
        subject_id="200001", age_years=60.0, sex="male", bmi=22.5, ahi=14.0
    )
    assert people.of("shhs1-200002") == Demographics(
        subject_id="200002", age_years=90.0, age_top_coded=True, sex="female"
    )
    assert [file.dialect for file in people.files] == ["SHHS", "SHHS"]


def test_rows_of_an_interview_are_of_no_night() -> None:
    table = "nsrrid,visitnumber,gender,age_s1,age_s2\n7,1,1,55,\n7,2,1,,60\n7,4,1,,\n"
    people = read(table)
    assert len(people) == 2
    found = people.of("shhs2-0007")
    assert found is not None
    assert found.age_years == 60


def test_codes_of_sex_are_those_of_the_cohort() -> None:
    mesa = "mesaid,gender1,sleepage5c,bmi5c,ahi_a0h3\n0001,0,69,25,3\n0002,1,90,26,4\n"
    assert person(mesa, "mesa-sleep-0001").sex == "female"
    assert person(mesa, "mesa-sleep-0002") == Demographics(
        subject_id="2", age_years=90.0, sex="male", bmi=26.0, ahi=4.0
    )  # MESA states ages over 89 as they are
    mros = "nsrrid,visit,gender,vsage1,hwbmi,poahi3\nAA0001,1,2,90,27.5,8\nAA0002,1,2,M,A,.\n"
    assert person(mros, "mros-visit1-aa0001") == Demographics(
        subject_id="AA0001", age_years=90.0, age_top_coded=True, sex="male", bmi=27.5, ahi=8.0
    )
    assert person(mros, "mros-visit1-aa0002") == Demographics(subject_id="AA0002", sex="male")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (SHHS1_RAW.replace(",1,55", ",0,55"), "'gender': found '0'; expected 1 for male or 2"),
        ("mesaid,gender1,sleepage5c\n1,2,60\n", "'gender1': found '2'; expected 0 for female"),
        (SHHS1_RAW.replace("12.5", "999"), "'ahi_a0h3': found '999'"),
        (SHHS1_RAW.replace(",55,", ",-5,"), "'age_s1': found '-5'"),
        ("nsrrid,gender,vsage1,vs2age1\nAA1,2,75,80\n", "'visit': found ''; expected a visit"),
    ],
)
def test_a_code_outside_the_dictionary_is_refused(table: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(table)


@pytest.mark.parametrize("code", ["-9", "-8", "-99", "-999", "-9.0", "M", ".k"])
def test_a_code_for_not_known_is_no_age(code: str) -> None:
    assert read_one(age=code) == dataclasses.replace(read_one(), age_years=None)


@pytest.mark.parametrize("code", ["9", "-9", "99", "."])
def test_a_code_for_not_known_is_no_sex_where_sexes_are_coded(code: str) -> None:
    assert person(SHHS1_RAW.replace(",1,55", f",{code},55"), "shhs1-200001").sex is None


def cohort(odd_rows: dict[int, str]) -> str:
    rows = (odd_rows.get(row, f"n{row},,50,f,25") for row in range(20))
    return HEADER + "\n".join(rows) + "\n"


def test_an_odd_cell_costs_that_cell_and_is_told_of() -> None:
    people = read(cohort({3: "n3,,500,f,25", 7: "n7,,50,martian,25", 9: ",,50,f,25"}))
    three, seven = people.of("n3"), people.of("n7")
    assert three is not None
    assert seven is not None
    assert (three.age_years, three.sex, three.bmi) == (None, "female", 25)
    assert (seven.age_years, seven.sex, seven.bmi) == (50, None, 25)
    assert len(people) == 19  # nobody knows whose the row without an id is
    assert people.files[0].num_rows == 19
    assert [odd.partition("; expected")[0] for odd in people.files[0].odd] == [
        "people.csv: line 5, column 'age_years': found '500'",
        "people.csv: line 9, column 'sex': found 'martian'",
        "people.csv: line 11, column 'recording_id': found ''",
    ]


@pytest.mark.parametrize(("num_odd", "refused"), [(3, False), (4, True)])
def test_a_fifth_of_a_column_is_no_slip(num_odd: int, refused: bool) -> None:
    text = cohort({row: f"n{row},,500,f,25" for row in range(num_odd)})
    if refused:
        with pytest.raises(
            TableError, match=r"people\.csv: line 2, column 'age_years': found '500'"
        ):
            read(text)
    else:
        assert len(read(text).files[0].odd) == num_odd


def test_a_row_per_person_is_of_both_nights_of_shhs() -> None:
    wide = "nsrrid,gender,age_s1,age_s2,bmi_s1,bmi_s2,ahi_a0h3\n200001,1,85,90,21,22,5\n200002,2,60,,,,\n"
    assert person(wide, "shhs1-200001") == Demographics(
        subject_id="200001", age_years=85, sex="male", bmi=21
    )
    assert person(wide, "shhs2-200001") == Demographics(
        subject_id="200001", age_years=90, age_top_coded=True, sex="male", bmi=22
    )
    assert person(wide, "shhs2-200002") == Demographics(subject_id="200002", sex="female")


@pytest.mark.parametrize(
    ("header", "cells", "recording_id", "subject"),
    [
        ("wsc_id,wsc_vst", "10119,2", "wsc-visit2-10119-nsrr", "10119"),
        ("sofid,visit", "7853,8", "sof-visit-8-07853", "7853"),
        ("appleid,site", "140001,x", "apples-140001", "140001"),
        ("subject_code,site", "BOGN00001,BOGN", "usable/BOGN/BOGN00001", "BOGN00001"),
    ],
)
def test_harmonised_tables_of_cohorts_with_ids_of_their_own(
    header: str, cells: str, recording_id: str, subject: str
) -> None:
    table = f"{header},nsrr_age,nsrr_sex,nsrr_bmi\n{cells},60,female,30\n"
    expected = Demographics(subject_id=subject, age_years=60, sex="female", bmi=30)
    assert person(table, recording_id) == expected


@pytest.mark.parametrize(
    ("word", "sex"),
    [("weiblich", "female"), ("W", "female"), ("M\u00e4nnlich", "male"), ("femme", "female"), ("F\u00e9minin", "female"),
     ("Homme", "male"), ("mujer", "female"), ("hombre", "male"), ("uomo", "male"), ("vrouw", "female"),
     ("homem", "male"), ("kobieta", "female")],
)  # fmt: skip
def test_sex_is_read_in_words_of_several_languages(word: str, sex: str) -> None:
    people = read_people([f"recording_id,age_years,sex,bmi\na,50,{word},20\n".encode()])
    person = people.of("a")
    assert person is not None
    assert person.sex == sex


def test_spanish_letters_are_refused_because_m_is_a_woman_there() -> None:
    rows = "".join(f"r{n},50,{'HM'[n % 2]},20\n" for n in range(8))
    with pytest.raises(TableError, match="found 'H'; expected female or male"):
        read_people([f"recording_id,age_years,sex,bmi\n{rows}".encode()])


def test_a_spreadsheet_is_named_as_one() -> None:
    with pytest.raises(TableError, match=r"found a zip archive, as \.xlsx"):
        read_people([b"PK\x03\x04" + bytes(50)])
