"""What a key may have computed in a day, by every route, and over a restart of the service."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from serve_apps.http_app import Admission, create_app
from serve_apps.key_middleware import KeyMiddleware
from serve_apps.keys import Key, KeyRing, add_key
from serve_apps.quotas import DAY_S, NIGHT_WINDOWS, DayUse, Quotas
from serve_apps.sign_in import MAX_SESSIONS, OpenSessions, Sessions
from serve_apps.state_file import StateFile
from serve_apps.state_folder import StateFolder
from serve_apps.wire import Limits
from sleepmami.inference.embedder import EpochEmbedding
from tests.unit.serve_apps.fakes import MODEL

NPZ = {"content-type": "application/x-npz"}
NOON = 100.5 * DAY_S
Call = Callable[[httpx.AsyncClient], Awaitable[Any]]


def key_of(owner: str, nights: int | None) -> Key:
    return Key(id="0" * 8, owner=owner, sha256="0" * 64, created="2026-01-01T00:00:00Z", nights_per_day=nights)  # type: ignore[arg-type]  # fmt: skip  # pydantic reads the time


# ------------------------------------------------------------------------------ counted by hand


def test_a_night_is_480_windows_of_the_same_quota() -> None:
    quotas, key = Quotas(clock=lambda: NOON), key_of("a", 2)
    assert quotas.take_windows(key, 1) is None
    assert quotas.take_night(key) is None
    assert quotas.take_night(key) == DAY_S // 2  # 1 + 480 + 480 are more than 960
    assert quotas.take_windows(key, 479) is None
    assert quotas.wait_for_windows(key, 1) == DAY_S // 2
    quotas.give_windows_back(key, 1, quotas.today())
    assert quotas.take_windows(key, 2) == DAY_S // 2  # all or none
    assert quotas.take_windows(key, 1) is None


def test_a_key_without_a_quota_is_not_counted_and_owners_are_apart(tmp_path: Path) -> None:
    quotas = Quotas(tmp_path / "quotas.json", lambda: NOON)
    assert quotas.take_windows(key_of("a", None), 10**9) is None
    assert not (tmp_path / "quotas.json").exists()
    assert [quotas.take_night(key_of("b", 1)) for _ in range(2)] == [None, DAY_S // 2]
    assert quotas.take_night(key_of("c", 1)) is None


def test_a_day_begins_anew_also_of_what_is_in_the_file(tmp_path: Path) -> None:
    now = NOON
    quotas, key = Quotas(tmp_path / "q.json", lambda: now), key_of("a", 1)
    assert quotas.take_night(key) is None
    now += DAY_S
    assert Quotas(tmp_path / "q.json", lambda: now).take_night(key) is None
    assert quotas.take_night(key) is not None
    assert DayUse(day=3, windows={"a": 5}).plus(4, {"a": 2, "b": -7}).windows == {"a": 2, "b": 0}


def test_use_outlives_a_restart_and_a_kill(tmp_path: Path) -> None:
    """A night is written at once, windows at most a second after they were counted."""
    now = NOON
    key = key_of("a", 2)
    before = Quotas(tmp_path / "q.json", lambda: now)
    assert before.take_night(key) is None
    assert Quotas(tmp_path / "q.json", lambda: now).take_windows(key, 481) is not None  # killed
    assert before.take_windows(key, 100) is None  # within the second: in memory alone
    assert Quotas(tmp_path / "q.json", lambda: now).take_windows(key, 480) is None
    now += 1
    assert before.take_windows(key, 1) is not None  # 480 + 480 of another, and 100: used up


def test_an_operator_who_removes_the_files_forgives_the_day_and_ends_the_sessions(
    tmp_path: Path,
) -> None:
    """As docs/runbook.md says, while the service runs."""
    quotas, key = Quotas(tmp_path / "quotas.json", lambda: NOON), key_of("a", 1)
    sessions = Sessions(tmp_path / "sessions.json", lambda: NOON)
    token = sessions.open("3f9a12cd")
    assert [quotas.take_night(key) for _ in range(2)] == [None, DAY_S // 2]
    (tmp_path / "quotas.json").unlink()
    (tmp_path / "sessions.json").unlink()
    assert quotas.take_night(key) is None
    assert sessions.key_id(token) is None


def test_windows_are_written_after_a_second_and_at_the_end(tmp_path: Path) -> None:
    now = NOON
    file, key = tmp_path / "q.json", key_of("a", 9)
    quotas = Quotas(file, lambda: now)
    written = []
    for later_s in (0, 0.4, 0.4, 0.4):
        now += later_s
        quotas.take_windows(key, 10)
        written.append(json.loads(file.read_text())["windows"]["a"])
    assert written == [10, 10, 10, 40]
    quotas.take_windows(key, 5)
    quotas.write()
    assert json.loads(file.read_text())["windows"]["a"] == 45


def test_two_services_of_a_rolling_update_share_the_quota(tmp_path: Path) -> None:
    key = key_of("a", 3)
    old, new = (Quotas(tmp_path / "q.json", lambda: NOON) for _ in range(2))
    taken = [quotas.take_night(key) for quotas in (old, new, old, new, old)]
    assert taken == [None, None, None, DAY_S // 2, DAY_S // 2]


def test_a_full_disk_is_logged_and_counts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    quotas, key = Quotas(tmp_path / "q.json", lambda: NOON), key_of("a", 2)
    with monkeypatch.context() as patch:
        patch.setattr("serve_apps.state_file.write_whole", full)
        assert [quotas.take_night(key) for _ in range(3)] == [None, None, DAY_S // 2]
    assert "No space left on device" in caplog.text
    quotas.write()
    assert json.loads((tmp_path / "q.json").read_text())["windows"] == {"a": 2 * NIGHT_WINDOWS}


# ------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"windows": {"a": "x"}}', b'{"other": 1}', b"\xff"]
)
def test_a_broken_file_is_begun_anew_and_that_is_logged(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "q.json").write_bytes(content)
    file = StateFile(tmp_path / "q.json", DayUse())
    assert file.read() == DayUse()
    assert "q.json holds something else" in caplog.text
    assert file.change(lambda use: use.plus(1, {"a": 2})).windows == {"a": 2}
    assert StateFile(tmp_path / "q.json", DayUse()).read().windows == {"a": 2}


def test_a_session_outlives_a_restart_and_its_end_does_too(tmp_path: Path) -> None:
    now = NOON
    file = tmp_path / "sessions.json"
    before = Sessions(file, lambda: now)
    token, other = before.open("3f9a12cd"), before.open("00000000")
    assert token not in file.read_text()
    after = Sessions(file, lambda: now)
    assert after.key_id(token) == "3f9a12cd"
    after.close(token)
    assert (before.key_id(token), before.key_id(other)) == (None, "00000000")
    now += 12 * 3600
    assert Sessions(file, lambda: now).key_id(other) is None
    after.open("3f9a12cd")
    assert len(json.loads(file.read_text())["sessions"]) == 1  # those that are over are dropped


def test_the_oldest_session_ends_for_one_too_many() -> None:
    sessions = Sessions(clock=lambda: NOON)
    sessions._file.change(
        lambda _: OpenSessions(
            sessions={f"{i:064x}": ("0", NOON + i + 1) for i in range(MAX_SESSIONS)}
        )
    )
    sessions.open("3f9a12cd")
    left = sessions._file.read().sessions
    assert len(left) == MAX_SESSIONS
    assert f"{0:064x}" not in left
    assert f"{1:064x}" in left


# --------------------------------------------------------------------------------- over HTTP


class Encodes:
    """A backend that encodes whatever it is sent, or fails."""

    failing = False

    async def encode(self, windows: Any, request_id: str, model: str | None) -> EpochEmbedding:
        if self.failing:
            raise RuntimeError
        rows = 2 * len(windows.valid)
        return EpochEmbedding(
            micro_LMD=np.ones((rows, 6, 2), np.float32),
            modality_valid_LM=np.ones((rows, 6), bool),
            epoch_valid_L=np.ones(rows, bool),
            info={"model_id": "m", "weights_sha256": "ab" * 32, "code_version": "0", "precision": "float32"},
        )  # fmt: skip

    async def models(self) -> list[Any]:
        return [MODEL]


@asynccontextmanager
async def alive(app: FastAPI) -> AsyncIterator[None]:
    """Its lifespan as a server tells it, through all that is around the application."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    answered: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "state": {}}, told.get, answered.put))
    for name in ("startup", "shutdown"):
        if name == "shutdown":
            yield
        await told.put({"type": f"lifespan.{name}"})
        assert (await answered.get())["type"] == f"lifespan.{name}.complete"
    await running


