"""Jobs on disk: a folder each, with job.json and, once it is done, its results.

job.json is replaced whole at each change of state, so a job survives whatever ends this process.
Progress is kept in memory alone. A folder without a job.json is being made or being deleted.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from serve_apps.backend import Stage
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
from serve_apps.wire import JobState

ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled")
MAX_STORED = 1000  # jobs of one owner that are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job as it is now.

    Attributes:
        id: made here.
        owner: whose it is.
        upload_id: the recording.
        model: by name; None is the default one.
        second: also vectors per second.
        state: of the job.
        stage, done, total: of backend.Progress, while it runs.
        weights_sha256: of the model, once it is done.
        code: of http_errors.ERRORS, when it failed.
        attempts: how often it was begun.
        version: grows with every change; the id of an event.
        created_s, ended_s: seconds since 1970.
        request_id: of the request that made it; log lines about it carry that.
        key_sha256: of the Idempotency-Key that it was made with.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # of what is read from disk

    id: str
    owner: str
    upload_id: str
    model: str | None = None
    second: bool = False
    state: JobState = "queued"
    stage: Stage = "queued"
    done: int = 0
    total: int = 0
    weights_sha256: str | None = None
    code: str | None = None
    attempts: int = 0
    version: int = 0
    created_s: float
    ended_s: float | None = None
    request_id: str
    key_sha256: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED


_JOB = TypeAdapter(Job)


class JobStore:
    """The jobs of a state folder.

    Args:
        state: where they lie.
        retention_s: a job is deleted so long after it was created.
        clock: seconds since 1970.
    """

    def __init__(
        self, state: StateFolder, *, retention_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = state.jobs
        self.retention_s = retention_s
        self.clock = clock
        self._made: dict[str, tuple[str, str | None]] = {}  # by id, see `_makers`

    def create(
        self,
        owner: str,
        upload_id: str,
        *,
        model: str | None,
        second: bool,
        request_id: str,
        key_sha256: str | None = None,
    ) -> Job:
        """A queued job.

        Raises:
            HttpError: quota_exceeded when its owner keeps MAX_STORED already; storage_full.
        """
        if sum(maker == owner for maker, _ in self._makers().values()) >= MAX_STORED:
            raise HttpError("quota_exceeded")
        job = Job(
            id=new_id(),
            owner=owner,
            upload_id=upload_id,
            model=model,
            second=second,
            created_s=self.clock(),
            request_id=request_id,
            key_sha256=key_sha256,
        )
        try:
            self.folder_of(job.id).mkdir(OWNER_ONLY)
            self.save(job)
        except OSError as error:
            raise HttpError("storage_full") from error
        except HttpError:  # nothing stays of a job that its owner never heard of
            remove_folder(self.folder_of(job.id))
            raise
        return job

    def get(self, owner: str, job_id: str) -> Job:
        """HttpError("job_not_found") when there is none, it is another's, or it has expired."""
        job = self._read(job_id) if is_id(job_id) else None
        if job is None or job.owner != owner or self.has_expired(job):
            raise HttpError("job_not_found")
        return job

    def made_with(self, owner: str, key_sha256: str) -> Job | None:
        """The owner's job of that Idempotency-Key."""
        for job_id, maker in self._makers().items():
            job = self._read(job_id) if maker == (owner, key_sha256) else None
            if job is not None and not self.has_expired(job):
                return job
        return None

    def save(self, job: Job) -> None:
        """Write its state; HttpError as `write_result`."""
        self.write_result(job, "job.json", json.dumps(dataclasses.asdict(job)).encode())

    def write_result(self, job: Job, name: str, data: bytes) -> None:
        """Keep a file beside the job.

        Raises:
            HttpError: job_not_found once it was deleted; storage_full when it cannot be written.
        """
        try:
            write_whole(self.folder_of(job.id) / name, data)
        except FileNotFoundError:
            raise HttpError("job_not_found") from None
        except OSError as error:
            raise HttpError("storage_full") from error

    def read_result(self, job: Job, name: str) -> bytes | None:
        """A file that was kept; None when there is none."""
        try:
            return (self.folder_of(job.id) / name).read_bytes()
        except FileNotFoundError:
            return None

    def has_result(self, job: Job, name: str) -> bool:
        """Whether a file was kept."""
        return (self.folder_of(job.id) / name).exists()

    def delete(self, job: Job) -> None:
        """Delete it and its results at once."""
        remove_folder(self.folder_of(job.id))

    def all(self) -> Iterator[Job]:
        """Every job, oldest first."""
        found = [self._read(folder.name) for folder in self._folders()]
        yield from sorted((job for job in found if job), key=lambda job: job.created_s)

    def sweep(self) -> int:
        """Delete ended jobs that have expired and what is no job; returns how many."""
        count = 0
        for folder in list(self._folders()):
            job = self._read(folder.name)
            try:
                age_s = self.clock() - (job.created_s if job else folder.stat().st_mtime)
            except FileNotFoundError:
                continue
            if age_s > self.retention_s and (job is None or job.has_ended):
                remove_folder(folder)
                count += 1
        return count

    def has_expired(self, job: Job) -> bool:
        """Whether its time is over; one that waits or runs stays until it has ended."""
        return job.has_ended and self.clock() - job.created_s > self.retention_s

    def folder_of(self, job_id: str) -> Path:
        """Where a job lies; ValueError for what is no id."""
        if not is_id(job_id):
            raise ValueError("found no id of ours")
        return self._folder / job_id

    def _makers(self) -> dict[str, tuple[str, str | None]]:
        """Owner and hashed key of each job that is there, by id.

        They never change, so job.json is read for them once: a service keeps hundreds of jobs, and
        each new one is counted against them. Which are there is asked of the disk, where another
        process may make and delete them too.
        """
        found = {}
        for job_id in names_in(self._folder):
            maker = self._made.get(job_id)
            if maker is None and (job := self._read(job_id)) is not None:
                maker = job.owner, job.key_sha256
            if maker is not None:
                found[job_id] = maker
        self._made = found
        return found

    def _folders(self) -> Iterator[Path]:
        return (folder for folder in self._folder.iterdir() if is_id(folder.name))

    def _read(self, job_id: str) -> Job | None:
        found = read_json(self._folder / job_id / "job.json")
        try:
            job = _JOB.validate_python(found) if found else None
        except ValidationError:  # of another release, or none of ours
            return None
        return job if job and job.id == job_id else None
