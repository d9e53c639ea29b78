"""The command that runs a table of the paper row by row."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pipelines.cli.options import (
    EXIT_FAILURE,
    AddressOption,
    PresetOption,
    PrintOption,
    SetOption,
    configured,
    on_ray,
    out,
)
from sleepmami.config import TABLES, AblateConfig
from sleepmami.errors import ConfigError
from sleepmami.presets import preset


def ablate(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=" | ".join(TABLES))],
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="folder or URI; again to resume")],
    rows: Annotated[
        list[str], typer.Option("--rows", help="such as 1,2a; default all; may be repeated")
    ] = [],  # noqa: B006  # typer copies defaults
    run: Annotated[
        str | None,
        typer.Option("--run", help="bundle of the same settings, trained already on all cohorts"),
    ] = None,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Train and probe each row of Table 4, 11 or 12; writes OUT/table_TABLE.json and .md."""
    chosen = preset(preset_name)
    common = AblateConfig(micro=chosen.micro, macro=chosen.macro, embed=chosen.embed)
    config = configured(common, assignments, print_config)
    name = next((known for known in TABLES if known == table), None)
    if name is None:
        raise ConfigError(f"unknown table {table!r}; there are {list(TABLES)}")
    asked = [row for text in rows for row in text.split(",")]
    from pipelines.ablate import ablate as start

    with on_ray(address):
        result = start(name, corpus, output, config, asked, run=run)
    _print(result)
    if any(row["state"] == "failed" for row in result["rows"]):
        raise typer.Exit(EXIT_FAILURE)


def _print(result: dict[str, Any]) -> None:  # Any: JSON
    from sleepmami.evaluation.ablation_table import cell_text

    out.print(Text(f"Table {result['table']}: {result['title']}", style="bold"))
    table = Table("row", "", *result["columns"], "state", box=None, padding=(0, 2))
    for row in result["rows"]:
        cells = [cell_text(row["cells"][column]) for column in result["columns"]]
        style = {"failed": "red", "not run": "dim"}.get(row["state"], "")
        texts = (row["row"], row["title"], *cells, row["state"])
        table.add_row(*map(Text, texts), style=style)
    out.print(table)
    for row in result["rows"]:
        if row["state"] == "failed":
            out.print(Text(f"row {row['row']} failed: {row['reason']}", style="red"))
