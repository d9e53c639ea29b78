"""Which windows the model hears next: those of all requests in hand, in turns.

One thread encodes batch after batch. Each batch is shared by the requests that wait, a few windows
of each, so that a request of one window does not wait behind a whole night, and small requests
share a batch. Batches form by themselves while the model is busy; only when it was idle and the
batch would not be full does it wait a moment for others to come.

Fair are requests, not recordings' lengths: eight nights at once end at about the same time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sleepmami.inference.embedder import Embedder
from sleepmami.inference.hearing import Hearing, Piece
from sleepmami.models.cpu import prepare_cpu

# Requests with other modalities join a batch that is not full while the streams that are computed
# for nothing stay below this share of those that are wanted.
MAX_WASTE = 0.25


@dataclass(slots=True, eq=False)
class StageTimes:
    """Where the time of one request went, in seconds; `batches` and `windows` are counts."""

    queued_s: float = 0.0  # until its first window was taken
    encoding_s: float = 0.0  # from then to its last window
    night_s: float = 0.0  # the Macro-Encoder
    batches: int = 0  # it had windows in
    windows: int = 0  # in those batches, its own and others'


@dataclass(slots=True, eq=False)
class Job:
    """One request's windows."""

    hearings: Sequence[Hearing]
    finish: Callable[[], Any]  # Any: whatever the request is for; on the thread that encodes
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]  # Any: what `finish` returns
    progress: Callable[[int, int], None] | None = None
    times: StageTimes = field(default_factory=StageTimes)
    added_s: float = field(default_factory=time.perf_counter)
    started_s: float = 0.0

    @property
    def hearing(self) -> Hearing | None:
        """The one whose windows come next; None when all are taken."""
        return next((hearing for hearing in self.hearings if hearing.waiting), None)

    @property
    def waiting(self) -> int:
        """Windows of it that the next batch may take."""
        hearing = self.hearing
        return hearing.waiting if hearing else 0

    @property
    def streams(self) -> tuple[int, ...]:
        """Modalities of these windows."""
        hearing = self.hearing
        return hearing.streams if hearing else ()

    @property
    def done(self) -> bool:
        """Whether every window is heard."""
        return all(hearing.done for hearing in self.hearings)

    @property
    def num_windows(self) -> int:
        """Of all hearings."""
        return sum(hearing.num_windows for hearing in self.hearings)

    @property
    def num_heard(self) -> int:
        """Of all hearings."""
        return sum(hearing.num_heard for hearing in self.hearings)


