"""What a person sees while a stage runs and when it ends."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(stderr=True, markup=False, highlight=False)  # file names may hold brackets

Advance = Callable[[int, str], None]


class _PerMinute(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not task.elapsed or not task.completed:
            return Text("")
        return Text(f"{60 * task.completed / task.elapsed:.1f}/min", style="dim")


@contextlib.contextmanager
def stage(title: str, total: int, *, unit: str = "") -> Iterator[Advance]:
    """A progress bar; the body calls `advance(n, note)` as work is done.

    Where standard error is no terminal, one line tells the start and one the end.
    """
    if not console.is_terminal:
        console.print(f"{title}: {total} {unit}".rstrip())
        yield lambda n, note: None
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _PerMinute(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )
    with progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda n, note: progress.update(task, advance=n, note=note)


def print_outcomes(title: str, outcomes: Counter[str], details: list[tuple[str, str, str]]) -> None:
    """The closing account of a stage: how many ended how, then each skipped file and why.

    Args:
        title: what was done.
        outcomes: count per outcome ("ingested", "unchanged", ...).
        details: (name, code, reason) of everything that was not done.
    """
    console.print(f"{title}: " + ", ".join(f"{n} {name}" for name, n in outcomes.items() if n))
    if details:
        table = Table("file", "code", "reason", box=None, padding=(0, 2, 0, 0))
        for row in details[:50]:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        if len(details) > 50:
            console.print(
                f"... and {len(details) - 50} more; all are in the table with their reasons"
            )
