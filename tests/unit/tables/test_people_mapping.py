from itertools import takewhile
from pathlib import Path

import pytest

from sleepmami.errors import ConfigError, SleepMaMiError, TableError
from sleepmami.tables.demographics import Demographics, Outcome
from sleepmami.tables.people.mapping import read_mapping
from sleepmami.tables.people.reader import People, read_people

MAPPING = """\
file: mydata.csv
recording: Night File
subject: pid
age: {column: years old, top_code: 85}
sex: {column: g, female: 0, male: 1}
bmi: {column: w}
ahi: index
unknown: [-9, 999, refused]
outcomes:
  stroke: {event: st, time_days: t, prevalent: pst}
  death: {event: {column: vital, happened: 0}, time_days: t}
"""
TABLE = (
    "pid,night file,years old,g,w,index,st,t,pst,vital\n"
    "p1,a/n1.edf,61,0,27.5,12,3,100,0,1\n"
    "p1,a/n2.edf,85,1.0,-9,999,0,200.5,1,0\n"
    "p2,n3,-9,refused,22,,no,,yes,-9\n"
)


def read(folder: Path, mapping: str = MAPPING, table: str = TABLE) -> People:
    (folder / "mydata.csv").write_text(table)
    (folder / "people.yaml").write_text(mapping)
    return read_people([str(folder / "people.yaml")])


def test_columns_and_codes_are_as_the_mapping_says(tmp_path: Path) -> None:
    people = read(tmp_path)
    assert people.of("a/n1") == Demographics(
        subject_id="p1",
        age_years=61.0,
        sex="female",
        bmi=27.5,
        ahi=12.0,
        outcomes=(
            Outcome(name="stroke", event=True, time_days=100.0),
            Outcome(name="death", event=False, time_days=100.0),
        ),
    )
    assert people.of("a/n2") == Demographics(
        subject_id="p1",
        age_years=85.0,
        age_top_coded=True,
        sex="male",
        outcomes=(
            Outcome(name="stroke", event=False, time_days=200.5, prevalent=True),
            Outcome(name="death", event=True, time_days=200.5),
        ),
    )
    assert people.of("n3") == Demographics(subject_id="p2", bmi=22.0)
    (file,) = people.files
    assert (file.file, file.dialect, file.num_rows) == (
        str(tmp_path / "mydata.csv"),
        "mapping",
        3,
    )


@pytest.mark.parametrize(
    ("mapping", "table", "recording_id"),
    [
        ("subject: pid", "pid,a\nP-001,50\nP-002,60\n", "site/P-001_night"),
        ("subject: pid", "pid,a\nP-001,50\nP-002,60\n", "p-001/night2"),
        ("subject: pid", "pid,a\n17,50\n18,60\n", "kiss_0017_psg"),
        ("subject: pid\nvisit: v", "pid,v,a\n17,1,40\n17,2,50\n", "kiss2_0017"),
    ],
)
def test_a_mapping_of_subjects(tmp_path: Path, mapping: str, table: str, recording_id: str) -> None:
    people = read(tmp_path, f"file: mydata.csv\n{mapping}\nage: a\n", table)
    found = people.of(recording_id)
    assert found is not None
    assert found.age_years == 50
    assert people.of("p-003/night1") is None


