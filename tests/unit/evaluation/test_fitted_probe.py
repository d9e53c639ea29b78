"""Probes that are kept: the numbers of the run, and whose vectors they may be used on."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines import cli
from sleepmami.config import ApneaConfig, ProbeConfig
from sleepmami.errors import CheckpointError, ConfigError, TableError
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.evaluation.fitted_probe import FittedProbe, load_probe, probe_bytes, save_probe
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.evaluation.probe import run_probe
from tests.unit.evaluation.planted import PlantedNight, write_embeddings
from tests.unit.evaluation.test_probe import FOLDS, nights

STORED = ProbeConfig(penalties=(0.1,), num_resamples=100)
QUICK = ["--set", "penalties=[0.1]", "--set", "num_resamples=100"]


def by_hand() -> FittedProbe:
    """Two classes of one feature: scores 0 and x - 1, after a z-score of mean 1 and deviation 1."""
    linear = LinearProbe(
        mean_F=np.ones(1, np.float32),
        scale_F=np.ones(1, np.float32),
        weight_FO=np.array([[0.0, 1.0]]),
        bias_O=np.zeros(2),
    )
    return FittedProbe(
        task="staging",
        level="micro",
        classes=("WAKE", "N1"),
        model_id="sleepmami-hand",
        weights_sha256="ab" * 32,
        probe=linear,
    )


def kept(out: str, config: ProbeConfig = STORED) -> FittedProbe:
    found: list[FittedProbe] = []
    run_probe("staging", out, [], config, keep=found.append)
    return found[0]


def test_probabilities_are_the_softmax_of_the_scores(tmp_path: Path) -> None:
    save_probe(str(tmp_path / "p"), by_hand())
    found = load_probe(str(tmp_path / "p")).probabilities(np.array([[1.0], [1 + np.log(3)]], "f4"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize("level", ["micro", "macro"])
def test_a_kept_probe_says_what_the_run_said(tmp_path: Path, level: Any) -> None:
    out, csv_file = write_embeddings(tmp_path / "out", nights()), tmp_path / "rows.csv"
    file = str(tmp_path / "staging.safetensors")
    arguments = ["probe", "staging", out, "--level", level, "--csv", str(csv_file), "--save", file]
    ran = CliRunner().invoke(cli.app, [*arguments, *QUICK])
    assert ran.exit_code == 0, ran.output
    probe = load_probe(file)
    assert (probe.level, probe.classes) == (level, ("WAKE", "N1", "N2", "N3", "REM"))
    embeddings = open_embeddings(out)
    assert probe.weights_sha256 == embeddings.weights_sha256
    said = {
        embeddings.nights[vectors.place].recording_id: probe.probabilities(vectors.x_LF)
        for vectors in embeddings.read(range(12), level)
    }
    with csv_file.open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        expected = [float(row[f"p_{name}"]) for name in probe.classes]
        found = said[row["recording_id"]][int(row["epoch"])]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert probe.classes[int(found.argmax())] == row["guess"]
    right = np.mean([row["truth"] == row["guess"] for row in rows])
    assert probe.about["figures"][0]["value"] == pytest.approx(right)


def test_a_class_that_was_never_fitted_has_no_chance(tmp_path: Path) -> None:
    made: list[PlantedNight] = nights()
    for night in made:
        assert night.hypnogram is not None
        night.hypnogram[night.hypnogram == 4] = 2  # nobody dreams
    probe = kept(write_embeddings(tmp_path, made))
    likely = probe.probabilities(np.concatenate([night.macro for night in made]).astype("f4"))
    assert (likely[:, 4] == 0).all()
    np.testing.assert_allclose(likely.sum(1), 1, rtol=1e-6)


def test_the_same_probe_is_the_same_bytes(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path, nights())
    assert probe_bytes(kept(out)) == probe_bytes(kept(out))


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    save_probe(str(tmp_path / "p"), by_hand())
    load_probe(str(tmp_path / "p"), weights_sha256="ab" * 32)
    with pytest.raises(CheckpointError, match="cdcdcdcdcdcd"):
        load_probe(str(tmp_path / "p"), weights_sha256="cd" * 32)


@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        (np.zeros((3, 2)), r"shape \[3, 2\]"),
        (np.zeros(1), r"shape \[1\]"),
        (np.array([[np.nan]]), "not finite"),
    ],
)
def test_vectors_that_are_none_are_refused(features: Any, complaint: str) -> None:
    with pytest.raises(TableError, match=complaint):
        by_hand().probabilities(features)


@pytest.mark.parametrize("cut", [0, 7, 40, -1])
def test_a_torn_file_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "p").write_bytes(probe_bytes(by_hand())[:cut])
    with pytest.raises(CheckpointError, match="expected the safetensors"):
        load_probe(str(tmp_path / "p"))


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, tmp_path / "p")
    with pytest.raises(CheckpointError, match="of format None"):
        load_probe(str(tmp_path / "p"))
    with pytest.raises(CheckpointError, match="no such file"):
        load_probe(str(tmp_path / "q"))
    wrong = replace(by_hand(), classes=("WAKE",))
    (tmp_path / "r").write_bytes(probe_bytes(wrong))
    with pytest.raises(CheckpointError, match="1 classes"):
        load_probe(str(tmp_path / "r"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("mean_F", np.nan), ("scale_F", 0.0), ("weight_FO", np.inf), ("bias_O", np.nan)],
)
def test_numbers_that_no_fit_gives_are_refused(tmp_path: Path, name: str, value: float) -> None:
    linear = by_hand().probe
    odd = replace(linear, **{name: np.full_like(getattr(linear, name), value)})
    save_probe(str(tmp_path / "p"), replace(by_hand(), probe=odd))
    with pytest.raises(CheckpointError, match="no fit gives"):
        load_probe(str(tmp_path / "p"))


@pytest.mark.parametrize(
    "header", ["[1]", '{"format_version": 1}', '{"format_version": 1, "probe": 3}']
)
def test_a_header_of_another_kind_is_refused(tmp_path: Path, header: str) -> None:
    from safetensors.numpy import load, save

    tensors = load(probe_bytes(by_hand()))
    (tmp_path / "p").write_bytes(save(tensors, {"sleepmami-probe": header}))
    with pytest.raises(CheckpointError):
        load_probe(str(tmp_path / "p"))


def test_only_one_tested_probe_of_epochs_can_be_kept(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path, nights())
    with pytest.raises(ConfigError, match=r"split\.kind=stored"):
        kept(out, FOLDS)
    for task in ("age", "few-shot"):
        with pytest.raises(ConfigError, match=f"a probe of {task} to keep"):
            run_probe(task, out, [], STORED, keep=lambda probe: None)  # type: ignore[arg-type]
    by_second = replace(STORED, apnea=ApneaConfig(unit="second"))
    with pytest.raises(ConfigError, match="apnea by epoch"):
        run_probe("apnea", out, [], by_second, keep=lambda probe: None)


def test_without_safetensors_the_extra_is_named(tmp_path: Path) -> None:
    save_probe(str(tmp_path / "p"), by_hand())
    code = (
        "import sys\n"
        "for name in ('torch', 'safetensors'): sys.modules[name] = None\n"
        "from sleepmami.evaluation.fitted_probe import load_probe\n"
        "load_probe(sys.argv[1])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "p")]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "pip install 'sleepmami[probe]'" in found.stderr
