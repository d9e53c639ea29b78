"""A SHHS-shaped folder is read as a download would be, and says what was simulated."""

import csv
import math
from pathlib import Path

import pytest

from sleepmami.config import IngestConfig, SimulateConfig
from sleepmami.errors import ConfigError
from sleepmami.psg import MODALITIES
from sleepmami.signals.inspect import inspect_files
from sleepmami.signals.pairing import pair_annotations
from sleepmami.signals.scorings import read_scoring
from sleepmami.simulation.cohort import cohort_subjects, write_cohort, write_cohort_tables
from sleepmami.simulation.effects import effects
from sleepmami.simulation.follow_up import OUTCOMES, simulate_follow_up
from sleepmami.simulation.measures import NightMeasures, measure_night
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.shhs import night_seed, shhs_subjects
from sleepmami.simulation.subjects import Subject
from sleepmami.tables.people.reader import read_people

CONFIG = SimulateConfig(
    num_subjects=16, duration_h=0.1, seed=4, layout="shhs", follow_up_years=15.0
)
PREPROCESS = IngestConfig().preprocess
TABLES = (
    "shhs1-dataset-0.21.0.csv",
    "shhs2-dataset-0.21.0.csv",
    "shhs-cvd-summary-dataset-0.21.0.csv",
    "shhs-harmonized-dataset-0.21.0.csv",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shhs")
    write_cohort(root, CONFIG)
    return root


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of whole nights of 40 people, in which there is sleep, without the nights."""
    root = tmp_path_factory.mktemp("tables")
    config = SimulateConfig(num_subjects=40, seed=4, layout="shhs", follow_up_years=15.0)
    write_cohort_tables(root, config, cohort_subjects(config))
    return root / "datasets"


def edfs(folder: Path) -> list[str]:
    return sorted(map(str, (folder / "polysomnography" / "edfs").rglob("*.edf")))


def test_files_lie_where_a_download_of_shhs_has_them(folder: Path) -> None:
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    psg, scoring = "polysomnography/edfs", "polysomnography/annotations-events-nsrr"
    nights = [f"shhs1-{n}" for n in range(200001, 200017)]
    nights += [f"shhs2-{n}" for n in range(200001, 200017) if (n - 200001) // 2 % 2]
    expected = {f"{psg}/{name[:5]}/{name}.edf" for name in nights}
    expected |= {f"{scoring}/{name[:5]}/{name}-nsrr.xml" for name in nights}
    expected |= {f"datasets/{name}" for name in TABLES} | {"simulation.json", "truth.csv"}
    assert found == expected


def test_each_night_finds_its_scoring_in_the_other_folder(folder: Path) -> None:
    scorings = [str(file) for file in folder.rglob("*-nsrr.xml")]
    for edf, scoring in pair_annotations(edfs(folder), scorings).items():
        assert scoring is not None
        assert Path(scoring).name == f"{Path(edf).stem}-nsrr.xml"


def test_every_set_of_labels_gives_all_six_modalities(folder: Path) -> None:
    sets = set()
    for report in inspect_files(map(Path, edfs(folder)), PREPROCESS):
        channels = report.to_dict()["channels"]
        sets.add(tuple(channel["label"] for channel in channels))
        used = {c["modality"] for c in channels if c["decision"] == "used"}
        assert used == {modality.value for modality in MODALITIES}
    assert len(sets) == 4


def test_the_second_visit_has_the_rates_of_shhs2(folder: Path) -> None:
    (file,) = [edf for edf in edfs(folder) if "shhs2-200003" in edf]
    (report,) = inspect_files([Path(file)], PREPROCESS)
    rates = {c["label"]: c["sample_rate_hz"] for c in report.to_dict()["channels"]}
    assert (rates["EEG"], rates["ECG"], rates["EOG(L)"]) == (128, 256, 64)
    assert (rates["AIRFLOW"], rates["SaO2"]) == (8, 1)


def test_people_are_read_as_they_were_simulated(tables: Path) -> None:
    people = read_people([str(tables / name) for name in TABLES])
    for night in shhs_subjects(40, 4, effects("plain")):
        name = f"shhs{night.visit}/{night.subject_id}"
        person, truth = people.of(name), _measures(night)
        assert person is not None
        assert person.subject_id == night.subject_id.rpartition("-")[2]
        assert person.age_years == min(int(night.age_years), 90)
        assert person.age_top_coded == (night.age_years >= 90)
        assert (person.sex, person.bmi) == (night.sex, night.bmi)
        assert person.ahi == pytest.approx(truth.ahi_per_h, abs=1e-4)


def test_outcomes_are_of_the_first_night_alone(tables: Path) -> None:
    people = read_people([str(tables / name) for name in TABLES])
    events = 0
    for night in shhs_subjects(40, 4, effects("plain")):
        person = people.of(f"shhs{night.visit}/{night.subject_id}")
        assert person is not None
        if night.visit == 2:
            assert person.outcomes is None
            continue
        drawn = simulate_follow_up(night, _measures(night), 15.0, 4).outcomes
        assert person.outcomes == drawn
        assert tuple(outcome.name for outcome in drawn) == OUTCOMES
        events += sum(outcome.event for outcome in drawn)
    assert events > 20


def test_a_second_visit_is_another_night_of_the_same_person() -> None:
    nights = shhs_subjects(4, 4, effects("plain"))
    first, second = (n for n in nights if n.index == 2)
    assert second.age_years - first.age_years == pytest.approx(5.2)
    assert (second.alpha_hz, second.bmi) == (first.alpha_hz, first.bmi)
    one = plan_night(first, 7.5, night_seed(4, first)).hypnogram
    other = plan_night(second, 7.5, night_seed(4, second)).hypnogram
    assert (one != other).mean() > 0.1


def test_the_scoring_is_of_the_visit_s_own_night(folder: Path) -> None:
    night = next(
        n for n in shhs_subjects(16, 4, effects("plain")) if n.subject_id == "shhs2-200003"
    )
    (xml,) = folder.rglob("shhs2-200003-nsrr.xml")
    stages = plan_night(night, 0.1, night_seed(4, night)).hypnogram
    scoring = read_scoring(xml, len(stages))
    assert scoring.hypnogram is not None
    assert scoring.hypnogram.tolist() == stages.tolist()


def test_truth_names_the_first_nights(tables: Path) -> None:
    with (tables.parent / "truth.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["recording_id"] for row in rows] == [f"shhs1-{200001 + n}" for n in range(40)]
    assert all(math.isfinite(float(row["log_hazard"])) for row in rows)


def test_a_folder_of_another_layout_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="use another folder"):
        write_cohort(folder, SimulateConfig(num_subjects=8, duration_h=0.1, seed=4))


def test_other_recorders_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"devices=\['nox'\] has no effect with layout='shhs'"):
        SimulateConfig(layout="shhs", devices=("nox",))


def _measures(night: Subject) -> NightMeasures:
    measures = measure_night(plan_night(night, 7.5, night_seed(4, night)))
    assert measures is not None
    return measures
