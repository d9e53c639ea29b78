"""Commands for the keys of the embedding service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.cli.options import out

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="key file, as in keys_file")]
GIB = 2**30


def add(
    file: FileArgument,
    owner: Annotated[
        str, typer.Argument(metavar="OWNER", help="a-z, 0-9, -; logs name it, so no person's name")
    ],
    days: Annotated[int | None, typer.Option(min=1, help="until it expires; never")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="no limit")] = None,
    nights_per_day: Annotated[int | None, typer.Option(help="no limit")] = None,
    gib_stored: Annotated[int | None, typer.Option(help="no limit")] = None,
) -> None:
    """Make a key, show it once, and keep its hash in FILE; a running service reads it at once."""
    from serve_apps.keys import add_key

    text, key = add_key(
        file,
        owner,
        days=days,
        requests_per_minute=requests_per_minute,
        nights_per_day=nights_per_day,
        bytes_stored=None if gib_stored is None else gib_stored * GIB,
    )
    typer.echo(f"key {key.id} of {key.owner}; it is not shown again:", err=True)
    typer.echo(text)  # alone on standard output, for a pipe into a vault


def list_keys(file: FileArgument) -> None:
    """Show what FILE knows of its keys."""
    from serve_apps.keys import read_keys

    table = Table(
        "id", "owner", "created", "expires", "requests/min", "nights/day", "GiB stored", box=None
    )
    for key in read_keys(file):
        stored = None if key.bytes_stored is None else round(key.bytes_stored / GIB, 1)
        cells = (key.expires and f"{key.expires:%Y-%m-%d %H:%M}", key.requests_per_minute,
                 key.nights_per_day, stored)  # fmt: skip
        shown = ["-" if cell is None else str(cell) for cell in cells]
        table.add_row(key.id, key.owner, f"{key.created:%Y-%m-%d %H:%M}", *shown)
    out.print(table)


def revoke(
    file: FileArgument,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="as `keys list` shows it")],
) -> None:
    """Take a key out of FILE; a running service refuses it from the next request on."""
    from serve_apps.keys import revoke_key

    gone = revoke_key(file, key_id)
    out.print(f"key {gone.id} of {gone.owner} is revoked")