def test_leading_zeros_make_no_other_subject(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("pid,w\n0017,25\n")
    (tmp_path / "raw.yaml").write_text("file: raw.csv\nsubject: pid\nbmi: w\n")
    nsrr = b"nsrrid,nsrr_age,nsrr_sex,nsrr_bmi\n17,40,f,\n"
    people = read_people([nsrr, tmp_path / "raw.yaml"], names=["n", str(tmp_path / "raw.yaml")])
    assert people.of("kiss-017") == Demographics(
        subject_id="17", age_years=40.0, sex="female", bmi=25.0
    )


def test_the_mapping_of_the_documentation_is_one() -> None:
    text = (Path(__file__).parents[3] / "docs/people.md").read_text()
    lines = text[text.index("    file: ") :].splitlines()
    example = "\n".join(line[4:] for line in takewhile(lambda line: line.startswith("    "), lines))
    mapping = read_mapping(example, "people.yaml")
    assert mapping.columns["recording"] == "night_file"
    assert mapping.sex_codes == {"0": "female", "1": "male"}
    assert mapping.age_top_code == 90
    assert mapping.outcomes["death"].happened == "0"


def test_a_row_of_the_person_as_such_adds_to_that_of_a_visit(tmp_path: Path) -> None:
    (tmp_path / "follow_up.csv").write_text("id,age,dead,days\n200001,71,1,365\n")
    (tmp_path / "people.yaml").write_text(
        "file: follow_up.csv\nsubject: id\nage: age\noutcomes: {death: {event: dead, time_days: days}}"
    )
    shhs2 = b"nsrrid,gender,age_s2,bmi_s2\n200001,1,60,22.5\n"
    people = read_people(
        [tmp_path / "people.yaml", shhs2], names=[str(tmp_path / "people.yaml"), "s"]
    )
    assert people.of("shhs2-200001") == Demographics(
        subject_id="200001",
        age_years=60.0,
        sex="male",
        bmi=22.5,
        outcomes=(Outcome(name="death", event=True, time_days=365.0),),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bmi:", "weight:", "unknown key 'weight'"),
        ("male: 1", "man: 1", "unknown key 'sex.man'"),
        ("prevalent: pst", "before: pst", "unknown key 'outcomes.stroke.before'"),
        ("time_days: t, prevalent", "prevalent", "outcomes.stroke.time_days must be a name"),
        ("file: mydata.csv\n", "", "file must be a name, got None"),
        ("male: 1", "male: 0", "sex must have two codes"),
        (", male: 1", "", "sex must have two codes"),
        ("female: 0", "female: no", "sex.female must be a number or a word in quotes, got False"),
        ("top_code: 85", "top_code: old", "age.top_code must be an age"),
        ("[-9, 999, refused]", "-9", "unknown must be a list"),
        ("recording: Night File\nsubject: pid\n", "", "found neither recording nor subject"),
        ("subject: pid", "visit: pid", "found recording and visit"),
        ("bmi: {column: w}", "bmi: {", "expected YAML"),
        ("bmi: {column: w}", "bmi: [w]", "bmi must be a name"),
        (MAPPING, "- file", "must be a group of keys"),
    ],
)
def test_a_mapping_that_says_something_else_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in MAPPING
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, MAPPING.replace(old, new, 1))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "people.yaml"))


def test_a_column_that_is_not_there_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"mydata.csv: line 1: .*\['weight'\] too, which .*people"):
        read(tmp_path, MAPPING.replace("{column: w}", "weight"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("61,0,", "61,2,", "line 2, column 'g': found '2'; expected 0 for female or 1 for male"),
        ("3,100,", "-1,100,", "line 2, column 'st': found '-1'"),
        ("3,100,", "maybe,100,", "line 2, column 'st': found 'maybe'; expected yes or no"),
        ("61,0,", "200,0,", "line 2, column 'years old': found '200'"),
    ],
)
def test_a_value_outside_the_mapping_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(TableError, match=message):
        read(tmp_path, table=TABLE.replace(old, new))


def test_bare_numbers_for_sex_need_codes(tmp_path: Path) -> None:
    with pytest.raises(SleepMaMiError, match="bare numbers mean different sexes"):
        read(tmp_path, MAPPING.replace(", female: 0, male: 1", ""))


def test_a_code_for_not_known_is_no_survival(tmp_path: Path) -> None:
    mapping = (
        "file: mydata.csv\nrecording: r\noutcomes:\n"
        "  death: {event: {column: vital, happened: 0}, time_days: t}\n"
    )
    people = read(tmp_path, mapping, "r,vital,t\nn1,1,9\nn2,-9,9\n")
    first, second = people.of("n1"), people.of("n2")
    assert first is not None
    assert second is not None
    assert first.outcomes == (Outcome(name="death", event=False, time_days=9.0),)
    assert second.outcomes is None
