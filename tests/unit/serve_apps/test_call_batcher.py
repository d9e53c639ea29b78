"""Small requests in one call: who goes with whom, and what becomes of each."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from serve_apps import call_batcher
from serve_apps.call_batcher import Asked, CallBatcher

client: ContextVar[str] = ContextVar("client", default="nobody")


class Side:
    """Notes its calls and answers each item with ten times it, when it is let."""

    def __init__(self, *, max_calls: int = 2, max_items: int = 4, long_s: float = 60) -> None:
        self.calls: list[list[int]] = []
        self.clients: list[str] = []  # of whose context each call is
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.batcher = CallBatcher(
            self.answer, max_calls=max_calls, max_items=max_items, long_s=long_s
        )

    async def answer(self, items: Sequence[int]) -> Sequence[int]:
        self.calls.append(list(items))
        self.clients.append(client.get())
        await self.go.wait()
        if self.error:
            raise self.error
        return [10 * item for item in items]

    async def ask(self, *items: int) -> list[asyncio.Future[int]]:
        async def one(item: int) -> int:
            return (await self.batcher.ask(item)).answer

        asked = [asyncio.ensure_future(one(item)) for item in items]
        await asyncio.sleep(0.01)
        return asked


def test_who_meets_an_idle_side_is_sent_alone_and_who_comes_meanwhile_goes_together() -> None:
    async def scenario() -> None:
        side = Side()
        asked = await side.ask(1, 2, 3, 4, 5)
        assert side.calls == [[1], [2]]  # two may be under way; nobody else is sent
        side.go.set()
        assert await asyncio.gather(*asked) == [10, 20, 30, 40, 50]
        # both calls end in one turn of the loop: what waits is shared among the free places
        assert sorted(map(len, side.calls[2:])) in ([1, 2], [3])

    asyncio.run(scenario())


def test_no_call_has_more_than_its_limit() -> None:
    async def scenario() -> None:
        side = Side(max_calls=1, max_items=3)
        asked = await side.ask(*range(8))
        side.go.set()
        assert await asyncio.gather(*asked) == [10 * item for item in range(8)]
        assert side.calls == [[0], [1, 2, 3], [4, 5, 6], [7]]

    asyncio.run(scenario())


def test_a_failed_call_fails_its_own_items_and_the_next_is_sent() -> None:
    async def scenario() -> None:
        side = Side(max_calls=1)
        first = await side.ask(1)
        later = await side.ask(2, 3)
        side.error = ConnectionError("the replica is gone")
        side.go.set()
        with pytest.raises(ConnectionError):
            await first[0]
        side.error = None
        assert await asyncio.gather(*later) == [20, 30]

    asyncio.run(scenario())


def test_an_answer_too_few_is_an_error_of_all_and_no_wait_for_ever() -> None:
    async def scenario() -> None:
        async def forgetful(items: Sequence[int]) -> Sequence[int]:
            return []

        batcher = CallBatcher(forgetful, max_calls=1, max_items=1, long_s=60)
        with pytest.raises(ValueError, match="zip"):
            await asyncio.wait_for(batcher.ask(1), 5)

    asyncio.run(scenario())


def test_who_goes_away_while_waiting_is_not_sent_and_who_was_sent_disturbs_nobody() -> None:
    async def scenario() -> None:
        side = Side(max_calls=1)
        sent, waits, stays = [(await side.ask(item))[0] for item in (1, 2, 3)]
        sent.cancel()
        waits.cancel()
        await asyncio.sleep(0.01)
        side.go.set()
        assert await stays == 30
        assert side.calls == [[1], [3]]
        assert sent.cancelled()
        assert waits.cancelled()

    asyncio.run(scenario())


def test_a_call_is_in_no_clients_context() -> None:
    """By it Serve finds the calls that it cancels when a client hangs up."""

    async def scenario() -> None:
        side = Side(max_calls=1)
        client.set("first")
        first = await side.ask(1)
        client.set("second")
        later = await side.ask(2, 3)
        side.go.set()
        await asyncio.gather(*first, *later)
        assert side.calls == [[1], [2, 3]]
        assert side.clients == ["nobody", "nobody"]

    asyncio.run(scenario())


def test_nothing_holds_what_a_client_sent_who_went_away_while_it_waited() -> None:
    class Body:
        pass

    async def scenario() -> None:
        go = asyncio.Event()

        async def answer(items: Sequence[Body]) -> Sequence[Body]:
            await go.wait()
            return items

        batcher = CallBatcher(answer, max_calls=1, max_items=8, long_s=60)
        sent = asyncio.ensure_future(batcher.ask(Body()))
        waits = asyncio.ensure_future(batcher.ask(body := Body()))
        await asyncio.sleep(0.01)
        held = weakref.ref(body)
        del body
        waits.cancel()
        await asyncio.wait([waits])
        del waits
        gc.collect()
        assert held() is None
        go.set()
        await sent

    asyncio.run(scenario())


def test_an_answer_tells_how_long_its_item_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(call_batcher.time, "perf_counter", lambda: now_s)

    async def scenario() -> list[Asked[int]]:
        nonlocal now_s
        side = Side(max_calls=1)
        first = asyncio.ensure_future(side.batcher.ask(1))
        await asyncio.sleep(0.01)
        now_s = 2.0
        second = asyncio.ensure_future(side.batcher.ask(2))
        await asyncio.sleep(0.01)
        now_s = 5.0
        side.go.set()
        return [await first, await second]

    assert asyncio.run(scenario()) == [Asked(10, 0.0), Asked(20, 3.0)]


def test_nobody_waits_for_ever_when_calls_are_cancelled_at_the_end_of_the_loop() -> None:
    side: list[Side] = []

    async def scenario() -> list[asyncio.Future[int]]:
        side.append(Side(max_calls=1))
        return await side[0].ask(1, 2, 3)

    asked = asyncio.run(scenario())
    assert all(future.cancelled() for future in asked)
    assert side[0].calls == [[1]]


def test_a_call_that_takes_long_is_not_waited_for() -> None:
    async def scenario() -> None:
        side = Side(max_calls=1, long_s=0.02)
        slow = await side.ask(1)
        later = await side.ask(2, 3)
        async with asyncio.timeout(10):
            while sum(map(len, side.calls)) < 3:
                await asyncio.sleep(0.002)
        # together, unless this process slept between the two
        assert side.calls in ([[1], [2, 3]], [[1], [2], [3]])
        assert not slow[0].done()
        side.go.set()
        assert await asyncio.gather(*slow, *later) == [10, 20, 30]
        assert await asyncio.gather(*await side.ask(4)) == [40]

    asyncio.run(scenario())
