"""Bearer keys: who may ask, for how long and how much. The file holds hashes, never a key.

A key is 256 random bits, so its plain SHA-256 cannot be searched for and needs no salt. The file is
JSON and may be read by its owner alone:

    {"keys": [{"id": "3f9a12cd", "owner": "clinic-a", "sha256": "...",
               "created": "2026-11-02T09:30:00Z", "expires": null,
               "requests_per_minute": 600, "nights_per_day": null, "bytes_stored": null}]}

Several keys may have one owner: that is how a key is rotated. What one of them has uploaded belongs
to the owner, and their quotas are counted together.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from sleepmami.errors import ConfigError, ServiceError

PREFIX = "smm_"  # lets a scanner of repositories and logs know one of ours
KEY_BYTES = 32
ID_DIGITS = 8
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LARGEST_FILE = 2**20

Count = Annotated[int, Field(ge=1)]


class Key(BaseModel):
    """One key as the file knows it; None in a quota is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    owner: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]  # is written to logs
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    requests_per_minute: Count | None = None
    nights_per_day: Count | None = None
    bytes_stored: Count | None = None

    def is_current(self, now: datetime) -> bool:
        """Not expired."""
        return self.expires is None or now < self.expires


class KeyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if len({key.id for key in keys}) < len(keys):
            raise ValueError("two keys have one id")
        return keys


class KeyRing:
    """The keys of one file, read again whenever the file has changed.

    A file that can no longer be used lets nobody in: what was revoked in it stays revoked.

    Args:
        path: the file.
        now: the time; tests set it.

    Raises:
        ConfigError: the file is absent, readable by others, or not a key file.
    """

    def __init__(self, path: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = Path(path)
        self._now = now
        self._read_at: tuple[int, ...] | None = None
        self._keys: tuple[Key, ...] = ()
        self._refresh()

    def find(self, presented: str) -> Key | None:
        """The current key whose text this is; ServiceError when the file is unusable.

        Every hash is compared, each in constant time: how long it takes tells nothing.
        """
        self._refresh_or_close()
        digest, now = sha256_of(presented), self._now()
        found = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256) and key.is_current(now):
                found = key
        return found

    def by_id(self, key_id: str) -> Key | None:
        """The current key of this id, for a session that it opened; ServiceError as `find`."""
        self._refresh_or_close()
        now = self._now()
        return next((k for k in self._keys if k.id == key_id and k.is_current(now)), None)

    def _refresh_or_close(self) -> None:
        try:
            self._refresh()
        except ConfigError as error:
            self._keys, self._read_at = (), None
            raise ServiceError(str(error)) from error

    def _refresh(self) -> None:
        try:
            state = os.stat(self._path)
        except OSError as error:
            raise ConfigError(
                f"keys {self._path}: {error.strerror}; expected a file that "
                "`sleepmami keys add` made"
            ) from None
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino, state.st_mode)
        if stamp != self._read_at:
            self._keys = read_keys(self._path)
            self._read_at = stamp


def sha256_of(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file.

    Raises:
        ConfigError: it is absent, readable by others, or not a key file.
    """
    try:
        with open(path, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(_LARGEST_FILE) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(f"keys {path}: {error.strerror}; expected a key file") from None
    if mode & _OTHERS:
        raise ConfigError(
            f"keys {path}: found mode {stat.S_IMODE(mode):04o}; expected 0600: whoever may write "
            "it can let himself in"
        )
    try:
        return KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"keys {path}: {place}: {first['msg']}") from None


def add_key(
    path: Path,
    owner: str,
    *,
    days: int | None = None,
    requests_per_minute: int | None = None,
    nights_per_day: int | None = None,
    bytes_stored: int | None = None,
) -> tuple[str, Key]:
    """Make a key and write its hash to the file, which is made when absent.

    Returns:
        The key itself, which is kept nowhere, and what the file says of it.

    Raises:
        ConfigError: `owner` or a quota is out of range, or the file is not a key file.
    """
    with _changing(path):
        before = read_keys(path) if path.exists() else ()
        taken = {key.id for key in before}
        while True:
            text = PREFIX + secrets.token_urlsafe(KEY_BYTES)
            digest = sha256_of(text)
            if digest[:ID_DIGITS] not in taken:
                break
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            key = Key(
                id=digest[:ID_DIGITS],
                owner=owner,
                sha256=digest,
                created=now,
                expires=None if days is None else now + timedelta(days=days),
                requests_per_minute=requests_per_minute,
                nights_per_day=nights_per_day,
                bytes_stored=bytes_stored,
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ConfigError(
                f"{first['loc'][0]}: found {first['input']!r}; expected: {first['msg']}"
            ) from None
        _write(path, KeyFile(keys=(*before, key)))
        return text, key


def revoke_key(path: Path, key_id: str) -> Key:
    """Take a key out of the file.

    Raises:
        ConfigError: the file has no key of this id.
    """
    with _changing(path):
        before = read_keys(path)
        gone = next((key for key in before if key.id == key_id), None)
        if gone is None:
            ids = ", ".join(key.id for key in before) or "none"
            raise ConfigError(f"keys {path}: found no key {key_id!r}; expected one of: {ids}")
        _write(path, KeyFile(keys=tuple(key for key in before if key.id != key_id)))
        return gone


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Alone: of two changes at once the later would bring back what the other has revoked."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(
            f"keys {path}: {error.strerror}; expected its folder to be there"
        ) from None
    try:
        if not os.access(path.parent, os.W_OK):
            raise ConfigError(f"keys {path}: found a folder in which this user may write nothing")
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, content: KeyFile) -> None:
    """Whole or not at all, so that a service never reads half a file; its owner stays the same.

    A file that root has changed would be root's, and the service could not read it any more.

    Raises:
        ConfigError: the file is another user's, and we may not give it back.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(content.model_dump_json(indent=2) + "\n")
            stream.flush()
            if path.exists():
                before = path.stat()
                os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            os.fsync(stream.fileno())
        os.replace(name, path)
    except PermissionError as error:
        Path(name).unlink(missing_ok=True)
        raise ConfigError(
            f"keys {path}: {error.strerror}; expected to be changed by its owner or by root"
        ) from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
