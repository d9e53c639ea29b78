"""One recording, four ways in: library, `embed file`, `embed cohort` and HTTP say the same.

In float32 with a batch size of its own for each; in bfloat16, whose rounding follows the shapes of
the products, with the same one, and with both halves heard.
"""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from sleepmami.config import EmbedConfig, IngestConfig, Precision, ServeConfig, SimulateConfig
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.psg import MODALITIES
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.cohort import write_cohort
from sleepmami.tables import lance_io
from sleepmami.tables.rows import read_night_embeddings
from sleepmami.training.checkpoint import load_bundle

pytestmark = pytest.mark.ray

ARRAYS = ("micro", "macro", "night")
MASKS = ("epoch_valid", "modality_valid")
MADE = ("simulated", "sparse")
REAL = ("Osas2002plusQRS", "short_psg")
BATCHES: dict[Precision, tuple[int, int, int, int]] = {
    "float32": (3, 4, 5, 2),
    "bfloat16": (4,) * 4,
}
TYPES = ("application/json", "application/vnd.apache.arrow.stream", "application/x-npz")


@dataclass
class Answer:
    """What one way in says of a recording."""

    arrays: dict[str, NDArray[Any]]
    missing: list[str]
    precision: str
    hashes: tuple[str, str]
    channels: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def recordings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The made-up recordings, and the real ones where they are there; all in one folder."""
    folder = tmp_path_factory.mktemp("parity")
    write_cohort(str(folder), SimulateConfig(num_subjects=1, duration_h=0.1), lambda *_: None)
    (simulated,) = (folder / "edf").iterdir()
    simulated.rename(folder / "edf" / "simulated.edf")
    write_sparse(folder / "edf" / "sparse.edf")
    try:
        real = request.getfixturevalue("shared_data") / "psg"
    except pytest.skip.Exception:
        pass
    else:
        for name in REAL:
            shutil.copy(real / f"{name}.edf", folder / "edf")
    return {path.stem: path for path in (folder / "edf").iterdir()}


def write_sparse(path: Path) -> None:
    """Seven epochs of an electrode, its reference and an ECG with a dead third epoch."""
    rng = np.random.default_rng(2)
    seconds, rate = 210, 128
    signals = {label: rng.normal(0, 30, seconds * rate) for label in ("C4", "M1", "ECG")}
    signals["ECG"][60 * rate : 90 * rate] = 0
    write_edf(
        path,
        [
            WriteChannel(
                label=label,
                unit="uV",
                sample_rate_hz=rate,
                samples=samples,
                physical_min=-500.0,
                physical_max=500.0,
            )
            for label, samples in signals.items()
        ],
    )


@pytest.fixture(scope="module", params=BATCHES)
def precision(request: pytest.FixtureRequest) -> Precision:
    found: Precision = request.param
    return found


@pytest.fixture(scope="module")
def library(
    bundle_folder: str, recordings: dict[str, Path], precision: Precision
) -> dict[str, NightEmbedding]:
    loaded = load_bundle(bundle_folder)
    batch, *_ = BATCHES[precision]
    both = precision == "bfloat16"
    embedder = Embedder(loaded, windows_per_batch=batch, precision=precision, both_halves=both)
    return {
        name: embedder.night(load_night(path, loaded.preprocess, recording_id=name))
        for name, path in recordings.items()
    }


@pytest.fixture(scope="module")
def corpus(
    ray_cluster: object, recordings: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> str:
    from pipelines.ingest_edf import ingest

    corpus = str(tmp_path_factory.mktemp("ingested") / "corpus")
    edfs = str(next(iter(recordings.values())).parent)
    ingest(edfs, corpus, IngestConfig(recording_ids="file_name"))
    return corpus


@pytest.fixture(scope="module")
def cohort(
    corpus: str,
    bundle_folder: str,
    precision: Precision,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Answer]:
    from pipelines.embed_nights import embed_cohort

    folder = tmp_path_factory.mktemp("cohort")
    config = EmbedConfig(
        windows_per_batch=BATCHES[precision][2],
        precision=precision,
        both_halves=precision == "bfloat16",
    )
    table = embed_cohort(corpus, bundle_folder, str(folder / "out"), config)
    return {
        night.recording_id: Answer(
            arrays={name: getattr(night, name) for name in ARRAYS + MASKS},
            missing=list(night.modalities_missing),
            precision=json.loads(lance_io.metadata(table)["config"])["embed"]["precision"],
            hashes=(night.model_id, night.weights_sha256),
            channels=[
                dict(zip(("modality", "label"), used.split("=", 1), strict=True))
                for used in night.channels_used
            ],
        )
        for night in read_night_embeddings(lance_io.read_table(table))
    }


@pytest.fixture(scope="module")
def url(ray_cluster: object, bundle_folder: str, precision: Precision) -> Iterator[str]:
    from serve_apps.embedding_app import start, stop

    config = ServeConfig(
        port=0,
        windows_per_batch=BATCHES[precision][3],
        precision=precision,
        both_halves=precision == "bfloat16",
    )
    yield start(bundle_folder, config)
    stop()


def from_info(arrays: dict[str, NDArray[Any]], info: dict[str, Any]) -> Answer:
    return Answer(
        arrays=arrays,
        missing=info["modalities_missing"],
        precision=info["precision"],
        hashes=(info["model_id"], info["weights_sha256"]),
        channels=info["channels_used"],
    )


def from_npz(data: bytes) -> Answer:
    archive = np.load(io.BytesIO(data), allow_pickle=False)
    return from_info(
        {name: archive[name] for name in ARRAYS + MASKS}, json.loads(str(archive["info"]))
    )


def from_table(table: pa.Table) -> Answer:
    metadata = table.schema.metadata
    arrays = {name: np.array(table[name].to_pylist()) for name in ("micro", "macro", *MASKS)} | {
        "night": np.frombuffer(base64.b64decode(metadata[b"sleepmami.night"]), "<f4")
    }
    return from_info(arrays, json.loads(metadata[b"sleepmami.info"]))


def from_json(data: bytes) -> Answer:
    document = json.loads(data)
    arrays = {
        name: np.frombuffer(base64.b64decode(document[name]["data"]), "<f4").reshape(
            document[name]["shape"]
        )
        for name in ARRAYS
    } | {name: np.array(document[name]) for name in MASKS}
    return from_info(arrays, document)


def assert_agrees(found: Answer, expected: NightEmbedding) -> None:
    for name in ARRAYS:
        assert found.arrays[name].shape == getattr(expected, name).shape
        np.testing.assert_allclose(found.arrays[name], getattr(expected, name), atol=1e-5, rtol=0)
    for name in MASKS:
        np.testing.assert_array_equal(found.arrays[name], getattr(expected, name))
    assert found.missing == expected.info["modalities_missing"]
    assert found.precision == expected.info["precision"]
    assert found.hashes == (expected.info["model_id"], expected.info["weights_sha256"])


def only(channels: list[dict[str, str]], *keys: str) -> list[dict[str, str]]:
    return [{key: channel[key] for key in keys} for channel in channels]


@pytest.fixture(params=MADE + REAL)
def name(request: pytest.FixtureRequest, recordings: dict[str, Path]) -> str:
    found: str = request.param
    if found not in recordings:
        pytest.skip("no real recordings; set SLEEPMAMI_TEST_DATA")
    return found


def test_the_recordings_are_worth_comparing(library: dict[str, NightEmbedding]) -> None:
    """All six modalities, two, a derivation, an odd number of epochs and a dead one are there."""
    whole, sparse = library["simulated"], library["sparse"]
    assert whole.info["modalities_missing"] == []
    assert sparse.info["modalities_missing"] == ["EOG", "EMG", "RESP", "SPO2"]
    assert [c["derivation"] for c in sparse.info["channels_used"]] == [
        "rereferenced",
        "as_recorded",
    ]
    assert sparse.modality_valid[:, MODALITIES.index("ECG")].tolist() == [1, 1, 0, 1, 1, 1, 1]
    for embedding in library.values():
        assert np.isfinite(embedding.macro).all()
        assert embedding.micro[embedding.epoch_valid].any(axis=1).all()


def test_bfloat16_keeps_the_direction_of_every_epoch_vector(
    precision: Precision,
    library: dict[str, NightEmbedding],
    recordings: dict[str, Path],
    bundle_folder: str,
) -> None:
    """Simulated and real recordings; in float32 it compares one batch size with another."""
    loaded = load_bundle(bundle_folder)
    exact = Embedder(loaded, windows_per_batch=7, both_halves=precision == "bfloat16")
    for name, found in library.items():
        expected = exact.night(load_night(recordings[name], loaded.preprocess, recording_id=name))
        one, two = found.micro.astype(np.float64), expected.micro.astype(np.float64)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        there = found.epoch_valid
        assert ((one * two).sum(1)[there] / lengths[there]).min() >= 0.9999, name


@pytest.mark.parametrize("suffix", [".npz", ".arrow", ".parquet"])
def test_embed_file_agrees_with_the_library(
    suffix: str,
    name: str,
    library: dict[str, NightEmbedding],
    recordings: dict[str, Path],
    bundle_folder: str,
    precision: Precision,
    tmp_path: Path,
) -> None:
    from pipelines.embed_file import embed_file

    output = tmp_path / f"night{suffix}"
    config = EmbedConfig(
        windows_per_batch=BATCHES[precision][1],
        precision=precision,
        both_halves=precision == "bfloat16",
    )
    embed_file(str(recordings[name]), bundle_folder, str(output), config)
    data = output.read_bytes()
    if suffix == ".npz":
        answer = from_npz(data)
    elif suffix == ".arrow":
        answer = from_table(pa.ipc.open_file(data).read_all())
    else:
        answer = from_table(pq.read_table(io.BytesIO(data)))
    assert_agrees(answer, library[name])
    assert answer.channels == library[name].info["channels_used"]


def test_embed_cohort_agrees_with_the_library(
    name: str, library: dict[str, NightEmbedding], cohort: dict[str, Answer]
) -> None:
    assert_agrees(cohort[name], library[name])
    channels = library[name].info["channels_used"]
    assert cohort[name].channels == only(channels, "modality", "label")


@pytest.mark.parametrize("accept", TYPES)
def test_http_agrees_with_the_library(
    accept: str,
    name: str,
    library: dict[str, NightEmbedding],
    recordings: dict[str, Path],
    url: str,
) -> None:
    response = httpx.post(
        f"{url}/v1/embeddings",
        content=recordings[name].read_bytes(),
        headers={"content-type": "application/edf", "accept": accept},
        timeout=60,
        trust_env=False,
    )
    assert (response.status_code, response.headers["content-type"]) == (200, accept)
    if accept == "application/json":
        answer = from_json(response.content)
    elif accept == "application/x-npz":
        answer = from_npz(response.content)
    else:
        answer = from_table(pa.ipc.open_stream(response.content).read_all())
    assert_agrees(answer, library[name])
    channels = library[name].info["channels_used"]
    assert answer.channels == only(channels, "modality", "derivation")
