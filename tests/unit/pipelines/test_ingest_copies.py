"""Ingest of a night that is there under several names: which has it, whatever happened before."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import ingest_file
from pipelines.verify import verify
from sleepmami.psg import Night, Stage
from sleepmami.simulation.night_files import nsrr_xml
from sleepmami.tables import lance_io
from tests.noise_nights import in_process, recordings, whole, write_noise
from tests.unit.pipelines.ingest_runs import as_fresh, no_reading, run


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)


@pytest.fixture
def edfs(tmp_path: Path) -> Path:
    write_noise(tmp_path / "edfs" / "b.edf", seed=1)
    return tmp_path / "edfs"


PATIENT = slice(8, 88)  # of an EDF header


def copy(source: Path, name: str, patient: bytes = b"") -> Path:
    """The same signals, with another header if a patient is given."""
    content = bytearray(source.read_bytes())
    if patient:
        content[PATIENT] = patient.ljust(80)
    target = source.with_name(name)
    target.write_bytes(content)
    return target


def codes(corpus: Path) -> dict[str, tuple[str | None, str | None]]:
    rows = recordings(corpus).items()
    return {name: (row["rejected_code"], row["rejected_reason"]) for name, row in rows}


COPY_OF_A = ("duplicate_recording", "expected other signals than those of a")


@pytest.mark.parametrize("order", [(*order, 3) for order in itertools.permutations(range(3))])
def test_the_first_name_has_the_night_in_whatever_order_files_are_read(
    edfs: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    copy(edfs / "b.edf", "a.edf")
    copy(edfs / "b.edf", "c.edf", patient=b"someone else")
    write_noise(edfs / "d.edf", seed=2)
    in_process(monkeypatch, lambda items: [items[i] for i in order[: len(items)]])
    corpus = edfs.parent / "corpus"
    assert run(edfs, corpus) == {"ingested": 2, "rejected": 2}
    assert codes(corpus) == {"a": (None, None), "b": COPY_OF_A, "c": COPY_OF_A, "d": (None, None)}
    rows = recordings(corpus)
    assert rows["b"]["num_epochs"] is None
    assert rows["b"]["source_hash"] == rows["a"]["source_hash"] != rows["c"]["source_hash"]
    verified = verify(str(corpus))
    assert (verified.problems, verified.counts["unreferenced files"]) == ([], 0)


def test_a_copy_is_not_read_again_while_its_original_is_there(
    edfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(edfs / "b.edf", "c.edf")
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    before = whole(corpus)
    no_reading(monkeypatch)
    assert run(edfs, corpus) == {"unchanged": 1, "rejected earlier": 1}
    assert whole(corpus) == before


def test_a_copy_found_later_with_an_earlier_name_takes_the_night(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    copy(edfs / "b.edf", "c.edf")
    run(edfs, corpus)
    copy(edfs / "b.edf", "a.edf")
    assert run(edfs, corpus) == {"ingested": 1, "rejected": 1, "rejected earlier": 1}
    assert codes(corpus) == {"a": (None, None), "b": COPY_OF_A, "c": COPY_OF_A}
    as_fresh(edfs, corpus)


@pytest.mark.parametrize("added", ["a.edf", "bb.edf", "z.edf"])
def test_when_the_original_changes_the_next_name_has_the_night(edfs: Path, added: str) -> None:
    corpus = edfs.parent / "corpus"
    for name in ("c.edf", "d.edf"):
        copy(edfs / "b.edf", name)
    run(edfs, corpus)
    copy(edfs / "b.edf", added)
    write_noise(edfs / "b.edf", seed=9)
    run(edfs, corpus)
    as_fresh(edfs, corpus)


def test_when_the_originals_row_is_gone_the_copy_is_tried_again(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    copy(edfs / "b.edf", "c.edf")
    run(edfs, corpus)
    lance_io.delete_recordings(str(corpus / "recordings.lance"), ["b"])
    (edfs / "b.edf").unlink()
    assert run(edfs, corpus) == {"ingested": 1}
    as_fresh(edfs, corpus)


STAGES = nsrr_xml(np.array([Stage.N2] * 4, np.int8), ())
PEOPLE = "recording_id,subject_id,age_years,sex,bmi\n"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_equal_nights_the_scored_one_is_kept_then_that_of_a_known_person(
    edfs: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    in_process(monkeypatch, lambda items: [items[i] for i in order[: len(items)]])
    for name in ("c.edf", "d.edf"):
        copy(edfs / "b.edf", name)
    (edfs / "people.csv").write_text(PEOPLE + "c,s,50,male,\n")
    run(edfs, edfs.parent / "people", metadata=str(edfs / "people.csv"))
    assert {n for n, (code, _) in codes(edfs.parent / "people").items() if code is None} == {"c"}
    (edfs / "d.xml").write_bytes(STAGES)
    corpus = edfs.parent / "corpus"
    run(edfs, corpus, metadata=str(edfs / "people.csv"))
    rows = recordings(corpus)
    assert [name for name, row in rows.items() if row["rejected_code"] is None] == ["d"]
    assert rows["d"]["hypnogram"] == [Stage.N2] * 4
    assert rows["c"]["age_years"] == 50
    assert verify(str(corpus)).problems == []


def test_a_recording_that_got_another_name_keeps_its_scoring_and_its_person(edfs: Path) -> None:
    (edfs / "b.xml").write_bytes(STAGES)
    (edfs / "people.csv").write_text(PEOPLE + "b,s,50,male,\n")
    corpus = edfs.parent / "corpus"
    run(edfs, corpus, metadata=str(edfs / "people.csv"))
    before = recordings(corpus)["b"]
    (edfs / "b.edf").rename(edfs / "a.edf")
    assert run(edfs, corpus, metadata=str(edfs / "people.csv")) == {"rejected": 1}
    assert recordings(corpus)["b"] == before
    assert codes(corpus)["a"] == ("duplicate_recording", "expected other signals than those of b")


@pytest.mark.parametrize("of", ["scoring", "person"])
def test_a_copy_of_which_more_becomes_known_takes_the_night(edfs: Path, of: str) -> None:
    copy(edfs / "b.edf", "c.edf")
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    people = edfs / "people.csv"
    people.write_text(PEOPLE + ("c,s,50,male,\n" if of == "person" else "other,s,50,male,\n"))
    if of == "scoring":
        (edfs / "c.xml").write_bytes(STAGES)
    run(edfs, corpus, metadata=str(people))
    assert codes(corpus)["c"] == (None, None)
    once = whole(corpus)
    assert run(edfs, corpus, metadata=str(people)) == {"unchanged": 1, "rejected earlier": 1}
    assert whole(corpus) == once
    fresh = edfs.parent / "fresh"
    run(edfs, fresh, metadata=str(people))
    assert whole(corpus) == whole(fresh)


def test_what_a_copy_learns_in_vain_is_stored_with_it(edfs: Path) -> None:
    """The night stays where it is scored, and the copy is not made again by each run."""
    copy(edfs / "b.edf", "c.edf")
    (edfs / "b.xml").write_bytes(STAGES)
    people = edfs / "people.csv"
    people.write_text(PEOPLE + "c,s,50,male,\n")
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    assert run(edfs, corpus, metadata=str(people)) == {"unchanged": 1, "rejected": 1}
    assert recordings(corpus)["c"]["age_years"] == 50
    assert run(edfs, corpus, metadata=str(people)) == {"unchanged": 1, "rejected earlier": 1}
    assert codes(corpus)["b"] == (None, None)


def test_a_copy_is_known_by_its_bytes_where_another_release_makes_other_signals(
    edfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    real = ingest_file.load_night

    def other(*args: Any, **more: Any) -> Night:
        night = real(*args, **more)
        return dataclasses.replace(night, signals={m: s + 1 for m, s in night.signals.items()})

    monkeypatch.setattr(ingest_file, "load_night", other)
    for name in ("c.edf", "a.edf"):
        copy(edfs / "b.edf", name)
    assert run(edfs, corpus) == {"ingested": 1, "rejected": 2}
    assert codes(corpus) == {"a": (None, None), "b": COPY_OF_A, "c": COPY_OF_A}
    assert verify(str(corpus)).problems == []
    for _ in range(2):  # digests of the copies follow those of the night
        run(edfs, corpus)
        assert codes(corpus) == {"a": (None, None), "b": COPY_OF_A, "c": COPY_OF_A}
    no_reading(monkeypatch)
    assert run(edfs, corpus) == {"unchanged": 1, "rejected earlier": 2}


def test_files_that_cannot_be_used_are_no_copies_of_each_other(edfs: Path) -> None:
    for name in ("x", "y"):
        (edfs / f"{name}.edf").write_text("no EDF")
        (edfs / f"{name}-link.edf").symlink_to(edfs / "nowhere.edf")
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    assert Counter(code for code, _ in codes(corpus).values()) == {None: 1, "not_an_edf": 2, "unreadable": 2}  # fmt: skip
