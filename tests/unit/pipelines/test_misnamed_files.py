"""A file name that is not UTF-8 is one outcome among others, and never ends a run."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.deid import DeidOptions, deid
from pipelines.ingest_edf import ingest, recording_ids
from sleepmami import storage
from sleepmami.errors import ConfigError
from sleepmami.tables import lance_io
from tests.noise_nights import in_process, write_noise
from tests.unit.pipelines.ingest_runs import CONFIG, no_reading, run

SHOWN = "caf\\xe9.edf"  # the byte of Latin-1, as people are shown it


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)


@pytest.fixture
def edfs(tmp_path: Path) -> Path:
    """Two nights, one of which bears a name of Latin-1."""
    folder = tmp_path / "edfs"
    write_noise(folder / "b.edf", seed=1)
    try:
        shutil.copy(folder / "b.edf", os.fsencode(folder) + b"/caf\xe9.edf")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return folder


def test_a_misnamed_file_is_rejected_and_the_others_come_in(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    summary = ingest(str(edfs), str(corpus), CONFIG)
    assert summary.outcomes == {"ingested": 1, "rejected": 1}
    (problem,) = summary.details
    assert problem[0].endswith(SHOWN)
    assert problem[1:] == (
        "unreadable",
        "found a file name that is not UTF-8; expected a name in UTF-8",
    )
    rows = lance_io.read_table(f"{corpus}/recordings.lance", ["recording_id", "rejected_code"])
    assert sorted(rows.to_pylist(), key=str) == [
        {"recording_id": "b", "rejected_code": None},
        {"recording_id": "caf\\xe9", "rejected_code": "unreadable"},
    ]


def test_the_next_run_leaves_it_alone_and_one_asked_to_tries_again(
    edfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    no_reading(monkeypatch)
    assert run(edfs, corpus) == {"unchanged": 1, "rejected earlier": 1}
    assert run(edfs, corpus, retry=True) == {"unchanged": 1, "rejected": 1}


def test_a_file_that_bears_the_shown_name_already_is_another_recording(edfs: Path) -> None:
    write_noise(edfs / SHOWN, seed=2)
    names = {name for _, name, _ in recording_ids(str(edfs), CONFIG)}
    assert names == {"b", "caf\\xe9", "caf\\xe9'"}
    assert run(edfs, edfs.parent / "corpus") == {"ingested": 2, "rejected": 1}


def test_inspect_says_what_an_ingest_would(edfs: Path) -> None:
    found = CliRunner().invoke(app, ["inspect", "--json", str(edfs)])
    reports = {Path(report["file"]).name: report for report in json.loads(found.stdout)}
    assert reports["b.edf"]["ok"]
    assert reports[SHOWN]["code"] == "unreadable"
    assert "not UTF-8" in reports[SHOWN]["reason"]


def test_deid_copies_the_others(edfs: Path) -> None:
    said: list[str] = []
    summary = deid(str(edfs), f"{edfs.parent}/out", DeidOptions(keep_names=True), show=said.append)
    assert summary.written == 1
    assert summary.failed == ((SHOWN, "unreadable"),)
    assert said == [f"{SHOWN}: unreadable, its name is not UTF-8"]


def test_a_listing_refuses_such_names_unless_it_is_asked_for_them(edfs: Path) -> None:
    with pytest.raises(ConfigError, match="expected UTF-8"):
        storage.list_files(str(edfs), (".edf",))
    listed = storage.list_files(str(edfs), (".edf",), any_name=True)
    assert [storage.is_nameable(file) for file in listed] == [True, False]
    assert [Path(storage.shown(file)).name for file in listed] == ["b.edf", SHOWN]
    assert storage.shown("half a pair \ud800") == "half a pair \\xed\\xa0\\x80"
