"""`sleepmami probe` as a person types it."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from pipelines import cli
from tests.unit.evaluation.planted import write_embeddings
from tests.unit.evaluation.test_probe import nights

QUICK = ["--set", "split.kind=folds", "--set", "penalties=[0.1]", "--set", "num_resamples=100"]


def test_a_probe_prints_its_figures_and_writes_both_files(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path / "out", nights())
    result_file, rows_file = tmp_path / "r.json", tmp_path / "r.csv"
    files = ["-o", str(result_file), "--csv", str(rows_file)]
    result = CliRunner().invoke(cli.app, ["probe", "staging", out, *files, *QUICK])
    assert result.exit_code == 0, result.output
    assert "tested on 12 subjects, 12 nights, 144 epochs" in result.output
    written = json.loads(result_file.read_text())
    assert f"{written['figures'][1]['value']:.3f}" in result.output
    with rows_file.open() as stream:
        rows = list(csv.DictReader(stream))
    right = sum(row["truth"] == row["guess"] for row in rows)
    assert right / len(rows) == written["figures"][0]["value"]
    assert sum(map(sum, written["confusion"]["counts"])) == len(rows) == 144


def test_a_probe_that_fails_leaves_the_table_of_before(tmp_path: Path) -> None:
    folds = [replace(night, hypnogram=None) for night in nights()]
    out = write_embeddings(tmp_path / "out", folds)
    table = tmp_path / "tables" / "r.csv"
    table.parent.mkdir()
    table.write_text("before")
    found = CliRunner().invoke(cli.app, ["probe", "staging", out, "--csv", str(table), *QUICK])
    assert found.exit_code != 0
    assert table.read_text() == "before"
    assert list(table.parent.iterdir()) == [table]


def test_the_level_is_a_setting_with_an_option(tmp_path: Path) -> None:
    arguments = ["probe", "age", str(tmp_path), "--level", "micro", "--print-config"]
    assert json.loads(CliRunner().invoke(cli.app, arguments).output)["level"] == "micro"


def test_a_probe_needs_neither_torch_nor_ray_nor_scikit_learn(tmp_path: Path) -> None:
    out = write_embeddings(tmp_path / "out", nights())
    code = (
        "import sys\n"
        "for name in ('torch', 'ray', 'sklearn', 'xxhash'): sys.modules[name] = None\n"
        "from pipelines.cli import main; main()"
    )
    arguments = [sys.executable, "-c", code, "probe", "age", out, *QUICK]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "mae_of_median" in found.stdout


def test_an_unknown_task_names_the_known_ones(tmp_path: Path) -> None:
    code = "from pipelines.cli import main; main()"
    arguments = [sys.executable, "-c", code, "probe", "stageing", str(tmp_path)]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("error: unknown task 'stageing'; there are ['staging',")


def test_the_matrix_takes_the_settings_of_probe_and_embed() -> None:
    arguments = ["missing-modalities", "corpus", "run", "cohort", "--print-config"]
    changes = ["--set", "probe.split.kind=folds", "--set", "embed.num_actors=2"]
    printed = json.loads(CliRunner().invoke(cli.app, [*arguments, *changes]).output)
    assert printed["fill"] == "mean"
    assert printed["probe"]["split"]["kind"] == "folds"
    assert printed["embed"]["num_actors"] == 2


def test_a_probe_on_random_weights_says_so(tmp_path: Path) -> None:
    made = [replace(night, model_id="untrained-0") for night in nights()]
    out = write_embeddings(tmp_path / "out", made)
    result = CliRunner().invoke(cli.app, ["probe", "age", out, *QUICK])
    assert "night vectors of untrained-0" in result.output
    assert "note: the encoder was never trained: its weights are random" in result.output
    assert "split train" not in result.output
