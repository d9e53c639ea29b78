"""Runs jobs: a bounded queue, a few at a time, and who watches is told.

One process runs the jobs of a state folder: the one that holds its lock. Another that starts
meanwhile, in a rolling update, answers about them from disk, keeps new ones queued, and takes over
when the first has ended. What was running then is queued again.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, cast

from serve_apps.backend import Backend, EmbedOptions, Progress, Refusal
from serve_apps.formats import choose, to_npz
from serve_apps.http_errors import INTERNAL, HttpError, log_failure
from serve_apps.job_store import Job, JobStore
from serve_apps.metrics import Metrics
from serve_apps.state_folder import StateFolder
from serve_apps.upload_store import UploadStore
from serve_apps.wire import Level
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.report.night_overview import Overview

EMBEDDING_FILE = "embedding.npz"
OVERVIEW_FILE = "overview.json"
MAX_ATTEMPTS = 6  # of a job whose model went away, or that was running when the service ended
RETRY_S = 1.0  # after the first such failure; twice as long after each further one
LOCK_S = 1.0  # between attempts to become the process that runs jobs
SWEEP_S = 600.0
MAX_WATCHERS = 256  # of events; each holds a place of the Ingress as long as its job waits and runs
# Versions of progress are not saved; a job that begins anew starts beyond any that were told, so
# that a Last-Event-ID of before is not taken for one of now.
VERSIONS_OF_A_RUN = 1_000_000
JOBS = "jobs"  # in the place of a request id, in what is logged of no one job
Step = Progress | Overview | NightEmbedding | Refusal
_GONE = ("model_not_ready", "overloaded")  # what passes


class JobRunner:
    """The queue of a service.

    Args:
        store: the jobs.
        uploads: their recordings.
        state: whose lock says who runs them.
        backend: what embeds.
        metrics: told of every embedding.
        max_jobs: that wait or run; one more is refused.
        workers: jobs that run at once.
    """

    def __init__(
        self,
        store: JobStore,
        uploads: UploadStore,
        state: StateFolder,
        backend: Backend,
        metrics: Metrics,
        *,
        max_jobs: int,
        workers: int,
    ) -> None:
        self.store = store
        self._uploads = uploads
        self._state = state
        self._backend = backend
        self._metrics = metrics
        self._max_jobs = max_jobs
        self._workers = workers
        self._live: dict[str, Job] = {}  # that wait or run
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._submitting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to run jobs and to sweep; does nothing the second time."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._lead(), name="jobs")]

    async def stop(self) -> None:
        """End at once; what was running is queued again at the next start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    @property
    def num_waiting(self) -> int:
        """Jobs that wait or run."""
        return len(self._live)

    async def submit(
        self,
        owner: str,
        upload_id: str,
        *,
        model: str | None,
        second: bool,
        request_id: str,
        key_sha256: str | None = None,
        if_new: Callable[[], None] = lambda: None,
    ) -> tuple[Job, bool]:
        """Queue a job; returns it, and whether it had been made with that key before.

        Args:
            owner: whose job and upload it is.
            upload_id: the recording.
            model: by name; None is the default one.
            second: also vectors per second.
            request_id: of the request.
            key_sha256: of its Idempotency-Key.
            if_new: is called before one is made, and may raise.

        Raises:
            HttpError: upload_not_found, upload_incomplete, overloaded, quota_exceeded, or
                idempotency_conflict when the key's job is another one.
        """
        async with self._submitting:  # so that no two take the last place, or one key
            if key_sha256 is not None:
                made = await asyncio.to_thread(self.store.made_with, owner, key_sha256)
                if made is not None:
                    if (made.upload_id, made.model, made.second) != (upload_id, model, second):
                        raise HttpError("idempotency_conflict")
                    return self._live.get(made.id, made), True
            if_new()
            if len(self._live) >= self._max_jobs:
                raise HttpError("overloaded")
            job = await asyncio.to_thread(
                self._create,
                owner,
                upload_id,
                model=model,
                second=second,
                request_id=request_id,
                key_sha256=key_sha256,
            )
            self._enqueue(job)
        return job, False

    def _create(self, owner: str, upload_id: str, **what: Any) -> Job:  # Any: JobStore.create's
        self._uploads.complete_path(owner, upload_id)
        return self.store.create(owner, upload_id, **what)

    def get(self, owner: str, job_id: str) -> Job:
        """The job as it is now; HttpError("job_not_found")."""
        job = self._live.get(job_id)
        return job if job is not None and job.owner == owner else self.store.get(owner, job_id)

    async def delete(self, owner: str, job_id: str) -> None:
        """Cancel it if it has not ended, and delete its results; HttpError("job_not_found")."""
        job = self.get(owner, job_id)
        await asyncio.to_thread(self.store.delete, job)
        await self._end(job.id, state="cancelled")

    async def cancel_jobs_of(self, upload_id: str) -> None:
        """Cancel what waits for an upload or works on it; the jobs stay, to say so."""
        for job in [job for job in self._live.values() if job.upload_id == upload_id]:
            await self._end(job.id, state="cancelled")

    async def watch(self, owner: str, job_id: str, heartbeat_s: float) -> AsyncIterator[Job | None]:
        """The job now and after each change until it has ended; None when nothing came for a while.

        Who reads slowly misses what lay between, not the end.
        """
        job = self.get(owner, job_id)
        while True:
            yield job
            if job.has_ended:
                return
            before = job
            while job.version == before.version:
                if not await self._wait_for_change(before, heartbeat_s):
                    yield None
                job = self._now(before)

    async def _wait_for_change(self, job: Job, wait_s: float) -> bool:
        """Whether it changed within that time."""
        try:
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(lambda: self._now(job).version != job.version)
        except TimeoutError:
            return False
        return True

    def _now(self, job: Job) -> Job:
        live = self._live.get(job.id)
        if live is not None:
            return live
        try:
            return self.store.get(job.owner, job.id)
        except HttpError:  # deleted
            return dataclasses.replace(job, state="cancelled", version=job.version + 1)

    def _enqueue(self, job: Job) -> None:
        self._live[job.id] = job
        self._queue.put_nowait(job.id)

    async def _lead(self) -> None:
        while not await self._is_leader():
            await asyncio.sleep(LOCK_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep())
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _is_leader(self) -> bool:
        """Whether this process runs the jobs from now on; a disk that fails is asked again."""
        try:
            if not self._state.take_jobs():
                return False
            await self._recover()
        except Exception as error:
            log_failure(error, JOBS)
            return False
        return True

    async def _recover(self) -> None:
        for job in await asyncio.to_thread(lambda: list(self.store.all())):
            if job.id in self._live or job.has_ended:
                continue
            if job.attempts >= MAX_ATTEMPTS:  # it may be what ended the service
                self._live[job.id] = job
                await self._end(job.id, state="failed", code=INTERNAL)
                continue
            again = dataclasses.replace(job, state="queued", stage="queued", done=0, total=0)
            self._enqueue(dataclasses.replace(again, version=job.version + VERSIONS_OF_A_RUN))

    async def _sweep(self) -> None:
        while True:
            in_use = {job.upload_id for job in self._live.values()}
            sweeps = (self._state.clean, partial(self._uploads.sweep, in_use), self.store.sweep)
            for sweep in sweeps:
                try:
                    await asyncio.to_thread(sweep)
                except Exception as error:  # jobs go on beside a folder that cannot be swept
                    log_failure(error, JOBS)
            await asyncio.sleep(SWEEP_S)

    async def _work(self) -> None:
        while True:
            job_id = await self._queue.get()
            if job_id not in self._live:  # cancelled while it waited
                continue
            try:
                await self._run(job_id)
            except HttpError as error:  # deleted, or the disk is full
                await self._end(job_id, state="failed", code=error.code)
            except Exception as error:
                log_failure(error, self._live[job_id].request_id if job_id in self._live else "-")
                await self._end(job_id, state="failed", code=INTERNAL)

    async def _run(self, job_id: str) -> None:
        wait_s = RETRY_S
        while job_id in self._live:
            attempts = self._live[job_id].attempts + 1
            job = await self._change(job_id, state="running", attempts=attempts)
            if job is None:
                return
            self.store.save(job)
            outcome = await self._embed(job)
            if outcome is None:
                return  # cancelled
            if not isinstance(outcome, Refusal):
                if await asyncio.to_thread(self._keep, job, outcome):
                    self._metrics.observe_embedding(outcome)
                    sha256 = outcome.info["weights_sha256"]
                    await self._end(
                        job_id, state="done", stage="night", done=1, total=1, weights_sha256=sha256
                    )
                return
            if outcome.code not in _GONE or attempts >= MAX_ATTEMPTS:
                self._metrics.observe_refusal(outcome.code)
                await self._end(job_id, state="failed", code=outcome.code)
                return
            await asyncio.sleep(wait_s)
            wait_s *= 2

    async def _embed(self, job: Job) -> NightEmbedding | Refusal | None:
        """The outcome; None when the job was cancelled, which is noticed at the next step."""
        try:
            path = self._uploads.complete_path(job.owner, job.upload_id, even_expired=True)
        except HttpError as error:
            return Refusal(error.code)
        options = EmbedOptions(model=job.model, second=job.second, overview=True)
        steps = self._backend.embed_steps(path, job.request_id, options)
        # a generator: closing it is how the work in hand is told to stop
        async with aclosing(cast(AsyncGenerator[Step], steps)):
            async for step in steps:
                if job.id not in self._live:
                    return None
                if isinstance(step, Progress):
                    await self._change(job.id, stage=step.stage, done=step.done, total=step.total)
                elif isinstance(step, Overview):
                    self.store.write_result(job, OVERVIEW_FILE, step.json_bytes())
                else:
                    return step
        return Refusal(INTERNAL)

    def _keep(self, job: Job, embedding: NightEmbedding) -> bool:
        """Write the result; False when the job was deleted meanwhile."""
        levels: list[Level] = ["all", "second"] if job.second else ["all"]
        try:
            self.store.write_result(
                job, EMBEDDING_FILE, to_npz(choose(embedding, levels, "float32"))
            )
        except HttpError as error:
            if error.code == "job_not_found":
                return False
            raise
        return True

    async def _change(self, job_id: str, **changes: object) -> Job | None:
        job = self._live.get(job_id)
        if job is None:
            return None
        job = dataclasses.replace(job, version=job.version + 1, **changes)  # type: ignore[arg-type]  # names of fields
        self._live[job_id] = job
        await self._tell()
        return job

    async def _end(self, job_id: str, **changes: object) -> None:
        job = await self._change(job_id, ended_s=self.store.clock(), **changes)
        if job is not None:
            with suppress(HttpError):  # deleted, or the disk is full: it is not live all the same
                self.store.save(job)
            self._live.pop(job_id, None)
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
