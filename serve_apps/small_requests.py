"""What takes the model milliseconds, sent to the deployments several at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_apps.backend import Recording, Refusal, WindowBatch
from serve_apps.call_batcher import Asked, CallBatcher
from serve_apps.stages import (
    Encoded,
    OtherSettings,
    Preprocessed,
    ToEncode,
    ToHear,
    ToLoad,
    shared,
)
from sleepmami.errors import RecordingError
from sleepmami.psg import SEGMENT_S
from sleepmami.signals.edf_header import parse_header

# Beyond these a request goes alone: it is work enough, and others would wait for it.
MAX_WINDOWS = 4
MAX_RECORDING_S = MAX_WINDOWS * SEGMENT_S  # a night of an oximeter alone has few bytes
MAX_RECORDING_BYTES = 2**20
MAX_ITEMS = 8  # of one call: who goes with others waits for all of them
# While one call is in hand others gather. A second one would keep the replica from waiting the few
# milliseconds between two, and cost more than that: calls went out half empty (docs/log.md).
CALLS_PER_REPLICA = 1
LONG_S = 0.25  # above what eight items of a small model take two busy cores
# Where replicas may grow in number Serve adds one more for as many calls in hand. It does not see
# who waits here: fewer calls than that of each replica there may be, and the last would never come.
ONGOING_PER_REPLICA = 2

Handle = DeploymentHandle[Any]  # Any: a handle's methods have no types


def calls_of(num_replicas: int, max_replicas: int | None) -> int:
    """How many calls to a deployment may be under way."""
    if max_replicas is None:
        return CALLS_PER_REPLICA * num_replicas
    return max(CALLS_PER_REPLICA, ONGOING_PER_REPLICA) * max_replicas


def is_small(asked: Recording | WindowBatch) -> bool:
    """Whether it is one of these."""
    if isinstance(asked, WindowBatch):
        return len(asked.valid) <= MAX_WINDOWS
    if isinstance(asked, str) or len(asked) > MAX_RECORDING_BYTES:
        return False
    try:
        header = parse_header(asked, "upload")
    except RecordingError:
        return True  # it is refused as soon as it is read
    # by the size: the number of records that a header tells may be unknown or wrong
    num_records = (len(asked) - header.num_bytes) // header.record_bytes
    return num_records * header.record_duration <= MAX_RECORDING_S


class SmallRequests:
    """Calls to the deployments that carry several small requests.

    Args:
        preprocessor: of every model.
        encoders: by the name of the model.
        preprocessor_calls: under way at once.
        encoder_calls: the same, of each model.
    """

    def __init__(
        self,
        preprocessor: Handle,
        encoders: Mapping[str, Handle],
        *,
        preprocessor_calls: int,
        encoder_calls: int,
    ) -> None:
        self._loads: CallBatcher[ToLoad, Preprocessed | Refusal] = CallBatcher(
            preprocessor.load_many.remote,
            max_calls=preprocessor_calls,
            max_items=MAX_ITEMS,
            long_s=LONG_S,
        )
        self._nights: dict[str, CallBatcher[ToHear, Encoded | OtherSettings | Refusal]] = {
            name: CallBatcher(
                encoder.nights.remote, max_calls=encoder_calls, max_items=MAX_ITEMS, long_s=LONG_S
            )
            for name, encoder in encoders.items()
        }
        self._windows: dict[str, CallBatcher[ToEncode, Encoded | Refusal]] = {
            name: CallBatcher(
                encoder.windows.remote, max_calls=encoder_calls, max_items=MAX_ITEMS, long_s=LONG_S
            )
            for name, encoder in encoders.items()
        }

    async def load(
        self, recording: Recording, settings: Mapping[str, Any], request_id: str
    ) -> Asked[Preprocessed | Refusal]:
        """Its night; what the call raises is raised."""
        return await self._loads.ask(ToLoad(shared(recording), settings, request_id))

    async def night(
        self, name: str, loaded: Preprocessed, request_id: str, second: bool
    ) -> Asked[Encoded | OtherSettings | Refusal]:
        """Its embedding by the named model; as `load`."""
        return await self._nights[name].ask(ToHear(loaded, request_id, second))

    async def encode(
        self, name: str, windows: WindowBatch, request_id: str
    ) -> Asked[Encoded | Refusal]:
        """Vectors of windows; as `load`."""
        return await self._windows[name].ask(ToEncode(windows, request_id))
