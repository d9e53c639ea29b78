"""The walk a user takes, command by command: simulated EDFs to a report.

Commands start a Ray of their own, but those that embed, which join one that runs. Every test looks at what one command left; the commands run once, in the order of the README.
"""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from sleepmami.presets import preset
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.tables import lance_io
from sleepmami.tables.rows import read_micro_nights, read_night_embeddings
from tests.processes import clean_environment, left_in_session, started

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLEEPMAMI = [sys.executable, "-c", "from pipelines.cli import main; main()"]
NUM_NIGHTS, NUM_EPOCHS, NUM_SEGMENTS = 8, 36, 18  # of 0.3 h; five of them to train on
DIM, MACRO_DIM = 64, 64  # of the tiny preset; two directions make a macro vector
MICRO_STEPS, MACRO_STEPS = 4, 3
PRESENT, MISSING = ["EEG", "ECG"], ["EOG", "EMG", "RESP", "SPO2"]  # of the user's own recording


class Walk:
    """The folders of one walk, named as in the README."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.simulated = str(folder / "simulated")
        self.corpus = str(folder / "corpus")
        self.bundle = str(folder / "bundle")
        self.cohort = str(folder / "cohort")

    def run(self, *command: str, **environment: str) -> str:
        """A `sleepmami` command; it succeeds and leaves no process and no folder behind."""
        with (
            tempfile.TemporaryDirectory(prefix="smm-", dir="/tmp") as scratch,
            started(
                [*SLEEPMAMI, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment(TMPDIR=scratch, **environment),
            ) as process,
        ):
            output, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
            assert left_in_session(process.pid, 20) == []
            assert [file.name for file in Path(scratch).glob("sleepmami-*")] == []
        return output


def settings(**values: object) -> list[str]:
    """`--set` options; a double underscore stands for the dot."""
    return [
        part
        for name, value in values.items()
        for part in ("--set", f"{name.replace('__', '.')}={value}")
    ]


def running_ray() -> dict[str, str]:
    """The environment that a command joins this session's cluster with."""
    token = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH_")}
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, **token}


