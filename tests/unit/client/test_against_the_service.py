"""The client and the whole HTTP application with a real, tiny model, in one process."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from serve_apps.keys import add_key
from serve_apps.local_app import local_app
from sleepmami.client import AsyncClient, Client, Inspection, Night
from sleepmami.config import ServeConfig
from sleepmami.errors import ApiError, ConfigError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.inference.export import to_npz_bytes
from sleepmami.inference.windows import night_epochs, night_windows
from sleepmami.signals.preprocess import load_night
from tests.bundles import random_bundle
from tests.local_service import STAGES, random_staging_probe, served, write_recording
from tests.unit.client.fake_service import AT_ONCE
from tests.unit.serve_apps.test_cohort import write_cohort

BUNDLE = random_bundle()
PARTS = ("micro", "macro", "cycles", "night")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def edf(folder: Path) -> Path:
    write_recording(folder / "night.edf")
    return folder / "night.edf"


@pytest.fixture(scope="module")
def config(folder: Path) -> ServeConfig:
    assert BUNDLE.macro is not None
    nights = np.random.default_rng(1).standard_normal((5, 2 * BUNDLE.macro.model.dim))
    cohort = write_cohort(folder, nights.astype(np.float32), weights=BUNDLE.weights_sha256)
    return ServeConfig(windows_per_batch=4, cohort=cohort, state_dir=str(folder / "state"))


def app_of(config: ServeConfig) -> FastAPI:
    return local_app(BUNDLE, config=config, staging=random_staging_probe(BUNDLE))


@pytest.fixture(scope="module")
def client(config: ServeConfig) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with served(app_of(config)) as url, Client(url) as client:
            yield client


@pytest.fixture(scope="module")
def expected(edf: Path) -> NightEmbedding:
    night = load_night(edf.read_bytes(), BUNDLE.preprocess, recording_id="night")
    return Embedder(BUNDLE, windows_per_batch=4).night(night)


def asked(app: FastAPI, steps: Callable[[AsyncClient], Awaitable[Any]], **settings: Any) -> Any:
    """What `steps` returns of an async client to the running application."""

    async def run() -> Any:
        settings.setdefault("transport", httpx.ASGITransport(app))
        client = AsyncClient("http://127.0.0.1", retries=AT_ONCE, **settings)
        async with app.router.lifespan_context(app), client:
            return await steps(client)

    return asyncio.run(run())


def same(night: Night, expected: NightEmbedding) -> None:
    for name in PARTS:
        found = getattr(night, name)
        assert np.abs(found - getattr(expected, name)).max(initial=0) <= 1e-5
        assert found.shape == getattr(expected, name).shape
    assert np.array_equal(night.modality_valid, expected.modality_valid)
    assert np.array_equal(night.epoch_valid, expected.epoch_valid)
    assert night.weights_sha256 == BUNDLE.weights_sha256


def test_a_body_an_upload_a_job_and_the_library_agree(
    client: Client, edf: Path, expected: NightEmbedding
) -> None:
    same(client.embed(edf), expected)
    same(client.embed(edf.read_bytes()), expected)
    with Client(client.url, part_bytes=20_000) as small:  # several parts
        same(small.embed(edf), expected)
        job = small.submit(edf, progress=False)
    assert client.job(job.id).wait(progress=False).state == "done"
    same(client.job(job.id).embeddings(), expected)


def test_the_async_client_agrees(config: ServeConfig, edf: Path, expected: NightEmbedding) -> None:
    async def steps(client: AsyncClient) -> tuple[Night, Night, list[str]]:
        job = await client.submit(edf, progress=False)
        states = [status.state async for status in job.events()]
        await job.wait(progress=False)
        return await client.embed(edf), await job.embeddings(), states

    body, of_job, states = asked(app_of(dataclasses.replace(config, state_dir=None)), steps)
    same(body, expected)
    same(of_job, expected)
    assert states[-1] == "done"


def test_uploads_leave_nothing_at_the_service(client: Client, edf: Path, folder: Path) -> None:
    uploads = folder / "state" / "uploads"
    before = set(uploads.iterdir())
    with Client(client.url, part_bytes=20_000) as small:
        small.embed(edf, level="night")
        small.inspect(edf)
    job = client.submit(edf, progress=False)
    assert set(uploads.iterdir()) != before
    job.delete()
    job.delete()  # gone is no error
    assert set(uploads.iterdir()) == before
    with pytest.raises(ApiError) as caught:
        job.status()
    assert caught.value.code == "job_not_found"


def test_levels_and_number_types_are_those_asked_for(client: Client, edf: Path) -> None:
    night = client.embed(edf, level=["micro", "second"], dtype="float16")
    assert night.micro is not None
    assert night.second is not None
    assert (night.micro.dtype, night.second.shape[0]) == (np.float16, 120)
    assert night.macro is night.night is night.cycles is None


def test_inspection_tells_what_is_used(client: Client, edf: Path) -> None:
    found = client.inspect(edf)
    assert isinstance(found, Inspection)
    assert (found.ok, found.modalities) == (True, ["EEG", "EOG", "EMG"])
    assert [channel["decision"] for channel in found.channels] == ["used"] * 3
    refused = client.inspect(b"x" * 300)
    assert (refused.ok, refused.code) == (False, "not_an_edf")


def test_a_recording_that_is_none_is_refused_with_the_services_code(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.embed(b"x" * 300)
    assert (caught.value.code, caught.value.status) == ("not_an_edf", 400)
    with pytest.raises(ApiError) as caught:
        client.submit(b"x" * 300, progress=False).wait(progress=False)
    assert caught.value.code == "not_an_edf"
    with pytest.raises(ApiError) as caught:
        client.embed(b"")
    assert caught.value.code == "empty_body"


def test_a_job_asked_for_again_after_a_lost_answer_is_one_job(
    config: ServeConfig, edf: Path, tmp_path: Path
) -> None:
    class LoseAnswers(httpx.AsyncBaseTransport):
        """The service does what it is asked for; the first answer of each route is lost."""

        def __init__(self, app: FastAPI) -> None:
            self.inner = httpx.ASGITransport(app)
            self.lost: set[str] = set()

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await self.inner.handle_async_request(request)
            route = f"{request.method} {request.url.path}"
            if request.method == "POST" and route not in self.lost:
                self.lost.add(route)
                raise httpx.ReadError("lost")
            return answer

    async def steps(client: AsyncClient) -> Night:
        job = await client.submit(edf, progress=False)
        await job.wait(progress=False)
        return await job.embeddings()

    app = app_of(dataclasses.replace(config, state_dir=str(tmp_path)))
    transport = LoseAnswers(app)
    asked(app, steps, transport=transport)
    assert transport.lost == {"POST /v1/uploads", "POST /v1/jobs"}
    assert len(list((tmp_path / "jobs").iterdir())) == 1
    assert len(list((tmp_path / "uploads").iterdir())) == 1


def test_an_upload_to_the_real_store_survives_ten_cuts(config: ServeConfig, edf: Path) -> None:
    data = edf.read_bytes()
    cuts = sorted(np.random.default_rng(0).integers(0, len(data), 10).tolist())
    assert len(set(cuts)) == 10

    class Cut(httpx.AsyncBaseTransport):
        """The connection breaks when so many bytes of the file have gone out, once each."""

        def __init__(self, app: FastAPI) -> None:
            self.inner = httpx.ASGITransport(app)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method != "PATCH":
                return await self.inner.handle_async_request(request)
            first, content = int(request.headers["upload-offset"]), await request.aread()
            due = [cut for cut in cuts if first <= cut < first + len(content)]
            if not due:
                return await self.inner.handle_async_request(request)
            cuts.remove(due[0])

            async def body() -> Any:
                yield content[: due[0] - first]
                raise ClientDisconnect

            broken = httpx.Request("PATCH", request.url, headers=request.headers, content=body())
            with pytest.raises(AssertionError):  # of httpx: the service has nobody to answer
                await self.inner.handle_async_request(broken)
            raise httpx.WriteError("cut")

    async def steps(client: AsyncClient) -> Path:
        upload = await client.upload(edf, progress=False)
        (stored,) = [p for p in Path(own.state_dir or "").rglob("data") if upload.id in str(p)]
        assert stored.read_bytes() == data
        return stored

    own = dataclasses.replace(config, state_dir=str(edf.parent / "cuts"))
    app = app_of(own)
    asked(app, steps, transport=Cut(app), part_bytes=10_000)
    assert cuts == []


def test_a_hypnogram_and_a_report_come_with_the_job(
    client: Client, edf: Path, tmp_path: Path
) -> None:
    job = client.submit(edf, progress=False)
    job.wait(progress=False)
    found = job.hypnogram()
    assert len(found.stages) == 4
    assert set(found.classes) == set(STAGES)
    assert found.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert found.confidence == pytest.approx(found.probabilities.max(axis=1))
    job.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_neighbours_are_found_by_each_way_to_name_a_night(client: Client, edf: Path) -> None:
    stored = client.recording("r-2", level="night")
    assert stored.night is not None
    assert client.neighbors(stored, 1).neighbors[0].recording_id == "r-2"
    by_vector = client.neighbors(stored.night, 2, weights_sha256=stored.weights_sha256)
    assert by_vector.neighbors[0].similarity == pytest.approx(1, abs=1e-6)
    by_id = client.neighbors("r-2", 1).neighbors
    assert by_id == by_vector.neighbors[1:]  # not its own neighbour
    job = client.submit(edf, progress=False)
    job.wait(progress=False)
    alike = client.neighbors(job, 5).neighbors
    assert alike == client.neighbors(job.embeddings("night"), 5).neighbors
    assert len(alike) == 5


def test_a_vector_of_unknown_or_other_weights_is_refused(client: Client) -> None:
    vector = np.zeros(16, np.float32)
    for night, weights in ((vector, None), ("r-2", "ab"), (vector[None], "ab")):
        with pytest.raises(ConfigError):
            client.neighbors(night, weights_sha256=weights)
    with pytest.raises(ConfigError):
        client.neighbors(client.recording("r-1", level="micro"))
    with pytest.raises(ApiError) as caught:
        client.neighbors(vector, weights_sha256="ab" * 32)
    assert caught.value.code == "weights_mismatch"


def test_encoded_windows_are_the_nights_micro_vectors(
    client: Client, edf: Path, expected: NightEmbedding
) -> None:
    night = load_night(edf.read_bytes(), BUNDLE.preprocess, recording_id="night")
    encoded = client.encode(night_windows(night))
    micro = night_epochs(encoded.micro, night.num_epochs).reshape(night.num_epochs, -1)
    assert np.abs(micro - expected.micro).max() <= 1e-5
    assert encoded.info["weights_sha256"] == BUNDLE.weights_sha256


def test_a_table_is_that_of_the_services_arrow_answer(client: Client, edf: Path) -> None:
    headers = {"accept": "application/vnd.apache.arrow.stream", "content-type": "application/edf"}
    query = "level=all&level=second&dtype=float16"
    answer = httpx.post(
        f"{client.url}/v1/embeddings?{query}", content=edf.read_bytes(), headers=headers, timeout=60
    )
    expected = pa.ipc.open_stream(answer.content).read_all()
    table = client.embed(edf, level=["all", "second"], dtype="float16").to_table()
    assert table.equals(expected, check_metadata=True)


def test_a_night_is_read_as_it_was_saved(
    client: Client, edf: Path, tmp_path: Path, expected: NightEmbedding
) -> None:
    client.embed(edf).save(tmp_path / "night.npz")
    same(Night.load(tmp_path / "night.npz"), expected)
    (tmp_path / "library.npz").write_bytes(to_npz_bytes(expected))  # of `embed file`
    same(Night.load(tmp_path / "library.npz"), expected)


def test_a_folder_is_embedded_by_the_service(
    client: Client, folder: Path, expected: NightEmbedding, tmp_path: Path
) -> None:
    nights = tmp_path / "nights"
    nights.mkdir()
    (nights / "a.edf").write_bytes((folder / "night.edf").read_bytes())
    (nights / "b.edf").write_bytes(b"no edf")
    summary = client.embed_folder(nights, tmp_path / "out", progress=False)
    assert (summary.done, summary.failed) == (["a.edf"], {"b.edf": "not_an_edf"})
    same(Night.load(tmp_path / "out" / "a.edf.npz"), expected)


def test_info_tells_the_model(client: Client) -> None:
    assert client.info()["model"]["weights_sha256"] == BUNDLE.weights_sha256


def test_a_service_with_keys_asks_for_one(config: ServeConfig, edf: Path, tmp_path: Path) -> None:
    key, _ = add_key(tmp_path / "keys.json", "lab")
    own = dataclasses.replace(config, state_dir=None, keys_file=str(tmp_path / "keys.json"))

    async def steps(client: AsyncClient) -> str:
        return (await client.embed(edf, level="night")).model_id

    assert asked(app_of(own), steps, key=key) == BUNDLE.model_id
    for wrong in (None, "smm_wrong"):
        with pytest.raises(ApiError) as caught:
            asked(app_of(own), steps, key=wrong)
        assert (caught.value.code, caught.value.status) == ("unauthorized", 401)


def test_bars_are_drawn_on_standard_error(
    client: Client, edf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.submit(edf).wait()
    captured = capsys.readouterr()
    assert "upload" in captured.err
    assert "night.edf" not in captured.err
    assert captured.out == ""
