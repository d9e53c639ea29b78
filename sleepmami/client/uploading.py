"""A recording to the service in parts that survive a cut: tus 1.0.0, from the client's side.

The service says where an upload ends, never the client: after whatever went wrong it is asked, and
the upload goes on from there. Each part carries its SHA-256, so a part counts whole or not at all.
The protocol is that of tus.io/protocols/resumable-upload.
"""

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sleepmami import storage
from sleepmami.client.calls import Caller, answer_invalid, api_error, may_pass
from sleepmami.client.steps import Answer, Flow, NoAnswer, Pause, work
from sleepmami.errors import ApiError, ClientError

Recording = str | os.PathLike[str] | bytes
Progress = Callable[[int, int], None]  # done, of how many
PART_BYTES = 8 * 2**20  # max_part_mb of the service
UPLOADS = "/v1/uploads"
TUS = {"tus-resumable": "1.0.0"}
_HEAD_BYTES = 2**16  # that tell one file from another in a record
# beside what passes by itself: an upload that is gone, an offset of ours that is not the
# service's, a part that arrived damaged
_MENDABLE = (404, 408, 409, 460)


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A whole recording at the service, until it is deleted or its time is over."""

    id: str
    length: int


class Source(Protocol):
    """The bytes of a recording."""

    length: int

    def part(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""

    def fingerprint(self) -> str:
        """Another one for another recording."""


class FileSource:
    """A file; it must stay as it is.

    Args:
        path: OSError when it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        state = os.stat(path)
        self.length = state.st_size
        self.mtime_ns = state.st_mtime_ns

    def part(self, offset: int, size: int) -> bytes:
        """ClientError("file_changed") when the file is not the one it was."""
        with open(self._path, "rb") as file:
            state = os.fstat(file.fileno())
            file.seek(offset)
            data = file.read(size)
        expected = min(size, self.length - offset)
        if (state.st_size, state.st_mtime_ns, len(data)) != (self.length, self.mtime_ns, expected):
            raise ClientError(
                "file_changed",
                f"found {state.st_size} bytes where there were {self.length}, or another time of "
                "change; expected the file to stay as it is while it is sent",
            )
        return data

    def fingerprint(self) -> str:
        """Of length, time of change and the first bytes."""
        head = self.part(0, _HEAD_BYTES)
        text = f"{self.length} {self.mtime_ns} ".encode()
        return hashlib.sha256(text + head).hexdigest()


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def part(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        return self._data[offset : offset + size]

    def fingerprint(self) -> str:
        """Of all bytes."""
        return hashlib.sha256(self._data).hexdigest()


def source_of(recording: Recording) -> Source:
    """OSError when the file cannot be read."""
    return BytesSource(recording) if isinstance(recording, bytes) else FileSource(recording)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A small file that lets a later process go on with an upload.

    It holds the upload's id, and of the recording its length and a hash; no name, no key.

    Attributes:
        path: of the file.
        url: of the service.
    """

    path: str
    url: str

    def read(self, source: Source) -> str | None:
        """Where the upload of that source goes on; None when the record is of something else."""
        try:
            found = json.loads(storage.read_bytes(self.path))
        except (FileNotFoundError, ValueError):
            return None
        place = found.pop("place", None) if isinstance(found, dict) else None
        return place if isinstance(place, str) and found == self._of(source) else None

    def write(self, source: Source, place: str) -> None:
        """Keep where the upload lies."""
        text = json.dumps(self._of(source) | {"place": place}) + "\n"
        storage.write_bytes(self.path, text.encode())

    def _of(self, source: Source) -> dict[str, str | int]:
        return {"url": self.url, "length": source.length, "recording": source.fingerprint()}


def upload(
    caller: Caller,
    source: Source,
    *,
    tell: Progress,
    part_bytes: int = PART_BYTES,
    record: Record | None = None,
) -> Flow[Upload]:
    """Send a recording in parts, or the rest of it.

    Args:
        caller: sends.
        source: the recording.
        tell: how far it is, in bytes.
        part_bytes: of one request.
        record: read first, written when the upload is begun, and deleted when it is whole.

    Raises:
        ApiError: the service refused it, or went on failing without a byte of progress.
        ClientError: file_changed.
    """
    place = None if record is None else (yield from work(lambda: record.read(source)))
    offset: int | None = None  # to be asked for
    highest, failures = 0, 0
    while place is None or offset != source.length:
        if place is None:
            place = yield from _begin(caller, source.length)
            offset = 0
            if record is not None:
                yield from work(partial(record.write, source, place))
        elif offset is None:
            offset = yield from _offset(caller, place, source.length)
            if offset is None:  # deleted, expired, or lost with the service that held it
                place = None
                continue
            if offset > highest:  # what arrived before a cut counts, too
                highest, failures = offset, 0
        tell(offset, source.length)
        if offset == source.length:
            break
        start = offset
        headers, data = yield from work(partial(_part, source, start, part_bytes))
        request = caller.request("PATCH", place, headers=headers, content=data)
        outcome: Answer | NoAnswer = yield request
        there = _there(outcome, source.length)
        if there is not None and there > highest:
            highest, failures, offset = there, 0, there
            continue
        if there is not None and there > start:  # again what the service had lost
            offset = there
            continue
        failures += 1
        pause_s = caller.retries.pause_s(failures, outcome) if _mendable(outcome) else None
        if pause_s is None:
            raise api_error(outcome, request)
        yield Pause(pause_s)
        offset = None
    tell(source.length, source.length)
    if record is not None:
        yield from work(lambda: storage.delete(record.path))
    return Upload(id=place.rpartition("/")[2], length=source.length)


def delete(caller: Caller, upload_id: str) -> Flow[None]:
    """Delete an upload; one that is gone is no error."""
    try:
        yield from caller.ask("DELETE", f"{UPLOADS}/{upload_id}", headers=TUS)
    except ApiError as error:
        if error.status != 404:
            raise


def _begin(caller: Caller, length: int) -> Flow[str]:
    headers = TUS | {"upload-length": str(length), "idempotency-key": uuid.uuid4().hex}
    answer = yield from caller.ask("POST", UPLOADS, headers=headers)
    place = answer.headers.get("location", "")
    upload_id = place.rpartition("/")[2]
    if not (upload_id.isascii() and upload_id.isalnum()):
        raise answer_invalid(answer, "place of an upload")
    return f"{UPLOADS}/{upload_id}"  # a Location of another host would be sent the recording


def _offset(caller: Caller, place: str, length: int) -> Flow[int | None]:
    """Where the upload ends; None when there is none."""
    try:
        answer = yield from caller.ask("HEAD", place, headers=TUS)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    there = _there(answer, length)
    if there is None or answer.headers.get("upload-length", str(length)) != str(length):
        raise answer_invalid(answer, "offset of this upload")
    return there


def _there(outcome: Answer | NoAnswer, length: int) -> int | None:
    """The offset that an answer tells; None when it tells none."""
    if isinstance(outcome, NoAnswer) or outcome.status not in (200, 204):
        return None
    text = outcome.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdigit()) or int(text) > length:
        raise answer_invalid(outcome, "offset of this upload")
    return int(text)


def _mendable(outcome: Answer | NoAnswer) -> bool:
    if isinstance(outcome, NoAnswer):
        return may_pass(outcome)
    return may_pass(outcome) or outcome.status < 300 or outcome.status in _MENDABLE


def _part(source: Source, offset: int, size: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of a PATCH."""
    data = source.part(offset, size)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = TUS | {
        "content-type": "application/offset+octet-stream",
        "upload-offset": str(offset),
        "upload-checksum": f"sha256 {digest}",
    }
    return headers, data
