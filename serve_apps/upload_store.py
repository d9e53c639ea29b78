"""Uploads on disk, part by part: what tus asks of a server, without HTTP.

An upload is a folder of two files: `data`, the bytes so far, and `meta.json`, whose it is and how
long it will be. How far it is is the length of `data`, so the two cannot disagree, whenever the
process is killed. While a part with a checksum arrives, a third file `unverified` holds the place
where it began: what is found beyond it later was never verified and is cut off.

Nothing is flushed to the disk (fsync): a machine that loses power may lose what came last, and
with it the offset, so that the client sends it again.

A part takes a lock on `data`, so that two requests, also of two processes, never write at once.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from serve_apps.http_errors import HttpError
from serve_apps.state_folder import (
    OWNER_ONLY,
    StateFolder,
    is_id,
    names_in,
    new_id,
    read_json,
    remove_folder,
    write_whole,
)

CHECKSUMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
MAX_UPLOADS = 1000  # of one owner; each costs a folder
SPARE_BYTES = 256 * 2**20  # of the disk, for results and logs
_META_KEYS = {"owner", "length", "created_s"}
_KEY = "key_sha256"  # beside them where the upload was made with an Idempotency-Key


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload as it is now.

    Attributes:
        length: bytes of the whole file.
        offset: bytes that are there.
        created_s, expires_s: seconds since 1970.
        key_sha256: of the Idempotency-Key that it was made with.
    """

    id: str
    owner: str
    length: int
    offset: int
    created_s: float
    expires_s: float
    key_sha256: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the whole file is there."""
        return self.offset == self.length


class UploadStore:
    """The uploads of a state folder.

    Args:
        state: where they lie.
        retention_s: an upload is deleted so long after it was created.
        max_bytes: that one owner may hold, counting announced bytes as if they were there.
        max_upload_bytes: of one file.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        state: StateFolder,
        *,
        retention_s: float,
        max_bytes: int,
        max_upload_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._folder = state.uploads
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._max_upload_bytes = max_upload_bytes
        self._clock = clock
        self._metas: dict[str, dict[str, Any]] = {}  # by id; Any: JSON values

    def create(self, owner: str, length: int, key_sha256: str | None = None) -> Upload:
        """A new upload without bytes.

        Raises:
            HttpError: payload_too_large, quota_exceeded or storage_full.
        """
        if length > self._max_upload_bytes:
            raise HttpError("payload_too_large")
        own = [meta["length"] for meta in self._begun().values() if meta["owner"] == owner]
        if len(own) >= MAX_UPLOADS or sum(own) + length > self._max_bytes:
            raise HttpError("quota_exceeded")
        if length + SPARE_BYTES > self._state.free_bytes():
            raise HttpError("storage_full")
        upload_id = new_id()
        folder = self._folder / upload_id
        meta = {"owner": owner, "length": length, "created_s": self._clock()}
        meta |= {} if key_sha256 is None else {_KEY: key_sha256}
        try:
            folder.mkdir(OWNER_ONLY)
            (folder / "data").touch(0o600)
            write_whole(folder / "meta.json", json.dumps(meta).encode())  # last: makes it an upload
        except OSError as error:
            remove_folder(folder)
            raise HttpError("storage_full") from error
        return self.get(owner, upload_id)

    def made_with(self, owner: str, key_sha256: str) -> Upload | None:
        """The owner's upload of that Idempotency-Key."""
        for upload_id, meta in self._begun().items():
            if (meta["owner"], meta.get(_KEY)) == (owner, key_sha256):
                upload = self._read(upload_id)
                if upload is not None and upload.expires_s > self._clock():
                    return upload
        return None

    def get(self, owner: str, upload_id: str, *, even_expired: bool = False) -> Upload:
        """HttpError("upload_not_found") when there is none, it is another's, or it has expired."""
        upload = self._read(upload_id) if is_id(upload_id) else None
        if upload is None or upload.owner != owner:
            raise HttpError("upload_not_found")
        if upload.expires_s <= self._clock() and not even_expired:
            raise HttpError("upload_not_found")
        return upload

    def complete_path(self, owner: str, upload_id: str, *, even_expired: bool = False) -> str:
        """The file of a whole upload; HttpError upload_not_found, upload_incomplete.

        Args:
            owner: whose upload it must be.
            upload_id: the upload.
            even_expired: for a job that was made in time and waited long.
        """
        if not self.get(owner, upload_id, even_expired=even_expired).is_complete:
            raise HttpError("upload_incomplete")
        return str(self._folder / upload_id / "data")

    def part(
        self, owner: str, upload_id: str, offset: int, checksum: tuple[str, bytes] | None = None
    ) -> "Part":
        """Begin to write at `offset`, to be used in a with statement.

        Args:
            owner: whose upload it must be.
            upload_id: the upload.
            offset: where the client believes that it goes on.
            checksum: algorithm, a key of CHECKSUMS, and digest of the whole part.

        Raises:
            HttpError: upload_not_found; upload_busy while another part is written; offset_conflict
                when the upload is not as long as that.
        """
        upload = self.get(owner, upload_id)
        return Part(self._folder / upload_id, upload.length, offset, checksum)

    def delete(self, owner: str, upload_id: str) -> None:
        """Delete its bytes at once; HttpError("upload_not_found")."""
        self.get(owner, upload_id)
        self._remove(upload_id)

    def held_bytes(self, owner: str) -> int:
        """Announced bytes of one owner."""
        return sum(meta["length"] for meta in self._begun().values() if meta["owner"] == owner)

    def sweep(self, in_use: Collection[str] = ()) -> int:
        """Delete what has expired and what is no upload; returns how many.

        Args:
            in_use: ids of uploads that jobs wait for or work on.
        """
        now, count = self._clock(), 0
        for folder in self._folders():
            upload = self._read(folder.name)
            if upload is None:  # being made, or left by a process that was killed while it was
                try:
                    expired = now - folder.stat().st_mtime > self._retention_s
                except FileNotFoundError:  # deleted meanwhile
                    continue
            else:
                expired = upload.expires_s <= now and upload.id not in in_use
            if expired:
                self._remove(folder.name)
                count += 1
        return count

    def _remove(self, upload_id: str) -> None:
        # the part that may be arriving loses its file and stops at its next write
        remove_folder(self._folder / upload_id)

    def _folders(self) -> Iterator[Path]:
        for folder in self._folder.iterdir():
            if is_id(folder.name):
                yield folder

    def _begun(self) -> dict[str, dict[str, Any]]:  # Any: JSON values
        """What each upload that is there was begun with, by id.

        That never changes, so it is read once: a service keeps hundreds of uploads, and each new
        one is counted against them. Which are there is asked of the disk, where another process
        may make and delete them too.
        """
        known = self._metas
        found = {name: known.get(name) or self._meta(name) for name in names_in(self._folder)}
        begun = {name: meta for name, meta in found.items() if meta is not None}
        self._metas = begun  # by whichever thread came last; each has counted what it saw
        return begun

    def _meta(self, upload_id: str) -> dict[str, Any] | None:  # Any: JSON values
        meta = read_json(self._folder / upload_id / "meta.json")
        return meta if meta is not None and _is_meta(meta) else None

    def _read(self, upload_id: str) -> Upload | None:
        meta = self._meta(upload_id)
        if meta is None:
            return None
        try:
            offset = _verified_length(self._folder / upload_id)
        except OSError:  # deleted meanwhile
            return None
        return Upload(
            id=upload_id,
            offset=offset,
            expires_s=meta["created_s"] + self._retention_s,
            **meta,
        )


