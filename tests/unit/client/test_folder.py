"""A folder of recordings: what is skipped, what fails, what stops, and that nothing is mixed."""

import asyncio
import json
import os
from pathlib import Path

import httpx
import numpy as np
import pytest

from sleepmami.client import AsyncClient, FolderSummary, Night
from sleepmami.errors import ApiError, ClientError, ConfigError
from tests.unit.client.fake_service import (
    AT_ONCE,
    URL,
    WEIGHTS,
    Answer,
    FakeService,
    client_of,
    error,
)

OTHER = "cd" * 32


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    """a.edf, b.edf (refused), deep/a.bdf and what is no recording."""
    folder = tmp_path / "nights"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.edf").write_bytes(b"first")
    (folder / "b.edf").write_bytes(b"bad one")
    (folder / "deep" / "a.bdf").write_bytes(b"the third")
    (folder / "notes.txt").write_bytes(b"no recording")
    return folder


def embed(service: FakeService, nights: Path, **settings: object) -> FolderSummary:
    with client_of(service) as client:
        return client.embed_folder(nights, nights.parent / "out", progress=False, **settings)  # type: ignore[arg-type]


def test_every_file_ends_as_a_result_or_a_code(nights: Path) -> None:
    summary = embed(FakeService(), nights)
    assert summary == FolderSummary(
        done=["a.edf", "deep/a.bdf"], failed={"b.edf": "not_an_edf"}, weights_sha256=WEIGHTS
    )
    assert str(summary) == "2 done, 0 skipped, 1 failed, not_an_edf 1"
    out = nights.parent / "out"
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert found == {"a.edf.npz", "deep/a.bdf.npz", "summary.json"}
    night = Night.load(out / "deep" / "a.bdf.npz").night
    assert night is not None
    assert night[0] == len(b"the third")
    told = json.loads((out / "summary.json").read_text())
    assert (told["done"], told["failed"]) == (summary.done, summary.failed)


def test_the_async_client_does_the_same(nights: Path) -> None:
    async def run() -> FolderSummary:
        transport = httpx.MockTransport(FakeService())
        async with AsyncClient(URL, retries=AT_ONCE, transport=transport) as client:
            return await client.embed_folder(nights, nights.parent / "async", progress=False)

    assert asyncio.run(run()) == embed(FakeService(), nights)


def test_what_is_done_is_skipped_and_what_changed_or_failed_is_not(nights: Path) -> None:
    embed(FakeService(), nights)
    service = FakeService()
    assert embed(service, nights).skipped == ["a.edf", "deep/a.bdf"]
    assert service.embedded == []
    (nights / "a.edf").write_bytes(b"longer than it was")
    (nights / "b.edf").write_bytes(b"good now")
    summary = embed(service, nights)
    assert (summary.done, summary.skipped) == (["a.edf", "b.edf"], ["deep/a.bdf"])
    assert sorted(service.embedded) == [b"good now", b"longer than it was"]


def test_results_of_other_weights_are_refused_before_anything_is_sent(nights: Path) -> None:
    embed(FakeService(), nights)
    (nights / "a.edf").unlink()  # its result stays, and counts
    (nights.parent / "out" / "deep" / "a.bdf.npz").unlink()
    service = FakeService(weights=OTHER)
    with pytest.raises(ClientError) as caught:
        embed(service, nights)
    assert caught.value.code == "weights_mixed"
    assert [request.url.path for request in service.seen] == ["/info"]


def test_weights_that_change_on_the_way_stop_the_run(nights: Path) -> None:
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        if len(service.embedded) == 1:
            service.weights = OTHER
        return None

    service.faults = faults
    (nights / "c.edf").write_bytes(b"fourth")
    summary = embed(service, nights, at_once=1)
    assert (summary.done, summary.stopped) == (["a.edf"], "weights_mixed")
    assert summary.failed == {"b.edf": "not_an_edf", "c.edf": "weights_mixed"}
    assert summary.not_tried == ["deep/a.bdf"]
    results = [Night.load(p) for p in (nights.parent / "out").rglob("*.npz")]
    assert {night.weights_sha256 for night in results} == {WEIGHTS}


def test_the_whole_run_names_one_model_so_that_no_canary_gets_a_share(nights: Path) -> None:
    service = FakeService()
    embed(service, nights)
    asked = [r for r in service.seen if r.url.path == "/v1/embeddings"]
    assert {r.url.params["model"] for r in asked} == {"default"}