@pytest.fixture(scope="module")
def walk(ray_cluster: object, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    walk = Walk(tmp_path_factory.mktemp("walk"))
    tiny = ["--preset", "tiny"]
    small = settings(num_subjects=NUM_NIGHTS, duration_h=0.3)
    walk.run("simulate", walk.simulated, *tiny, *small)
    walk.run("ingest", f"{walk.simulated}/edf", walk.corpus, "--cohort", "simulated", "--keep-names",
             "--metadata", f"{walk.simulated}/metadata.csv",
             "--annotations", f"{walk.simulated}/annotations")  # fmt: skip
    few = settings(
        batch_size=8, engine__micro_batch=4, shuffle_buffer=32,
        loop__max_steps=MICRO_STEPS, loop__log_every=1, loop__checkpoint_every=2,
    )  # fmt: skip
    walk.run("pretrain", "micro", walk.corpus, walk.bundle, *tiny, *few)
    walk.run("embed", "micro", walk.corpus, walk.bundle, *tiny, **running_ray())
    few = settings(
        batch_subjects=4, engine__micro_batch=2, dgcl__cycle_epochs=12,
        loop__max_steps=MACRO_STEPS, loop__log_every=1,
    )  # fmt: skip
    walk.run("pretrain", "macro", walk.corpus, walk.bundle, *tiny, *few)
    walk.run("embed", "cohort", walk.corpus, walk.bundle, walk.cohort, *tiny, **running_ray())
    return walk


def numbers(file: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def manifest(walk: Walk) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(walk.bundle, "manifest.json").read_text())
    return content


def test_every_night_is_in_the_corpus_with_all_its_signals(walk: Walk) -> None:
    recordings = lance_io.read_table(f"{walk.corpus}/recordings.lance").to_pylist()
    assert sorted(r["recording_id"] for r in recordings) == [f"sim-{k:04}" for k in range(1, 9)]
    for recording in recordings:
        assert recording["rejected_code"] is None
        assert recording["num_epochs"] == len(recording["hypnogram"]) == NUM_EPOCHS
        assert recording["missing"] == []
        assert 18 <= recording["age_years"] <= 100
    segments = lance_io.read_table(f"{walk.corpus}/segments.lance")
    assert segments.num_rows == NUM_NIGHTS * NUM_SEGMENTS
    assert [segments.column(m).null_count for m in ("eeg", "ecg", "spo2")] == [0, 0, 0]


def test_training_took_its_steps_with_finite_losses(walk: Walk) -> None:
    micro = numbers(f"{walk.bundle}/micro/metrics.jsonl")
    macro = numbers(f"{walk.bundle}/macro_metrics.jsonl")
    assert [row["step"] for row in micro] == list(range(1, MICRO_STEPS + 1))
    assert [row["step"] for row in macro] == list(range(1, MACRO_STEPS + 1))
    for row in (*micro, *macro):
        assert all(math.isfinite(value) for value in row.values())
        assert row["optim/grad_norm"] > 0


def test_every_epoch_has_its_micro_vectors(walk: Walk) -> None:
    nights = read_micro_nights(lance_io.read_table(f"{walk.bundle}/micro_nights.lance"))
    assert len(nights) == NUM_NIGHTS
    for night in nights:
        assert night.micro.shape == (NUM_EPOCHS, 6, DIM)
        assert np.isfinite(night.micro).all()
        assert night.micro[night.modality_valid].any(axis=1).all()


def test_the_bundle_is_what_its_manifest_says(walk: Walk) -> None:
    for name, said in manifest(walk)["files"].items():
        data = Path(walk.bundle, name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (said["bytes"], said["sha256"])


def test_every_night_of_the_cohort_has_its_vectors(walk: Walk) -> None:
    nights = read_night_embeddings(lance_io.read_table(f"{walk.cohort}/night_embeddings.lance"))
    assert len(nights) == NUM_NIGHTS
    for night in nights:
        assert night.micro.shape == (NUM_EPOCHS, 6 * DIM)
        assert night.macro.shape == (NUM_EPOCHS, 2 * MACRO_DIM)
        assert night.night.shape == (2 * MACRO_DIM,)
        for array in (night.micro, night.macro, night.night):
            assert np.isfinite(array).all()
            assert array.std() > 0
        assert night.weights_sha256 == manifest(walk)["weights_sha256"]
    assert len({night.night.tobytes() for night in nights}) == NUM_NIGHTS  # no two are alike


@pytest.fixture(scope="module")
def own(walk: Walk) -> Path:
    """A recording of the user's: an electrode, its reference and an ECG, five minutes."""
    rng = np.random.default_rng(4)
    path = walk.folder / "own.edf"
    channels = [
        WriteChannel(
            label=label,
            unit="uV",
            sample_rate_hz=200,
            samples=rng.normal(0, 30, 300 * 200),
            physical_min=-500.0,
            physical_max=500.0,
        )
        for label in ("C4", "M1", "ECG II")
    ]
    write_edf(path, channels)
    return path


def test_a_recording_with_two_modalities_is_embedded_and_says_what_is_missing(
    walk: Walk, own: Path
) -> None:
    vectors = walk.folder / "vectors.npz"
    said = walk.run("embed", "file", str(own), walk.bundle, "-o", str(vectors))
    assert "missing EOG, EMG, RESP, SPO2" in " ".join(said.split())
    with np.load(vectors, allow_pickle=False) as archive:
        info = json.loads(str(archive["info"]))
        blocks = archive["micro"].reshape(10, 6, DIM)
        valid = archive["modality_valid"]
        assert np.isfinite(archive["macro"]).all()
        assert archive["night"].shape == (2 * MACRO_DIM,)
    assert info["modalities_missing"] == MISSING
    assert [c["modality"] for c in info["channels_used"]] == PRESENT
    assert info["weights_sha256"] == manifest(walk)["weights_sha256"]
    assert info["model_id"] == manifest(walk)["model_id"]
    assert (blocks[~valid] == 0).all()
    assert valid.all(axis=0).tolist() == [True, False, False, True, False, False]


def test_the_report_stands_alone_and_names_what_is_missing(walk: Walk, own: Path) -> None:
    from pipelines.embed_file import embed_file
    from pipelines.write_report import write_night_report

    vectors = str(walk.folder / "own.npz")
    embedding = embed_file(str(own), walk.bundle, vectors, preset("tiny").embed)
    page = walk.folder / "report.html"
    write_night_report(own, Path(walk.bundle), page, embedding, vectors=Path(vectors))
    html = page.read_text()
    loaded = re.findall(r"""(?:src|href|action)=["']?(?!data:|#)([^"'> ]+)""", html)
    loaded += re.findall(r"@import|url\((?!#|data:)[^)]*\)", html)
    assert loaded == []
    shown = re.sub(r"(?s)<style.*?</style>|<[^>]+>", " ", html)
    for modality in MISSING:
        assert modality in shown
    assert manifest(walk)["model_id"] in shown
