"""Pseudonyms of recordings and subjects: HMAC-SHA256 of their names under a key of the site.

The same name gets the same pseudonym wherever the same key is used, and nobody without the key can
tell which name a pseudonym stands for, not even by trying all names there might be. The key is 32
random bytes in a file that only its owner may read; it never enters a task, a table or a log.
"""

from __future__ import annotations

import csv
import hmac
import io
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from sleepmami import storage
from sleepmami.errors import ConfigError

KEY_BYTES = 32
PSEUDONYM_DIGITS = 20  # 80 bits: two of a million recordings agree with a chance of 4e-13
KEY_VARIABLE = "SLEEPMAMI_SITE_KEY_FILE"
LINKAGE_COLUMNS = ("file", "recording_id", "subject_id")
_FINGERPRINT_OF = b"sleepmami site key"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SiteKey:
    """The secret that names become pseudonyms with.

    Attributes:
        made: the file, where loading the key made it.
    """

    def __init__(self, secret: bytes, *, made: Path | None = None) -> None:
        if len(secret) != KEY_BYTES:
            raise ConfigError(f"site key: found {len(secret)} bytes; expected {KEY_BYTES}")
        self._secret = secret
        self.made = made

    @classmethod
    def load(cls, path: str | None = None) -> SiteKey:
        """The key of this site.

        Args:
            path: file of the key; None takes $SLEEPMAMI_SITE_KEY_FILE, and without that
                sleepmami/site.key in the user's configuration folder, made when it is absent.

        Raises:
            ConfigError: the named file is absent, readable by others, or not a key.
        """
        named = path or os.environ.get(KEY_VARIABLE)
        file = Path(named).expanduser() if named else default_key_file()
        try:
            made = not named and not file.exists() and _create(file)
            with open(file, "rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                secret = stream.read(KEY_BYTES + 1) if stat.S_ISREG(mode) else b""
        except OSError as error:
            raise ConfigError(
                f"site key {file}: {error.strerror or error}; expected a file of {KEY_BYTES} "
                "random bytes that only you may read"
            ) from None
        if mode & _OTHERS:
            raise ConfigError(
                f"site key {file}: found mode {stat.S_IMODE(mode):04o}, which others may read; "
                "expected 0600: whoever has read it can undo the pseudonyms"
            )
        if len(secret) != KEY_BYTES:
            raise ConfigError(
                f"site key {file}: found another length; expected {KEY_BYTES} random bytes"
            )
        return cls(secret, made=file if made else None)

    @property
    def fingerprint(self) -> str:
        """Tells two keys apart and says nothing about either; 8 hexadecimal digits."""
        return hmac.digest(self._secret, _FINGERPRINT_OF, "sha256").hex()[:8]

    def pseudonym(self, kind: Literal["recording", "subject"], name: str) -> str:
        """What a name is called in tables; 20 hexadecimal digits."""
        message = f"{kind}\0{name}".encode()
        return hmac.digest(self._secret, message, "sha256").hex()[:PSEUDONYM_DIGITS]

    def __repr__(self) -> str:
        return f"SiteKey({self.fingerprint})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a site key stays in the process that has read it")


def default_key_file() -> Path:
    """sleepmami/site.key in the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "sleepmami" / "site.key"


def write_linkage(file: str, corpus: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write which file has which pseudonyms as CSV, readable by its owner alone.

    Args:
        file: a local path outside the corpus.
        corpus: the corpus, which is given away without the linkage.
        rows: (file, recording_id, subject_id).

    Raises:
        ConfigError: see `require_outside`.
    """
    target = require_outside(file, corpus, "linkage")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LINKAGE_COLUMNS)
    writer.writerows(rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        _write_private(temporary, text.getvalue().encode())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def require_outside(file: str, corpus: str, what: str) -> Path:
    """The local path of a file that must not lie in a corpus, however the path is written.

    Raises:
        ConfigError: it lies there, or not on this machine.
    """
    if not storage.is_local(file):
        raise ConfigError(f"{what} {file}: found a URI; expected a path on this machine")
    target = Path(storage.absolute(file))
    if storage.is_local(corpus):
        inside = Path(storage.absolute(corpus)).resolve()
        if inside in (target.resolve(), *target.resolve().parents):
            raise ConfigError(
                f"{what} {file}: found inside {corpus}; expected a place that is not passed on "
                "with the corpus"
            )
    return target


def _create(file: Path) -> bool:
    """Make a key unless another process is first; a half-written one is never seen."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        _write_private(temporary, secrets.token_bytes(KEY_BYTES))
        os.link(temporary, file)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write_private(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
