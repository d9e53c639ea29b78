"""Ingest of a cohort that is in the corpus already, and what things are called there."""

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_128_hexdigest

from pipelines import ingest_edf
from pipelines.ingest_edf import ingest, recording_ids
from sleepmami.errors import ConfigError, TableError
from sleepmami.tables.pseudonyms import SiteKey
from sleepmami.tables.splits import split_of
from tests.noise_nights import in_process, recordings, write_noise
from tests.unit.pipelines.ingest_runs import CONFIG, as_fresh, no_reading, run

PSEUDONYMS = dataclasses.replace(CONFIG, recording_ids="pseudonym")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)


@pytest.fixture
def edfs(tmp_path: Path) -> Path:
    write_noise(tmp_path / "edfs" / "b.edf", seed=1)
    return tmp_path / "edfs"


@pytest.fixture
def key(tmp_path: Path) -> str:
    file = tmp_path / "site.key"
    file.write_bytes(bytes(range(32)))
    file.chmod(0o600)
    return str(file)


# ------------------------------------------------------------------------------------------- stamps


def test_what_a_stamp_knows_is_not_read(edfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = edfs.parent / "corpus"
    (edfs / "text.edf").write_text("no EDF")
    people = edfs / "people.csv"
    people.write_text("recording_id,subject_id,age_years,sex,bmi\nb,s,50.3,male,31.7\n")
    run(edfs, corpus, metadata=str(people))
    no_reading(monkeypatch)
    assert run(edfs, corpus, metadata=str(people)) == {"unchanged": 1, "rejected earlier": 1}
    people.write_text("recording_id,subject_id,age_years,sex,bmi\nb,s,50.4,male,31.7\n")
    with pytest.raises(AssertionError, match="b was read"):
        run(edfs, corpus, metadata=str(people))


def test_a_files_hash_is_that_of_its_bytes_whatever_becomes_of_it(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    (edfs / "text.edf").write_text("no EDF")
    for cut in (40, 1):  # new files, and changed ones
        with (edfs / "b.edf").open("ab") as file:
            file.write(b"x" * cut)  # bytes behind the last record count
        run(edfs, corpus)
        hashes = {name: row["source_hash"] for name, row in recordings(corpus).items()}
        assert hashes == {f.stem: xxh3_128_hexdigest(f.read_bytes()) for f in edfs.glob("*.edf")}


def test_an_odd_cell_is_named_by_its_place_and_not_by_what_it_says(
    edfs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = edfs / "people.csv"
    rows = "".join(f"other{n},,50,male,25\n" for n in range(9))
    people.write_text(f"recording_id,subject_id,age_years,sex,bmi\nb,,Quibblex,male,31\n{rows}")
    run(edfs, edfs.parent / "corpus", metadata=str(people))
    said = "".join(capsys.readouterr().err.split())  # a long file name is broken into lines
    assert "1cellstakenasunknown" in said
    assert "people.csv:line2,column'age_years'" in said
    assert "Quibblex" not in said


def test_what_the_folder_no_longer_holds_is_left_and_counted(
    edfs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = edfs.parent / "corpus"
    write_noise(edfs / "a.edf", seed=7)
    run(edfs, corpus)
    assert "left as they are" not in capsys.readouterr().err
    (edfs / "b.edf").unlink()
    assert run(edfs, corpus) == {"unchanged": 1}
    assert set(recordings(corpus)) == {"a", "b"}
    said = " ".join(capsys.readouterr().err.split())
    assert "1 recordings, left as they are" in said


def test_a_channel_file_that_comes_too_late_is_said_to_change_nothing(
    edfs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = edfs.parent / "corpus"
    preprocess = dataclasses.replace(CONFIG.preprocess, channels=(("C4-M1", "ignore"),))
    told = dataclasses.replace(CONFIG, preprocess=preprocess)
    run(edfs, corpus)
    assert "keep the channels" not in capsys.readouterr().err
    assert run(edfs, corpus, told) == {"unchanged": 1}
    assert "1 nights keep the channels" in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_run_says_that_nothing_is_lost(
    edfs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(item: Any, **_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ingest_edf, "ingest_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(edfs, edfs.parent / "corpus")
    assert "the next run goes on" in " ".join(capsys.readouterr().err.split())
    assert run(edfs, edfs.parent / "corpus") == {"ingested": 1}


def test_a_cluster_is_joined_only_when_there_is_something_to_read(
    edfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = []

    def ray_session(address: str | None) -> contextlib.AbstractContextManager[None]:
        joined.append(address)
        return contextlib.nullcontext()

    monkeypatch.setattr(ingest_edf, "ray_session", ray_session)
    for _ in range(2):
        run(edfs, edfs.parent / "corpus", address="here")
    assert joined == ["here"]


def test_a_file_that_was_only_touched_is_read_once(
    edfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = edfs.parent / "corpus"
    (edfs / "text.edf").write_text("no EDF")
    run(edfs, corpus)
    for name in ("b.edf", "text.edf"):
        os.utime(edfs / name, ns=(1, 1_600_000_000_123_456_789))
    assert run(edfs, corpus) == {"unchanged": 1, "rejected earlier": 1}
    as_fresh(edfs, corpus)
    no_reading(monkeypatch)
    assert run(edfs, corpus) == {"unchanged": 1, "rejected earlier": 1}


def test_rehash_finds_a_change_that_left_size_and_time(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    run(edfs, corpus)
    state = (edfs / "b.edf").stat()
    write_noise(edfs / "b.edf", seed=2)
    os.utime(edfs / "b.edf", ns=(1, state.st_mtime_ns))
    assert run(edfs, corpus) == {"unchanged": 1}
    assert run(edfs, corpus, rehash=True) == {"replaced": 1}
    as_fresh(edfs, corpus)


def test_a_scoring_that_cannot_be_read_is_said_each_time(edfs: Path) -> None:
    corpus = edfs.parent / "corpus"
    (edfs / "b.xml").write_text("<html/>")
    for outcome in ("ingested without scoring", "unchanged"):
        found = ingest(str(edfs), str(corpus), CONFIG)
        assert found.outcomes == {outcome: 1}
        assert [code for _, code, _ in found.details] == ["annotation_invalid"]


# --------------------------------------------------------------------------------------- pseudonyms


def test_recordings_and_subjects_have_pseudonyms_of_the_sites_key(edfs: Path, key: str) -> None:
    write_noise(edfs / "visit 2" / "n.edf", seed=2)
    people = edfs / "people.csv"
    people.write_text("recording_id,subject_id,age_years,sex,bmi\nb,jane,50,female,\n")
    corpus, linkage = edfs.parent / "corpus", edfs.parent / "linkage.csv"
    more: dict[str, Any] = {"metadata": str(people), "site_key": key}
    assert run(edfs, corpus, PSEUDONYMS, linkage=str(linkage), **more) == {"ingested": 2}
    secret = SiteKey.load(key)
    first, second = (secret.pseudonym("recording", name) for name in ("b", "visit 2/n"))
    rows = recordings(corpus)
    assert set(rows) == {first, second}
    assert rows[first]["subject_id"] == secret.pseudonym("subject", "jane")
    assert rows[first]["age_years"] == 50
    assert rows[first]["split"] == split_of(rows[first]["subject_id"], CONFIG.split)
    assert rows[second]["subject_id"] == second
    pairs = recording_ids(str(edfs), PSEUDONYMS, **more)
    assert pairs == [
        (str(edfs / "b.edf"), first, secret.pseudonym("subject", "jane")),
        (str(edfs / "visit 2" / "n.edf"), second, second),
    ]
    assert linkage.read_text().splitlines()[1:] == [",".join(pair) for pair in pairs]
    assert run(edfs, corpus, PSEUDONYMS, **more) == {"unchanged": 2}


def test_a_key_that_is_made_is_spoken_of_once(
    edfs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(edfs.parent / "home"))
    monkeypatch.delenv("SLEEPMAMI_SITE_KEY_FILE", raising=False)
    said = []
    for _ in range(2):
        run(edfs, edfs.parent / "corpus", PSEUDONYMS)
        said.append("".join(capsys.readouterr().err.split()))
    made = "".join(f"made {edfs.parent}/home/sleepmami/site.key; back it up".split())
    assert [made in text for text in said] == [True, False]


def test_another_key_or_other_names_are_refused(edfs: Path, key: str) -> None:
    corpus = edfs.parent / "corpus"
    run(edfs, corpus, PSEUDONYMS, site_key=key)
    other = Path(shutil.copy(key, key + "2"))
    other.write_bytes(b"x" * 32)
    with pytest.raises(TableError, match=f"site key {SiteKey.load(key).fingerprint}; expected that key, but yours is"):  # fmt: skip
        run(edfs, corpus, PSEUDONYMS, site_key=str(other))
    with pytest.raises(TableError, match="recording_ids='pseudonym'"):
        run(edfs, corpus, CONFIG)
    with pytest.raises(ConfigError, match="has no effect"):
        run(edfs, corpus, CONFIG, site_key=key)


def test_with_pseudonyms_the_account_says_nothing_that_a_file_says(
    edfs: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (edfs / "JANE-DOE.edf").write_text("JANE-DOE slept")
    (edfs / "b.xml").write_text("<JANE-DOE/>")
    (edfs / "JANE-DOE-link.edf").symlink_to(edfs / "nowhere")
    found = ingest(str(edfs), str(edfs.parent / "corpus"), PSEUDONYMS, site_key=key)
    assert sorted(code for _, code, _ in found.details) == ["annotation_invalid", "not_an_edf", "unreadable"]  # fmt: skip
    shown = capsys.readouterr()
    assert "sleepmami ids" in shown.err
    assert "JANE" not in str(found) + shown.out + shown.err
    assert str(edfs) not in str(found)
