"""docs/paper_map.md points at modules that say which equation they hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split("|")]
    for line in (ROOT / "docs" / "paper_map.md").read_text().splitlines()
    if line.startswith("| ") and "`" in line
]
EQUATIONS = {
    "1": "sleepmami/losses/reconstruction.py",
    "2": "sleepmami/losses/cross_modal.py",
    "3": "sleepmami/losses/koleo.py",
    "4-6": "sleepmami/losses/dgcl.py",
    "7": "sleepmami/evaluation/cox.py",
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_path_of_the_map_exists(row: list[str]) -> None:
    for cell in row[1:]:
        folder = ROOT
        for path in re.findall(r"`([^`]+)`", cell):
            folder = (ROOT / path).parent if "/" in path else folder
            assert (folder / Path(path).name).exists() or (ROOT / path).exists(), path


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_loss_module_names_its_equation_in_its_docstring(equation: str) -> None:
    text = (ROOT / EQUATIONS[equation]).read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert re.search(rf"eqs?\. {equation}\b", docstring)
    listed = [row for row in ROWS if EQUATIONS[equation] in row[1]]
    assert len(listed) == 1
