"""What was unusual about a night's file is stored with it, and told again by verify."""

from pathlib import Path

import pytest

from pipelines import ingest_commit
from pipelines.ingest_edf import ingest
from pipelines.verify import verify
from sleepmami.psg import Night
from sleepmami.tables import lance_io
from sleepmami.tables.rows import night_from_rows
from tests.noise_nights import in_process, write_noise
from tests.unit.pipelines.ingest_runs import CONFIG, run


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)


@pytest.fixture
def edfs(tmp_path: Path) -> Path:
    """A whole night, one without its last bytes, and no night."""
    folder = tmp_path / "edfs"
    write_noise(folder / "whole.edf", seed=1)
    write_noise(folder / "cut.edf", seed=2)
    raw = (folder / "cut.edf").read_bytes()
    (folder / "cut.edf").write_bytes(raw[:-7])
    (folder / "none.edf").write_text("no EDF")
    return folder


def rows(corpus: Path) -> dict[str, dict[str, object]]:
    table = lance_io.read_table(f"{corpus}/recordings.lance")
    return {row["recording_id"]: row for row in table.to_pylist()}


def night(corpus: Path, name: str) -> Night:
    segments = lance_io.read_table(
        f"{corpus}/segments.lance", filter=lance_io.is_one_of("recording_id", [name])
    )
    return night_from_rows(rows(corpus)[name], segments)


def test_a_cut_night_is_known_to_be_one_when_the_table_is_opened_later(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    summary = ingest(str(edfs), str(corpus), CONFIG)
    ((_, _, said),) = summary.notes
    assert said.startswith("truncated: ")
    stored = {name: row["notes"] for name, row in rows(corpus).items()}
    assert stored == {"cut": said.split("; "), "whole": [], "none": None}
    assert night(corpus, "cut").notes == tuple(said.split("; "))


def test_verify_tells_it_again_and_finds_no_fault(
    edfs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    found = verify(str(corpus))
    assert found.problems == []
    ((name, code, said),) = found.unusual
    assert (name, code) == ("cut", "note")
    assert said.startswith("truncated: ")


def test_the_note_stays_when_the_row_learns_something(edfs: Path) -> None:
    corpus, people = edfs.parent / "corpus", edfs / "people.csv"
    run(edfs, corpus)
    people.write_text("recording_id,subject_id,age_years,sex,bmi\ncut,s,50.3,male,31.7\n")
    assert run(edfs, corpus, metadata=str(people))["updated"] == 1
    row = rows(corpus)["cut"]
    assert row["age_years"] == pytest.approx(50.3)
    assert str(row["notes"]).startswith("['truncated: ")


def test_an_ingest_goes_on_with_a_table_that_has_no_notes(
    edfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, late = edfs.parent / "corpus", edfs / "late.edf"
    with monkeypatch.context() as patch:  # as an earlier release made it
        patch.setattr(ingest_commit, "_version_there", lambda uri: "2")
        run(edfs, corpus)
    write_noise(late, seed=3)
    assert run(edfs, corpus) == {"unchanged": 2, "rejected earlier": 1, "ingested": 1}
    assert lance_io.metadata(f"{corpus}/recordings.lance")["schema_version"] == "2"
    assert all("notes" not in row for row in rows(corpus).values())
    people = edfs / "people.csv"
    people.write_text("recording_id,subject_id,age_years,sex,bmi\ncut,s,50.3,male,31.7\n")
    assert run(edfs, corpus, metadata=str(people))["updated"] == 1
    assert night(corpus, "cut").notes == ()
    found = verify(str(corpus))
    assert (found.problems, found.unusual) == ([], [])
