"""Follow-up of SHHS; the rows are made up."""

import pytest

from sleepmami.errors import TableError
from sleepmami.tables.demographics import Outcome
from sleepmami.tables.people.reader import read_people

HEADER = (
    "nsrrid,visitnumber,angina,ang_date,prev_ang,cvd_death,cvd_dthdt,chf,chf_date,chfdt,prev_chf,"
    "chd_death,chd_dthdt,mi,mi_date,prev_mi,stroke,stk_date,prev_stk,vital,censdate\n"
)
ALIVE = "200001,3,2,400,0,0,4000,0,4000,7,1,0,4000,0,4000,0,1,2500,0,1,4000\n"
DEAD = "200002,3,0,900,0,1,900,3,850,7,0,1,900,1,10,2,0,900,0,0,900\n"


def outcomes(row: str, recording_id: str, header: str = HEADER) -> tuple[Outcome, ...] | None:
    found = read_people([f"{header}{row}".encode()], names=["cvd.csv"]).of(recording_id)
    return found.outcomes if found else None


def test_counts_above_zero_are_events_at_the_day_of_the_first() -> None:
    assert outcomes(ALIVE, "shhs1-200001") == (
        Outcome(name="angina", event=True, time_days=400.0),
        Outcome(name="cvd_death", event=False, time_days=4000.0),
        Outcome(name="chf", event=False, time_days=4000.0, prevalent=True),
        Outcome(name="chd_death", event=False, time_days=4000.0),
        Outcome(name="mi", event=False, time_days=4000.0),
        Outcome(name="stroke", event=True, time_days=2500.0),
        Outcome(name="all_cause_death", event=False, time_days=4000.0),
    )


def test_vital_zero_is_dead_and_the_dead_are_followed_until_then() -> None:
    found = {outcome.name: outcome for outcome in outcomes(DEAD, "shhs1-200002") or ()}
    assert found["all_cause_death"] == Outcome(name="all_cause_death", event=True, time_days=900.0)
    assert found["cvd_death"].event
    assert found["chf"] == Outcome(name="chf", event=True, time_days=850.0)
    assert found["mi"] == Outcome(name="mi", event=True, time_days=10.0, prevalent=True)
    assert found["stroke"] == Outcome(name="stroke", event=False, time_days=900.0)


def test_without_an_event_the_follow_up_ends_at_the_last_contact() -> None:
    row = ALIVE.replace(",0,4000,0,4000,0,1,2500", ",0,,0,,0,1,2500")  # chd_dthdt and mi_date empty
    found = {outcome.name: outcome for outcome in outcomes(row, "shhs1-200001") or ()}
    assert found["mi"] == Outcome(name="mi", event=False, time_days=4000.0)
    assert found["chd_death"].time_days == 4000


def test_the_days_are_from_the_first_night_so_the_second_has_no_outcomes() -> None:
    assert outcomes(ALIVE, "shhs2-200001") is None


@pytest.mark.parametrize(
    ("cells", "missing"),
    [
        ("stroke", {"stroke"}),  # not known whether
        ("stroke=-9", {"stroke"}),
        ("stk_date=-9", {"stroke"}),
        ("stk_date", {"stroke"}),  # nor when
        ("prev_stk", {"stroke"}),  # nor whether it is the first
        ("vital", {"all_cause_death"}),
    ],
)
def test_what_is_not_known_is_left_out(cells: str, missing: set[str]) -> None:
    columns = HEADER.strip().split(",")
    values = dict(zip(columns, ALIVE.strip().split(","), strict=True))
    column, _, code = cells.partition("=")
    values[column] = code
    found = outcomes(",".join(values.values()) + "\n", "shhs1-200001") or ()
    assert len(found) == 6
    assert not missing & {outcome.name for outcome in found}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stroke", "999"),
        ("stroke", "1.5"),
        ("vital", "2"),
        ("cvd_death", "2"),
        ("stk_date", "-5"),
        ("censdate", "99999"),
        ("prev_mi", "999"),
    ],
)
def test_codes_are_neither_counts_nor_days(column: str, value: str) -> None:
    columns = HEADER.strip().split(",")
    values = dict(zip(columns, ALIVE.strip().split(","), strict=True)) | {column: value}
    with pytest.raises(TableError, match=rf"cvd.csv: line 2, column '{column}': found '{value}'"):
        outcomes(",".join(values.values()) + "\n", "shhs1-200001")


