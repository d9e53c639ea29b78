"""Ingest without Ray: what is planned, what one file becomes, what a stopped run leaves."""

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import ingest_file
from pipelines.ingest_commit import IngestSummary
from pipelines.ingest_edf import ingest
from pipelines.ingest_plan import IngestItem, Names, plan, recording_names
from sleepmami import storage
from sleepmami.config import IngestConfig, PreprocessConfig, SplitConfig
from sleepmami.errors import TableError
from sleepmami.psg import Stage
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.night_files import nsrr_xml
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import night_from_rows
from tests.noise_nights import (
    StoppedError,
    in_process,
    recordings,
    stop_at,
    whole,
    write_noise,
)
from tests.unit.tables.nights import assert_same_night

CONFIG = IngestConfig(cohort="here", nights_per_commit=2, recording_ids="file_name")
NAMES = Names(key=None)
Items = Sequence[IngestItem]


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a and b are nights, c is text."""
    edfs = tmp_path / "edfs"
    edfs.mkdir()
    write_noise(edfs / "a.edf", seed=1)
    write_noise(edfs / "b.edf", seed=2)
    (edfs / "c.edf").write_text("patient JANE-DOE slept well")
    return edfs


def scoring(*stages: Stage) -> bytes:
    return nsrr_xml(np.array(stages, np.int8), ())


def run(folder: Path, corpus: Path, config: IngestConfig = CONFIG, **more: str) -> dict[str, int]:
    return dict(summary(folder, corpus, config, **more).outcomes)


def summary(
    folder: Path, corpus: Path, config: IngestConfig = CONFIG, **more: str
) -> IngestSummary:
    return ingest(str(folder), str(corpus), config, **more)


# ------------------------------------------------------------------------------------------ names


def test_a_recording_is_called_by_its_path_below_the_folder() -> None:
    files = ["/data/a.edf", "/data/x/a.REC", "/data/x/shhs1.200001.edf"]
    assert list(recording_names(files, "/data/").values()) == ["a", "x/a", "x/shhs1.200001"]


def test_of_two_formats_of_a_night_the_edf_has_the_short_name() -> None:
    files = ["s3://b/p/night.bdf", "s3://b/p/night.edf", "s3://b/p/other.bdf"]
    ids = recording_names(files, "s3://b/p")
    assert list(ids.values()) == ["night.bdf", "night", "other"]


names = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2).map("/".join)
endings = st.text("ebdrcf.EBDRCF", max_size=4)
last = st.sampled_from([".edf", ".bdf", ".rec", ".EDF"])


@given(st.lists(st.builds("/d/{}{}{}".format, names, endings, last), unique=True))
def test_every_file_has_a_name_of_its_own(files: list[str]) -> None:
    ids = recording_names(files, "/d")
    assert list(ids) == files
    assert len(set(ids.values())) == len(files)


# ------------------------------------------------------------------------------------------- plan


def test_a_file_that_scores_a_recording_is_none_itself(tmp_path: Path) -> None:
    for name in ("n.edf", "n_hypnogram.edf", "m.bdf", "m.xml", "._n.edf"):
        (tmp_path / name).touch()
    items = {
        item.recording_id: item for item in plan(str(tmp_path), None, lambda name: None, {}, NAMES)
    }
    assert set(items) == {"n", "m"}
    assert items["n"].annotation == str(tmp_path / "n_hypnogram.edf")
    assert items["m"].annotation == str(tmp_path / "m.xml")


def test_both_formats_of_a_night_are_of_the_same_person(tmp_path: Path) -> None:
    person = Demographics(subject_id="s", age_years=40.0)
    for name in ("n.edf", "n.bdf", "n.1.edf"):
        (tmp_path / name).touch()
    items = plan(str(tmp_path), None, {"n": person}.get, {}, NAMES)
    found = {item.recording_id: (item.subject_id, item.demographics) for item in items}
    same = Demographics(age_years=40.0)  # whose name is the subject_id
    assert found == {"n": ("s", same), "n.bdf": ("s", same), "n.1": ("n.1", None)}


# --------------------------------------------------------------------------------------- one file


@pytest.mark.parametrize("scheme", ["", "file://", "mock://"])
def test_recordings_scorings_and_metadata_may_lie_anywhere(folder: Path, scheme: str) -> None:
    """mock:// is an object store in this process's memory; s3:// takes the same way."""
    base = f"{scheme}{folder}" if scheme != "mock://" else f"mock://bucket{folder}"
    storage.write_bytes(storage.join(base, "a.edf"), (folder / "a.edf").read_bytes())
    storage.write_bytes(storage.join(base, "c d.edf"), b"text")
    stages = (Stage.N2, Stage.N2, Stage.REM, Stage.WAKE)
    storage.write_bytes(storage.join(base, "xml", "a-nsrr.xml"), scoring(*stages))
    people = b"recording_id,subject_id,age_years,sex,bmi\na,twin,31,female,22.5\n"
    storage.write_bytes(storage.join(base, "people.csv"), people)

    corpus = folder.parent / "corpus"
    ingest(
        base,
        str(corpus),
        CONFIG,
        metadata=storage.join(base, "people.csv"),
        annotations=storage.join(base, "xml"),
    )
    rows = recordings(corpus)
    assert rows["c d"]["rejected_code"] == "not_an_edf"
    row = rows["a"]
    assert (row["subject_id"], row["age_years"], row["sex"], row["bmi"]) == ("twin", 31, "female", 22.5)  # fmt: skip
    expected = load_night(folder / "a.edf", CONFIG.preprocess, recording_id="a", annotation=scoring(*stages))  # fmt: skip
    own = lance_io.read_table(str(corpus / "segments.lance"), filter="recording_id = 'a'")
    assert_same_night(night_from_rows(row, own), expected)


