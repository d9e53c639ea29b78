import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami import storage
from sleepmami.errors import ConfigError

# pyarrow's in-memory file system takes the object-store branch without a network
REMOTE = "mock://store/tests/storage"

# what a recording may be called; slashes separate, and a leading dot hides
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("corpus", True),
        ("/data/corpus", True),
        ("file:///data/corpus", True),
        ("FILE:///data", True),
        ("s3://bucket/corpus", False),
        ("gs://bucket", False),
        ("night:1.edf", True),  # a colon alone is no scheme
    ],
)
def test_only_a_scheme_other_than_file_is_remote(uri: str, local: bool) -> None:
    assert storage.is_local(uri) is local


@pytest.mark.parametrize(
    ("base", "parts", "joined"),
    [
        ("run", ("micro", "metrics.jsonl"), "run/micro/metrics.jsonl"),
        ("run/", ("micro/",), "run/micro"),
        ("/", ("data",), "/data"),
        ("s3://bucket", ("corpus", "recordings.lance"), "s3://bucket/corpus/recordings.lance"),
        ("s3://bucket/a/", ("b c'd%20",), "s3://bucket/a/b c'd%20"),
        ("run", (), "run"),
        ("run", ("", "a"), "run/a"),
    ],
)
def test_join(base: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(base, *parts) == joined


@pytest.mark.parametrize("part", ["/etc/passwd", "s3://other/x"])
def test_join_refuses_a_part_that_would_leave_the_base(part: str) -> None:
    with pytest.raises(ConfigError, match="relative path"):
        storage.join("run", part)


def test_absolute_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("run/../corpus") == f"{tmp_path}/corpus"
    assert storage.absolute(f"file://{tmp_path}/x") == f"{tmp_path}/x"
    assert storage.absolute("s3://bucket/run/") == "s3://bucket/run"


@settings(max_examples=50, deadline=None)
@given(name=NAMES.filter(lambda name: name not in {".", ".."} and len(name.encode()) < 200))
def test_bytes_come_back_under_any_name(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    for base in (str(tmp_path_factory.getbasetemp() / "any"), REMOTE):
        storage.write_bytes(storage.join(base, name), name.encode())
        assert storage.read_bytes(storage.join(base, name)) == name.encode()


@pytest.mark.parametrize("remote", [False, True])
def test_write_replaces_exists_sees_and_delete_removes(tmp_path: Path, remote: bool) -> None:
    base = f"{REMOTE}/life" if remote else str(tmp_path)
    file = storage.join(base, "deep", "er", "file.bin")
    assert not storage.exists(file)
    storage.write_bytes(file, b"first")
    storage.write_bytes(file, b"2")
    assert storage.read_bytes(file) == b"2"
    assert storage.exists(storage.join(base, "deep"))
    storage.delete(storage.join(base, "deep"))
    assert not storage.exists(file)
    storage.delete(file)  # a second time there is nothing to do


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_is_read_in_parts(tmp_path: Path, remote: bool) -> None:
    file = storage.join(f"{REMOTE}/in_parts" if remote else str(tmp_path), "table.csv")
    storage.write_bytes(file, b"a,b\n1,2\n3,4\n")
    with storage.reading(file) as stream:
        assert (stream.readline(), stream.read(3), stream.read()) == (b"a,b\n", b"1,2", b"\n3,4\n")
    with pytest.raises(FileNotFoundError), storage.reading(file + ".gone"):
        pass


@pytest.mark.parametrize("remote", [False, True])
def test_reading_what_is_not_there_is_a_file_not_found_error(tmp_path: Path, remote: bool) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(REMOTE if remote else str(tmp_path), "none.bin"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "manifest.json"
    storage.write_bytes(str(file), b"old")

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_bytes(str(file), b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def fail_after(num_bytes: int) -> None:
    raise KeyError(num_bytes)


@pytest.mark.parametrize("remote", [False, True])
def test_parts_are_there_when_all_are_written_and_not_before(tmp_path: Path, remote: bool) -> None:
    folder = f"{REMOTE}/parts" if remote else str(tmp_path)
    file = storage.join(folder, "new", "table.csv")
    with storage.writing(file) as stream:
        stream.write(b"one ")
        assert not storage.exists(file)
        stream.write(b"two")
    assert storage.read_bytes(file) == b"one two"
    with pytest.raises(KeyError), storage.writing(file) as stream:
        fail_after(stream.write(b"three"))
    assert storage.read_bytes(file) == b"one two"
    assert len(storage.list_files(folder, ("",))) == 1


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "ours"), b"")
    (tmp_path / "pythons").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "pythons").stat().st_mode


@pytest.mark.parametrize("path", ["/", "mock://store", "mock://store/"])
def test_a_whole_file_system_or_bucket_is_not_deleted(path: str) -> None:
    with pytest.raises(ConfigError, match="refusing"):
        storage.delete(path)


def test_deleting_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage.delete(str(tmp_path / "link"))
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("remote", [False, True])
def test_list_files_is_sorted_by_suffix_in_any_case_and_passes_hidden_files_over(
    tmp_path: Path, remote: bool
) -> None:
    base = f"{REMOTE}/list" if remote else str(tmp_path)
    for name in ("b.edf", "a.EDF", "sub/c d.edf", "x.xml", "._b.edf", ".git/d.edf", "edf"):
        storage.write_bytes(storage.join(base, name), b"")
    found = storage.list_files(base, (".edf",))
    assert found == [storage.join(base, name) for name in ("a.EDF", "b.edf", "sub/c d.edf")]
    assert storage.list_files(base, (".edf",), recursive=False) == found[:2]


def test_list_files_names_broken_links_and_survives_link_loops(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "night.edf").write_bytes(b"")
    (tmp_path / "study" / "gone.edf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "study" / "loop").symlink_to(tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.edf").write_bytes(b"")
    (tmp_path / "more").symlink_to(elsewhere)
    assert storage.list_files(str(tmp_path), (".edf",)) == [
        f"{tmp_path}/more/linked.edf",
        f"{tmp_path}/study/gone.edf",
        f"{tmp_path}/study/night.edf",
    ]


def test_list_files_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "night.edf").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert storage.list_files(".", (".edf",)) == [f"{tmp_path}/night.edf"]


