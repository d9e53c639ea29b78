"""What a job leaves: its embedding in every format, the picture of the night and the report."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from serve_apps.backend import Refusal
from serve_apps.wire import redacted
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.psg import Modality
from sleepmami.report.night_overview import Overview, Trace
from tests.unit.serve_apps.fakes import FakeBackend, call, error_of, finished_job, upload

OVERVIEW = Overview(
    num_epochs=3,
    traces=(
        Trace(
            modality=Modality.EEG,
            unit="dB",
            bands_hz=(0.5, 1.0, 1.5),
            low=-3.0,
            high=4.0,
            values=np.array([[0, 255], [1, 2], [3, 4]], np.uint8),
            usable=np.array([True, False, True]),
        ),
    ),
)


@pytest.fixture
def backend(embedding: NightEmbedding) -> FakeBackend:
    return FakeBackend(redacted(embedding))


async def _finish(client: httpx.AsyncClient) -> dict[str, Any]:
    return await finished_job(client, await upload(client))


def test_a_job_ends_with_its_embedding_in_every_format(
    backend: FakeBackend, embedding: NightEmbedding
) -> None:
    async def steps(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
        job = await finished_job(client, await upload(client, b"an edf"))
        assert (job["state"], job["done"], job["total"], job["error"]) == ("done", 1, 1, None)
        assert "report.html" in job["results"]
        assert job["weights_sha256"] == "ab" * 32
        assert "hypnogram.json" not in job["results"]
        return {
            suffix: await client.get(f"/v1/jobs/{job['id']}/embeddings.{suffix}")
            for suffix in ("arrow", "npz", "parquet", "safetensors")
        }

    files = call(backend, steps)
    arrow = pa.ipc.open_file(files["arrow"].content).read_all()
    parquet = pq.read_table(io.BytesIO(files["parquet"].content))
    npz = np.load(io.BytesIO(files["npz"].content), allow_pickle=False)
    tensors = safetensors.numpy.load(files["safetensors"].content)
    assert backend.bodies == [b"an edf"]
    assert arrow.equals(parquet)
    for found in (np.array(arrow["macro"].to_pylist(), np.float32), npz["macro"], tensors["macro"]):
        assert np.array_equal(found, embedding.macro)
    assert np.array_equal(npz["night"], embedding.night)
    assert files["npz"].headers["content-disposition"] == 'attachment; filename="embeddings.npz"'


def test_a_part_of_the_file_can_be_asked_for(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = f"/v1/jobs/{(await finished_job(client, await upload(client)))['id']}"
        return [
            await client.get(f"{place}/embeddings.npz?level=night&level=macro&dtype=float16"),
            await client.get(f"{place}/embeddings.npz?level=second"),
            await client.get(f"{place}/embeddings.npz?levle=night"),
            await client.get(f"{place}/embeddings.pt"),
        ]

    part, *refused = call(backend, steps)
    npz = np.load(io.BytesIO(part.content))
    assert set(npz.files) == {"macro", "cycles", "night", "info", "epoch_valid", "modality_valid"}
    assert npz["macro"].dtype == np.float16
    assert [error_of(answer) for answer in refused] == [(422, "request_invalid")] * 3


def test_results_outlive_the_service(
    backend: FakeBackend, embedding: NightEmbedding, tmp_path: Path
) -> None:
    job = call(backend, _finish, state=tmp_path)
    path = f"/v1/jobs/{job['id']}/embeddings.npz"
    answer = call(FakeBackend(Refusal("x")), lambda c: c.get(path), state=tmp_path)
    assert np.array_equal(np.load(io.BytesIO(answer.content))["micro"], embedding.micro)


def test_the_overview_is_what_the_backend_drew(backend: FakeBackend) -> None:
    backend.steps = (OVERVIEW,)

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        job = await finished_job(client, await upload(client))
        assert "overview.json" in job["results"]
        return [
            await client.get(f"/v1/jobs/{job['id']}/{name}")
            for name in ("overview.json", "report.html")
        ]

    overview, report = call(backend, steps)
    assert overview.json()["channels"][0]["data"] == "AP8BAgME"  # 00 ff 01 02 03 04
    assert overview.json()["channels"][0]["bands_hz"] == [0.5, 1.0, 1.5]
    assert "Channels over the night" in report.text
    assert "default-src 'none'" in report.headers["content-security-policy"]


def test_without_overview_and_probe_the_answers_say_so(backend: FakeBackend) -> None:
    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        place = f"/v1/jobs/{(await finished_job(client, await upload(client)))['id']}"
        names = ("overview.json", "hypnogram.json", "hypnogram.tsv")
        return [await client.get(f"{place}/{name}") for name in names]

    assert [error_of(answer) for answer in call(backend, steps)] == [
        (404, "no_overview"),
        (404, "no_staging_probe"),
        (404, "no_staging_probe"),
    ]


def test_nothing_of_the_recording_is_in_the_jobs_folder_but_the_results(
    backend: FakeBackend, tmp_path: Path
) -> None:
    call(backend, _finish, state=tmp_path)
    written = {path.name for path in (tmp_path / "jobs").rglob("*") if path.is_file()}
    assert written == {"job.json", "embedding.npz"}
    assert all(b"JANE-DOE" not in path.read_bytes() for path in tmp_path.rglob("*.npz"))
