"""The folder that uploads, jobs and large bodies lie in: private, its names made here.

    uploads/ID/   data and meta.json of one upload: upload_store.py
    jobs/ID/      job.json and the results of one job: job_store.py
    spool/ID      one large body while its request lasts
    NAME.json     quotas and sessions: state_file.py
    jobs.lock     held by the process that runs jobs

Nothing a client sends becomes part of a path: an id has the form of ours or is no id at all.
"""

import atexit
import fcntl
import json
import os
import re
import secrets
import shutil
import string
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from sleepmami.errors import ServiceError

ID_LENGTH = 26  # of 36 characters: 134 bits, more than anybody guesses
PART_SUFFIX = ".part"  # of a file that is being written
GONE_PREFIX = "gone-"  # of a folder that is being deleted
LEFT_S = 7200.0  # no request lasts so long
PRIVATE_PREFIX = "sleepmami-state-"
OWNER_ONLY = 0o700
_ALPHABET = string.ascii_lowercase + string.digits
_ID = re.compile(rf"[a-z0-9]{{{ID_LENGTH}}}")


def new_id() -> str:
    """A name nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))


def is_id(text: str) -> bool:
    """Whether a text has the form of our names, and may so become part of a path."""
    return _ID.fullmatch(text) is not None


def names_in(folder: Path) -> list[str]:
    """Those of our ids that lie in a folder."""
    return [name for name in os.listdir(folder) if is_id(name)]


def owner_only(path: str, flags: int) -> int:
    """An opener of files that nobody else may read, wherever the folder is copied to."""
    return os.open(path, flags, 0o600)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also when the process is killed meanwhile.

    It is its owner's alone.

    Raises:
        FileNotFoundError: its folder was deleted.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        with open(part, "xb", opener=owner_only) as file:
            file.write(data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:  # Any: JSON values
    """A JSON object that `write_whole` wrote; None when it is not there or not one."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def remove_folder(folder: Path) -> None:
    """Delete a folder and all in it; whoever still writes to it by its name finds it gone."""
    gone = folder.with_name(f"{GONE_PREFIX}{folder.name}")
    try:
        os.replace(folder, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


class StateFolder:
    """The service's folder on disk.

    Args:
        folder: where; made when it is not there. None is a private temporary folder that ends with
            the service, or is swept away by the next one if this one is killed.

    Raises:
        ServiceError: the folder cannot be made or is not ours.
    """

    def __init__(self, folder: str | None) -> None:
        self.is_private = folder is None
        self._lock: IO[bytes] | None = None
        self._alive: IO[bytes] | None = None
        try:
            self.folder = _private_folder() if folder is None else Path(folder).absolute()
            for part in (self.folder, self.uploads, self.jobs, self.spool):
                part.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
            self.folder.chmod(OWNER_ONLY)
            if self.is_private:
                self._alive = _locked(self.folder / "alive.lock")
                atexit.register(self.close)
        except OSError as error:
            raise ServiceError(f"state_dir {folder}: {error.strerror}") from error

    @property
    def uploads(self) -> Path:
        """Folder of the uploads."""
        return self.folder / "uploads"

    @property
    def jobs(self) -> Path:
        """Folder of the jobs."""
        return self.folder / "jobs"

    @property
    def spool(self) -> Path:
        """Folder of large bodies."""
        return self.folder / "spool"

    def take_jobs(self) -> bool:
        """Become the one process that runs the jobs of this folder; False while another is."""
        if self._lock is None:
            self._lock = _locked(self.folder / "jobs.lock")
        return self._lock is not None

    def clean(self) -> None:
        """Delete what a process left that was killed; what is young may be another's at work."""
        for file in (*self.spool.iterdir(), *self.folder.glob("*" + PART_SUFFIX)):
            if _age_s(file) > LEFT_S:
                file.unlink(missing_ok=True)
        for part in (self.uploads, self.jobs):
            for folder in part.glob(GONE_PREFIX + "*"):
                shutil.rmtree(folder, ignore_errors=True)

    def free_bytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self.folder).free

    def close(self) -> None:
        """Let go of the jobs; a private folder is deleted."""
        for lock in (self._lock, self._alive):
            if lock is not None:
                lock.close()
        self._lock = self._alive = None
        if self.is_private:
            shutil.rmtree(self.folder, ignore_errors=True)
            atexit.unregister(self.close)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _private_folder() -> Path:
    for old in Path(tempfile.gettempdir()).glob(PRIVATE_PREFIX + "*"):
        if old.is_symlink() or not old.is_dir() or old.stat().st_uid != os.getuid():
            continue
        if not (old / "alive.lock").exists():
            continue  # just being made
        lock = _locked(old / "alive.lock")
        if lock is not None:  # its service was killed
            shutil.rmtree(old, ignore_errors=True)
            lock.close()
    return Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX))


def _locked(path: Path) -> IO[bytes] | None:
    """The file, locked until it is closed or this process ends; None when another has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
