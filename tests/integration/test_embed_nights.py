"""A corpus to vectors on a Ray cluster: what is embedded, embedded again, refused or survived."""

import dataclasses
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import embed_nights, ray_data, write_report
from pipelines.embed_band_powers import embed_band_powers
from pipelines.embed_nights import NightResult, NightWorker, embed_cohort, embed_micro_nights
from pipelines.ingest_edf import ingest
from pipelines.stored_nights import StoredNight, corpus_versions, find_nights, read_night
from sleepmami import storage
from sleepmami.config import BandPowersConfig, EmbedConfig, IngestConfig
from sleepmami.errors import CheckpointError, ConfigError, TableError
from sleepmami.evaluation.band_powers import band_power_vectors
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.inference.embedder import Embedder, EpochEmbedding
from sleepmami.psg import Night
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import write_night
from sleepmami.simulation.subjects import simulate_subject
from sleepmami.tables import lance_io
from sleepmami.tables.rows import read_micro_nights, read_night_embeddings
from sleepmami.tables.schemas import Row
from sleepmami.tables.second_vectors import SECOND_TABLE
from sleepmami.training.checkpoint import load_bundle, save_bundle
from tests.bundles import random_bundle

pytestmark = pytest.mark.ray

SEED = 6
NUM_NIGHTS = 5
CONFIG = EmbedConfig(num_actors=1, nights_per_commit=2)  # to start an actor takes longest
TWO = dataclasses.replace(CONFIG, num_actors=2)
Embed = Callable[..., dict[str, int]]


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
    ingest(str(edfs), corpus, IngestConfig(recording_ids="file_name"))
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
    embed_micro_nights(complete, run, TWO)
    return run


@pytest.fixture
def run(embedded: str, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    storage.upload_folder(embedded, str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def embed(monkeypatch: pytest.MonkeyPatch) -> Embed:
    """`embed micro`, answering its closing account: counts by outcome, then by code."""
    account: Counter[str] = Counter()
    monkeypatch.setattr(
        embed_nights, "print_outcomes", lambda title, counts, details: account.update(counts)
    )

    def start(corpus: Path, run: Path, config: EmbedConfig = CONFIG) -> dict[str, int]:
        account.clear()
        embed_micro_nights(str(corpus), str(run), config)
        return {outcome: count for outcome, count in account.items() if count}

    return start


def stored(corpus: str, recording_id: str) -> tuple[Row, Night]:
    versions = corpus_versions(corpus)
    return read_night(corpus, versions, find_nights(corpus, versions)[recording_id])


def names(table: str) -> list[str]:
    return sorted(lance_io.read_table(table, ["recording_id"]).column(0).to_pylist())


def micro_nights(run: str | Path) -> str:
    return storage.join(str(run), "micro_nights.lance")


ALL = sorted(simulate_subject(index, SEED).subject_id for index in range(NUM_NIGHTS))


def test_micro_nights_are_those_of_the_library(complete: str, embedded: str) -> None:
    assert names(micro_nights(embedded)) == ALL
    embedder = Embedder(load_bundle(f"{embedded}/micro"), windows_per_batch=CONFIG.windows_per_batch)  # fmt: skip
    for row in read_micro_nights(lance_io.read_table(micro_nights(embedded))):
        recording, night = stored(complete, row.recording_id)
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
    ingest(str(edfs), str(corpus), IngestConfig(recording_ids="file_name"), metadata=str(people))
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


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (dataclasses.replace(CONFIG, precision="bfloat16"), "precision=float32"),
        (dataclasses.replace(CONFIG, both_halves=True), "both_halves=False"),
    ],
)
def test_vectors_made_with_other_settings_are_refused(
    corpus: Path, run: Path, other: EmbedConfig, found: str
) -> None:
    before = lance_io.read_table(micro_nights(run))
    with pytest.raises(TableError, match=f"found vectors of {found}"):
        embed_micro_nights(str(corpus), str(run), other)
    assert lance_io.read_table(micro_nights(run)) == before


