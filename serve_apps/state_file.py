"""A small file of the state folder that outlives the service: what is in it, and changes to it.

In a rolling update two Ingresses have the folder for a while. So a change is made, under a lock, to
what the file holds then and not to what this process remembers of it, and a read looks whether the
file has changed.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from serve_apps.state_folder import write_whole

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


class StateFile(Generic[M]):
    """One model of pydantic's, kept as JSON.

    Args:
        path: of the file, whose folder is there; None keeps it in memory alone.
        empty: what it holds before the first change.
    """

    def __init__(self, path: Path | None, empty: M) -> None:
        self._path = path
        self._empty = self._content = empty
        self._stamp: tuple[int, ...] | None = None

    def read(self) -> M:
        """What it holds.

        Empty when it is absent, broken or another user's; what was known last while the disk fails.
        Both are logged.
        """
        if self._path is not None:
            try:
                self._refresh(self._path)
            except OSError as error:
                logger.error("%s cannot be read: %s", self._path.name, error.strerror)
        return self._content

    def _refresh(self, path: Path) -> None:
        """OSError when that cannot be told now, and so nothing may be put in its place."""
        stamp: tuple[int, ...] | None = None
        content = self._empty
        try:
            state = os.stat(path)
            # the time of change, too: of two files within one tick the later may have the inode
            stamp = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
            if stamp == self._stamp:
                return
            content = type(self._empty).model_validate_json(path.read_bytes())
        except FileNotFoundError:
            stamp = None
        except (ValidationError, PermissionError):
            logger.error("%s holds something else and is begun anew", path.name)
        self._stamp, self._content = stamp, content

    def change(self, edit: Callable[[M], M]) -> M:
        """Put what `edit` makes of the content in its place, and return it.

        Raises:
            OSError: the file cannot be written; its content is as before.
        """
        if self._path is None:
            self._content = edit(self._content)
            return self._content
        with _alone(self._path):
            self._stamp = None  # whatever it looks like, it is read
            self._refresh(self._path)
            changed = edit(self._content)
            write_whole(self._path, changed.model_dump_json().encode())
            self._stamp, self._content = None, changed
        return changed


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the file itself is replaced, so another one holds the lock."""
    with path.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
