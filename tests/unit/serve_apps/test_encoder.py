import asyncio
import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from serve_apps.encoder import LocalEncoder
from serve_apps.http_app import Refusal
from sleepmami.errors import CheckpointError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.psg import Night
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from tests.bundles import random_bundle

SECRET = b"JANE-DOE"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(random_bundle(), windows_per_batch=4)


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two minutes of one EEG channel; a name in the patient field."""
    path = tmp_path_factory.mktemp("edf") / "night.edf"
    samples = np.random.default_rng(2).normal(0, 30, 120 * 100)
    channel = WriteChannel(
        label="C4-M1",
        unit="uV",
        sample_rate_hz=100,
        samples=samples,
        physical_min=-500.0,
        physical_max=500.0,
    )
    write_edf(Path(path), [channel])
    data = path.read_bytes()
    return data[:8] + SECRET.ljust(80) + data[88:]


def embed(embedder: Embedder, body: bytes) -> NightEmbedding | Refusal:
    return asyncio.run(LocalEncoder(embedder, threads=1).embed(body, "r-1"))


def test_an_edf_is_embedded_without_its_labels(embedder: Embedder, edf: bytes) -> None:
    answer = embed(embedder, edf)
    assert isinstance(answer, NightEmbedding)
    assert answer.micro.shape == (4, 6 * 16)
    assert answer.info["channels_used"] == [{"modality": "EEG", "derivation": "as_recorded"}]
    assert set(answer.info) == {
        "model_id",
        "weights_sha256",
        "code_version",
        "precision",
        "both_halves",
        "night_vector",
        "num_epochs",
        "modalities_missing",
        "channels_used",
    }


def test_a_bad_recording_is_refused_by_code_alone(embedder: Embedder) -> None:
    assert embed(embedder, SECRET * 100) == Refusal("not_an_edf")


def test_an_unexpected_failure_keeps_its_text_to_itself(
    edf: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Embedder):
        def night(self, night: Night) -> NightEmbedding:
            raise ValueError(SECRET.decode())

    with caplog.at_level(logging.DEBUG):
        answer = embed(Broken(random_bundle(), windows_per_batch=4), edf)
    assert answer == Refusal("internal_error")
    assert "r-1" in caplog.text
    assert SECRET.decode() not in caplog.text


def test_a_bundle_without_macro_is_refused_at_the_start() -> None:
    half = dataclasses.replace(random_bundle(), macro=None, macro_state=None)
    with pytest.raises(CheckpointError, match="no Macro-Encoder"):
        LocalEncoder(Embedder(half, windows_per_batch=4), threads=1)


def test_dimensions_are_those_of_an_answer(embedder: Embedder, edf: bytes) -> None:
    answer = embed(embedder, edf)
    model = asyncio.run(LocalEncoder(embedder, threads=1).model())
    assert isinstance(answer, NightEmbedding)
    assert answer.micro.shape[1] == model.micro_dim
    assert answer.macro.shape[1] == model.macro_dim
    assert answer.night.shape == (model.night_dim,)