class WindowScheduler:
    """Encodes the windows of all requests on a thread of its own.

    Args:
        embedder: its `windows_per_batch` is the largest batch.
        threads: torch threads of a batch.
        wait_s: how long an idle model waits for a batch to fill.
    """

    def __init__(self, embedder: Embedder, *, threads: int, wait_s: float) -> None:
        self._embedder = embedder
        self._threads = threads
        self._wait_s = wait_s
        self._jobs: list[Job] = []  # next in turn first
        self._heard: deque[Job] = deque()  # with nothing left to hear when they came
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still encodes."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread after the batch in hand."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    async def run(
        self,
        hearings: Sequence[Hearing],
        finish: Callable[[], Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Any, StageTimes]:  # Any: what `finish` returns
        """Encode every window, then call `finish` on the same thread.

        Args:
            hearings: of one request; what others have heard for it is not heard again.
            finish: makes the answer; what it raises is raised here.
            progress: called on the event loop with windows heard and windows in all, after each
                batch.
        """
        loop = asyncio.get_running_loop()
        job = Job(hearings, finish, loop, loop.create_future(), progress)
        with self._changed:
            (self._heard if job.done else self._jobs).append(job)
            self._changed.notify()
        try:
            return await job.future, job.times
        finally:  # cancelled: nobody waits for the rest
            with self._changed:
                for waiting in (self._jobs, self._heard):
                    if job in waiting:
                        waiting.remove(job)

    def _work(self) -> None:
        prepare_cpu(self._threads)
        while (turn := self._next_turn()) is not None:
            if isinstance(turn, Job):
                self._finish(turn)
            else:
                self._encode(turn)
            del turn  # an idle model holds nobody's night

    def _next_turn(self) -> list[tuple[Job, Piece]] | Job | None:
        """The next batch, or a job that has nothing to hear; None in the end."""
        limit = self._embedder.windows_per_batch
        with self._changed:
            idle = not self._jobs
            while not self._jobs and not self._heard and not self._closed:
                self._changed.wait()
            if self._heard and not self._closed:
                return self._heard.popleft()
            deadline = time.monotonic() + self._wait_s
            while idle and not self._closed and sum(job.waiting for job in self._jobs) < limit:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._closed:
                return None
            chosen = choose(self._jobs, limit)
            pieces = []
            for job, count in chosen:
                hearing = job.hearing
                assert hearing is not None  # `choose` takes what waits
                pieces.append((job, hearing.take(count)))
                self._jobs.remove(job)
            # who was served goes to the end; who has no more windows leaves
            self._jobs += [job for job, _ in chosen if job.waiting]
        return pieces

    def _encode(self, pieces: list[tuple[Job, Piece]]) -> None:
        now_s = time.perf_counter()
        for job, _ in pieces:
            if not job.started_s:
                job.started_s = now_s
                job.times.queued_s = now_s - job.added_s
        self._hear(pieces)
        total = sum(piece.num_windows for _, piece in pieces)
        for job, _ in pieces:
            job.times.batches += 1
            job.times.windows += total
            if job.done:
                self._finish(job)
            elif job.progress:
                _call(job, partial(_tell, job, job.num_heard, job.num_windows))

    def _hear(self, pieces: list[tuple[Job, Piece]]) -> None:
        """One batch; where it fails, each request alone, so that one does not fail the others."""
        try:
            self._embedder.hear([piece for _, piece in pieces])
        except Exception as error:
            if len(pieces) == 1:
                self._fail(pieces[0][0], error)
                return
            for pair in pieces:
                self._hear([pair])

    def _finish(self, job: Job) -> None:
        heard_s = time.perf_counter()
        if job.started_s:  # heard here
            job.times.encoding_s = heard_s - job.started_s
        try:
            answer = job.finish()
        except Exception as error:
            self._fail(job, error)
            return
        job.times.night_s = time.perf_counter() - heard_s
        _call(job, partial(_answer, job, answer))

    def _fail(self, job: Job, error: Exception) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
        _call(job, partial(_refuse, job, error))


def choose(jobs: Sequence[Job], limit: int) -> list[tuple[Job, int]]:
    """Whose windows come into the next batch, and how many of each; `jobs` are in turn.

    The first job's modalities decide: requests with the same ones share the batch evenly. If they
    do not fill it, others join as long as little is computed for nothing (MAX_WASTE).
    """
    first = jobs[0]
    alike = [job for job in jobs if job.streams == first.streams]
    chosen = list(zip(alike, even_shares([job.waiting for job in alike], limit), strict=True))
    union = set(first.streams)
    taken = sum(count for _, count in chosen)
    wanted = taken * len(union)
    for job in jobs:
        count = min(job.waiting, limit - taken)
        if count == 0 or job.streams == first.streams:
            continue
        joined, now_wanted = union | set(job.streams), wanted + count * len(job.streams)
        if (taken + count) * len(joined) - now_wanted > MAX_WASTE * now_wanted:
            continue
        chosen.append((job, count))
        union, taken, wanted = joined, taken + count, now_wanted
    return [(job, count) for job, count in chosen if count]


def even_shares(waiting: Sequence[int], limit: int) -> list[int]:
    """`limit` places given out one at a time in turn, to those that still have windows."""
    shares = [0] * len(waiting)
    left = limit
    while left:
        open_places = [i for i, count in enumerate(waiting) if shares[i] < count]
        if not open_places:
            break
        each = max(1, left // len(open_places))
        for i in open_places[:left]:
            given = min(each, waiting[i] - shares[i], left)
            shares[i] += given
            left -= given
    return shares


def _tell(job: Job, heard: int, of_all: int) -> None:
    if job.progress and not job.future.done():
        job.progress(heard, of_all)


def _answer(job: Job, answer: Any) -> None:  # Any: as `Job.finish`
    if not job.future.done():
        job.future.set_result(answer)


def _refuse(job: Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)


def _call(job: Job, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        job.loop.call_soon_threadsafe(function)
