"""`sleepmami report` as a person types it."""

import subprocess
import sys
from pathlib import Path

from tests.unit.evaluation.planted import PlantedNight, write_embeddings

CODE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in WITHOUT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
if "matplotlib" not in WITHOUT:
    from sleepmami.report import pictures
    pictures.DPI = 16  # how it looks is not asked here
from pipelines.cli import main
main()
"""


def run(folder: Path) -> str:
    """A run of which only the Micro-Encoder's log is there."""
    (folder / "run" / "micro").mkdir(parents=True)
    (folder / "run" / "micro" / "metrics.jsonl").write_text('{"step": 1, "loss/total": 2.0}\n')
    return str(folder / "run")


def report(without: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process that finds none of these packages."""
    command = [sys.executable, "-c", CODE.replace("WITHOUT", repr(without)), "report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_report_needs_neither_torch_nor_ray_nor_umap(tmp_path: Path) -> None:
    nights = [PlantedNight(recording_id=f"r{n}", subject_id=f"s{n}") for n in range(3)]
    cohort = write_embeddings(tmp_path / "cohort", nights)
    out = str(tmp_path / "out")
    absent = ("torch", "ray", "umap", "sklearn", "xxhash")
    found = report(absent, run(tmp_path), "--embeddings", cohort, "-o", out)
    assert found.returncode == 0, found.stderr
    assert f"report: {out}/index.html" in found.stdout
    assert (tmp_path / "out" / "map_pca_age.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path) -> None:
    found = report(("matplotlib",), run(tmp_path))
    assert found.returncode == 2
    assert "found no matplotlib; this needs: pip install 'sleepmami[report]'" in found.stderr


def test_umap_that_is_asked_for_and_not_there_is_refused(tmp_path: Path) -> None:
    nights = [PlantedNight(recording_id=f"r{n}", subject_id=f"s{n}") for n in range(3)]
    cohort = write_embeddings(tmp_path / "cohort", nights)
    options = ["--embeddings", cohort, "--map", "umap", "-o", str(tmp_path / "out")]
    found = report(("umap",), run(tmp_path), *options)
    assert found.returncode == 2
    assert "pip install 'sleepmami[umap]'" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "out").exists()
