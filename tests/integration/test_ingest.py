"""Ingest on a Ray cluster: what becomes of every kind of file, and of a run that is killed."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from pipelines import ingest_edf, ray_data
from pipelines.ingest_edf import ingest
from pipelines.ingest_file import IngestResult, ingest_file
from pipelines.ingest_plan import IngestItem
from sleepmami.config import IngestConfig, PreprocessConfig
from sleepmami.errors import ConfigError, TableError
from sleepmami.psg import Night
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import write_night
from sleepmami.simulation.subjects import Subject, simulate_subject
from sleepmami.tables import lance_io
from sleepmami.tables.rows import night_from_rows
from sleepmami.tables.splits import split_of
from tests.noise_nights import recordings, segments, write_noise
from tests.unit.tables.nights import assert_same_night

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
SEED = 5
DURATION_H = 0.1
CONFIG = IngestConfig(cohort="sim", nights_per_commit=2, recording_ids="file_name")
HEADER = "recording_id,subject_id,age_years,sex,bmi\n"


def subject(index: int) -> Subject:
    return simulate_subject(index, SEED)


def write(folder: Path, index: int, duration_h: float = DURATION_H) -> Path:
    """A simulated night beside its scoring; the path of its EDF."""
    write_night(folder, subject(index), simulate_night(subject(index), duration_h, SEED))
    return folder / f"{subject(index).subject_id}.edf"


def stored_night(corpus: Path, recording_id: str) -> Night:
    where = lance_io.is_one_of("recording_id", [recording_id])
    own = lance_io.read_table(str(corpus / "segments.lance"), filter=where)
    return night_from_rows(recordings(corpus)[recording_id], own)


# ------------------------------------------------------------------------------ a folder of all kinds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights, one of them deeper down, and one of each kind of file that is none."""
    base = tmp_path_factory.mktemp("ingest") / "edfs"
    good = write(base, 0).read_bytes()
    write(base / "visit 2" / "site's", 1)
    (base / "truncated.edf").write_bytes(good[:1000])  # not even its header is whole
    (base / "text.edf").write_text("no recording at all")
    (base / "empty.edf").touch()
    (base / f"._{subject(0).subject_id}.edf").write_bytes(b"\0\5\x16\7" + bytes(4092))
    light = WriteChannel(
        label="Light",
        unit="lx",
        sample_rate_hz=1.0,
        samples=np.ones(120),
        physical_min=0.0,
        physical_max=9.0,
    )
    write_edf(base / "light.edf", [light])
    return base


@pytest.fixture(scope="module")
def people(folder: Path) -> str:
    file = folder.parent / "people.csv"
    file.write_text(f"{HEADER}{subject(0).subject_id},one,61.5,female,\n")
    return str(file)


@pytest.fixture(scope="module")
def corpus(ray_cluster: object, folder: Path, people: str) -> Path:
    found = ingest(str(folder), str(folder.parent / "corpus"), CONFIG, metadata=people)
    assert found.outcomes == {"ingested": 2, "rejected": 4}
    return folder.parent / "corpus"


def test_every_file_is_one_row_with_its_code(corpus: Path) -> None:
    codes = {name: row["rejected_code"] for name, row in recordings(corpus).items()}
    assert codes == {
        subject(0).subject_id: None,
        f"visit 2/site's/{subject(1).subject_id}": None,
        "truncated": "truncated_recording",
        "text": "not_an_edf",
        "empty": "not_an_edf",
        "light": "channels_missing",
    }


def test_a_row_says_whose_night_it_is(corpus: Path) -> None:
    rows = recordings(corpus)
    known = rows[subject(0).subject_id]
    assert [known[name] for name in ("subject_id", "cohort", "age_years", "sex", "bmi")] == ["one", "sim", 61.5, "female", None]  # fmt: skip
    assert known["split"] == split_of("one", CONFIG.split)
    unknown = rows[f"visit 2/site's/{subject(1).subject_id}"]
    assert unknown["subject_id"] == unknown["recording_id"]
    assert unknown["split"] == split_of(unknown["recording_id"], CONFIG.split)
    assert (unknown["age_years"], unknown["sex"], unknown["bmi"]) == (None, None, None)


@pytest.mark.parametrize("index", [0, 1])
def test_a_night_read_back_is_the_night_of_the_file(corpus: Path, folder: Path, index: int) -> None:
    below = "" if index == 0 else "visit 2/site's/"
    recording_id = below + subject(index).subject_id
    expected = load_night(
        folder / f"{recording_id}.edf",
        CONFIG.preprocess,
        recording_id=recording_id,
        annotation=folder / f"{recording_id}-nsrr.xml",
    )
    truth = simulate_night(subject(index), DURATION_H, SEED).hypnogram
    found = stored_night(corpus, recording_id)
    assert_same_night(found, expected)
    assert found.hypnogram is not None
    assert found.hypnogram.tolist() == truth.tolist()


def test_a_second_run_adds_what_is_new_and_replaces_what_changed(
    corpus: Path, folder: Path, people: str, tmp_path: Path
) -> None:
    edfs, own = tmp_path / "edfs", tmp_path / "corpus"
    shutil.copytree(folder, edfs)
    shutil.copytree(corpus, own)

    def again() -> Counter[str]:
        return ingest(str(edfs), str(own), CONFIG, metadata=people).outcomes

    assert again() == {"unchanged": 2, "rejected earlier": 4}
    assert recordings(own) == recordings(corpus)
    assert segments(own) == segments(corpus)

    longer = write(edfs, 0, duration_h=0.15)
    added = write(edfs, 2)
    assert again() == {"replaced": 1, "ingested": 1, "unchanged": 1, "rejected earlier": 4}
    assert len(recordings(own)) == 7
    for file, num_epochs in ((longer, 18), (added, 12)):
        night = stored_night(own, file.stem)
        assert night.num_epochs == num_epochs
        xml = file.with_name(f"{file.stem}-nsrr.xml")
        assert_same_night(night, load_night(file, CONFIG.preprocess, recording_id=file.stem, annotation=xml))  # fmt: skip