@pytest.mark.parametrize("folder", ["no-such-folder", "mock://store/no-such-folder"])
def test_listing_a_missing_folder_says_what_is_missing(folder: str) -> None:
    with pytest.raises(ConfigError, match="no-such-folder: found no"):
        storage.list_files(folder, (".edf",))


def test_a_file_in_place_of_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.edf").touch()
    with pytest.raises(ConfigError, match="found a file; expected a folder"):
        storage.list_files(str(tmp_path / "a.edf"), (".edf",))


def test_a_file_name_that_fits_no_table_is_refused_by_name(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.edf"
    try:
        with open(raw, "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ConfigError, match="expected UTF-8"):
        storage.list_files(str(tmp_path), (".edf",))


def test_a_folder_goes_up_and_comes_down_whole(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "manifest.json": b"[]", "sub/micro.safetensors": b"\0\1"}
    for name, data in files.items():
        storage.write_bytes(f"{tmp_path}/run/{name}", data)
    storage.upload_folder(f"{tmp_path}/run", f"{REMOTE}/run")
    storage.download_folder(f"{REMOTE}/run", f"{tmp_path}/again")
    again = {
        path.relative_to(tmp_path / "again").as_posix(): path.read_bytes()
        for path in (tmp_path / "again").rglob("*.*")
    }
    assert again == files


def test_the_manifest_is_copied_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.bin", "manifest.json", "z.bin", "sub/manifest.json"):
        storage.write_bytes(f"{tmp_path}/run/{name}", b"")
    order: list[str] = []
    monkeypatch.setattr(storage, "write_bytes", lambda uri, data: order.append(uri))
    storage.upload_folder(f"{tmp_path}/run", "s3://bucket/run")
    assert order[-1] == "s3://bucket/run/manifest.json"
    assert len(order) == 4


def test_an_unknown_scheme_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"nope://bucket.*expected a folder or s3://"):
        storage.read_bytes("nope://bucket/key")
