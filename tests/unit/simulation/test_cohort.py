import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sleepmami.config import SimulateConfig
from sleepmami.errors import ConfigError
from sleepmami.simulation.cohort import write_cohort, write_cohort_night
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.subjects import simulate_subject

CONFIG = SimulateConfig(num_subjects=3, duration_h=0.5, seed=8)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_cohort(tmp_path, CONFIG)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_cohort_is_edfs_scorings_and_one_table(cohort: Path) -> None:
    assert sorted(contents(cohort)) == [
        "annotations/sim-0001-nsrr.xml",
        "annotations/sim-0002-nsrr.xml",
        "annotations/sim-0003-nsrr.xml",
        "edf/sim-0001.edf",
        "edf/sim-0002.edf",
        "edf/sim-0003.edf",
        "metadata.csv",
        "simulation.json",
    ]


def test_the_table_names_each_night_its_subject_and_its_index(cohort: Path) -> None:
    with (cohort / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for index, row in enumerate(rows):
        subject = simulate_subject(index, seed=8)
        ahi = plan_night(subject, 0.5, seed=8).ahi_per_h
        assert row == {
            "recording_id": subject.subject_id,
            "subject_id": subject.subject_id,
            "age_years": str(subject.age_years),
            "sex": subject.sex,
            "bmi": str(subject.bmi),
            "ahi_per_h": f"{ahi:.1f}",
        }
    assert len(rows) == 3


def test_complete_nights_are_left_alone_and_a_lost_one_is_made_again(cohort: Path) -> None:
    before = contents(cohort)
    kept, lost = cohort / "edf" / "sim-0001.edf", cohort / "edf" / "sim-0002.edf"
    modified = kept.stat().st_mtime_ns
    lost.unlink()
    calls: list[tuple[int, int]] = []
    write_cohort(cohort, CONFIG, lambda done, total: calls.append((done, total)))
    assert calls == [(2, 3), (3, 3)]
    assert kept.stat().st_mtime_ns == modified
    assert contents(cohort) == before


def test_an_edf_without_its_scoring_is_not_complete(cohort: Path) -> None:
    before = contents(cohort)
    (cohort / "annotations" / "sim-0003-nsrr.xml").unlink()
    write_cohort(cohort, CONFIG)
    assert contents(cohort) == before


def test_nights_made_one_by_one_in_any_order_are_the_same(cohort: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for index in (2, 0):
        write_cohort_night(other, CONFIG, simulate_subject(index, seed=8))
    for name, data in contents(other).items():
        assert data == (cohort / name).read_bytes()


def test_a_cohort_can_grow(cohort: Path) -> None:
    before = contents(cohort)
    write_cohort(cohort, SimulateConfig(num_subjects=4, duration_h=0.5, seed=8))
    after = contents(cohort)
    assert after.keys() - before.keys() == {"annotations/sim-0004-nsrr.xml", "edf/sim-0004.edf"}
    assert after["metadata.csv"].startswith(before["metadata.csv"])


@pytest.mark.parametrize("change", [{"seed": 9}, {"duration_h": 0.4}, {"devices": ("nox",)}])
def test_a_folder_of_other_nights_is_refused(cohort: Path, change: dict[str, Any]) -> None:
    settings: dict[str, Any] = {
        "num_subjects": 3,
        "duration_h": 0.5,
        "seed": 8,
    } | change  # Any: fields
    with pytest.raises(ConfigError, match="use another folder"):
        write_cohort(cohort, SimulateConfig(**settings))


def test_the_table_names_the_recorder_where_there_are_others(tmp_path: Path) -> None:
    devices = ("sleep_edf", "compumedics")
    config = SimulateConfig(num_subjects=4, duration_h=0.1, seed=8, devices=devices)
    write_cohort(tmp_path, config)
    with (tmp_path / "metadata.csv").open(newline="") as stream:
        named = [row["device"] for row in csv.DictReader(stream)]
    assert named == ["sleep_edf", "sleep_edf", "compumedics", "compumedics"]
    edf_kind = (tmp_path / "edf" / "sim-0003.edf").read_bytes()[192:236].strip()
    assert edf_kind == b""  # plain EDF, as its recorder writes


def test_a_follow_up_is_added_without_making_a_night_again(cohort: Path) -> None:
    before = contents(cohort)
    write_cohort(cohort, replace(CONFIG, follow_up_years=11.0))
    after = contents(cohort)
    assert {name for name in after if after[name] != before.get(name)} == {
        "metadata.csv",
        "truth.csv",
    }
    write_cohort(cohort, CONFIG)
    assert contents(cohort) == before