# ------------------------------------------------------------------------------------- what is killed


def test_a_channel_file_brings_in_what_was_rejected_without_it(
    ray_cluster: object, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    lead = WriteChannel(
        label="Lead 7",
        unit="uV",
        sample_rate_hz=100.0,
        samples=rng.normal(0, 30, 12_000),
        physical_min=-500.0,
        physical_max=500.0,
    )
    (tmp_path / "edfs").mkdir()
    write_edf(tmp_path / "edfs" / "night.edf", [lead])
    edfs, corpus = str(tmp_path / "edfs"), str(tmp_path / "corpus")
    assert ingest(edfs, corpus, CONFIG).outcomes == {"rejected": 1}
    named = replace(CONFIG, preprocess=PreprocessConfig(channels=(("lead *", "EEG C4-M1"),)))
    assert ingest(edfs, corpus, named).outcomes == {"rejected earlier": 1}
    assert ingest(edfs, corpus, named, retry=True).outcomes == {"ingested": 1}
    assert recordings(tmp_path / "corpus")["night"]["missing"] == ["EOG", "EMG", "ECG", "RESP", "SPO2"]  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("many")
    for number in range(15):
        write_noise(base / f"night{number:02}.edf", seed=number)
    return base


def test_a_driver_killed_midway_and_run_again_is_as_one_never_killed(
    ray_cluster: object, many: Path, tmp_path: Path
) -> None:
    config = IngestConfig(nights_per_commit=1, recording_ids="file_name")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run_until_killed(many, killed, after_rows=3)
    there = len(recordings(killed))
    assert 3 <= there < 15
    assert ingest(str(many), str(killed), config).outcomes == {"unchanged": there, "ingested": 15 - there}  # fmt: skip
    ingest(str(many), str(whole), config)
    assert recordings(killed) == recordings(whole)
    assert segments(killed) == segments(whole)


def run_until_killed(folder: Path, corpus: Path, after_rows: int) -> None:
    """`sleepmami ingest` in a process group of its own that ends by SIGKILL."""
    command = ["ingest", str(folder), str(corpus), "--set", "nights_per_commit=1"]
    command += ["--set", "recording_ids=file_name"]
    command += ["--set", "num_cpus_per_task=6"]  # one file after another
    command += ["--address", ray.get_runtime_context().gcs_address]
    process = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.cli import main; main()", *command],
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        table = str(corpus / "recordings.lance")
        while process.poll() is None:
            if lance_io.exists(table) and lance_io.count_rows(table) >= after_rows:
                break
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def ingest_or_die(item: IngestItem, *, deadly: str, dies: int, **settings: Any) -> IngestResult:
    """The first `dies` times that the deadly file is read, it takes the worker with it."""
    if item.recording_id == deadly:
        deaths = Path(item.file).with_name("deaths")
        deaths.mkdir(exist_ok=True)
        number = len(list(deaths.iterdir()))
        if number < dies:
            (deaths / str(number)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return ingest_file(item, **settings)


@pytest.mark.parametrize(("dies", "code"), [(1, None), (100, "internal_error")])
def test_a_file_that_kills_its_worker_costs_itself_at_most(
    ray_cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: int, code: str | None
) -> None:  # fmt: skip
    for seed, name in enumerate(("deadly", "other", "third")):
        write_noise(tmp_path / "edfs" / f"{name}.edf", seed)
    task = functools.partial(ingest_or_die, deadly="deadly", dies=dies)
    monkeypatch.setattr(ingest_edf, "ingest_file", task)
    monkeypatch.setattr(ray_data, "MAX_RETRIES", 1)
    ingest(str(tmp_path / "edfs"), str(tmp_path / "corpus"), CONFIG)
    rows = recordings(tmp_path / "corpus")
    assert {name: row["rejected_code"] for name, row in rows.items()} == {
        "other": None,
        "third": None,
        "deadly": code,
    }
    firsts = segments(tmp_path / "corpus").column("recording_id").value_counts().to_pylist()
    assert {row["values"]: row["counts"] for row in firsts} == {
        name: row["num_epochs"] // 2 for name, row in rows.items() if row["num_epochs"]
    }


def refuse(item: IngestItem, **_: object) -> IngestResult:
    raise TableError(f"{item.recording_id}: no space left")


def test_a_table_error_in_a_worker_is_raised_as_itself(
    ray_cluster: object, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_edf, "ingest_file", refuse)
    with pytest.raises(TableError, match=r"^\w+: no space left$"):
        ingest(str(many), str(tmp_path / "corpus"), CONFIG)


def test_a_task_that_no_node_can_hold_is_refused(
    ray_cluster: object, many: Path, tmp_path: Path
) -> None:
    config = IngestConfig(num_cpus_per_task=64, recording_ids="file_name")
    with pytest.raises(ConfigError, match=r"expected room for 1: lower num_cpus_per_task"):
        ingest(str(many), str(tmp_path / "corpus"), config)