def test_a_night_whose_scoring_cannot_be_read_is_kept_without_it(folder: Path) -> None:
    (folder / "a.xml").write_text("<html/>")
    (folder / "b-nsrr.xml").symlink_to(folder / "nowhere.xml")
    corpus = folder.parent / "corpus"
    found = summary(folder, corpus)
    assert found.outcomes == {"ingested without scoring": 2, "rejected": 1}
    scorings = [(file, code) for file, code, _ in found.details if file.endswith("xml")]
    assert scorings == [(str(folder / "a.xml"), "annotation_invalid"), (str(folder / "b-nsrr.xml"), "unreadable")]  # fmt: skip
    assert "XML of kind 'html'" in found.details[0][2]
    rows = recordings(corpus)
    assert [rows[name]["num_epochs"] for name in "ab"] == [4, 4]
    assert [rows[name]["hypnogram"] for name in "ab"] == [None, None]


def break_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A bug of ours that one file brings out; its text quotes the file."""

    def load(*args: Any, recording_id: str, **more: Any) -> Any:
        if recording_id == name:
            raise ZeroDivisionError("JANE-DOE")
        return load_night(*args, recording_id=recording_id, **more)

    monkeypatch.setattr(ingest_file, "load_night", load)


def test_a_bug_costs_one_file_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = folder.parent / "corpus"
    break_on(monkeypatch, "a")
    found = summary(folder, corpus)
    assert found.outcomes == {"ingested": 1, "rejected": 2}
    row = recordings(corpus)["a"]
    assert (row["rejected_code"], row["rejected_reason"]) == ("internal_error", "ZeroDivisionError")
    assert "test_ingest_plan.py" in found.details[0][2]  # where it was raised
    assert "JANE-DOE" not in str([*found.details, *recordings(corpus).values()])
    break_on(monkeypatch, "nothing")
    assert run(folder, corpus) == {"ingested": 1, "unchanged": 1, "rejected earlier": 1}
    assert recordings(corpus)["a"]["num_epochs"] == 4


def test_what_cannot_be_opened_is_rejected_without_waiting(folder: Path) -> None:
    corpus = folder.parent / "corpus"
    (folder / "broken.edf").symlink_to(folder / "nowhere.edf")
    os.mkfifo(folder / "pipe.edf")
    assert stat.S_ISFIFO((folder / "pipe.edf").stat().st_mode)
    found = summary(folder, corpus)
    assert found.outcomes == {"ingested": 2, "rejected": 3}
    rows = recordings(corpus)
    assert {rows[name]["rejected_code"] for name in ("broken", "pipe")} == {"unreadable"}
    (folder / "broken.edf").unlink()
    write_noise(folder / "broken.edf", seed=3)
    assert run(folder, corpus) == {"ingested": 1, "rejected": 1, "unchanged": 2, "rejected earlier": 1}  # fmt: skip


def test_a_file_that_cannot_be_read_today_does_not_cost_its_night(folder: Path) -> None:
    corpus = folder.parent / "corpus"
    run(folder, corpus)
    before = whole(corpus)
    (folder / "a.edf").unlink()
    (folder / "a.edf").symlink_to(folder / "not mounted")
    found = summary(folder, corpus)
    assert found.outcomes == {"unchanged": 2, "rejected earlier": 1}
    assert [(code, "earlier run is kept" in why) for _, code, why in found.details] == [("unreadable", True)]  # fmt: skip
    assert whole(corpus) == before


def test_what_is_unusual_about_a_file_that_is_used_is_said(folder: Path) -> None:
    whole_file = (folder / "a.edf").read_bytes()
    (folder / "a.edf").write_bytes(whole_file + b"ab")
    (folder / "b.edf").write_bytes(whole_file[:-1])
    found = summary(folder, folder.parent / "corpus")
    assert found.outcomes == {"ingested": 2, "rejected": 1}
    said = {file: (code, text.split(";")[0]) for file, code, text in found.notes}
    assert said == {
        str(folder / "a.edf"): ("note", "2 trailing bytes ignored"),
        str(folder / "b.edf"): ("note", "truncated: 119 of 120 data records are there"),
    }


def test_files_refused_by_a_setting_are_taken_in_by_another_without_a_new_corpus(
    folder: Path,
) -> None:
    whole_file = (folder / "a.edf").read_bytes()
    (folder / "b.edf").write_bytes(whole_file[:-1])
    corpus = folder.parent / "corpus"
    strict = dataclasses.replace(CONFIG, preprocess=PreprocessConfig(truncated="reject"))
    assert run(folder, corpus, strict) == {"ingested": 1, "rejected": 2}
    again = {"unchanged": 1, "ingested": 1, "rejected": 1}
    assert run(folder, corpus, retry=True) == again
    assert run(folder, corpus) == {"unchanged": 2, "rejected earlier": 1}


# ------------------------------------------------------------------------------------- run again


def test_a_second_run_writes_nothing(folder: Path) -> None:
    corpus = folder.parent / "corpus"
    assert run(folder, corpus) == {"ingested": 2, "rejected": 1}
    versions = [lance_io.version(str(corpus / name)) for name in ("recordings.lance", "segments.lance")]  # fmt: skip
    assert run(folder, corpus) == {"unchanged": 2, "rejected earlier": 1}
    assert versions == [lance_io.version(str(corpus / name)) for name in ("recordings.lance", "segments.lance")]  # fmt: skip


def test_changed_and_added_files_end_as_in_a_fresh_corpus(folder: Path) -> None:
    corpus, fresh = folder.parent / "corpus", folder.parent / "fresh"
    run(folder, corpus)
    write_noise(folder / "a.edf", seed=7, seconds=210)  # longer
    (folder / "b.edf").write_bytes((folder / "b.edf").read_bytes()[:300])  # nothing is left
    write_noise(folder / "c.edf", seed=8)  # was no EDF
    write_noise(folder / "d.edf", seed=9)  # is new
    assert run(folder, corpus) == {"replaced": 1, "rejected": 1, "ingested": 2}
    run(folder, fresh)
    assert whole(corpus) == whole(fresh)


def test_metadata_and_scorings_given_later_reach_the_rows(folder: Path) -> None:
    corpus, fresh = folder.parent / "corpus", folder.parent / "fresh"
    run(folder, corpus)
    people = folder / "people.csv"
    people.write_text("recording_id,subject_id,age_years,sex,bmi\na,s,50.3,male,31.7\n")
    (folder / "b.xml").write_bytes(scoring(Stage.N1, Stage.N3, Stage.N3, Stage.REM))
    version = lance_io.version(str(corpus / "segments.lance"))
    assert run(folder, corpus, metadata=str(people)) == {"updated": 2, "rejected earlier": 1}
    assert lance_io.version(str(corpus / "segments.lance")) == version
    run(folder, fresh, metadata=str(people))
    assert whole(corpus) == whole(fresh)
    assert run(folder, corpus, metadata=str(people)) == {"unchanged": 2, "rejected earlier": 1}


def test_a_file_seen_before_is_compared_without_searching_the_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search per file would make a second run quadratic in the number of files."""
    corpus = folder.parent / "corpus"
    for name in "ab":
        (folder / f"{name}.xml").write_bytes(scoring(Stage.N1, Stage.N3, Stage.N3, Stage.REM))
    run(folder, corpus)
    (folder / "b.xml").write_bytes(scoring(Stage.N2, Stage.N3, Stage.N3, Stage.REM))
    filters = []
    real = lance_io.read_table

    def read_table(*args: Any, **more: Any) -> pa.Table:
        filters.append(more.get("filter"))
        return real(*args, **more)

    monkeypatch.setattr(lance_io, "read_table", read_table)
    one_each = dataclasses.replace(CONFIG, nights_per_commit=1)  # rows move while they are read
    assert run(folder, corpus, one_each) == {"unchanged": 1, "updated": 1, "rejected earlier": 1}
    assert set(filters) == {None, "segment_index = 0"}
    assert recordings(corpus)["b"]["hypnogram"][0] == Stage.N2


