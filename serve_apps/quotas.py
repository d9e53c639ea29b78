"""How much each owner of keys may ask for: requests per minute, nights per day, bytes stored.

A night is one recording, however long, or NIGHT_WINDOWS windows that the client has preprocessed
itself: what /v1/encode and /v2 compute is of the same quota. The day's use is kept in a file, so
that a restart gives nobody a second day; the minute's is in memory, so a restart forgives at most a
minute of requests. Bytes are counted by whoever stores them; the limit travels with the request.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from serve_apps.http_errors import HttpError
from serve_apps.keys import Key
from serve_apps.state_file import StateFile

logger = logging.getLogger(__name__)

MINUTE_S = 60.0
DAY_S = 86_400
NIGHT_WINDOWS = 480  # windows of 60 s in eight hours
WRITE_EVERY_S = 1.0  # of what is less than a night; a kill loses less than one for each owner


class DayUse(BaseModel):
    """Windows that owners have used on a day, in days since 1970 (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: int = 0
    windows: dict[str, int] = {}

    def on(self, day: int) -> dict[str, int]:
        """By owner; nothing when it is of another day."""
        return self.windows if day == self.day else {}

    def plus(self, day: int, more: dict[str, int]) -> "DayUse":
        """With more of that day; none has used less than nothing."""
        windows = dict(self.on(day))
        for owner, count in more.items():
            windows[owner] = max(0, windows.get(owner, 0) + count)
        return DayUse(day=day, windows=windows)


class Quotas:
    """What each owner has used.

    Args:
        file: of the day's use; None keeps it in memory.
        clock: seconds since 1970; tests set it.
    """

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._free_at_s: dict[str, float] = {}
        self._file = StateFile(file, DayUse())
        self._unwritten = DayUse()
        self._written_at_s = -math.inf

    def take_request(self, key: Key) -> int | None:
        """Count a request; None, or the whole seconds to wait when it is one too many.

        The generic cell rate algorithm: each request pushes the owner's clock one share of a minute
        ahead, and it may be a minute ahead of ours. So a minute's worth may come at once, and then
        requests as they become free.
        """
        if key.requests_per_minute is None:
            return None
        now = self._clock()
        share = MINUTE_S / key.requests_per_minute
        free_at = max(self._free_at_s.get(key.owner, now), now)
        if free_at > now + MINUTE_S + 1:  # the machine's clock was put back
            free_at = now
        ahead_at = free_at + share
        over = ahead_at - now - MINUTE_S
        if over > 1e-6:  # a microsecond is rounding
            return math.ceil(over)
        self._free_at_s[key.owner] = ahead_at
        return None

    def take_night(self, key: Key) -> int | None:
        """Count a night; None, or the seconds to the next day (UTC) when it is one too many."""
        return self.take_windows(key, NIGHT_WINDOWS)

    def take_windows(self, key: Key, count: int) -> int | None:
        """Count windows, as `take_night`; all of them or none."""
        wait_s = self.wait_for_windows(key, count)
        if wait_s is None and key.nights_per_day is not None:
            self._count(key.owner, count)
        return wait_s

    def wait_for_windows(self, key: Key, count: int) -> int | None:
        """What `take_windows` would return; counts nothing."""
        if key.nights_per_day is None:
            return None
        now, day = self._clock(), self.today()
        used = sum(use.on(day).get(key.owner, 0) for use in (self._file.read(), self._unwritten))
        if used + count > key.nights_per_day * NIGHT_WINDOWS:
            return math.ceil((day + 1) * DAY_S - now)
        return None

    def today(self) -> int:
        """Days since 1970 (UTC)."""
        return int(self._clock() // DAY_S)

    def give_night_back(self, key: Key, day: int) -> None:
        """A night that was refused costs nothing."""
        self.give_windows_back(key, NIGHT_WINDOWS, day)

    def give_windows_back(self, key: Key, count: int, day: int) -> None:
        """Windows that were refused cost nothing; those of a day that is over make no other longer.

        Args:
            key: as they were taken with.
            count: how many.
            day: on which they were taken, as of `today`.
        """
        if key.nights_per_day is not None and day == self.today():
            self._count(key.owner, -count)

    def _count(self, owner: str, count: int) -> None:
        now, day = self._clock(), self.today()
        # not yet clamped at 0: what is given back may be in the file already
        waiting = dict(self._unwritten.on(day))
        waiting[owner] = waiting.get(owner, 0) + count
        self._unwritten = DayUse(day=day, windows=waiting)
        # also by a clock that was put back
        is_late = abs(now - self._written_at_s) >= WRITE_EVERY_S
        if is_late or abs(waiting[owner]) >= NIGHT_WINDOWS:
            self.write()

    def write(self) -> None:
        """Put what was counted into the file; a failure is logged and it is tried again."""
        day = self.today()
        waiting = self._unwritten.on(day)  # of a day before nobody asks, and today's may be written
        if not waiting:
            return
        self._written_at_s = self._clock()
        try:
            self._file.change(lambda use: use.plus(day, waiting))
        except OSError as error:
            logger.error("quotas cannot be written: %s", error.strerror)
            return
        self._unwritten = DayUse()


class Account:
    """The quota of the key that a request came with; KeyMiddleware leaves it in its state.

    Attributes:
        night_wait_s: seconds until a night is free, of a request that may be one of before and cost
            none; None: the night is taken, or none is needed.
    """

    def __init__(self, quotas: Quotas, key: Key) -> None:
        self._quotas = quotas
        self._key = key
        self._day = quotas.today()
        self.night_wait_s: int | None = None

    def wait_s(self) -> int | None:
        """Seconds until a window may be encoded; None: now."""
        return self._quotas.wait_for_windows(self._key, 1)

    def take(self, count: int) -> int | None:
        """Count windows; None, or the seconds to wait."""
        self._day = self._quotas.today()
        return self._quotas.take_windows(self._key, count)

    def give_back(self, count: int) -> None:
        """Those that were taken last were not encoded."""
        self._quotas.give_windows_back(self._key, count, self._day)


def require_night(request: Request) -> None:
    """HttpError("quota_exceeded") when the request was let in without a night, and needs one."""
    account: Account | None = getattr(request.state, "account", None)
    if account is not None and account.night_wait_s is not None:
        _refuse(request, account.night_wait_s)


def require_windows(request: Request) -> None:
    """HttpError("quota_exceeded") when none is left to the key, before a body is read."""
    account: Account | None = getattr(request.state, "account", None)
    if account is not None and (wait_s := account.wait_s()) is not None:
        _refuse(request, wait_s)


@contextmanager
def counted_windows(request: Request, count: int) -> Iterator[None]:
    """Windows that are encoded in the block; it costs nothing when it fails.

    Raises:
        HttpError: quota_exceeded, when fewer are left to the key.
    """
    account: Account | None = getattr(request.state, "account", None)
    if account is None:
        yield
        return
    if (wait_s := account.take(count)) is not None:
        _refuse(request, wait_s)
    try:
        yield
    except BaseException:  # also a client that went away
        account.give_back(count)
        raise


def _refuse(request: Request, wait_s: int) -> None:
    request.state.answer_headers = {"retry-after": str(wait_s)}
    raise HttpError("quota_exceeded")


def require_bytes(request: Request, held: int, more: int) -> None:
    """HttpError("quota_exceeded") when the owner would store more than the key allows.

    Args:
        request: what key it came with was noted by KeyMiddleware.
        held: bytes that the owner has stored, or declared and not yet sent.
        more: bytes the request would add.
    """
    limit: int | None = getattr(request.state, "bytes_stored", None)
    if limit is not None and held + more > limit:
        raise HttpError("quota_exceeded")
