"""A corpus to vectors on a Ray cluster: what is embedded, embedded again, refused or survived."""

import dataclasses
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from pipelines import embed_nights, ray_data
from pipelines.embed_nights import NightWorker, embed_cohort, embed_micro_nights, read_night
from pipelines.ingest_edf import ingest
from sleepmami import storage
from sleepmami.config import EmbedConfig, IngestConfig
from sleepmami.errors import CheckpointError, TableError
from sleepmami.inference.embedder import Embedder
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import write_night
from sleepmami.simulation.subjects import simulate_subject
from sleepmami.tables import lance_io
from sleepmami.tables.rows import read_micro_nights, read_night_embeddings
from sleepmami.training.checkpoint import load_bundle, save_bundle
from tests.bundles import random_bundle

pytestmark = pytest.mark.ray

SEED = 6
NUM_NIGHTS = 5
CONFIG = EmbedConfig(num_actors=2, nights_per_commit=2)
Embed = Callable[[Path, Path], dict[str, int]]


@pytest.fixture(scope="module")
def edfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed") / "edfs"
    for index in range(NUM_NIGHTS):
        subject = simulate_subject(index, SEED)
        write_night(folder, subject, simulate_night(subject, 0.1, SEED))
    (folder / "rejected.edf").touch()
    return folder


@pytest.fixture(scope="module")
def complete(ray_cluster: object, edfs: Path) -> str:
    corpus = str(edfs.parent / "corpus")
    ingest(str(edfs), corpus, IngestConfig())
    return corpus