def test_an_option_left_out_later_erases_nothing(folder: Path) -> None:
    corpus = folder.parent / "corpus"
    people = folder / "people.csv"
    people.write_text("recording_id,age_years,sex,bmi\na,50.3,male,31.7\n")
    (folder / "b.xml").write_bytes(scoring(Stage.N1, Stage.N3, Stage.N3, Stage.REM))
    run(folder, corpus, metadata=str(people))
    before = whole(corpus)
    (folder / "b.xml").write_text("<html/>")
    found = summary(folder, corpus)
    assert found.outcomes == {"unchanged": 2, "rejected earlier": 1}
    assert [code for _, code, _ in found.details] == ["annotation_invalid"]
    assert whole(corpus) == before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"preprocess": PreprocessConfig(notch_hz=50.0)}, r"preprocess.notch_hz=60\.0"),
        ({"split": SplitConfig(salt="x")}, "split.salt='sleepmami-1'"),
        ({"cohort": "there"}, "3 of these recordings in another cohort, such as 'a' in 'here'"),
    ],
    ids=["preprocessing", "split", "cohort"],
)
def test_a_corpus_does_not_mix(folder: Path, change: dict[str, Any], found: str) -> None:
    corpus = folder.parent / "corpus"
    run(folder, corpus)
    before = whole(corpus)
    with pytest.raises(TableError, match=found):
        run(folder, corpus, dataclasses.replace(CONFIG, **change))
    assert whole(corpus) == before


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "night.txt").touch()
    with pytest.raises(TableError, match="found no file ending in"):
        run(tmp_path, tmp_path / "corpus")