def call(folder: Path, steps: Call, backend: Encodes | None = None) -> Any:
    """Steps against a service with keys whose state lies in a folder; it starts and ends."""

    async def run() -> Any:
        app = create_app(
            backend or Encodes(),  # type: ignore[arg-type]  # the rest is not asked
            Admission(Limits(max_body_mb=64, max_running=2, max_queued=2)),
            StateFolder(str(folder / "state")),
            keys=KeyRing(str(folder / "keys.json")),
        )
        transport = httpx.ASGITransport(app)
        async with (
            alive(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            return await steps(client)

    return asyncio.run(run())


def windows(count: int) -> bytes:
    body = io.BytesIO()
    np.savez(body, SPO2=np.zeros((count, 60), np.float32))
    return body.getvalue()


def test_encode_and_v2_are_of_the_quota_and_refused_before_the_body(tmp_path: Path) -> None:
    text, _ = add_key(tmp_path / "keys.json", "clinic-a", nights_per_day=1)
    bearer = {"authorization": f"Bearer {text}"}
    tensor = {"name": "SPO2", "datatype": "FP32", "shape": [1, 60], "data": [0.0] * 60}

    async def never() -> Any:
        raise AssertionError("the body was read")
        yield b""

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        encode = {"url": "/v1/encode", "headers": bearer | NPZ}
        infer = {"url": f"/v2/models/{MODEL.name}/infer", "headers": bearer}
        return [
            await client.post(**encode, content=windows(481)),
            await client.post(**encode, content=windows(478)),
            await client.post(**infer, json={"inputs": [tensor]}),
            await client.post(**encode, content=windows(2)),
            await client.post(**encode, content=windows(1)),
            await client.post(**encode, content=never()),
            await client.post(**infer, content=never()),
        ]

    answers = call(tmp_path, steps)
    assert [a.status_code for a in answers] == [429, 200, 200, 429, 200, 429, 429]
    assert answers[0].json()["error"]["code"] == "quota_exceeded"
    assert answers[6].json()["error"].startswith("quota_exceeded: ")
    for refused in (answers[0], answers[5], answers[6]):
        assert 5 < int(refused.headers["retry-after"]) <= DAY_S  # midnight, not the usual pause

    async def once_more(client: httpx.AsyncClient) -> int:
        return (
            await client.post("/v1/encode", content=windows(1), headers=bearer | NPZ)
        ).status_code

    assert call(tmp_path, once_more) == 429  # the service was started again


def test_windows_that_fail_or_are_refused_cost_nothing(tmp_path: Path) -> None:
    text, _ = add_key(tmp_path / "keys.json", "clinic-a", nights_per_day=1)
    headers = {"authorization": f"Bearer {text}", **NPZ}
    backend = Encodes()

    async def steps(client: httpx.AsyncClient) -> list[int]:
        backend.failing = True
        failed = await client.post("/v1/encode", content=windows(480), headers=headers)
        backend.failing = False
        sent = [await client.post("/v1/encode", content=b"x", headers=headers)]
        sent += [await client.post("/v1/encode", content=windows(480), headers=headers)]
        return [r.status_code for r in [failed, *sent]]

    assert call(tmp_path, steps, backend) == [500, 400, 200]


def test_a_browser_stays_signed_in_over_a_restart(tmp_path: Path) -> None:
    text, _ = add_key(tmp_path / "keys.json", "clinic-a")
    here = {"sec-fetch-site": "same-origin"}

    async def sign_in(client: httpx.AsyncClient) -> str:
        await client.post("/session", data={"key": text}, headers=here)
        return client.cookies["sleepmami_session"]

    cookie = {"cookie": f"sleepmami_session={call(tmp_path, sign_in)}"}
    assert call(tmp_path, lambda c: c.get("/v1/jobs/x", headers=cookie)).status_code == 404
    out = call(tmp_path, lambda c: c.delete("/session", headers=cookie | here))
    assert out.status_code == 204
    assert call(tmp_path, lambda c: c.get("/v1/jobs/x", headers=cookie)).status_code == 401


def test_a_session_that_cannot_be_kept_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _ = add_key(tmp_path / "keys.json", "clinic-a")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serve_apps.state_file.write_whole", full)
    headers = {"sec-fetch-site": "same-origin"}
    answer = call(tmp_path, lambda c: c.post("/session", data={"key": text}, headers=headers))
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
    assert "set-cookie" not in answer.headers


def test_counted_windows_are_written_when_the_service_ends(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "clinic-a")
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for _ in range(2):  # the first is written at once
            middleware.quotas.take_windows(key_of("clinic-a", 1), 3)
        assert json.loads((tmp_path / "quotas.json").read_text())["windows"] == {"clinic-a": 3}
        await receive()

    async def receive() -> Any:
        return next(messages)

    middleware = KeyMiddleware(app, KeyRing(str(tmp_path / "keys.json")), tmp_path)
    asyncio.run(middleware({"type": "lifespan"}, receive, None))  # type: ignore[arg-type]  # nothing is sent
    assert json.loads((tmp_path / "quotas.json").read_text())["windows"] == {"clinic-a": 6}