def test_a_model_that_is_not_there_is_an_error(nights: Path) -> None:
    with pytest.raises(ApiError) as caught:
        embed(FakeService(), nights, model="another")
    assert caught.value.code == "model_unknown"


@pytest.mark.parametrize("settings", [{"level": "micro"}, {"dtype": "float16"}])
def test_results_of_other_settings_are_refused(nights: Path, settings: dict[str, str]) -> None:
    embed(FakeService(), nights)
    with pytest.raises(ClientError) as caught:
        embed(FakeService(), nights, **settings)
    assert caught.value.code == "folder_mismatch"


def test_a_file_of_somebody_elses_is_not_written_over(nights: Path) -> None:
    place = nights.parent / "out" / "a.edf.npz"
    place.parent.mkdir()
    np.savez(place, mine=np.zeros(3))
    before = place.read_bytes()
    with pytest.raises(ClientError) as caught:
        embed(FakeService(), nights)
    assert caught.value.code == "folder_mismatch"
    assert place.read_bytes() == before


def test_a_service_that_goes_away_ends_the_run_and_the_next_goes_on(nights: Path) -> None:
    service = FakeService()

    def faults(request: httpx.Request) -> Answer:
        return httpx.ConnectError("") if service.embedded else None

    service.faults = faults
    summary = embed(service, nights, at_once=1)
    assert (summary.done, summary.stopped) == (["a.edf"], "no_answer")
    assert summary.failed == {"b.edf": "no_answer"}
    assert summary.not_tried == ["deep/a.bdf"]
    assert embed(FakeService(), nights).done == ["deep/a.bdf"]


def test_a_key_that_is_refused_ends_the_run_at_once(nights: Path) -> None:
    def faults(request: httpx.Request) -> Answer:
        return error(401, "unauthorized") if request.url.path == "/v1/embeddings" else None

    service = FakeService(faults)
    summary = embed(service, nights, at_once=1)
    assert (summary.stopped, len(summary.not_tried)) == ("unauthorized", 2)
    assert len(service.seen) == 2


def test_a_file_that_cannot_be_read_is_one_failure(nights: Path) -> None:
    (nights / "gone.edf").symlink_to(nights / "nowhere")
    assert embed(FakeService(), nights).failed["gone.edf"] == "unreadable"


def test_a_file_whose_name_is_not_utf8_is_one_failure(nights: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(nights) + b"/caf\xe9.edf")).write_bytes(b"one more")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    summary = embed(FakeService(), nights)
    assert summary.failed["caf\\xe9.edf"] == "unreadable"
    assert "a.edf" in summary.done


def test_a_result_that_cannot_be_written_is_not_the_recordings_fault(nights: Path) -> None:
    out = nights.parent / "out"
    out.mkdir()
    (out / "deep").write_text("a file where the folder of a result should be")
    with pytest.raises(FileExistsError):
        embed(FakeService(), nights, at_once=1)
    assert (out / "a.edf.npz").exists()


def test_a_run_that_is_killed_leaves_whole_results_alone(nights: Path) -> None:
    """What a write leaves when it is killed is no result, and the run goes on."""
    out = nights.parent / "out"
    out.mkdir()
    (out / ".writing-0123").write_bytes(b"PK half a result")
    assert embed(FakeService(), nights).done == ["a.edf", "deep/a.bdf"]


def test_files_in_flight_are_bounded(nights: Path) -> None:
    for number in range(12):
        (nights / f"n{number:02}.edf").write_bytes(b"night")
    flying, most, three = 0, 0, asyncio.Event()

    async def count(request: httpx.Request) -> httpx.Response:
        nonlocal flying, most
        if request.method == "POST":
            flying += 1
            most = max(most, flying)
            if flying == 3:
                three.set()
            await asyncio.wait_for(three.wait(), 30)  # the first ones, for the third
            await asyncio.sleep(0)
            flying -= 1
        return service(request)

    service = FakeService()

    async def run() -> FolderSummary:
        async with AsyncClient(URL, transport=httpx.MockTransport(count)) as client:
            return await client.embed_folder(nights, nights.parent / "x", at_once=3, progress=False)

    assert len(asyncio.run(run()).done) == 14
    assert most == 3


def test_wrong_settings_are_refused(nights: Path) -> None:
    with pytest.raises(ConfigError):
        embed(FakeService(), nights, at_once=0)
    with pytest.raises(ConfigError):
        embed(FakeService(), nights / os.fspath("none"))