# ---------------------------------------------------------------------------------------- stopped


def test_a_run_stopped_anywhere_and_run_again_is_as_one_never_stopped(folder: Path) -> None:
    earlier = folder.parent / "earlier"
    run(folder, earlier)
    write_noise(folder / "a.edf", seed=5)  # to be replaced
    (folder / "b.xml").write_bytes(scoring(Stage.REM, Stage.REM))  # to be updated
    write_noise(folder / "e.edf", seed=6)  # to be added
    expected = folder.parent / "expected"
    run(folder, expected)
    for call in range(1, 100):
        corpus = folder.parent / f"stopped-{call}"
        storage.upload_folder(str(earlier), str(corpus))
        with pytest.MonkeyPatch.context() as monkeypatch:
            stop_at(monkeypatch, call)
            try:
                run(folder, corpus)
            except StoppedError:
                pass
            else:
                break
        run(folder, corpus)
        assert whole(corpus) == whole(expected)
    assert call > 8  # two batches, each of two deletions and two commits


def test_a_table_that_cannot_be_written_ends_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise TableError("segments.lance: the table could not be written: no space left")

    monkeypatch.setattr(lance_io, "write_fragments", full)
    with pytest.raises(TableError, match="no space left"):
        run(folder, folder.parent / "corpus")
