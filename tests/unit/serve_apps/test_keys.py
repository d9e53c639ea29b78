"""The key file: hashes only, private, strict, and read again when it changes."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import cli
from serve_apps.keys import KeyRing, add_key, read_keys, revoke_key, sha256_of
from sleepmami.config import ServeConfig
from sleepmami.errors import ConfigError, ServiceError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_the_hash_of_a_known_word_is_sha256() -> None:
    # FIPS 180-2, appendix B.1
    assert sha256_of("abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_the_file_is_private_and_does_not_hold_the_key(file: Path) -> None:
    text, key = add_key(file, "clinic-a")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert text not in file.read_text()
    assert text.removeprefix("smm_") not in file.read_text()
    assert key.sha256 == sha256_of(text)


def test_a_ring_finds_each_of_several_keys_and_no_other(file: Path) -> None:
    first, _ = add_key(file, "clinic-a")
    second, _ = add_key(file, "lab-b")
    ring = KeyRing(str(file))
    assert [getattr(ring.find(t), "owner", None) for t in (first, second, first + "x", "")] == [
        "clinic-a",
        "lab-b",
        None,
        None,
    ]


def test_a_hash_is_not_a_key(file: Path) -> None:
    _, key = add_key(file, "clinic-a")
    assert KeyRing(str(file)).find(key.sha256) is None


def test_a_new_key_works_and_a_revoked_one_does_not_without_a_restart(file: Path) -> None:
    old, key = add_key(file, "clinic-a")
    ring = KeyRing(str(file))
    new, _ = add_key(file, "clinic-a")
    assert ring.find(old) is not None
    assert ring.find(new) is not None
    revoke_key(file, key.id)
    assert ring.find(old) is None
    found = ring.find(new)
    assert found is not None
    assert found.owner == "clinic-a"


def test_a_key_ends_at_its_time(file: Path) -> None:
    text, key = add_key(file, "clinic-a", days=2)
    now = key.created
    ring = KeyRing(str(file), lambda: now)
    now = key.created + timedelta(days=2, seconds=-1)
    assert ring.find(text) is not None
    assert ring.by_id(key.id) is not None
    now = key.created + timedelta(days=2)
    assert ring.find(text) is None
    assert ring.by_id(key.id) is None


@pytest.mark.parametrize("fault", ["gone", "open", "broken", "misspelt"])
def test_a_file_that_cannot_be_used_lets_nobody_in_until_it_is_mended(
    file: Path, fault: str
) -> None:
    text, _ = add_key(file, "clinic-a")
    ring = KeyRing(str(file))
    whole = file.read_text()
    if fault == "gone":
        file.unlink()
    elif fault == "open":
        file.chmod(0o640)
    elif fault == "broken":
        file.write_text(whole[:-20])
    else:
        file.write_text(whole.replace("expires", "expire"))
    for _ in range(2):
        with pytest.raises(ServiceError, match=r"keys\.json"):
            ring.find(text)
    with pytest.raises(ConfigError):
        KeyRing(str(file))
    file.write_text(whole)
    file.chmod(0o600)
    assert ring.find(text) is not None


def test_a_broken_file_is_named_by_its_field_and_not_quoted(file: Path) -> None:
    _, key = add_key(file, "clinic-a")
    file.write_text(file.read_text().replace(key.sha256, "smm_a-key-by-mistake"))
    with pytest.raises(ConfigError, match=r"keys\.0\.sha256") as caught:
        read_keys(file)
    assert "by-mistake" not in str(caught.value)


def test_two_keys_of_one_id_are_refused(file: Path) -> None:
    _, key = add_key(file, "clinic-a")
    entry = key.model_dump_json()
    file.write_text(f'{{"keys": [{entry}, {entry}]}}')
    with pytest.raises(ConfigError, match="two keys have one id"):
        read_keys(file)


@pytest.mark.parametrize("owner", ["", "Jane Doe", "a/b", "-a", "a" * 41, "a\n"])
def test_an_owner_is_a_plain_word(file: Path, owner: str) -> None:
    with pytest.raises(ConfigError, match="owner"):
        add_key(file, owner)
    assert not file.exists()


def test_revoking_what_is_not_there_names_what_is(file: Path) -> None:
    _, key = add_key(file, "clinic-a")
    with pytest.raises(ConfigError, match=key.id):
        revoke_key(file, "00000000")


def test_the_commands_show_a_key_once(file: Path) -> None:
    run = CliRunner().invoke
    added = run(cli.app, ["keys", "add", str(file), "clinic-a", "--nights-per-day", "40"])
    text = added.stdout.strip()
    assert KeyRing(str(file)).find(text) is not None
    listed = run(cli.app, ["keys", "list", str(file)]).stdout
    key_id = read_keys(file)[0].id
    assert text not in listed
    assert key_id in listed
    assert " 40 " in listed
    assert "revoked" in run(cli.app, ["keys", "revoke", str(file), key_id]).stdout
    assert KeyRing(str(file)).find(text) is None


def test_a_write_that_fails_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _ = add_key(file, "clinic-a")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        add_key(file, "lab-b")
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert KeyRing(str(file), lambda: datetime.now(UTC)).find(text) is not None


def test_changes_at_once_lose_none(file: Path) -> None:
    _, leaked = add_key(file, "leaked")
    with ThreadPoolExecutor(8) as pool:
        added = [pool.submit(add_key, file, f"lab-{i}") for i in range(8)]
        revoked = pool.submit(revoke_key, file, leaked.id)
        made = {future.result()[1].id for future in added}
        revoked.result()
    assert {key.id for key in read_keys(file)} == made


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
def test_a_file_that_root_changes_stays_the_services(file: Path) -> None:
    add_key(file, "clinic-a")
    os.chown(file, 1234, 1235)
    _, key = add_key(file, "lab-b")
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 1235)
    revoke_key(file, key.id)
    assert file.stat().st_uid == 1234


def test_a_file_that_cannot_be_given_back_is_not_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(file, "clinic-a")
    before = file.read_bytes()

    def refuse(fd: int, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(ConfigError, match="by its owner or by root"):
        add_key(file, "lab-b")
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected its folder to be there"):
        add_key(tmp_path / "none" / "keys.json", "clinic-a")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "ward.example"])
def test_others_are_not_served_without_keys_or_a_gateway(host: str) -> None:
    with pytest.raises(ConfigError, match="keys_file"):
        ServeConfig(host=host)
    assert ServeConfig(host=host, keys_file="k").host == host
    assert ServeConfig(host=host, behind_gateway=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_is_served_without_keys(host: str) -> None:
    assert ServeConfig(host=host).keys_file is None


def test_a_gateway_beside_keys_would_have_no_effect() -> None:
    with pytest.raises(ConfigError, match="behind_gateway"):
        ServeConfig(keys_file="k", behind_gateway=True)
