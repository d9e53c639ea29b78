"""The examples printed in docs/client.md, run as they are; and how little the client needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sleepmami.config import ServeConfig
from tests.bundles import random_bundle
from tests.local_service import tiny_service, write_recording
from tests.unit.serve_apps.test_cohort import write_cohort

DOCS = Path(__file__).resolve().parents[3] / "docs/client.md"
FIRST, LAST = "<!-- run by tests/unit/client/test_docs.py -->", "<!-- until here -->"
# what a light install lacks, and rich, which only a bar needs
HEAVY = ("torch", "ray", "scipy", "pydantic", "fastapi", "lance", "pyedflib", "typer", "rich", "yaml", "defusedxml", "pandas", "safetensors", "matplotlib", "uvicorn", "starlette")  # fmt: skip
LIGHT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
import httpx
from sleepmami.client import AsyncClient, Client

def service(request):
    return httpx.Response(200, json={{"code_version": "1"}})

with Client("http://service", transport=httpx.MockTransport(service)) as client:
    assert client.info() == {{"code_version": "1"}}
assert not {set(HEAVY)!r} & set(sys.modules)
print("fine")
"""


def examples() -> list[str]:
    blocks = [block.split(LAST)[0] for block in DOCS.read_text().split(FIRST)[1:]]
    return ["\n".join(line.removeprefix("    ") for line in block.splitlines()) for block in blocks]


def test_the_examples_work_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = random_bundle()
    assert bundle.macro is not None
    vectors = np.random.default_rng(1).standard_normal((5, 2 * bundle.macro.model.dim))
    cohort = write_cohort(tmp_path, vectors.astype(np.float32), weights=bundle.weights_sha256)
    for name in ("night.edf", "nights/a.edf", "nights/deep/b.edf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_recording(tmp_path / name)
    (tmp_path / "nights" / "broken.edf").write_bytes(b"no edf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    walk, with_await = examples()
    state = tmp_path / "state"
    with tiny_service(ServeConfig(windows_per_batch=4, cohort=cohort, state_dir=str(state))) as url:
        for text in (walk, with_await):
            assert text.count("http://127.0.0.1:8000") == 1
            exec(compile(text.replace("http://127.0.0.1:8000", url), str(DOCS), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("True ['EEG', 'EOG', 'EMG']")
    assert "2 done, 0 skipped, 1 failed, not_an_edf 1" in lines
    assert lines[-2].startswith("not_an_edf 400 ")
    assert lines[-1] == "[4, 4]"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert not (tmp_path / "night.upload").exists()
    assert list((state / "uploads").iterdir()) == list((state / "jobs").iterdir()) == []


def test_the_client_needs_numpy_pyarrow_and_httpx_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        capture_output=True,
        text=True,
        check=False,
        cwd=DOCS.parents[1],
    )
    assert done.stdout == "fine\n", done.stderr
