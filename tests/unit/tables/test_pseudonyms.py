"""The site key's file, and what becomes of names under it."""

import csv
import hashlib
import pickle
import stat
import threading
from pathlib import Path

import pytest

from sleepmami.errors import ConfigError
from sleepmami.tables.pseudonyms import KEY_VARIABLE, SiteKey, write_linkage

KEY = SiteKey(bytes(range(32)))


def hmac_by_hand(key: bytes, message: bytes) -> str:
    """RFC 2104 with SHA-256: block size 64."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path


def key_file(path: Path, secret: bytes = bytes(32), mode: int = 0o600) -> str:
    path.write_bytes(secret)
    path.chmod(mode)
    return str(path)


def test_a_pseudonym_is_the_hmac_of_kind_and_name() -> None:
    assert KEY.pseudonym("recording", "x/n1") == hmac_by_hand(bytes(range(32)), b"recording\0x/n1")[:20]  # fmt: skip
    assert KEY.pseudonym("subject", "n1") == hmac_by_hand(bytes(range(32)), b"subject\0n1")[:20]


def test_kind_and_key_change_the_pseudonym() -> None:
    other = SiteKey(bytes(32))
    found = {k.pseudonym(kind, "n") for k in (KEY, other) for kind in ("recording", "subject")}  # type: ignore[arg-type]  # both literals
    assert len(found) == 4
    assert KEY.fingerprint != other.fingerprint


def test_the_default_key_is_made_once_for_its_owner_alone(home: Path) -> None:
    keys: list[str] = []
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        keys.append(SiteKey.load().pseudonym("recording", "n"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = home / "config" / "sleepmami" / "site.key"
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in file.parent.iterdir()] == ["site.key"]
    assert len(file.read_bytes()) == 32


def test_a_named_file_goes_before_the_variable_and_that_before_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = key_file(home / "named", b"n" * 32)
    variable = key_file(home / "variable", b"v" * 32)
    monkeypatch.setenv(KEY_VARIABLE, variable)
    assert SiteKey.load(named).fingerprint == SiteKey(b"n" * 32).fingerprint
    assert SiteKey.load().fingerprint == SiteKey(b"v" * 32).fingerprint
    assert not (home / "config").exists()


@pytest.mark.parametrize(
    ("secret", "mode", "said"),
    [
        (bytes(31), 0o600, "another length"),
        (bytes(33), 0o600, "another length"),
        (bytes(32), 0o640, "found mode 0640"),
        (bytes(32), 0o604, "found mode 0604"),
    ],
)
def test_a_key_that_others_may_read_or_of_another_length_is_refused(
    home: Path, secret: bytes, mode: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        SiteKey.load(key_file(home / "key", secret, mode))


def test_a_named_key_that_is_absent_is_refused_not_made(home: Path) -> None:
    """A new key in place of a mistyped one would call every recording something else."""
    with pytest.raises(ConfigError, match="No such file"):
        SiteKey.load(str(home / "absent"))
    assert not (home / "absent").exists()


def test_a_key_shows_nothing_of_itself_and_does_not_travel() -> None:
    assert bytes(range(32)).hex()[:8] not in repr(KEY)
    assert repr(KEY) == f"SiteKey({KEY.fingerprint})"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_a_linkage_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "linkage.csv"
    file.parent.mkdir()
    file.write_text("old")
    file.chmod(0o644)
    write_linkage(str(file), str(tmp_path / "corpus"), [("/d/a,b.edf", "r", "s")])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with open(file, newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["file", "recording_id", "subject_id"],
            ["/d/a,b.edf", "r", "s"],
        ]


def test_a_linkage_in_the_corpus_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (tmp_path / "link").symlink_to(corpus)
    for place in (corpus, corpus / "sub", tmp_path / "x" / ".." / "corpus", tmp_path / "link"):
        with pytest.raises(ConfigError, match="found inside"):
            write_linkage(str(place / "linkage.csv"), str(corpus), [])
    assert not list(corpus.rglob("*.csv"))
    with pytest.raises(ConfigError, match="expected a path on this machine"):
        write_linkage("s3://b/linkage.csv", str(corpus), [])
