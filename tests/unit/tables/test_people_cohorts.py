"""Sleep-EDF, ISRUC, BIDS and UCDDB tables, names of two people, and several tables at once."""

from pathlib import Path

import pytest

from sleepmami.config import SplitConfig
from sleepmami.errors import TableError
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.people.reader import People, read_people
from sleepmami.tables.splits import split_of
from tests.unit.tables.people_tables import HEADER, MESA, SHHS, SHHS1_RAW, person, read

# ---------------------------------------------------------------------------------- other cohorts


def test_sleep_edf_cassette_rows_are_of_a_night() -> None:
    table = "subject,night,age,sex (F=1),LightsOff\n0,1,33,1,00:38:00\n0.0,2.0,34,1,\n7,1,52,2,\n"
    assert person(table, "SC4001E0-PSG") == Demographics(
        subject_id="SC400", age_years=33.0, sex="female"
    )
    assert person(table, "sleep-cassette/SC4002E0-PSG").age_years == 34
    assert person(table, "SC4071E0-PSG").sex == "male"
    people = read(table)
    assert [people.of(name) for name in ("SC4072E0-PSG", "SC400", "ST7001J0-PSG")] == [None] * 3


def test_sleep_edf_telemetry_has_two_lines_of_header_and_a_row_per_subject() -> None:
    table = (
        "Subject - age - sex,,,Placebo night,,Temazepam night,\n"
        "Nr,Age,M1/F2,night nr,lights off,night nr,lights off\n"
        "1,60,1,1,23:01,2,23:48\n2,35,2,2,23:27,1,00:00\n"
    )
    people = read(table)
    expected = Demographics(subject_id="ST702", age_years=35.0, sex="female")
    assert people.of("ST7021J0-PSG") == people.of("ST7022J0-PSG") == expected
    with pytest.raises(TableError, match="line 3, column 'age': found '600'"):
        read(table.replace("1,60,", "1,600,"))


ISRUC = "Details of subgroup,,,\n,,,\nSubject,Age,Sex,Diagnosis\n1,64,M,x\n2,51,F,y\nNote: z,,,\n"


@pytest.mark.parametrize(
    "name", ["1/1", "subject1/1", "1", "Subject_01/1", "isruc/s1/1", "1/2/2", "ISRUC/1"]
)
def test_isruc_recordings_are_named_by_folders(name: str) -> None:
    found = person(ISRUC, name)
    assert found == Demographics(subject_id="1", age_years=64.0, sex="male")


def test_isruc_subgroups_number_their_own_people() -> None:
    other = "Subject,Age,Sex\n1,30,F\n"
    names = ("Details_subgroup_I.csv", "Details_subgroup_II.csv")
    people = read(ISRUC, other, names=names)
    first, second = people.of("subgroup1/1/1"), people.of("subgroupII/1/2/2")
    assert first is not None
    assert second is not None
    assert (first.subject_id, first.age_years) == ("1-1", 64)
    assert (second.subject_id, second.age_years) == ("2-1", 30)
    assert people.of("1/1") is None
    assert people.ambiguous == {"1/1"}
    assert read(ISRUC, names=names[:1]).of("1/1") == first
    # which subgroup a table without a name is of cannot be known
    assert read(ISRUC).of("subgroup2/1/1") is None


@pytest.mark.parametrize("name", ["shhs1-1", "alice/1", "3/alice/1", "1/1/1/1", "11/1"])
def test_a_number_elsewhere_is_no_isruc_subject(name: str) -> None:
    assert read(ISRUC).of(name) is None


def test_bids_participants_are_found_by_their_label() -> None:
    table = (
        "participant_id\tage\tsex\tsite\nsub-01\t89+\tF\tx\nsub-1\t30\tn/a\ty\nsub-2\t31\to\tz\n"
    )
    name = "sub-01/ses-1/eeg/sub-01_ses-1_task-Sleep_acq-psg_eeg"
    assert person(table, name) == Demographics(
        subject_id="sub-01", age_years=89.0, age_top_coded=True, sex="female"
    )
    assert person(table, "sub-1_task-Sleep_eeg") == Demographics(subject_id="sub-1", age_years=30.0)
    assert person(table, "sub-2_eeg").sex is None
    people = read(table)
    assert people.of("sub-11_task-Sleep_eeg") is None
    assert people.of("sub-01/sub-2_task-Sleep_eeg") is None
    assert people.ambiguous == {"sub-01/sub-2_task-Sleep_eeg"}


