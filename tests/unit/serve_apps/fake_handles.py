"""Stands for the handle of a deployment: what each method answers, and whose calls were ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Self


class Ref:
    """Stands for an ObjectRef: awaited, it is what it refers to."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        return self._get().__await__()

    async def _get(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class FakeCall:
    """One call; `steps` yields what a stream yields, an Exception where it fails."""

    def __init__(self, method: str, args: tuple[Any, ...], steps: AsyncIterator[Any]) -> None:
        self.method = method
        self.args = args
        self.cancelled = False
        self._steps = steps

    async def _to_object_ref_gen(self) -> AsyncIterator[Ref]:
        return (Ref(step) async for step in self._steps)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for step in self._steps:
            yield await Ref(step)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._last().__await__()

    async def _last(self) -> Any:
        async for step in self._steps:
            return await Ref(step)
        raise AssertionError("a call has an answer")

    def cancel(self) -> None:
        self.cancelled = True


class FakeHandle:
    """Of a deployment whose methods are async generators of what a call of them gives."""

    def __init__(self, **methods: Callable[..., AsyncIterator[Any]]) -> None:
        self.calls: list[FakeCall] = []
        for name, method in methods.items():
            setattr(self, name, _Method(self, name, method))

    def options(self, *, stream: bool) -> Self:
        return self

    def of(self, method: str) -> list[FakeCall]:
        """The calls of one method."""
        return [call for call in self.calls if call.method == method]


class _Method:
    def __init__(
        self, handle: FakeHandle, name: str, method: Callable[..., AsyncIterator[Any]]
    ) -> None:
        self._handle, self._name, self._method = handle, name, method

    def remote(self, *args: Any) -> FakeCall:
        call = FakeCall(self._name, args, self._method(*args))
        self._handle.calls.append(call)
        return call


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def run(work: Awaitable[Any]) -> Any:
    """In a loop of its own, for at most ten seconds."""

    async def bounded() -> Any:
        async with asyncio.timeout(10):
            return await work

    return asyncio.run(bounded())
