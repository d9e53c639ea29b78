"""A simulated cohort in the shape of NSRR's SHHS download: who sleeps, on what, in which folder.

Folder and file names, labels and rates are SHHS's: of the first visit as of the second, to which
every other pair of a woman and a man comes back. What the files hold is simulated, and so are the
people, from 20 years on where SHHS began at 40. docs/simulation.md.
"""

import dataclasses
from pathlib import Path
from typing import Final

from sleepmami.simulation.devices import Device, Sensor, device
from sleepmami.simulation.effects import Effects
from sleepmami.simulation.subjects import Subject, simulate_subject

FIRST_ID: Final = 200001  # nsrrid of the first subject
YEARS_BETWEEN: Final = 5.2  # visits of 1995-98 and 2001-03
_SECOND_NIGHT: Final = 1_000_003  # added to the seed, so that it is another night of the person
# Some of the sets of labels that SHHS's files have, by the usual label (reference/cohorts.md).
_LABEL_SETS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"EEG(sec)": "EEG2", "AIRFLOW": "NEW AIR"},
    {"EEG(sec)": "EEG 2", "AIRFLOW": "New Air", "H.R.": "PR"},
    {"EEG(sec)": "EEG(SEC)", "AIRFLOW": "NEWAIR"},
)
_RATES_OF_VISIT_2: Final = {125: 128, 50: 64, 10: 8, 1: 1}  # Hz at visit 1 to Hz at visit 2


def shhs_id(subject: Subject) -> int:
    """The person's `nsrrid`."""
    return FIRST_ID + subject.index


def shhs_subjects(num_subjects: int, seed: int, sizes: Effects) -> list[Subject]:
    """Nights by person: `num_subjects` first visits, and second visits of half of the people."""
    nights = []
    for index in range(num_subjects):
        person = simulate_subject(index, seed, sizes)
        first = dataclasses.replace(person, subject_id=f"shhs1-{FIRST_ID + index}")
        nights.append(first)
        if index // 2 % 2:  # sexes alternate: both come back
            nights.append(
                dataclasses.replace(
                    first,
                    subject_id=f"shhs2-{FIRST_ID + index}",
                    age_years=round(person.age_years + YEARS_BETWEEN, 1),
                    visit=2,
                )
            )
    return nights


def night_seed(seed: int, subject: Subject) -> int:
    """What the night's streams are seeded with: another night at the second visit."""
    return seed + _SECOND_NIGHT if subject.visit == 2 else seed


def shhs_folders(root: Path, subject: Subject) -> tuple[Path, Path]:
    """Where the EDF and where the NSRR scoring of a night lie."""
    psg, visit = root / "polysomnography", f"shhs{subject.visit}"
    return psg / "edfs" / visit, psg / "annotations-events-nsrr" / visit


def shhs_recorder(subject: Subject) -> Device:
    """What recorded a night: one set of labels in each group of people, and the visit's rates."""
    labels = _LABEL_SETS[subject.index // 4 % len(_LABEL_SETS)]
    base = device("compumedics")
    sensors = tuple(_sensor(sensor, labels, subject.visit) for sensor in base.sensors)
    return dataclasses.replace(base, name=f"shhs{subject.visit}", sensors=sensors)


def _sensor(sensor: Sensor, labels: dict[str, str], visit: int) -> Sensor:
    rate_hz = sensor.rate_hz
    if visit == 2:
        rate_hz = 256 if sensor.label == "ECG" else _RATES_OF_VISIT_2[rate_hz]
    return dataclasses.replace(
        sensor, label=labels.get(sensor.label, sensor.label), rate_hz=rate_hz
    )