@pytest.fixture
def corpus(complete: str, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    storage.upload_folder(complete, str(tmp_path / "corpus"))
    return tmp_path / "corpus"


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle, and the same model in micro/."""
    folder = str(tmp_path_factory.mktemp("bundle"))
    for place in (folder, storage.join(folder, "micro")):
        save_bundle(place, random_bundle())
    return folder


@pytest.fixture(scope="module")
def embedded(complete: str, bundle_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose micro nights are complete."""
    run = str(tmp_path_factory.mktemp("run"))
    storage.upload_folder(bundle_folder, run)
    embed_micro_nights(complete, run, CONFIG)
    return run


@pytest.fixture
def run(embedded: str, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    storage.upload_folder(embedded, str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def embed(monkeypatch: pytest.MonkeyPatch) -> Embed:
    """`embed micro`, answering its closing account."""
    accounts: list[Counter[str]] = []
    monkeypatch.setattr(
        embed_nights, "print_outcomes", lambda title, counts, details: accounts.append(counts)
    )

    def start(corpus: Path, run: Path) -> dict[str, int]:
        embed_micro_nights(str(corpus), str(run), CONFIG)
        return {outcome: count for outcome, count in accounts.pop().items() if count}

    return start


def names(table: str) -> list[str]:
    return sorted(lance_io.read_table(table, ["recording_id"]).column(0).to_pylist())


def micro_nights(run: str | Path) -> str:
    return storage.join(str(run), "micro_nights.lance")


ALL = sorted(simulate_subject(index, SEED).subject_id for index in range(NUM_NIGHTS))


def test_micro_nights_are_those_of_the_library(complete: str, embedded: str) -> None:
    assert names(micro_nights(embedded)) == ALL
    embedder = Embedder(load_bundle(f"{embedded}/micro"), windows_per_batch=CONFIG.windows_per_batch)  # fmt: skip
    for row in read_micro_nights(lance_io.read_table(micro_nights(embedded))):
        recording, night = read_night(complete, row.recording_id)
        expected = embedder.epochs(night)
        np.testing.assert_array_equal(row.micro, expected.micro_LMD.astype(np.float16))
        np.testing.assert_array_equal(row.modality_valid, expected.modality_valid_LM)
        np.testing.assert_array_equal(row.hypnogram, recording["hypnogram"])


def test_a_complete_run_is_left_alone(corpus: Path, run: Path, embed: Embed) -> None:
    version = lance_io.version(micro_nights(run))
    assert embed(corpus, run) == {"already there": NUM_NIGHTS}
    assert lance_io.version(micro_nights(run)) == version


def test_only_what_is_missing_or_has_learnt_something_is_embedded(
    corpus: Path, run: Path, embed: Embed, edfs: Path, tmp_path: Path
) -> None:
    lance_io.delete_recordings(micro_nights(run), ALL[:2])  # as a run leaves it that was stopped
    people = tmp_path / "people.csv"
    people.write_text(f"recording_id,subject_id,age_years,sex,bmi\n{ALL[3]},s,44.5,female,\n")
    ingest(str(edfs), str(corpus), IngestConfig(), metadata=str(people))
    account = {"already there": NUM_NIGHTS - 3, "embedded": 2, "embedded again": 1}
    assert embed(corpus, run) == account
    assert names(micro_nights(run)) == ALL
    rows = read_micro_nights(lance_io.read_table(micro_nights(run)))
    found = {row.recording_id: (row.subject_id, row.age_years) for row in rows}
    assert found == {name: (name, None) for name in ALL} | {ALL[3]: ("s", 44.5)}


def test_vectors_of_another_model_are_refused(corpus: Path, run: Path, embed: Embed) -> None:
    other = random_bundle()
    for tensor in other.micro_state.values():
        tensor.add_(torch.ones_like(tensor))
    save_bundle(str(run / "micro"), other)
    before = lance_io.read_table(micro_nights(run))
    with pytest.raises(TableError, match="vectors of different models do not mix"):
        embed(corpus, run)
    assert lance_io.read_table(micro_nights(run)) == before


def test_a_cohort_is_embedded_once_and_ray_warns_of_nothing(
    complete: str, bundle_folder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = embed_cohort(complete, bundle_folder, str(tmp_path), CONFIG)
    said = capfd.readouterr()
    assert "constructor arguments" not in said.err + said.out  # ray-project/ray#57733
    version = lance_io.version(table)
    assert embed_cohort(complete, bundle_folder, str(tmp_path), CONFIG) == table
    assert lance_io.version(table) == version
    assert names(table) == ALL
    embedder = Embedder(load_bundle(bundle_folder), windows_per_batch=CONFIG.windows_per_batch)
    for row in read_night_embeddings(lance_io.read_table(table)):
        expected = embedder.night(read_night(complete, row.recording_id)[1])
        np.testing.assert_allclose(row.night, expected.night, atol=1e-5, rtol=0)


def test_a_bundle_without_macro_encoder_embeds_no_cohort(complete: str, tmp_path: Path) -> None:
    micro_only = dataclasses.replace(random_bundle(), macro=None, macro_state=None)
    save_bundle(str(tmp_path / "micro"), micro_only)
    with pytest.raises(CheckpointError, match="without Macro-Encoder"):
        embed_cohort(complete, str(tmp_path / "micro"), str(tmp_path / "out"), CONFIG)


# ----------------------------------------------------------------------------------------- faults


class DyingWorker(NightWorker):
    """Killed once, with a night embedded and its fragment written but not yet answered."""

    def __call__(self, recording_id: str) -> tuple[str, str]:
        answer = super().__call__(recording_id)
        mark = Path(self._output).with_name("killed")
        if recording_id == ALL[2] and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def test_a_killed_actor_loses_and_repeats_no_night(
    corpus: Path, run: Path, embed: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.delete(micro_nights(run))
    monkeypatch.setattr(embed_nights, "NightWorker", DyingWorker)
    assert embed(corpus, run) == {"embedded": NUM_NIGHTS}
    assert (run / "killed").exists()
    assert names(micro_nights(run)) == ALL


def test_an_error_in_an_actor_is_raised_as_itself(corpus: Path, run: Path, embed: Embed) -> None:
    lance_io.delete_recordings(micro_nights(run), ALL[4:])
    where = f"recording_id = '{ALL[4]}' AND segment_index = 1"
    lance_io.delete_rows(str(corpus / "segments.lance"), where)
    with pytest.raises(TableError, match=rf"^{ALL[4]}: found 5 segments starting at"):
        embed(corpus, run)


def test_an_item_that_always_kills_its_actor_ends_the_run(
    ray_cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def square_or_die(number: int) -> int:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    monkeypatch.setattr(ray_data, "MAX_RETRIES", 1)
    results = ray_data.map_on_actors(
        [1, 2, 3], lambda: square_or_die, num_actors=1, num_cpus=1, num_gpus=0
    )
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(ray.exceptions.RayActorError):
        next(results)
