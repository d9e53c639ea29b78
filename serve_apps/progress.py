"""Tell how far a piece of work is while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from serve_apps.backend import Progress


async def while_running(
    work: asyncio.Future[Any], steps: asyncio.Queue[Progress]
) -> AsyncGenerator[Progress]:  # Any: its outcome is the caller's
    """Every step that the work puts, until it ends; cancels it when nobody listens any more."""
    step: asyncio.Future[Progress] | None = None
    try:
        while not work.done():
            step = asyncio.ensure_future(steps.get())
            await asyncio.wait((work, step), return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                yield step.result()
                step = None
            else:
                step.cancel()
        while not steps.empty():
            yield steps.get_nowait()
    finally:
        if step is not None:
            step.cancel()
        if not work.done():
            work.cancel()
