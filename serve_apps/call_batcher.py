"""Small requests travel together: several in one call while the other side is busy.

A call from process to process costs both some milliseconds of CPU whatever it carries, as much as a
small model takes for a window. Who meets an idle side is sent at once and alone; who comes while
`max_calls` are under way goes with the next. Nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class CallBatcher(Generic[Item, Answer]):
    """One side that answers lists of items; of one event loop.

    Args:
        call: answers items in their order. What it raises is raised for each of them.
        max_calls: under way at once.
        max_items: of one call.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_calls: int,
        max_items: int,
    ) -> None:
        self._call = call
        self._max_calls = max_calls
        self._max_items = max_items
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    async def ask(self, item: Item) -> Answer:
        """The answer to one item; cancelled while it waits, it is not sent."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._send()
        return await future

    def _send(self) -> None:
        while (free := self._max_calls - len(self._calls)) > 0:
            while self._waiting and self._waiting[0][1].done():  # its client has gone
                self._waiting.popleft()
            if not self._waiting:
                return
            count = min(-(-len(self._waiting) // free), self._max_items)  # all replicas get some
            entries = [self._waiting.popleft() for _ in range(count)]
            wanted = [entry for entry in entries if not entry[1].done()]
            task = asyncio.ensure_future(self._answer(wanted))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._send()

    async def _answer(self, entries: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        futures = [future for _, future in entries]
        try:
            answers = await self._call([item for item, _ in entries])
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():  # its client has gone
                    future.set_result(answer)
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        finally:  # cancelled, at the end of the loop: nobody may wait for ever
            for future in futures:
                future.cancel()
