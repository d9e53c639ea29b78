"""Embeddings and labels that are read, completed from several sources, or refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleepmami.errors import SleepMaMiError, TableError
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.evaluation.labels import with_labels
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings, write_npz

SCORED = np.array([0, 1, 2, 2], np.int8)


def night(name: str, **changes: Any) -> PlantedNight:
    rng = np.random.default_rng(len(name))
    planted = PlantedNight(
        recording_id=name, subject_id=f"p-{name}", macro=rng.normal(size=(4, 3)), night=rng.normal(size=3)
    )  # fmt: skip
    return replace(planted, **changes)


def test_a_table_and_files_hold_the_same_vectors(tmp_path: Path) -> None:
    nights = [night("a"), night("bb"), night("ccc")]
    table = open_embeddings(write_embeddings(tmp_path / "out", nights))
    files = open_embeddings(write_npz(tmp_path / "npz", nights))
    for level in ("micro", "macro", "night"):
        ours, theirs = list(table.read([2, 0], level)), list(files.read([2, 0], level))  # type: ignore[arg-type]
        assert [v.place for v in ours] == [v.place for v in theirs] == [0, 2]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.x_LF, other.x_LF)
            np.testing.assert_array_equal(one.valid_L, other.valid_L)
    assert table.model_id == files.model_id
    assert [n.subject_id for n in table.nights] == ["p-a", "p-bb", "p-ccc"]
    assert [n.subject_id for n in files.nights] == [None] * 3


def test_vectors_of_two_models_do_not_mix(tmp_path: Path) -> None:
    nights = [night("a"), night("b", model_id="another")]
    for folder in (write_embeddings(tmp_path / "o", nights), write_npz(tmp_path / "n", nights)):
        with pytest.raises(TableError, match=r"model_id another, sleepmami-planted.*do not mix"):
            open_embeddings(folder)


def test_night_vectors_of_an_earlier_kind_are_refused_and_epochs_are_not(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, [night("a")])
    file = tmp_path / "a.npz"
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    info = json.loads(str(arrays["info"]))
    del info["night_vector"]
    np.savez(file, **arrays | {"info": np.array(json.dumps(info))})
    embeddings = open_embeddings(folder)
    assert len(list(embeddings.read([0], "macro"))) == 1
    with pytest.raises(TableError, match=r"a\.npz: found a night vector of an earlier kind"):
        list(embeddings.read([0], "night"))


def test_a_night_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="found a twice"):
        open_embeddings(write_embeddings(tmp_path, [night("a"), night("a")]))


def test_no_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"neither night_embeddings\.lance nor \.npz"):
        open_embeddings(str(tmp_path))
    with pytest.raises(TableError, match="neither"):
        open_embeddings(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("damage", ["cut", "not_a_zip", "empty", "other_keys"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    folder = write_npz(tmp_path, [night("a")])
    file = tmp_path / "a.npz"
    whole = file.read_bytes()
    if damage == "other_keys":
        np.savez(file, x=np.zeros(3))
    else:
        file.write_bytes({"cut": whole[:300], "not_a_zip": b"PSG" * 99, "empty": b""}[damage])
    with pytest.raises(TableError, match=r"a\.npz"):
        open_embeddings(folder)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    bad = night("a", night=np.array([1.0, np.nan, 0.0]))
    embeddings = open_embeddings(write_npz(tmp_path, [bad]))
    with pytest.raises(TableError, match="a: night: found numbers that are not finite"):
        list(embeddings.read([0], "night"))


def test_without_lance_files_are_read_and_a_table_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, files = (
        write_embeddings(tmp_path / "o", [night("a")]),
        write_npz(tmp_path / "n", [night("a")]),
    )
    monkeypatch.setitem(sys.modules, "lance", None)
    monkeypatch.delitem(sys.modules, "sleepmami.tables.lance_io", raising=False)
    monkeypatch.delattr("sleepmami.tables.lance_io")
    assert len(open_embeddings(files).nights) == 1
    with pytest.raises(TableError, match=r"sleepmami\[probe\]"):
        open_embeddings(table)


def test_a_corpus_completes_what_embeddings_know(tmp_path: Path) -> None:
    nights = [night("a", age_years=40.0), night("b")]
    stroke = {"name": "stroke", "event": True, "time_days": 9.0, "prevalent": False}
    hypopnea = {"start_s": 5.0, "duration_s": 20.0, "kind": "hypopnea"}
    known = [
        replace(
            nights[0],
            ahi=7.0,
            outcomes=[stroke],
            events=[hypopnea],
            hypnogram=SCORED,
            age_years=None,
        )
    ]
    embeddings = open_embeddings(write_npz(tmp_path / "n", nights))
    corpus = write_corpus(tmp_path / "c", known)
    first, second = with_labels(embeddings.nights, [corpus], events=True)
    assert (first.subject_id, first.split, first.ahi) == ("p-a", "train", 7.0)
    assert first.outcomes is not None
    assert first.outcomes[0].time_days == 9.0
    assert first.events is not None
    assert first.events[0].duration_s == 20.0
    assert first.hypnogram is not None
    assert first.hypnogram.tolist() == SCORED.tolist()
    assert second == embeddings.nights[1]  # nothing is known of it
    (quick, _) = with_labels(embeddings.nights, [corpus], events=False)
    assert quick.events is None


def test_labels_go_before_what_the_embeddings_say_and_a_corpus_before_a_table(
    tmp_path: Path,
) -> None:
    embeddings = open_embeddings(
        write_embeddings(tmp_path / "o", [night("a", age_years=40.0, bmi=20.0)])
    )
    corpus = write_corpus(tmp_path / "c", [night("a", bmi=22.0)])
    table = tmp_path / "people.csv"
    table.write_text("recording_id,subject_id,age_years,sex,bmi\na,somebody,41,female,23\n")
    (known,) = with_labels(embeddings.nights, [str(table), corpus], events=False)
    assert (known.age_years, known.sex, known.bmi) == (41.0, "female", 22.0)
    assert known.subject_id == "p-a"  # the split was made of this name


def test_labels_of_nobody_are_refused(tmp_path: Path) -> None:
    embeddings = open_embeddings(write_npz(tmp_path / "n", [night("a")]))
    table = tmp_path / "people.csv"
    table.write_text("recording_id,age_years,sex,bmi\nb,41,female,23\n")
    with pytest.raises(TableError, match="found nobody who slept in 1 nights such as a"):
        with_labels(embeddings.nights, [str(table)], events=False)
    corpus = write_corpus(tmp_path / "c", [night("b")])
    with pytest.raises(TableError, match="found none of 1 nights such as a"):
        with_labels(embeddings.nights, [corpus], events=False)
    with pytest.raises((SleepMaMiError, OSError), match="nowhere"):
        with_labels(embeddings.nights, [str(tmp_path / "nowhere.csv")], events=False)


def test_a_hypnogram_of_another_length_is_refused(tmp_path: Path) -> None:
    embeddings = open_embeddings(write_npz(tmp_path / "n", [night("a")]))
    corpus = write_corpus(tmp_path / "c", [night("a", hypnogram=SCORED[:3])])
    with pytest.raises(TableError, match="hypnogram of 3 epochs; expected 4"):
        with_labels(embeddings.nights, [corpus], events=False)
