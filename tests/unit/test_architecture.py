"""The import rules of docs/architecture.md, kept true by a test."""

import ast
import functools
from pathlib import Path

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


@functools.cache
def all_imports() -> dict[str, set[str]]:
    return {module_name(file): imports(file) for file in FILES}


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def rank(name: str) -> tuple[int, str] | None:
    """Row of the narrowest package that holds the module."""
    found = [(i, p) for i, row in enumerate(LAYERS) for p in row if inside(name, p)]
    return max(found, key=lambda item: len(item[1]), default=None)


def upward(here: str, name: str) -> str | None:
    """What is wrong with `here` importing `name`."""
    for package, doors in DOORS.items():
        if inside(name, package) and not any(inside(here, door) for door in doors):
            return f"{here}: {name} has its own door"
    own, there = rank(here), rank(name)
    if own and there and own[1] != there[1]:
        peers_ok = own[0] == there[0] and LAYERS[own[0]] in PEERS_MAY_MEET
        if there[0] >= own[0] and not peers_ok:
            return f"{here}: {own[1]} must not import {there[1]}"
    return None


def test_imports_point_down() -> None:
    found = [upward(here, name) for here, names in all_imports().items() for name in sorted(names)]
    assert [wrong for wrong in found if wrong] == []


def test_light_layers_start_without_torch() -> None:
    light = [here for here in all_imports() if any(inside(here, package) for package in TORCH_FREE)]
    assert len(light) > len(TORCH_FREE)
    assert [
        here for here in light if any(inside(name, "torch") for name in all_imports()[here])
    ] == []


def test_files_stay_short() -> None:
    """Split the file, or argue for it in review."""
    lines = {str(file): len(file.read_text().splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > 400} == {}
