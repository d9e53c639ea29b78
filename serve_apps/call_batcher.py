"""Small requests travel together: several in one call while the other side is busy.

A call from process to process costs both some milliseconds of CPU whatever it carries, as much as a
small model takes for a window. Who meets an idle side is sent at once and alone; who comes while
`max_calls` are under way goes with the next. A call that takes long, because of its items or of
nights beside it, is not waited for: beside what it costs, another one costs nothing.

A call belongs to no one of its requests. When a client hangs up, Serve cancels the calls of that
request that no replica has taken yet, and with direct ingress or HAProxy all of them; others would
end with it. So calls begin in a context of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Asked(NamedTuple, Generic[Answer]):
    """An answer, and how long its item waited to be sent, in seconds."""

    answer: Answer
    waited_s: float


class _Entry(NamedTuple, Generic[Item, Answer]):
    item: Item
    future: asyncio.Future[Asked[Answer]]
    asked_s: float


class CallBatcher(Generic[Item, Answer]):
    """One side that answers lists of items; of one event loop.

    Args:
        call: answers items in their order. What it raises is raised for each of them.
        max_calls: under way at once.
        max_items: of one call.
        long_s: after so long a call counts no more.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_calls: int,
        max_items: int,
        long_s: float,
    ) -> None:
        self._call = call
        self._max_calls = max_calls
        self._max_items = max_items
        self._long_s = long_s
        # by future, so that who goes away is found; who has waited longest comes first
        self._waiting: dict[asyncio.Future[Asked[Answer]], _Entry[Item, Answer]] = {}
        self._calls: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
        self._counted: set[asyncio.Task[None]] = set()  # of these, who comes waits for

    async def ask(self, item: Item) -> Asked[Answer]:
        """The answer to one item; cancelled while it waits, it is not sent."""
        future: asyncio.Future[Asked[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting[future] = _Entry(item, future, time.perf_counter())
        self._send()
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and (free := self._max_calls - len(self._counted)) > 0:
            count = min(-(-len(self._waiting) // free), self._max_items)  # all replicas get some
            first = list(islice(self._waiting, count))
            entries = [self._waiting.pop(future) for future in first]
            task = loop.create_task(self._answer(entries), context=Context())
            for calls in (self._calls, self._counted):
                calls.add(task)
            timer = loop.call_later(self._long_s, self._count_no_more, task)
            task.add_done_callback(partial(self._ended, timer))

    def _ended(self, timer: asyncio.TimerHandle, task: asyncio.Task[None]) -> None:
        timer.cancel()
        self._calls.discard(task)
        self._count_no_more(task)

    def _count_no_more(self, task: asyncio.Task[None]) -> None:
        self._counted.discard(task)
        self._send()

    async def _answer(self, entries: Sequence[_Entry[Item, Answer]]) -> None:
        sent_s = time.perf_counter()
        try:
            answers = await self._call([entry.item for entry in entries])
            for entry, answer in zip(entries, answers, strict=True):
                if not entry.future.done():  # its client has gone
                    entry.future.set_result(Asked(answer, sent_s - entry.asked_s))
        except Exception as error:
            for entry in entries:
                if not entry.future.done():
                    entry.future.set_exception(error)
        finally:  # cancelled, at the end of the loop: nobody may wait for ever
            for entry in entries:
                entry.future.cancel()
