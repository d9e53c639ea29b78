"""Stages of an embedded night by the bundle's probe, and over HTTP."""

import json

import httpx
import numpy as np
import pytest

from serve_apps.hypnogram import hypnogram_answer, hypnogram_of, hypnogram_tsv
from serve_apps.wire import redacted
from sleepmami.errors import CheckpointError
from sleepmami.evaluation.fitted_probe import FittedProbe
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.inference.embedder import NightEmbedding
from tests.unit.serve_apps.fakes import FakeBackend, call, finished_job, upload

WEIGHTS = "ab" * 32
CLASSES = ("WAKE", "N2", "REM")


def probe_of(weights_sha256: str = WEIGHTS, classes: tuple[str, ...] = CLASSES) -> FittedProbe:
    """Scores are the first three of four macro numbers."""
    return FittedProbe(
        task="staging",
        level="macro",
        classes=classes,
        model_id="m-1",
        weights_sha256=weights_sha256,
        probe=LinearProbe(
            mean_F=np.zeros(4), scale_F=np.ones(4), weight_FO=np.eye(4, 3), bias_O=np.zeros(3)
        ),
    )


@pytest.fixture
def night(embedding: NightEmbedding) -> NightEmbedding:
    """Log odds by hand; the last epoch has no signal."""
    embedding.macro[:] = [[np.log(8), 0, 0, 9], [0, 0, np.log(2), 9], [0, 0, 0, 0]]
    embedding.epoch_valid[:] = [True, True, False]
    return redacted(embedding)


def test_the_likeliest_class_and_its_probability(night: NightEmbedding) -> None:
    found = hypnogram_of(night, probe_of())
    assert found.stages == ["WAKE", "REM", "unknown"]
    # softmax: 8 of 8 + 1 + 1, 2 of 1 + 1 + 2, and none without a signal
    assert found.confidence == pytest.approx([0.8, 0.5, 0.0], abs=1e-6)
    codes = found.codes()
    assert codes is not None
    assert codes.tolist() == [0, 4, -1]


def test_classes_that_are_no_stages_have_no_codes(night: NightEmbedding) -> None:
    assert hypnogram_of(night, probe_of(classes=("WAKE", "SLEEP", "REM"))).codes() is None


def test_a_probe_of_other_weights_is_refused(night: NightEmbedding) -> None:
    with pytest.raises(CheckpointError, match="mean nothing"):
        hypnogram_of(night, probe_of("cd" * 32))


def test_the_table_has_a_row_per_epoch(night: NightEmbedding) -> None:
    lines = hypnogram_tsv(hypnogram_of(night, probe_of())).decode().splitlines()
    assert lines == [
        "onset\tduration\tstage\tconfidence\tWAKE\tN2\tREM",
        "0\t30\tWAKE\t0.8000\t0.8000\t0.1000\t0.1000",
        "30\t30\tREM\t0.5000\t0.2500\t0.2500\t0.5000",
        "60\t30\tunknown\t0.0000\t0.0000\t0.0000\t0.0000",
    ]


def test_the_answer_names_the_model(night: NightEmbedding) -> None:
    answer = hypnogram_answer(hypnogram_of(night, probe_of()), night.info)
    assert answer.weights_sha256 == WEIGHTS
    assert answer.classes == list(CLASSES)
    assert answer.probabilities[0] == pytest.approx([0.8, 0.1, 0.1])


def test_a_job_has_a_hypnogram_when_the_bundle_has_a_probe(night: NightEmbedding) -> None:
    backend = FakeBackend(night)

    async def steps(client: httpx.AsyncClient) -> list[httpx.Response]:
        job = await finished_job(client, await upload(client))
        assert {"hypnogram.json", "hypnogram.tsv"} < set(job["results"])
        paths = [f"/v1/jobs/{job['id']}/{name}" for name in ("hypnogram.json", "hypnogram.tsv")]
        paths += [f"/v1/jobs/{job['id']}/report.html", "/info"]
        return [await client.get(path) for path in paths]

    answer, table, report, info = call(backend, steps, parts={"probes": {WEIGHTS: probe_of()}})
    assert answer.json()["stages"] == ["WAKE", "REM", "unknown"]
    assert table.headers["content-type"].startswith("text/tab-separated-values")
    assert "Hypnogram, by the bundle" in report.text
    assert "0 epochs with a probability under 50 %" in report.text
    assert info.json()["hypnogram_models"] == ["default"]
    assert "JANE-DOE" not in json.dumps(answer.json()) + report.text
