"""A cohort by Ray Data tasks is the cohort of one process, and a stopped one goes on."""

from pathlib import Path

import pytest

from pipelines import simulate
from pipelines.simulate import simulate_cohort
from sleepmami.config import SimulateConfig
from sleepmami.simulation.cohort import write_cohort

pytestmark = pytest.mark.ray

CONFIG = SimulateConfig(
    num_subjects=5, duration_h=0.1, seed=4, devices=("nox", "compumedics"), follow_up_years=5.0
)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_tasks_write_the_same_files_and_only_those_that_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "RAY_FROM_NIGHTS", 1)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    write_cohort(alone, CONFIG)
    simulate_cohort(str(shared), CONFIG)
    assert contents(shared) == contents(alone)
    kept, gone = shared / "edf" / "sim-0001.edf", shared / "edf" / "sim-0003.edf"
    modified = kept.stat().st_mtime_ns
    gone.unlink()
    simulate_cohort(str(shared), CONFIG)
    assert contents(shared) == contents(alone)
    assert kept.stat().st_mtime_ns == modified
