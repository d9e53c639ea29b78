"""Tables of made-up people, and short ways to read them."""

from sleepmami.tables.demographics import Demographics
from sleepmami.tables.people.reader import People, read_people

HEADER = "recording_id,subject_id,age_years,sex,bmi\n"
SHHS = (
    "nsrrid,pptid,visitnumber,nsrr_age,nsrr_age_gt89,nsrr_sex,nsrr_bmi,gender\n"
    "200001,1,1,55,no,male,21.8,1\n"
    "200001,1,2,60,no,male,22.5,1\n"
    "200002,2,1,78,no,not reported,,2\n"
)
MESA = "mesaid,nsrr_age,nsrr_sex,nsrr_bmi\n1,69,female,\n1234,70,male,30.1\n"
SHHS1_RAW = "nsrrid,gender,age_s1,bmi_s1,ahi_a0h3,rdi3p\n200001,1,55,21.5,12.5,9\n200002,2,90,,,\n"


def read(*tables: str, names: tuple[str, ...] = ()) -> People:
    given_names = names or tuple(f"people{n or ''}.csv" for n in range(len(tables)))
    return read_people([table.encode() for table in tables], names=given_names)


def person(table: str, recording_id: str, name: str = "people.csv") -> Demographics:
    found = read(table, names=(name,)).of(recording_id)
    assert found is not None
    return found
