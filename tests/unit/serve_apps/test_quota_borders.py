"""Quotas and kept sessions where a day ends, a clock is put back, a disk fails or somebody insists."""

import errno
import json
import os
import stat
from pathlib import Path

import httpx
import pytest

from serve_apps import sign_in
from serve_apps.keys import add_key, revoke_key
from serve_apps.quotas import DAY_S, MINUTE_S, NIGHT_WINDOWS, DayUse, Quotas
from serve_apps.sign_in import Sessions
from serve_apps.state_file import StateFile
from serve_apps.state_folder import LEFT_S, StateFolder
from serve_apps.upload_store import UploadStore
from tests.unit.serve_apps.fakes import TUS
from tests.unit.serve_apps.test_quotas import NOON, call, key_of

HERE = {"sec-fetch-site": "same-origin"}


class Clock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


# --------------------------------------------------------------------------------- the day's end


def test_what_was_taken_yesterday_is_not_given_back_today(clock: Clock) -> None:
    quotas, key = Quotas(clock=clock), key_of("a", 1)
    yesterday = quotas.today()
    assert quotas.take_windows(key, 479) is None
    clock.now += DAY_S
    assert quotas.take_windows(key, 300) is None
    quotas.give_windows_back(key, 300, yesterday)  # a client that left after midnight
    quotas.give_night_back(key, yesterday)
    assert quotas.take_windows(key, 181) is not None
    assert quotas.take_windows(key, 180) is None


def test_what_one_service_has_not_written_of_yesterday_does_not_end_today(
    tmp_path: Path, clock: Clock
) -> None:
    """A rolling update over midnight: the old one writes when it ends."""
    old, new = (Quotas(tmp_path / "q.json", clock) for _ in range(2))
    key = key_of("a", 1)
    assert [old.take_windows(key, 5) for _ in range(2)] == [None, None]  # one of them is in memory
    clock.now += DAY_S
    assert new.take_night(key) is None
    old.write()
    assert Quotas(tmp_path / "q.json", clock).take_windows(key, 1) is not None


def test_a_kill_loses_less_than_a_night_of_each_owner(tmp_path: Path, clock: Clock) -> None:
    quotas, key = Quotas(tmp_path / "q.json", clock), key_of("a", 9)
    for _ in range(100):
        assert quotas.take_windows(key, 43) is None  # all in one second
    used = json.loads((tmp_path / "q.json").read_text())["windows"]["a"]
    assert 4300 - NIGHT_WINDOWS < used <= 4300


# ------------------------------------------------------------------------ a clock that is put back


def test_a_clock_put_back_by_an_hour_keeps_nobody_out_for_an_hour(clock: Clock) -> None:
    limited = key_of("a", None).model_copy(update={"requests_per_minute": 2})
    quotas = Quotas(clock=clock)
    assert [quotas.take_request(limited) for _ in range(3)] == [None, None, MINUTE_S / 2]
    clock.now -= 3600
    assert [quotas.take_request(limited) for _ in range(3)] == [None, None, MINUTE_S / 2]


def test_windows_are_written_also_after_a_clock_was_put_back(tmp_path: Path, clock: Clock) -> None:
    quotas, key = Quotas(tmp_path / "q.json", clock), key_of("a", 9)
    quotas.take_windows(key, 1)
    clock.now -= 3600
    quotas.take_windows(key, 2)
    assert json.loads((tmp_path / "q.json").read_text())["windows"] == {"a": 3}


# ----------------------------------------------------------------------------------- the files