@pytest.fixture(scope="module")
def cohort(complete: str, bundle_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An output of `embed cohort`."""
    out = str(tmp_path_factory.mktemp("cohort"))
    embed_cohort(complete, bundle_folder, out, TWO)
    return out


def test_a_cohort_is_embedded_once(complete: str, bundle_folder: str, cohort: str) -> None:
    table = storage.join(cohort, "night_embeddings.lance")
    page = Path(cohort, "cohort_report.html").read_text()
    assert f"<h1>{len(lance_io.read_table(table))} nights of " in page
    assert page.count("data:image/png;base64,") == 6  # three maps, each light and dark
    version = lance_io.version(table)
    assert embed_cohort(complete, bundle_folder, cohort, CONFIG) == table
    assert lance_io.version(table) == version
    assert names(table) == ALL
    embedder = Embedder(load_bundle(bundle_folder), windows_per_batch=CONFIG.windows_per_batch)
    for row in read_night_embeddings(lance_io.read_table(table)):
        expected = embedder.night(stored(complete, row.recording_id)[1])
        np.testing.assert_allclose(row.night, expected.night, atol=1e-5, rtol=0)


def test_seconds_of_a_cohort_are_the_librarys_and_come_later_or_with_the_nights(
    complete: str,
    bundle_folder: str,
    cohort: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(write_report, "write_cohort_report", lambda table, page: page)
    out = str(tmp_path)
    storage.upload_folder(cohort, out)
    nights = storage.join(out, "night_embeddings.lance")
    second = storage.join(out, SECOND_TABLE)
    assert not lance_io.exists(second)
    embed_cohort(complete, bundle_folder, out, CONFIG, seconds=True)
    said = capfd.readouterr()
    assert "constructor arguments" not in said.err + said.out  # ray-project/ray#57733
    assert names(second) == names(nights) == ALL
    version = lance_io.version(second)
    embed_cohort(complete, bundle_folder, out, CONFIG, seconds=True)
    assert lance_io.version(second) == version
    lance_io.delete_recordings(nights, ALL[:2])  # as a run leaves it that was stopped in between
    lance_io.delete_recordings(second, ALL[1:3])
    embed_cohort(complete, bundle_folder, out, CONFIG, seconds=True)
    assert names(second) == names(nights) == ALL
    lance_io.delete_recordings(nights, ALL[:1])
    embed_cohort(complete, bundle_folder, out, CONFIG)  # whose seconds would be of another run
    assert (names(second), names(nights)) == (ALL[1:], ALL)
    embedder = Embedder(load_bundle(bundle_folder), windows_per_batch=CONFIG.windows_per_batch)
    embeddings = open_embeddings(out)
    places = [n for n, night in enumerate(embeddings.nights) if night.recording_id in ALL[1:3]]
    for found in embeddings.read(places, "second"):
        name = embeddings.nights[found.place].recording_id
        expected = embedder.night(stored(complete, name)[1], seconds=True)
        assert expected.second is not None
        # half precision keeps 11 bits
        np.testing.assert_allclose(found.x_LF, expected.second, rtol=1e-3, atol=1e-3)
        assert np.array_equal(found.valid_L, np.repeat(expected.epoch_valid, 30))


def test_a_bundle_without_macro_encoder_embeds_no_cohort(complete: str, tmp_path: Path) -> None:
    micro_only = dataclasses.replace(random_bundle(), macro=None, macro_state=None)
    save_bundle(str(tmp_path / "micro"), micro_only)
    with pytest.raises(CheckpointError, match="without Macro-Encoder"):
        embed_cohort(complete, str(tmp_path / "micro"), str(tmp_path / "out"), CONFIG)


# ----------------------------------------------------------------------------------------- faults


class DyingWorker(NightWorker):
    """Killed once, with a night embedded and its fragment written but not yet answered."""

    def __call__(self, stored: StoredNight) -> NightResult:
        answer = super().__call__(stored)
        mark = Path(self._output).with_name("killed")
        if stored.recording_id == ALL[2] and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def test_a_killed_actor_loses_and_repeats_no_night(
    corpus: Path, run: Path, embed: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.delete(micro_nights(run))
    monkeypatch.setattr(embed_nights, "NightWorker", DyingWorker)
    assert embed(corpus, run, TWO) == {"embedded": NUM_NIGHTS}
    assert (run / "killed").exists()
    assert names(micro_nights(run)) == ALL


class FailingWorker(NightWorker):
    """One night raises a bug of ours, another kills its actor each time."""

    def __call__(self, stored: StoredNight) -> NightResult:
        if stored.recording_id == ALL[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(stored)

    def _micro_row(self, recording: Row, night: Night, epochs: EpochEmbedding) -> Row:
        if night.recording_id == ALL[3]:
            raise ZeroDivisionError("by design")
        return super()._micro_row(recording, night, epochs)


def test_nights_that_cannot_be_embedded_are_left_out_and_listed(
    corpus: Path,
    run: Path,
    embed: Embed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage.delete(micro_nights(run))
    where = f"recording_id = '{ALL[4]}' AND segment_index = 1"
    lance_io.delete_rows(str(corpus / "segments.lance"), where)
    listed: list[tuple[str, str, str]] = []
    account = vars(embed_nights)["print_outcomes"]

    def print_outcomes(title: str, counts: Counter[str], details: list[tuple[str, str, str]]) -> None:  # fmt: skip
        account(title, counts, details)
        listed.extend(details)

    monkeypatch.setattr(embed_nights, "print_outcomes", print_outcomes)
    monkeypatch.setattr(embed_nights, "NightWorker", FailingWorker)
    monkeypatch.setattr(ray_data, "MAX_RETRIES", 1)
    assert embed(corpus, run) == {
        "embedded": 2,
        "not embedded": 3,
        "internal_error": 2,
        "table_invalid": 1,
    }
    assert names(micro_nights(run)) == [ALL[0], ALL[2]]
    assert [(name, code) for name, code, _ in listed] == [
        (ALL[1], "internal_error"),
        (ALL[3], "internal_error"),
        (ALL[4], "table_invalid"),
    ]
    assert "process died each time" in listed[0][2]
    assert "ZeroDivisionError in test_embed_nights.py" in listed[1][2]
    assert f"{ALL[4]}: found 5 segments starting at" in listed[2][2]


def test_where_no_night_can_be_embedded_the_run_fails(
    corpus: Path, run: Path, embed: Embed
) -> None:
    storage.delete(micro_nights(run))
    lance_io.delete_rows(str(corpus / "segments.lance"), "segment_index = 1")
    with pytest.raises(TableError, match=rf"^{ALL[0]}: found 5 segments starting at"):
        embed(corpus, run)


class FullDiskWorker(NightWorker):
    """The last night cannot be written; that is not the night's fault."""

    def __call__(self, stored: StoredNight) -> NightResult:
        if stored.recording_id == ALL[4]:
            raise TableError("micro_nights.lance: no space left")
        return super().__call__(stored)


def test_what_was_embedded_before_the_run_ended_is_kept(
    corpus: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.delete(micro_nights(run))
    monkeypatch.setattr(embed_nights, "NightWorker", FullDiskWorker)
    with pytest.raises(TableError, match=r"^micro_nights\.lance: no space left$"):
        embed_micro_nights(str(corpus), str(run), EmbedConfig(nights_per_commit=100))
    assert names(micro_nights(run)) == ALL[:4]


@pytest.mark.parametrize(
    "config",
    [EmbedConfig(num_actors=3, cpus_per_actor=3.0), EmbedConfig(use_gpu=True)],
    ids=["CPUs", "GPU"],
)
def test_actors_that_the_cluster_cannot_hold_are_refused(
    complete: str, bundle_folder: str, tmp_path: Path, config: EmbedConfig
) -> None:
    with pytest.raises(ConfigError, match="found room for"):
        embed_cohort(complete, bundle_folder, str(tmp_path), config)


def test_the_baseline_is_of_the_same_nights(complete: str, tmp_path: Path) -> None:
    table = embed_band_powers(complete, str(tmp_path), BandPowersConfig(nights_per_commit=2))
    nights = read_night_embeddings(lance_io.read_table(table))
    assert len(nights) == NUM_NIGHTS
    versions = corpus_versions(complete)
    for night in nights:
        stored = find_nights(complete, versions)[night.recording_id]
        _, read = read_night(complete, versions, stored)
        np.testing.assert_array_equal(
            night.micro, band_power_vectors(read, BandPowersConfig()).micro
        )