def test_an_event_without_its_time_or_history_is_refused() -> None:
    with pytest.raises(TableError, match=r"found the column stroke without \['prev_stk'\]"):
        outcomes("7,1,2500,1,4000\n", "shhs1-7", header="nsrrid,stroke,stk_date,vital,censdate\n")
    only_death = outcomes("7,0,4000\n", "shhs1-7", header="nsrrid,vital,censdate\n")
    assert only_death == (Outcome(name="all_cause_death", event=True, time_days=4000.0),)


def test_outcomes_join_the_person_of_the_dataset() -> None:
    dataset = b"nsrrid,gender,age_s1,bmi_s1\n200001,1,55,21.5\n"
    for tables in ([dataset, (HEADER + ALIVE).encode()], [(HEADER + ALIVE).encode(), dataset]):
        found = read_people(tables).of("shhs1-200001")
        assert found is not None
        assert (found.age_years, found.sex, len(found.outcomes or ())) == (55, "male", 7)


def test_two_follow_ups_that_differ_are_refused() -> None:
    later = ALIVE.replace("4000", "4001")
    with pytest.raises(TableError, match="found outcome cvd_death"):
        read_people([(HEADER + row).encode() for row in (ALIVE, later)])


def test_an_event_before_the_night_costs_one_outcome_of_one_person() -> None:
    rows = [ALIVE.replace("200001", str(200001 + person)) for person in range(20)]
    rows[4] = rows[4].replace(",2500,", ",-12,")
    people = read_people([(HEADER + "".join(rows)).encode()], names=["cvd.csv"])
    fifth, sixth = people.of("shhs1-200005"), people.of("shhs1-200006")
    assert fifth is not None
    assert sixth is not None
    assert {o.name for o in sixth.outcomes or ()} - {o.name for o in fifth.outcomes or ()} == {
        "stroke"
    }
    assert [odd.partition("; ")[0] for odd in people.files[0].odd] == [
        "cvd.csv: line 6, column 'stk_date': found '-12'"
    ]


GENERIC = "recording_id,age_years,sex,bmi,"


def generic(columns: str, cells: str) -> tuple[Outcome, ...] | None:
    table = f"{GENERIC}{columns}\nnight1,60,male,27,{cells}\n"
    found = read_people([table.encode()], names=["people.csv"]).of("night1")
    assert found is not None
    return found.outcomes


def test_a_generic_table_names_its_outcomes() -> None:
    columns = "mi_event,mi_days,mi_prevalent,cvd_death_event,cvd_death_days"
    assert generic(columns, "1,400,no,0,900") == (
        Outcome(name="cvd_death", event=False, time_days=900.0),
        Outcome(name="mi", event=True, time_days=400.0),
    )


@pytest.mark.parametrize("cells", ["1,,0", ",400,0", "1,400,", "1,-5,0"])
def test_an_outcome_of_a_generic_table_without_its_when_or_before_is_left_out(cells: str) -> None:
    table = f"{GENERIC}mi_event,mi_days,mi_prevalent\n" + "".join(
        f"night{n},60,male,27,{row}\n" for n, row in enumerate([cells, *["0,9,0"] * 9])
    )
    people = read_people([table.encode()], names=["people.csv"])
    odd, whole = people.of("night0"), people.of("night1")
    assert odd is not None
    assert whole is not None
    assert odd.outcomes is None
    assert whole.outcomes == (Outcome(name="mi", event=False, time_days=9.0),)


def test_a_generic_outcome_without_one_of_its_columns_is_refused() -> None:
    with pytest.raises(TableError, match=r"outcome mi without \['mi_prevalent'\]"):
        generic("mi_event,mi_days", "1,400")