def test_nights_of_one_participant_share_a_split(shared_data: Path) -> None:
    people = read_people([shared_data / "annotations/ds005555/participants.tsv"])
    splits: dict[str, set[str]] = {}
    nights: dict[str, int] = {}
    for number in range(1, 129):
        found = people.of(f"sub-{number}/eeg/sub-{number}_task-Sleep_acq-psg_eeg")
        assert found is not None
        assert found.subject_id is not None
        splits.setdefault(found.subject_id, set()).add(split_of(found.subject_id, SplitConfig()))
        nights[found.subject_id] = nights.get(found.subject_id, 0) + 1
    assert len(splits) == 100
    assert sum(nights.values()) == 128
    assert all(len(split) == 1 for split in splits.values())
    assert nights["89"] == 2  # sub-1 and sub-2
    assert people.of("sub-1_task-Sleep_acq-headband_eeg") == Demographics(
        subject_id="89", age_years=27.0, sex="female", bmi=19.8
    )
    assert people.of("sub-16_eeg") == Demographics(subject_id="11", sex="female", bmi=26.8)


def test_people_of_ucddb(shared_data: Path) -> None:
    people = read_people([shared_data / "ucddb/subjects_dev.csv"])
    assert len(people) == 15
    expected = Demographics(subject_id="ucddb002", age_years=54.0, sex="male", bmi=33.9, ahi=23.0)
    assert people.of("ucddb002") == people.of("eeg/ucddb002_eeg") == expected
    assert people.of("ucddb004") is None


# ------------------------------------------------------------------------------------- ambiguity


def test_a_name_with_two_subjects_is_of_nobody() -> None:
    people = read(SHHS)
    assert people.of("shhs1-200001-200002") is None
    assert people.of("shhs1-200001-v2") is None  # two visits
    assert people.ambiguous == {"shhs1-200001-200002", "shhs1-200001-v2"}


def test_a_folder_of_digits_is_no_subject() -> None:
    people = read(MESA)
    assert people.of("1/night") is None
    found = people.of("1/mesa-sleep-1234")
    assert found is not None
    assert found.subject_id == "1234"


def test_a_generic_row_is_found_by_path_or_by_name() -> None:
    people = read(f"{HEADER}a/n1,,50,f,25\nn1,,60,f,25\n")
    ages = [found.age_years for name in ("a/n1", "n1", "b/n1") if (found := people.of(name))]
    assert ages == [50, 60, 60]


# ---------------------------------------------------------------------------------- several files


def test_files_of_one_cohort_are_joined() -> None:
    people = read(SHHS, SHHS1_RAW.replace("200002,2,90", "200002,2,78.6"))
    assert len(people) == 3
    assert people.of("shhs1-200001") == Demographics(
        subject_id="200001", age_years=55.0, sex="male", bmi=21.8, ahi=12.5
    )
    found = people.of("shhs1-200002")
    assert found is not None
    assert (found.sex, found.age_years) == ("female", 78)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("200001,2,55,,", "found sex female for subject=200001 visit=1; expected male"),
        ("200001,1,56.1,,", "found age 56.1 for subject=200001 visit=1; expected 55"),
        ("200001,1,90,,", "found age 90"),
    ],
)
def test_files_that_contradict_each_other_are_refused(row: str, message: str) -> None:
    with pytest.raises(TableError) as caught:
        read(SHHS, f"nsrrid,gender,age_s1,bmi_s1,ahi_a0h3\n{row}\n")
    assert str(caught.value).startswith("people1.csv: line 2: ")
    assert str(caught.value).endswith("as people.csv: line 2 has it")
    assert message in str(caught.value)


def test_an_exact_age_is_no_contradiction_of_over_89() -> None:
    harmonised = "mesaid,nsrr_age,nsrr_sex,nsrr_bmi\n1,90,female,25\n"
    raw = "mesaid,gender1,sleepage5c\n1,0,94\n"
    for tables in ((harmonised, raw), (raw, harmonised)):
        found = read(*tables).of("mesa-sleep-0001")
        assert found is not None
        assert (found.age_years, found.age_top_coded) == (94, False)


def test_a_table_of_recordings_and_one_of_subjects_are_joined_by_the_recording() -> None:
    people = read(f"{HEADER}shhs1-200001,,55.4,,\n", SHHS1_RAW)
    found = people.of("shhs1-200001")
    assert found is not None
    assert (found.age_years, found.sex, found.ahi) == (55.4, "male", 12.5)
    named = read(f"{HEADER}shhs1-200001,anna,,,\n", SHHS1_RAW).of("shhs1-200001")
    assert named is not None
    assert named.subject_id == "anna"  # what the user calls them counts
    with pytest.raises(TableError, match="found sex male"):
        read(f"{HEADER}shhs1-200001,,,f,\n", SHHS1_RAW).of("shhs1-200001")


def test_nobody_is_known_without_tables() -> None:
    assert read_people([]).of("n1") is None
    assert len(People()) == 0
