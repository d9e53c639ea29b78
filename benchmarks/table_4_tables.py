"""The tables and the figure of docs/benchmark_simulated.md, out of the JSON of table_4.py."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from table_4_probes import Row, difference

MACRO, MEANS = "macro default 0", "macro short_running_means 0"
EPOCH_COLUMNS = (
    ("staging", "macro_f1", "staging, macro F1"),
    ("apnea", "macro_f1", "SDB, macro F1"),
)
PERSON_COLUMNS = (
    ("age", "r2", "age, R2"),
    ("age", "mae", "age, MAE"),
    ("sex", "auroc", "sex, AUROC"),
    ("ahi", "r2", "AHI, R2"),
    ("bmi", "r2", "BMI, R2"),
)
COMPARED = [
    ("macro default", "macro untrained"),
    ("macro short", "macro untrained"),
    ("macro short_running_means", "macro untrained"),
    ("macro short_running_means", "macro short"),
    ("macro short_running_means", "macro short_shuffled"),
    ("macro short_running_means", "macro running_means"),
]
ENCODERS = (  # row, name, colour of Okabe and Ito, marker
    ("bands", "band powers", "#777777", "s"),
    ("random", "random weights", "#E69F00", "^"),
    ("micro", "Micro", "#0072B2", "o"),
    (MACRO, "Macro, defaults", "#D55E00", "D"),
    (MEANS, "Macro, means contrasted", "#009E73", "v"),
)


def columns_of(who: str) -> list[tuple[str, str, str]]:
    """Task in the JSON, figure and heading: those of epochs once, those of people by fit set."""
    people = [(f"{task}_{who}", figure, name) for task, figure, name in PERSON_COLUMNS]
    return [*EPOCH_COLUMNS, *people] if who == "all" else people


def values_table(rows: dict[str, Any], who: str) -> str:
    """Each row's figures with 95 % intervals over the test subjects."""
    columns = columns_of(who)
    lines = [
        "| | " + " | ".join(name for *_, name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = [cell(row["tasks"][task]["figures"][figure], figure) for task, figure, _ in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences_table(rows: dict[str, Any], pairs: list[tuple[str, str]], who: str) -> str:
    """How much better the first of a pair is, on the same resampled test subjects.

    A name without a seed stands for the mean of its seeds.
    """
    columns = columns_of(who)
    lines = [
        "| | " + " | ".join(name for *_, name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for one, other in pairs:
        cells = []
        for task, figure, _ in columns:
            found = difference(seeds_of(rows, one), seeds_of(rows, other), task, figure)
            sure = found["low"] > 0 or found["high"] < 0
            text = cell(found, figure, sign="+")
            cells.append(f"**{text}**" if sure else text)
        lines.append(f"| {one} less {other} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seeds_of(rows: dict[str, Any], name: str) -> list[Row]:
    """The row of that name, or those of all its seeds."""
    return [row for key, row in rows.items() if name in (key, key.rpartition(" ")[0])]


def cell(found: dict[str, float], figure: str, sign: str = "") -> str:
    """A value and its interval."""
    digits = 1 if figure == "mae" else 3 if figure == "macro_f1" else 2
    value, low, high = (f"{found[name]:{sign}.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} .. {high})"


def picture(rows: dict[str, Any]) -> Figure:
    """Six questions, five encoders each, with their intervals."""
    panels = (
        ("staging", "macro_f1", "stage of an epoch\nmacro F1"),
        ("apnea", "macro_f1", "disordered breathing\nmacro F1"),
        ("age_all", "r2", "age, labels of all\nR2"),
        ("sex_all", "auroc", "sex, labels of all\nAUROC"),
        ("age_few", "r2", "age, labels of few\nR2"),
        ("sex_few", "auroc", "sex, labels of few\nAUROC"),
    )
    figure = Figure(figsize=(10.5, 3.1), layout="constrained")
    for axes, (task, name, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _panel(axes, rows, task, name)
        axes.set_title(title, fontsize=9)
    return figure


def _panel(axes: Axes, rows: dict[str, Any], task: str, name: str) -> None:
    for place, (row, _, colour, marker) in enumerate(ENCODERS):
        found = rows[row]["tasks"][task]["figures"][name]
        axes.plot([found["low"], found["high"]], [-place, -place], color=colour, linewidth=2)
        axes.plot(found["value"], -place, marker, color=colour, markersize=7)
        axes.annotate(
            f"{found['value']:.2f}", (found["value"], -place), xytext=(0, 6),
            textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    first = axes.get_subplotspec().colspan.start == 0  # type: ignore[union-attr]
    axes.set_yticks(range(0, -len(ENCODERS), -1), [e[1] for e in ENCODERS] if first else [])
    axes.set_ylim(-len(ENCODERS) + 0.5, 0.6)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main() -> None:
    """Print the tables; with --png also the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("--png", type=Path)
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text())["rows"]
    pairs = [("micro", "random"), ("micro", "bands")]
    macros = dict.fromkeys(name.rpartition(" ")[0] for name in rows if name.startswith("macro"))
    pairs += [(name, "truth" if "truth" in name else "micro") for name in macros]
    pairs += COMPARED
    pairs = [pair for pair in pairs if all(seeds_of(rows, name) for name in pair)]
    for who in ("all", "few"):
        print(
            "\nlabels of",
            f"{who}\n",
            values_table(rows, who),
            "",
            differences_table(rows, pairs, who),
            sep="\n",
        )
    if arguments.png:
        picture(rows).savefig(arguments.png, dpi=130)


if __name__ == "__main__":
    main()
