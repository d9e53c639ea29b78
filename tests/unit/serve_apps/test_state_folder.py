"""The service's folder: private, locked by one, swept of what a killed process left."""

import os
import tempfile
from pathlib import Path

import pytest

from serve_apps import state_folder
from serve_apps.state_folder import StateFolder, new_id, read_json, remove_folder, write_whole
from sleepmami.errors import ServiceError


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_private_folder_ends_with_the_service() -> None:
    state = StateFolder(None)
    assert state.folder.stat().st_mode & 0o777 == 0o700
    (state.uploads / new_id()).mkdir()
    state.close()
    assert not state.folder.exists()


def test_a_folder_that_was_named_stays(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path / "state"))
    (state.uploads / "kept").mkdir()
    state.close()
    assert (tmp_path / "state/uploads/kept").exists()


def test_what_a_killed_service_left_goes_with_the_next_one(tmp_path: Path) -> None:
    killed = tmp_path / f"{state_folder.PRIVATE_PREFIX}x"
    killed.mkdir()
    (killed / "alive.lock").touch()
    (killed / "uploads").mkdir()
    (killed / "uploads/recording").write_bytes(b"x")
    alive = StateFolder(None)
    assert not killed.exists()
    other = StateFolder(None)
    assert alive.folder.exists()  # it is locked
    alive.close()
    other.close()


def test_one_process_runs_the_jobs(tmp_path: Path) -> None:
    first, second = StateFolder(str(tmp_path)), StateFolder(str(tmp_path))
    assert first.take_jobs()
    assert first.take_jobs()
    assert not second.take_jobs()
    first.close()
    assert second.take_jobs()
    second.close()


def test_old_bodies_and_half_deleted_folders_are_cleaned(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path))
    old, young = state.spool / new_id(), state.spool / new_id()
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    half = state.jobs / f"{state_folder.GONE_PREFIX}{new_id()}"
    half.mkdir()
    state.clean()
    assert list(state.spool.iterdir()) == [young]
    assert not half.exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="state_dir"):
        StateFolder(str(tmp_path / "file"))


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "job.json"
    write_whole(path, b'{"a": 1}')

    def fails(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b'{"a": 2}')
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b'"text"'])
def test_what_is_no_json_object_is_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert read_json(tmp_path / "x") is None
    assert read_json(tmp_path / "missing") is None


def test_a_removed_folder_is_gone_for_whoever_writes_to_it(tmp_path: Path) -> None:
    folder = tmp_path / new_id()
    folder.mkdir()
    (folder / "data").write_bytes(b"x")
    remove_folder(folder)
    remove_folder(folder)
    with pytest.raises(FileNotFoundError):
        write_whole(folder / "job.json", b"x")
    assert list(tmp_path.iterdir()) == []