def test_a_disk_that_fails_for_a_moment_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is somebody let in twice, nor is what cannot be read now replaced by nothing."""
    file = StateFile(tmp_path / "q.json", DayUse())
    file.change(lambda use: use.plus(1, {"a": 7}))
    StateFile(tmp_path / "q.json", DayUse()).change(lambda use: use.plus(1, {"b": 1}))

    def broken(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        assert file.read().windows == {"a": 7}
        assert "q.json cannot be read: Too many open files" in caplog.text
        with pytest.raises(OSError, match="Too many open files"):
            file.change(lambda use: use.plus(1, {"a": 1}))
    assert file.read().windows == {"a": 7, "b": 1}


def test_another_users_file_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Root ran the service once with this folder."""
    (tmp_path / "q.json").write_text('{"day": 1, "windows": {"a": 1}}')

    def refused(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    file = StateFile(tmp_path / "q.json", DayUse())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        assert file.read() == DayUse()
        assert "q.json holds something else and is begun anew" in caplog.text
        file.change(lambda use: use.plus(1, {"b": 2}))
    assert file.read().windows == {"b": 2}


def test_what_is_kept_is_for_its_owner_alone_file_by_file(tmp_path: Path) -> None:
    """A copy of the folder made by somebody else's backup is no open book."""
    state = StateFolder(str(tmp_path / "state"))
    store = UploadStore(state, retention_s=10, max_bytes=10, max_upload_bytes=10)
    store.create("a", 5)
    Sessions(state.folder / "sessions.json").open("3f9a12cd")
    Quotas(state.folder / "quotas.json").take_night(key_of("a", 1))
    kept = [file for file in state.folder.rglob("*.json") if file.is_file()]
    assert sorted(file.name for file in kept) == ["meta.json", "quotas.json", "sessions.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path / "state"))
    old, young = (state.folder / f"quotas.json.{name}.part" for name in ("0a", "0b"))
    for file in (old, young):
        file.write_text("{")
    os.utime(old, (0, old.stat().st_mtime - LEFT_S - 1))
    state.clean()
    assert (old.exists(), young.exists()) == (False, True)


# ------------------------------------------------------------------------------------ sessions


def test_one_key_does_not_end_the_sessions_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "MAX_SESSIONS", 4)
    monkeypatch.setattr(sign_in, "MAX_OF_KEY", 2)
    sessions = Sessions(clock=lambda: NOON)
    other = sessions.open("00000000")
    mine = [sessions.open("3f9a12cd") for _ in range(9)]
    assert sessions.key_id(other) == "00000000"
    assert [sessions.key_id(token) for token in mine[-3:]] == [None, "3f9a12cd", "3f9a12cd"]


def test_signing_in_is_a_request_of_the_minute(tmp_path: Path) -> None:
    text, _ = add_key(tmp_path / "keys.json", "clinic-a", requests_per_minute=2)

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        form = {"url": "/session", "data": {"key": text}, "headers": HERE}
        return [await client.post(**form) for _ in range(3)]  # type: ignore[arg-type]  # by name

    answers = call(tmp_path, steps)
    assert [a.status_code for a in answers] == [303, 303, 429]
    assert answers[2].json()["error"]["code"] == "quota_exceeded"
    assert 0 < int(answers[2].headers["retry-after"]) <= MINUTE_S
    assert "set-cookie" not in answers[2].headers


def test_a_session_of_a_revoked_key_lets_nobody_in_after_a_restart(tmp_path: Path) -> None:
    text, key = add_key(tmp_path / "keys.json", "clinic-a")
    add_key(tmp_path / "keys.json", "clinic-b")

    async def opened(client: httpx.AsyncClient) -> str:
        await client.post("/session", data={"key": text}, headers=HERE)
        return client.cookies["sleepmami_session"]

    cookie = {"cookie": f"sleepmami_session={call(tmp_path, opened)}"}
    assert call(tmp_path, lambda c: c.get("/v1/jobs/x", headers=cookie)).status_code == 404
    revoke_key(tmp_path / "keys.json", key.id)
    assert call(tmp_path, lambda c: c.get("/v1/jobs/x", headers=cookie)).status_code == 401


# --------------------------------------------------------------------- a job that is asked again


def test_the_last_nights_job_may_be_asked_for_again(tmp_path: Path) -> None:
    """Its answer was lost; the night was counted, and none is left for another."""
    text, _ = add_key(tmp_path / "keys.json", "clinic-a", nights_per_day=1)
    bearer = {"authorization": f"Bearer {text}"}

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        begun = await client.post("/v1/uploads", headers=bearer | TUS | {"upload-length": "3"})
        place = begun.headers["location"]
        part = {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
        await client.patch(place, content=b"edf", headers=bearer | TUS | part)
        wanted = {"upload_id": place.rpartition("/")[2]}

        async def job(**headers: str) -> httpx.Response:
            return await client.post("/v1/jobs", json=wanted, headers=bearer | headers)

        first, other = {"idempotency-key": "first"}, {"idempotency-key": "other"}
        return [await job(**headers) for headers in (first, first, other, {}, first)]

    made, again, new, bare, once_more = call(tmp_path, steps)
    assert [a.status_code for a in (made, again, new, bare, once_more)] == [202, 202, 429, 429, 202]
    assert made.json()["id"] == again.json()["id"] == once_more.json()["id"]
    for refused in (new, bare):
        assert refused.json()["error"]["code"] == "quota_exceeded"
        assert 5 < int(refused.headers["retry-after"]) <= DAY_S
