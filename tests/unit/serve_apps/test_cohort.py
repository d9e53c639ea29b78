"""A cohort's table served beside the model: stored embeddings, and nights like one night."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serve_apps.cohort import Cohort
from serve_apps.http_errors import HttpError
from serve_apps.wire import redacted
from sleepmami.errors import ServiceError, TableError
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.tables import lance_io
from sleepmami.tables.embedding_rows import night_embedding_row
from sleepmami.tables.schemas import night_embeddings_schema, provenance, rows_table
from tests.unit.serve_apps.fakes import FakeBackend, call, error_of, finished_job, upload

WEIGHTS = "ab" * 32  # of the fake backend's model
DIM = 4


def write_cohort(folder: Path, night_ND: np.ndarray, weights: str = WEIGHTS) -> str:
    """Nights r-0, r-1, ... of two epochs with these night vectors."""
    rows = [
        night_embedding_row(
            recording_id=f"r-{number}",
            subject_id=f"s-{number}",
            cohort="c",
            split="train",
            source_hash=None,
            micro=np.full((2, 12), number, np.float32),
            macro=np.full((2, DIM), number + 0.5, np.float32),
            night=night,
            epoch_valid=np.array([True, False]),
            modality_valid=np.ones((2, 6), bool),
            demographics=None,
            hypnogram=None,
            model_id="m-1",
            weights_sha256=weights,
            channels_used=["EEG=C4 JANE-DOE", "SPO2=SaO2"],
            modalities_missing=["EOG"],
        )
        for number, night in enumerate(night_ND)
    ]
    uri = str(folder / "night_embeddings.lance")
    schema = night_embeddings_schema()
    fragments = lance_io.write_fragments(rows_table(rows, schema), uri, schema)
    lance_io.commit(uri, fragments, schema, metadata=provenance({}))
    return str(folder)


@pytest.fixture
def nights() -> np.ndarray:
    """Directions in a plane: 0, 10, 90 and 180 degrees."""
    angle = np.radians([0, 10, 90, 180])
    columns = [np.cos(angle), np.sin(angle), 0 * angle, 0 * angle]
    return 3 * np.stack(columns, axis=1).astype(np.float32)


@pytest.fixture
def cohort(tmp_path: Path, nights: np.ndarray) -> Cohort:
    return Cohort(write_cohort(tmp_path, nights), tmp_path)


def test_neighbors_are_sorted_by_cosine(cohort: Cohort) -> None:
    found = cohort.neighbors(np.array([2, 0, 0, 0], np.float32), 3)
    assert [alike.recording_id for alike in found] == ["r-0", "r-1", "r-2"]
    # cos 0, cos 10 and cos 90 degrees
    assert [alike.similarity for alike in found] == pytest.approx([1, 0.98481, 0], abs=1e-5)


def test_a_night_is_not_its_own_neighbor(cohort: Cohort) -> None:
    found = cohort.neighbors(cohort.night_vector("r-1"), 9, without="r-1")
    assert [alike.recording_id for alike in found] == ["r-0", "r-2", "r-3"]


def test_an_index_finds_what_a_full_comparison_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((30, 16))
    nights = centres[np.arange(900) % 30] + 0.05 * rng.standard_normal((900, 16))
    folder = write_cohort(tmp_path, nights.astype(np.float32))
    exact = Cohort(folder, tmp_path)
    index = Cohort(folder, tmp_path, exact_nights=100)
    assert exact.is_exact
    assert not index.is_exact
    found = 0
    for row in range(0, 900, 45):
        wanted = {
            a.recording_id: a.similarity
            for a in exact.neighbors(nights[row].astype(np.float32), 10)
        }
        got = {
            a.recording_id: a.similarity
            for a in index.neighbors(nights[row].astype(np.float32), 10)
        }
        found += len(set(wanted) & set(got))
        for name in set(wanted) & set(got):
            assert got[name] == pytest.approx(wanted[name], abs=1e-4)
    assert found >= 190  # of 200
    assert list(tmp_path.glob("cohort-*.lance"))  # kept: the next start need not build it
    again = Cohort(folder, tmp_path, exact_nights=100)
    assert again.neighbors(nights[0].astype(np.float32), 1)[0].recording_id == "r-0"


@pytest.mark.parametrize(
    "vector", [[1, 0, 0], [0, 0, 0, 0], [np.nan, 0, 0, 0], [np.inf, 1, 0, 0], [[1, 0, 0, 0]]]
)
def test_a_vector_without_direction_is_refused(cohort: Cohort, vector: Any) -> None:
    with pytest.raises(HttpError, match="request_invalid"):
        cohort.neighbors(np.array(vector, np.float32), 1)


def test_a_cohort_of_two_models_is_refused(tmp_path: Path, nights: np.ndarray) -> None:
    write_cohort(tmp_path, nights)
    write_cohort(tmp_path, nights, weights="cd" * 32)
    with pytest.raises(ServiceError, match="2 models; expected those of one"):
        Cohort(str(tmp_path), tmp_path)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="found no table"):
        Cohort(str(tmp_path), tmp_path)


# ------------------------------------------------------------------------------------- over HTTP


@pytest.fixture
def backend(embedding: NightEmbedding) -> FakeBackend:
    return FakeBackend(redacted(embedding))


def ask(backend: FakeBackend, cohort: Cohort | None, steps: Any) -> Any:
    return call(backend, steps, parts={"cohort": cohort})


def test_a_stored_recording_is_answered_without_its_labels(
    backend: FakeBackend, cohort: Cohort
) -> None:
    answer = ask(backend, cohort, lambda c: c.get("/v1/recordings/r-2/embeddings?encoding=float"))
    found = answer.json()
    assert found["recording_id"] == "r-2"
    assert found["weights_sha256"] == WEIGHTS
    assert found["macro"]["data"] == [[2.5] * 4] * 2
    assert found["epoch_valid"] == [True, False]
    assert found["channels_used"] == [{"modality": "EEG"}, {"modality": "SPO2"}]
    assert "cycles" not in found
    assert "JANE-DOE" not in answer.text


def test_a_stored_recording_comes_in_the_format_asked_for(
    backend: FakeBackend, cohort: Cohort, nights: np.ndarray
) -> None:
    headers = {"accept": "application/x-npz"}
    path = "/v1/recordings/r-1/embeddings?level=night&dtype=float16"
    answer = ask(backend, cohort, lambda c: c.get(path, headers=headers))
    npz = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert np.array_equal(npz["night"], nights[1].astype(np.float16))
    assert "macro" not in npz.files


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("r-9/embeddings", (404, "recording_not_found")),
        ("r-1' OR '1'='1/embeddings", (404, "recording_not_found")),
        ("..%2f..%2fetc/embeddings", (404, "not_found")),
        ("r-1/embeddings?level=second", (422, "request_invalid")),
    ],
)
def test_what_the_cohort_does_not_have_is_refused(
    backend: FakeBackend, cohort: Cohort, path: str, expected: tuple[int, str]
) -> None:
    answer = ask(backend, cohort, lambda client: client.get(f"/v1/recordings/{path}"))
    assert error_of(answer) == expected


def neighbors(backend: FakeBackend, cohort: Cohort | None, **body: Any) -> httpx.Response:
    answer: httpx.Response = ask(backend, cohort, lambda c: c.post("/v1/neighbors", json=body))
    return answer


def test_neighbors_of_a_vector_and_of_a_recording(backend: FakeBackend, cohort: Cohort) -> None:
    of_vector = neighbors(backend, cohort, vector=[0, 5, 0, 0], weights_sha256=WEIGHTS, k=1).json()
    assert of_vector["neighbors"] == [{"recording_id": "r-2", "similarity": 1.0}]
    assert of_vector["exact"] is True
    assert of_vector["num_recordings"] == 4
    of_night = neighbors(backend, cohort, recording_id="r-3", k=2).json()
    assert [n["recording_id"] for n in of_night["neighbors"]] == ["r-2", "r-1"]


def test_neighbors_of_a_job(backend: FakeBackend, cohort: Cohort, nights: np.ndarray) -> None:
    async def steps(client: httpx.AsyncClient) -> httpx.Response:
        job = await finished_job(client, await upload(client))
        return await client.post("/v1/neighbors", json={"job_id": job["id"], "k": 4})

    backend.outcome.night[:] = nights[2] * 7  # type: ignore[union-attr]
    found = ask(backend, cohort, steps).json()["neighbors"]
    assert found[0] == {"recording_id": "r-2", "similarity": 1.0}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "request_invalid")),
        ({"vector": [1, 0, 0, 0]}, (422, "request_invalid")),  # of which weights?
        ({"recording_id": "r-1", "weights_sha256": WEIGHTS}, (422, "request_invalid")),
        ({"recording_id": "r-1", "job_id": "a" * 26}, (422, "request_invalid")),
        ({"recording_id": "r-1", "k": 0}, (422, "request_invalid")),
        ({"recording_id": "r-1", "k": 101}, (422, "request_invalid")),
        ({"vector": [1, 0], "weights_sha256": WEIGHTS}, (422, "request_invalid")),
        ({"vector": [1e39, 0, 0, 0], "weights_sha256": WEIGHTS}, (422, "request_invalid")),
        ({"vector": [1, 0, 0, 0], "weights_sha256": "cd" * 32}, (409, "weights_mismatch")),
        ({"recording_id": "r-9"}, (404, "recording_not_found")),
        ({"job_id": "a" * 26}, (404, "job_not_found")),
    ],
)
def test_a_wrong_question_about_neighbors_is_refused(
    backend: FakeBackend, cohort: Cohort, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert error_of(neighbors(backend, cohort, **body)) == expected


def test_a_service_without_a_cohort_says_so(backend: FakeBackend) -> None:
    assert error_of(neighbors(backend, None, recording_id="r-1")) == (404, "no_cohort")
    answer = ask(backend, None, lambda c: c.get("/v1/recordings/r-1/embeddings"))
    assert error_of(answer) == (404, "no_cohort")


def test_a_job_of_another_model_is_refused(
    backend: FakeBackend, tmp_path: Path, nights: np.ndarray
) -> None:
    other = Cohort(write_cohort(tmp_path, nights, weights="cd" * 32), tmp_path)

    async def steps(client: httpx.AsyncClient) -> httpx.Response:
        job = await finished_job(client, await upload(client))
        return await client.post("/v1/neighbors", json={"job_id": job["id"]})

    assert error_of(ask(backend, other, steps)) == (409, "weights_mismatch")