def _is_meta(meta: dict[str, Any]) -> bool:  # Any: JSON values
    """Whether it is one of ours: another one would end the sweep and every count."""
    if set(meta) - {_KEY} != _META_KEYS or not isinstance(meta["owner"], str):
        return False
    length, created_s = meta["length"], meta["created_s"]
    return type(length) is int and length > 0 and type(created_s) in (int, float)


class Part:
    """Bytes on their way into one upload; leave the with statement to keep them.

    What has arrived when the connection breaks is kept, unless a checksum was announced: then the
    part counts whole or not at all.
    """

    def __init__(
        self, folder: Path, length: int, offset: int, checksum: tuple[str, bytes] | None
    ) -> None:
        self._folder = folder
        self.length = length
        self._start = self.offset = offset
        self._digest = CHECKSUMS[checksum[0]]() if checksum else None
        self._expected = checksum[1] if checksum else b""
        self._verified = False
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Part":
        try:
            # no buffer: what was written is in the file, whatever becomes of this process
            self._file = file = (self._folder / "data").open("r+b", buffering=0)
        except OSError:
            raise HttpError("upload_not_found") from None
        try:
            _lock(file)
            there = _verified_length(self._folder, locked=True)
            if self.offset != there:
                raise HttpError("offset_conflict")
            if self._digest is not None:
                self._mark(there)
            file.seek(there)
        except BaseException:
            file.close()
            raise
        return self

    def _mark(self, there: int) -> None:
        try:
            write_whole(self._folder / "unverified", str(there).encode())
        except FileNotFoundError:
            raise HttpError("upload_not_found") from None
        except OSError as error:
            raise HttpError("storage_full") from error

    def write(self, chunk: bytes) -> None:
        """Append; HttpError payload_too_large, storage_full, or upload_not_found once deleted."""
        assert self._file is not None
        if self.offset + len(chunk) > self.length:
            raise HttpError("payload_too_large")
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise HttpError("upload_not_found")
        rest = memoryview(chunk)
        while rest:
            try:
                written = self._file.write(rest)
            except OSError as error:
                raise HttpError("storage_full") from error
            self.offset += written
            rest = rest[written:]
        if self._digest is not None:
            self._digest.update(chunk)

    def verify(self) -> None:
        """The part is all there; HttpError("checksum_mismatch") when it is not what was sent."""
        if self._digest is not None and self._digest.digest() != self._expected:
            raise HttpError("checksum_mismatch")
        self._verified = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        if self._digest is not None:
            if not self._verified:
                self._file.truncate(self._start)
                self.offset = self._start
            (self._folder / "unverified").unlink(missing_ok=True)
        self._file.close()


def _lock(file: IO[bytes]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HttpError("upload_busy") from None


def _verified_length(folder: Path, locked: bool = False) -> int:
    """Length of `data` up to which it counts; with the lock, the rest is cut off."""
    length = (folder / "data").stat().st_size
    mark = folder / "unverified"
    try:
        verified = min(length, int(mark.read_text()))
    except (FileNotFoundError, ValueError):
        # a part may just have been cut off, and its mark with it
        return min(length, (folder / "data").stat().st_size)
    if locked:
        os.truncate(folder / "data", verified)
        mark.unlink(missing_ok=True)
    return verified
