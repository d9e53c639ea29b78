"""The commands printed in docs/serving.md, typed as they are."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sleepmami.config import ServeConfig
from tests.bundles import random_bundle
from tests.local_service import tiny_service, write_recording
from tests.unit.serve_apps.test_cohort import write_cohort

DOCS = Path(__file__).resolve().parents[3] / "docs/serving.md"
FIRST, LAST = "<!-- typed by tests/unit/serve_apps/test_docs_examples.py -->", "<!-- until here -->"


def printed_commands() -> str:
    block = DOCS.read_text().split(FIRST)[1].split(LAST)[0]
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_walk_from_upload_to_deletion_works_as_printed(tmp_path: Path) -> None:
    bundle = random_bundle()
    assert bundle.macro is not None
    nights = np.random.default_rng(1).standard_normal((5, 2 * bundle.macro.model.dim))
    cohort = write_cohort(tmp_path, nights.astype(np.float32), weights=bundle.weights_sha256)
    write_recording(tmp_path / "night.edf")
    state = tmp_path / "state"
    config = ServeConfig(windows_per_batch=4, cohort=cohort, state_dir=str(state))
    commands = printed_commands()
    assert commands.count("127.0.0.1:8000") == 1
    with tiny_service(config) as url:
        script = "set -eu\n" + commands.replace("http://127.0.0.1:8000", url)
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    size = (tmp_path / "night.edf").stat().st_size
    assert f"upload-offset: {size}" in done.stdout
    assert "event: done" in done.stdout
    table = pa.ipc.open_file((tmp_path / "night.arrow").read_bytes()).read_all()
    assert table.num_rows == 4
    assert np.load(tmp_path / "night.npz")["night"].dtype == np.float16
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "hypnogram.tsv").read_text().startswith("onset\tduration\tstage")
    last = done.stdout.strip().splitlines()[-1]
    assert len(json.loads(last[last.index('{"model_id"') :])["neighbors"]) == 3
    assert "error" not in json.loads(last[last.index('{"model_id"') :])
    assert list((state / "uploads").iterdir()) == list((state / "jobs").iterdir()) == []
