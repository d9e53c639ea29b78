"""Which model answers a request: the one it names, or by chance a canary, or the default."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

_STEPS = 2**32


def chosen_model(
    asked: str | None, request_id: str, default: str, canary: Mapping[str, float]
) -> str:
    """The name of the model for a request.

    The chance is a hash of the request id, so a request that is sent again meets the same model.

    Args:
        asked: the model that the request names, which need not exist.
        request_id: of the request.
        default: the model of requests that name none.
        canary: share of those that each other model gets; at most 1 in all.
    """
    if asked is not None:
        return asked
    digest = hashlib.sha256(request_id.encode()).digest()
    place = int.from_bytes(digest[:4], "big") / _STEPS
    for name, share in canary.items():
        if place < share:
            return name
        place -= share
    return default
