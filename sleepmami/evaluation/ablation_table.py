"""The outcome of Table 4, 11 or 12: each row's figures with intervals, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sleepmami import __version__
from sleepmami.config import TABLES, AblateConfig, AblationRow, Column, TableName
from sleepmami.config_edit import to_dict
from sleepmami.errors import TableError

State = Literal["done", "failed", "not run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowOutcome:
    """How a row ended.

    Attributes:
        row: of the table.
        state: done, failed, or not run (not asked for, or not defined by the paper).
        results: of the probes that were answered, by task; as `ProbeResult.to_dict` has them.
        reason: why it is not done; empty where it is.
        notes: what a reader has to know besides the row's own note.
    """

    row: AblationRow
    state: State
    results: Mapping[str, Mapping[str, Any]]  # Any: JSON values
    reason: str = ""
    notes: tuple[str, ...] = ()


def cell_of(row: AblationRow, place: int, column: Column, outcome: RowOutcome) -> dict[str, Any]:
    """A figure in the paper's unit, with its interval and the paper's; null where there is none.

    Raises:
        TableError: a probe's result without the column's figure.
    """
    paper = row.paper[place] if row.paper else None
    cell: dict[str, Any] = {"value": None, "low": None, "high": None, "paper": paper}  # Any: JSON
    result = outcome.results.get(column.task)
    if result is None:
        return cell
    found = [f for f in result["figures"] if f["name"] == column.name and not f["group"]]
    if len(found) != 1:
        names = sorted(figure["name"] for figure in result["figures"])
        raise TableError(f"{column.task}: found figures {names}; expected one {column.name}")
    for name in ("value", "low", "high"):
        value = found[0][name]
        cell[name] = None if value is None else column.scale * value
    return cell | {name: result[name] for name in ("num_subjects", "num_nights", "num_rows")}


def table_dict(
    name: TableName, outcomes: Sequence[RowOutcome], config: AblateConfig, facts: Mapping[str, Any]
) -> dict[str, Any]:  # Any: JSON values
    """Plain JSON types of a whole table.

    Args:
        name: of TABLES.
        outcomes: one for each row, in the table's order.
        config: what all rows have in common.
        facts: of the data: corpus, cohort, versions.
    """
    table = TABLES[name]
    rows = []
    for outcome in outcomes:
        row = outcome.row
        cells = {
            column.title: cell_of(row, place, column, outcome)
            for place, column in enumerate(table.columns)
        }
        rows.append(
            {
                "row": row.row,
                "title": row.title,
                "state": outcome.state,
                "reason": outcome.reason,
                "notes": [note for note in (row.note, *outcome.notes) if note],
                "micro": row.micro,
                "macro": row.macro,
                "model_id": next((r["model_id"] for r in outcome.results.values()), None),
                "cells": cells,
            }
        )
    return {
        "table": name,
        "title": table.title,
        "columns": [column.title for column in table.columns],
        "rows": rows,
        "config": to_dict(config),
        "code_version": __version__,
        **facts,
    }


def markdown(plain: Mapping[str, Any]) -> str:
    """The table of `table_dict` as GitHub markdown; an interval is over subjects."""
    confidence = 100 * plain["config"]["probe"]["confidence"]
    lines = [
        f"# Table {plain['table']}: {plain['title']}",
        "",
        f"Tested on cohort {plain['cohort']} of {plain['corpus']}. In brackets the {confidence:g} "
        "% interval over subjects; then what the paper has, of other people and another model.",
        "",
        "| row | " + " | ".join(["", *plain["columns"]]) + " |",
        "|" + "---|" * (len(plain["columns"]) + 2),
    ]
    remarks = []
    for row in plain["rows"]:
        cells = [cell_text(row["cells"][column]) for column in plain["columns"]]
        lines.append("| " + " | ".join([row["row"], row["title"], *cells]) + " |")
        said = [*row["notes"], *([f"{row['state']}: {row['reason']}"] if row["reason"] else [])]
        remarks += [f"- Row {row['row']}: {' '.join(text.split())}" for text in said]
    return "\n".join([*lines, "", *remarks]).rstrip() + "\n"


def cell_text(cell: Mapping[str, Any]) -> str:
    """`79.1 (77.0 .. 81.2); paper 79.8`, or a dash where there is no figure."""
    ours = "-"
    if cell["value"] is not None:
        ours = f"{cell['value']:.2f}"
        if cell["low"] is not None:
            ours += f" ({cell['low']:.2f} .. {cell['high']:.2f})"
    return ours if cell["paper"] is None else f"{ours}; paper {cell['paper']:g}"
