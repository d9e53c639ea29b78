"""Carries out the steps of a flow: one driver that waits, one for an event loop.

Nothing is decided here; what is sent, and when it is sent again, is in the flows.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from sleepmami.client.steps import (
    Answer,
    Ask,
    Flow,
    Listen,
    Listening,
    NextLine,
    NoAnswer,
    Pause,
    Step,
    Tell,
    Together,
    Work,
)
from sleepmami.client.tls import tls_failure
from sleepmami.errors import require

T = TypeVar("T")
CONNECT_S = 10.0
BLOCK_BYTES = 2**18


def checked_url(url: str) -> str:
    """The URL without its last slash; ConfigError when it is none of http or https."""
    parts = urlsplit(url)
    fine = parts.scheme in ("http", "https") and parts.hostname and not parts.query
    require(bool(fine) and not parts.username, "url", url, "http://HOST:PORT or https://HOST")
    return url.rstrip("/")


def request_parts(ask: Ask) -> dict[str, Any]:  # Any: arguments of httpx
    """The arguments of httpx's build_request, which both of its clients take, but for the body."""
    length = {"content-length": str(len(ask.content))} if ask.content else {}
    return {
        "method": ask.method,
        "url": ask.path,
        "headers": dict(ask.headers) | length,
        "params": list(ask.params) or None,
        "timeout": httpx.Timeout(ask.timeout_s, connect=CONNECT_S, pool=None),
    }


def blocks(content: bytes) -> Iterator[bytes]:
    """A body in pieces: of one that is whole httpcore copies the rest after each send."""
    for first in range(0, len(content), BLOCK_BYTES):
        yield content[first : first + BLOCK_BYTES]


async def _async_blocks(content: bytes) -> AsyncIterator[bytes]:
    for block in blocks(content):
        yield block


def _headers(headers: httpx.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _no_answer(error: httpx.RequestError) -> NoAnswer:
    return NoAnswer(type(error).__name__, tls_failure(error))  # its own text may hold the URL


class Driver:
    """Carries out flows and waits for each step."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def run(self, flow: Flow[T]) -> T:
        """What the flow returns; whatever it tells is dropped."""
        steps = self.iterate(flow)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: T = end.value
                return found

    def iterate(self, flow: Flow[T]) -> Generator[Any, None, T]:  # Any: of Tell
        """What the flow tells; returns what it returns."""
        listening: list[httpx.Response] = []
        outcome = None
        try:
            while True:
                try:
                    step = flow.send(outcome)
                except StopIteration as end:
                    found: T = end.value
                    return found
                if isinstance(step, Tell):
                    yield step.value
                    outcome = None
                else:
                    outcome = self._do(step, listening)
        finally:
            flow.close()
            for response in listening:
                response.close()

    def _do(self, step: Step, listening: list[httpx.Response]) -> Any:  # Any: as of Flow
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Work):
            return step.done()
        if isinstance(step, Together):
            return self._together(step)
        try:
            if isinstance(step, NextLine):
                return next(step.listening.handle, None)
            return self._send(step, listening)
        except httpx.RequestError as error:
            return _no_answer(error)

    def _send(self, step: Step, listening: list[httpx.Response]) -> Answer | Listening:
        ask = step.ask if isinstance(step, Listen) else step
        assert isinstance(ask, Ask)
        body = blocks(ask.content) if ask.content else None
        request = self._http.build_request(**request_parts(ask), content=body)
        response = self._http.send(request, stream=True)
        if isinstance(step, Listen) and response.status_code == httpx.codes.OK:
            listening.append(response)
            return Listening(response.iter_lines())
        try:
            return Answer(response.status_code, _headers(response.headers), response.read())
        finally:
            response.close()

    def _together(self, step: Together) -> list[Any]:  # Any: as of Flow
        with ThreadPoolExecutor(step.at_once, thread_name_prefix="sleepmami-client") as pool:
            try:
                return list(pool.map(self.run, step.flows))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


class AsyncDriver:
    """Carries out flows on an event loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def run(self, flow: Flow[T]) -> T:
        """What the flow returns; whatever it tells is dropped."""
        returned: list[T] = []
        async for _ in self._steps(flow, returned):
            pass
        return returned[0]

    def iterate(self, flow: Flow[Any]) -> AsyncIterator[Any]:  # Any: of Tell
        """What the flow tells."""
        return self._steps(flow, [])

    async def _steps(self, flow: Flow[T], returned: list[T]) -> AsyncIterator[Any]:
        listening: list[httpx.Response] = []
        outcome = None
        try:
            while True:
                try:
                    step = flow.send(outcome)
                except StopIteration as end:
                    returned.append(end.value)
                    return
                if isinstance(step, Tell):
                    yield step.value
                    outcome = None
                else:
                    outcome = await self._do(step, listening)
        finally:
            flow.close()
            for response in listening:
                await response.aclose()

    async def _do(self, step: Step, listening: list[httpx.Response]) -> Any:  # Any: as of Flow
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Work):
            return await asyncio.to_thread(step.done)
        if isinstance(step, Together):
            return await self._together(step)
        try:
            if isinstance(step, NextLine):
                return await anext(step.listening.handle, None)
            return await self._send(step, listening)
        except httpx.RequestError as error:
            return _no_answer(error)

    async def _send(self, step: Step, listening: list[httpx.Response]) -> Answer | Listening:
        ask = step.ask if isinstance(step, Listen) else step
        assert isinstance(ask, Ask)
        body = _async_blocks(ask.content) if ask.content else None
        request = self._http.build_request(**request_parts(ask), content=body)
        response = await self._http.send(request, stream=True)
        if isinstance(step, Listen) and response.status_code == httpx.codes.OK:
            listening.append(response)
            return Listening(response.aiter_lines())
        try:
            content = await response.aread()
            return Answer(response.status_code, _headers(response.headers), content)
        finally:
            await response.aclose()

    async def _together(self, step: Together) -> list[Any]:  # Any: as of Flow
        places = asyncio.Semaphore(step.at_once)

        async def one(flow: Flow[Any]) -> Any:  # Any: as of Flow
            async with places:
                return await self.run(flow)

        tasks = [asyncio.create_task(one(flow)) for flow in step.flows]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:  # and not as a group of one: the other driver raises it so
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
