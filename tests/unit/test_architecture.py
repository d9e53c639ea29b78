"""The import rules of docs/architecture.md, kept true by a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Low to high. A module may import its own package or any row above it in this list.
LAYERS = [
    {"sleepmami.errors", "sleepmami.psg"},
    {"sleepmami.config", "sleepmami.config_edit", "sleepmami.presets", "sleepmami.storage"},
    {"sleepmami.signals", "sleepmami.tables", "sleepmami.client"},
    {"sleepmami.simulation", "sleepmami.evaluation"},
    {"sleepmami.models", "sleepmami.losses"},
    {"sleepmami.training"},
    {"sleepmami.inference", "sleepmami.report"},
    {"pipelines", "serve_apps"},
    {"tune_spaces"},
    {"pipelines.cli", "pipelines.demo"},  # the front door opens on both
]
PEERS_MAY_MEET = [*LAYERS[:2], LAYERS[-1]]  # single files, not packages
DOORS = {  # third-party package -> the only places that may import it
    "ray": {"pipelines", "serve_apps", "tune_spaces"},
    "lance": {"sleepmami.tables.lance_io"},
    "pyedflib": {"sleepmami.signals.edf_writer"},
    "deepspeed": {"sleepmami.training.engine"},
    "mamba_ssm": {"sleepmami.models.ssm"},
    "flash_attn": {"sleepmami.models.attention"},
    "httpx": {"sleepmami.client", "pipelines.demo", "serve_apps.embedding_app"},
    "pydantic": {"serve_apps"},
    "fastapi": {"serve_apps"},
    "typer": {"pipelines.cli"},
    "optuna": {"tune_spaces.proposals"},
    "matplotlib": {"sleepmami.report"},
    "jinja2": {"sleepmami.report"},
    "umap": {"sleepmami.report.night_maps"},
    "mlflow": {"pipelines.trackers"},
    "wandb": {"pipelines.trackers"},
    "torch.utils.tensorboard": {"pipelines.trackers"},
}
TORCH_FREE = ("sleepmami.psg", "sleepmami.errors", "sleepmami.config", "sleepmami.presets", "sleepmami.storage",
              "sleepmami.signals", "sleepmami.tables", "sleepmami.client", "sleepmami.simulation", "sleepmami.evaluation", "sleepmami.report")  # fmt: skip
PACKAGES = ("sleepmami", "pipelines", "serve_apps", "tune_spaces")
FILES = sorted(f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: use absolute imports"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def rank(name: str) -> tuple[int, str] | None:
    """Row of the narrowest package that holds the module."""
    found = [(i, p) for i, row in enumerate(LAYERS) for p in row if inside(name, p)]
    return max(found, key=lambda item: len(item[1]), default=None)


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports_point_down(file: Path) -> None:
    here = rank(module_name(file))
    for name in imports(file):
        for package, doors in DOORS.items():
            if inside(name, package):
                assert any(inside(module_name(file), door) for door in doors), (
                    f"{name} has its own door"
                )
        there = rank(name)
        if here and there and here[1] != there[1]:
            peers_ok = here[0] == there[0] and LAYERS[here[0]] in PEERS_MAY_MEET
            assert there[0] < here[0] or peers_ok, f"{here[1]} must not import {there[1]}"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_light_layers_start_without_torch(file: Path) -> None:
    if any(inside(module_name(file), package) for package in TORCH_FREE):
        assert not any(inside(name, "torch") for name in imports(file))


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_files_stay_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400, "split the file, or argue for it in review"
