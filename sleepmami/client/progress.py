"""A bar on standard error, while something goes on; rich draws it and is only then needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from sleepmami.client.uploading import Progress


@contextmanager
def bar(show: bool, what: str, unit: Literal["bytes", "files", "steps"]) -> Iterator[Progress]:
    """Something to tell how far it is; draws when `show`."""
    if not show:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    count: ProgressColumn = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            drawn.update(task, completed=done, total=total or None)

        yield tell
