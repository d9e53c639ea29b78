"""How many requests hold a recording at once, and how many more may wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_apps.http_errors import HttpError
from serve_apps.wire import Limits
from sleepmami.config import ServeConfig


def limits_of(config: ServeConfig, num_models: int = 1) -> Limits:
    """The limits that /info tells, of a configuration; each model has replicas of its own."""
    num_replicas = (config.max_replicas or config.num_replicas) * num_models
    return Limits(
        max_body_mb=config.max_body_mb,
        max_running=num_replicas * config.max_ongoing_requests,
        max_queued=config.max_queued_requests,
        max_uploads_gb=config.max_uploads_gb,
        max_jobs=config.max_jobs,
        retention_h=config.retention_h,
    )


class Admission:
    """Lets `max_running` requests hold a recording, `max_queued` more wait, and refuses the rest.

    A request is admitted before its body is read: the recordings in memory are at most
    max_running times max_body_mb.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._running = asyncio.Semaphore(limits.max_running)
        self.admitted = 0
        self._closed = False

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place; HttpError("overloaded") when too many wait, or as `require_open`."""
        self.require_open()
        if self.admitted >= self.limits.max_running + self.limits.max_queued:
            raise HttpError("overloaded")
        self.admitted += 1
        try:
            async with self._running:
                self.require_open()
                yield
        finally:
            self.admitted -= 1

    def require_open(self) -> None:
        """HttpError("model_not_ready") once `drain` was called."""
        if self._closed:
            raise HttpError("model_not_ready")

    async def drain(self) -> None:
        """Admit nobody more, turn away those who wait, and return when no recording is held."""
        self._closed = True
        while self.admitted:
            await asyncio.sleep(0.05)
