"""How much each owner of keys may ask for: requests per minute, nights per day, bytes stored.

Counted in the memory of the one Ingress: a restart begins anew. Bytes are counted by whoever stores
them; the limit travels with the request.
"""

import math
import time
from collections.abc import Callable

from starlette.requests import Request

from serve_apps.http_errors import HttpError
from serve_apps.keys import Key

MINUTE_S = 60.0
DAY_S = 86_400


class Quotas:
    """What each owner has used.

    Args:
        clock: seconds since 1970; tests set it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._free_at_s: dict[str, float] = {}
        self._nights: dict[str, tuple[int, int]] = {}  # owner: day, nights of it

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
        ahead_at = max(self._free_at_s.get(key.owner, now), now) + share
        over = ahead_at - now - MINUTE_S
        if over > 1e-6:  # a microsecond is rounding
            return math.ceil(over)
        self._free_at_s[key.owner] = ahead_at
        return None

    def take_night(self, key: Key) -> int | None:
        """Count a night; None, or the seconds to the next day (UTC) when it is one too many."""
        if key.nights_per_day is None:
            return None
        now = self._clock()
        day = int(now // DAY_S)
        counted_on, count = self._nights.get(key.owner, (day, 0))
        count = count if counted_on == day else 0
        if count >= key.nights_per_day:
            return math.ceil((day + 1) * DAY_S - now)
        self._nights[key.owner] = (day, count + 1)
        return None

    def give_night_back(self, key: Key) -> None:
        """A night that was refused costs nothing."""
        counted_on, count = self._nights.get(key.owner, (0, 0))
        if count:
            self._nights[key.owner] = (counted_on, count - 1)


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
