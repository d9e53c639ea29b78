"""MLflow and W&B in the modes that need no server, read back; skipped where a package is missing."""

from pathlib import Path

import pytest

from pipelines.trackers import run_id
from tests.unit.pipelines.test_trackers import ROWS, track


def test_mlflow_has_one_run_with_its_settings_before_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"file://{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for step, metrics in ROWS.items():
        track(("mlflow",), tmp_path / "run", {step: metrics})
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sleepmami")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"dgcl.rho": "0.1", "seed": "1"}
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss/total")
    assert [(metric.step, metric.value) for metric in history] == [(10, 2.5), (20, 1.5)]


def test_wandb_offline_keeps_the_rows_and_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name, value in {
        "MODE": "offline",
        "CACHE_DIR": str(tmp_path),
        "CONFIG_DIR": str(tmp_path),
        "DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = tmp_path / "somewhere"
    run.mkdir()
    track(("wandb",), run, ROWS)
    (file,) = run.glob(f"wandb/offline-run-*/run-{run_id(str(run), 'micro')}.wandb")
    kept = file.read_bytes()
    assert kept.count(b"loss/total") >= 2
    assert b"2.5" in kept
    assert b"1.5" in kept
    assert b"somewhere" not in kept
