"""Following a job: events over connections that break, and how it ends."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sleepmami.client import AsyncClient, Client, JobStatus
from sleepmami.client.job_events import EventParser
from sleepmami.errors import ApiError
from tests.unit.client.fake_service import AT_ONCE, URL, error

JOB = "j" * 26


def status(state: str = "running", **changes: Any) -> dict[str, Any]:
    return {
        "id": JOB,
        "state": state,
        "stage": "encoding",
        "done": 1,
        "total": 4,
        "model": None,
        "second": False,
        "error": None,
        "created": "2026-11-30T10:00:00+00:00",
        "expires": "2026-12-01T10:00:00+00:00",
        "results": [],
        **changes,
    }


def event(version: int, state: str = "running", **changes: Any) -> bytes:
    name = state if state in ("done", "failed", "cancelled") else "progress"
    data = json.dumps(status(state, **changes))
    return f"id: {version}\nevent: {name}\ndata: {data}\n\n".encode()


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream that breaks after some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        raise httpx.ReadError("cut")

    async def __aiter__(self) -> Any:
        yield self.data
        raise httpx.ReadError("cut")


class Streams:
    """Answers /events with one after another."""

    def __init__(self, *streams: bytes | httpx.Response | httpx.SyncByteStream) -> None:
        self.streams = list(streams)
        self.last_ids: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == f"/v1/jobs/{JOB}/events"
        self.last_ids.append(request.headers.get("last-event-id"))
        stream = self.streams.pop(0)
        if isinstance(stream, httpx.Response):
            return stream
        return (
            httpx.Response(200, content=stream)
            if isinstance(stream, bytes)
            else httpx.Response(200, stream=stream)
        )


def followed(streams: Streams) -> list[JobStatus]:
    with Client(URL, retries=AT_ONCE, transport=httpx.MockTransport(streams)) as client:
        return list(client.job(JOB).events())


def test_events_come_in_order_and_end_with_the_last() -> None:
    streams = Streams(event(1) + b": still here\n\n" + event(2, done=3) + event(3, "done", done=4))
    assert [(s.state, s.done) for s in followed(streams)] == [
        ("running", 1), ("running", 3), ("done", 4)
    ]  # fmt: skip


@pytest.mark.parametrize("cut", range(0, len(event(2, done=2)), 37))
def test_a_connection_that_breaks_is_opened_again_where_it_was(cut: int) -> None:
    first = Broken(event(1) + event(2, done=2)[:cut])
    streams = Streams(first, event(2, done=2) + event(3, "done"))
    assert [s.state for s in followed(streams)] == ["running", "running", "done"]
    assert streams.last_ids == [None, "1"]


def test_a_service_that_begins_anew_is_asked_again() -> None:
    streams = Streams(event(1), error(503, "model_not_ready", retry_after="0"), event(5, "done"))
    assert [s.state for s in followed(streams)] == ["running", "done"]


def test_nothing_more_to_come_ends_the_events() -> None:
    assert [s.state for s in followed(Streams(event(1), httpx.Response(204)))] == ["running"]


def test_a_service_that_stays_silent_is_an_error() -> None:
    with pytest.raises(ApiError) as caught:
        followed(Streams(*[b""] * 6))
    assert caught.value.code == "no_answer"


def test_who_stops_listening_closes_the_connection() -> None:
    stream = Broken(event(1) + event(2))
    closed: list[bool] = []
    stream.close = lambda: closed.append(True)  # type: ignore[method-assign]
    transport = httpx.MockTransport(Streams(stream))
    with Client(URL, transport=transport) as client:
        events = client.job(JOB).events()
        next(events)
        events.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_waiting_ends_with_the_job() -> None:
    transport = httpx.MockTransport(Streams(event(1), event(2, "done", results=["report.html"])))
    with Client(URL, retries=AT_ONCE, transport=transport) as client:
        assert client.job(JOB).wait(progress=False).results == ["report.html"]


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (event(2, "failed", error={"code": "not_an_edf", "message": "No."}), "not_an_edf"),
        (event(2, "cancelled"), "job_cancelled"),
    ],
)
def test_a_job_that_did_not_succeed_is_an_error(last: bytes, code: str) -> None:
    async def run() -> None:
        transport = httpx.MockTransport(Streams(event(1), last))
        async with AsyncClient(URL, retries=AT_ONCE, transport=transport) as client:
            await client.job(JOB).wait(progress=False)

    with pytest.raises(ApiError) as caught:
        asyncio.run(run())
    assert caught.value.code == code


def test_an_event_of_a_later_release_is_understood_and_one_of_an_earlier_is_not() -> None:
    assert followed(Streams(event(1, "done", estimate_s=3)))[0].state == "done"
    with pytest.raises(ApiError) as caught:
        followed(Streams(b'id: 1\ndata: {"id": "j"}\n\n'))
    assert caught.value.code == "answer_invalid"


def test_a_parser_joins_nothing_of_two_events() -> None:
    parser = EventParser()
    lines = ["id: 7", "data: a", "", ": note", "", "event: x", "", "data:b", ""]
    assert [found for line in lines if (found := parser.feed(line))] == ["a", "b"]
    assert parser.last_id == "7"
