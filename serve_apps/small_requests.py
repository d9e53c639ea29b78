"""What takes the model milliseconds, sent to the deployments several at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_apps.backend import Recording, Refusal, WindowBatch
from serve_apps.call_batcher import CallBatcher
from serve_apps.stages import (
    Encoded,
    OtherSettings,
    Preprocessed,
    ToEncode,
    ToHear,
    ToLoad,
    shared,
)

# Beyond these a request goes alone: it is work enough, and its client wants to see how far it is.
MAX_RECORDING_BYTES = 2**20  # minutes of a night
MAX_WINDOWS = 4
MAX_ITEMS = 8  # of one call: who goes with others waits for all of them
# While one call is in hand others gather. A second one would keep the replica from waiting the few
# milliseconds between two, and cost more than that: calls went out half empty (docs/log.md).
CALLS_PER_REPLICA = 1

Handle = DeploymentHandle[Any]  # Any: a handle's methods have no types


def is_small(asked: Recording | WindowBatch) -> bool:
    """Whether it is one of these."""
    if isinstance(asked, WindowBatch):
        return len(asked.valid) <= MAX_WINDOWS
    return not isinstance(asked, str) and len(asked) <= MAX_RECORDING_BYTES


class SmallRequests:
    """Calls to the deployments that carry several small requests.

    Args:
        preprocessor: of every model.
        encoders: by the name of the model.
        num_preprocessors: replicas there may be.
        num_encoders: the same, of each model.
    """

    def __init__(
        self,
        preprocessor: Handle,
        encoders: Mapping[str, Handle],
        *,
        num_preprocessors: int,
        num_encoders: int,
    ) -> None:
        self._loads: CallBatcher[ToLoad, Preprocessed | Refusal] = CallBatcher(
            preprocessor.load_many.remote,
            max_calls=CALLS_PER_REPLICA * num_preprocessors,
            max_items=MAX_ITEMS,
        )
        max_calls = CALLS_PER_REPLICA * num_encoders
        self._nights: dict[str, CallBatcher[ToHear, Encoded | OtherSettings | Refusal]] = {
            name: CallBatcher(encoder.nights.remote, max_calls=max_calls, max_items=MAX_ITEMS)
            for name, encoder in encoders.items()
        }
        self._windows: dict[str, CallBatcher[ToEncode, Encoded | Refusal]] = {
            name: CallBatcher(encoder.windows.remote, max_calls=max_calls, max_items=MAX_ITEMS)
            for name, encoder in encoders.items()
        }

    async def load(
        self, recording: Recording, settings: Mapping[str, Any], request_id: str
    ) -> Preprocessed | Refusal:
        """Its night; what the call raises is raised."""
        return await self._loads.ask(ToLoad(shared(recording), settings, request_id))

    async def night(
        self, name: str, loaded: Preprocessed, request_id: str, second: bool
    ) -> Encoded | OtherSettings | Refusal:
        """Its embedding by the named model; as `load`."""
        return await self._nights[name].ask(ToHear(loaded, request_id, second))

    async def encode(self, name: str, windows: WindowBatch, request_id: str) -> Encoded | Refusal:
        """Vectors of windows; as `load`."""
        return await self._windows[name].ask(ToEncode(windows, request_id))
