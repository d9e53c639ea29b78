"""What a person sees while a stage runs and when it ends."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
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

from pipelines.dashboard import duration

console = Console(stderr=True, markup=False, highlight=False)  # file names may hold brackets

Advance = Callable[[int, str], None]
LINE_EVERY_S = 10.0


class _PerMinute(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not task.elapsed or not task.completed:
            return Text("")
        return Text(_rate(task.completed, task.elapsed), style="dim")


@contextlib.contextmanager
def stage(title: str, total: int, *, unit: str = "", pace: bool = True) -> Iterator[Advance]:
    """Progress of a stage, and its duration when it ends; the body calls `advance(n, note)`.

    A bar above the note on a terminal; where standard error is a file, a line every LINE_EVERY_S
    seconds.

    Args:
        title: what is done.
        total: how many of it.
        unit: what is counted.
        pace: show rate and time left; False where the notes say it better, because a stage that
            goes on where it was left begins with a jump.
    """
    began = time.perf_counter()
    kind = _bar if console.is_terminal else _lines
    with kind(title, total, unit, pace) as advance:
        yield advance
    elapsed_s = time.perf_counter() - began
    # of what took no time a rate says nothing
    rate = f", {_rate(total, elapsed_s)}" if total > 1 and elapsed_s >= 1 else ""
    console.print(f"{title}: {total} {unit} in {duration(elapsed_s)}{rate}")


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str, pace: bool) -> Iterator[Advance]:
    paced = (_PerMinute(), TextColumn("left"), TimeRemainingColumn()) if pace else ()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        *paced,
        console=console,
    )
    below = Text("", style="dim", overflow="ellipsis", no_wrap=True)
    task = progress.add_task(title, total=total)

    def advance(n: int, note: str) -> None:
        below.plain = note
        progress.update(task, advance=n)

    with Live(Group(progress, below), console=console, transient=True, refresh_per_second=4):
        yield advance


@contextlib.contextmanager
def _lines(title: str, total: int, unit: str, pace: bool) -> Iterator[Advance]:
    began = printed = time.perf_counter()
    done = 0

    def advance(n: int, note: str) -> None:
        nonlocal done, printed
        done += n
        now = time.perf_counter()
        if now - printed >= LINE_EVERY_S and done:
            left_s = (now - began) / done * (total - done)
            paced = f", {_rate(done, now - began)}, {duration(left_s)} left" if pace else ""
            console.print(f"{title}: {done}/{total} {unit}{paced}  {note}")
            printed = now

    console.print(f"{title}: {total} {unit}")
    yield advance


def _rate(count: float, duration_s: float) -> str:
    per_minute = 60 * count / duration_s
    return f"{per_minute:.{0 if per_minute >= 10 else 1}f}/min"


def print_outcomes(title: str, outcomes: Counter[str], details: list[tuple[str, str, str]]) -> None:
    """The closing account of a stage: how many ended how, then each skipped file and why.

    Args:
        title: what was done.
        outcomes: count per outcome ("ingested", "unchanged", ...).
        details: (name, code, reason) of everything that was not done.
    """
    console.print(f"{title}: " + ", ".join(f"{n} {name}" for name, n in outcomes.items() if n))
    if details:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("file", "code", "reason"):
            table.add_column(heading, overflow="fold")
        for row in details[:50]:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        if len(details) > 50:
            console.print(f"... and {len(details) - 50} more")


def print_new_key(made: Path | None) -> None:
    """Say that a site key was made, once: losing it is losing the way back to the recordings."""
    if made:
        console.print(
            f"site key: made {made}; back it up: without it later runs cannot give recordings the "
            "same pseudonyms"
        )
