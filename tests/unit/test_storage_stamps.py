"""Stamps tell a changed file from its listing alone."""

import os
import time
from pathlib import Path

import pytest

from sleepmami import storage

SECOND_NS = 1_000_000_000
OLD_NS = 1_600_000_000 * SECOND_NS


def stamp(file: Path, content: bytes, mtime_ns: int) -> str:
    file.write_bytes(content)
    os.utime(file, ns=(0, mtime_ns))
    (found,) = storage.list_stamps(str(file.parent), (".edf",)).values()
    return found


def test_a_stamp_changes_with_size_and_with_time_and_with_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "n.edf"
    first = stamp(file, b"ab", OLD_NS + 5)
    assert len(first) == 16
    assert stamp(file, b"ba", OLD_NS + 5) == first
    assert len({first, stamp(file, b"abc", OLD_NS + 5), stamp(file, b"ab", OLD_NS + 6)}) == 3


def test_what_may_change_again_within_its_second_has_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock of whole seconds, as of object stores, does not tell two writes in one second."""
    file = tmp_path / "n.edf"
    monkeypatch.setattr(time, "time_ns", lambda: OLD_NS + SECOND_NS // 2)
    assert stamp(file, b"ab", OLD_NS) == ""
    assert stamp(file, b"ab", OLD_NS + 1) != ""
    monkeypatch.setattr(time, "time_ns", lambda: OLD_NS + 2 * SECOND_NS)
    assert stamp(file, b"ab", OLD_NS) != ""


def test_what_is_no_file_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "broken.edf").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.edf")
    found = storage.list_stamps(str(tmp_path), (".edf",))
    assert found == {str(tmp_path / name): "" for name in ("broken.edf", "pipe.edf")}


@pytest.mark.parametrize("scheme", ["", "file://", "mock://bucket"])
def test_files_with_stamps_are_the_files_listed(tmp_path: Path, scheme: str) -> None:
    base = f"{scheme}{tmp_path}"
    for name in ("b.EDF", "a/c d.edf", ".hidden.edf", ".trash/x.edf", "t.txt"):
        storage.write_bytes(storage.join(base, name), b"x")
    found = storage.list_stamps(base, (".edf",))
    assert list(found) == storage.list_files(base, (".edf",))
    assert [name.rpartition("/")[2] for name in found] == ["c d.edf", "b.EDF"]
    assert all(len(s) in (0, 16) for s in found.values())
