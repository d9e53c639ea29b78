"""A night heard by one Encoder, or a long one by several: each a share of its windows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_apps.backend import Progress, Refusal
from serve_apps.progress import while_running
from serve_apps.stages import Encoded, HeardShare, OtherSettings, OtherWeights, Preprocessed
from sleepmami.psg import SEGMENT_EPOCHS

MIN_WINDOWS = 64  # of a share: a few seconds of a model of the paper's size

Handle = DeploymentHandle[Any]  # Any: a handle's methods have no types


class _NoShareError(Exception):
    """A share ended, and not with what was heard."""

    def __init__(self, outcome: OtherSettings | Refusal) -> None:
        self.outcome = outcome


def num_shares(num_epochs: int, num_encoders: int) -> int:
    """How many Encoders hear a night of so many epochs."""
    return max(1, min(num_encoders, num_epochs // (MIN_WINDOWS * SEGMENT_EPOCHS)))


async def hear_alone(
    encoder: Handle, loaded: ray.ObjectRef[Preprocessed], request_id: str, second: bool
) -> AsyncGenerator[Progress | Encoded | OtherSettings | OtherWeights | Refusal]:
    """Epochs heard, then the night's embedding or why there is none."""
    stream: Any = encoder.options(stream=True)
    call = stream.night_steps.remote(loaded, request_id, second)
    working = True
    try:
        async for found in call:
            working = isinstance(found, Progress)
            yield found
    finally:
        if working:
            cancel_call(call)


async def hear_in_shares(
    encoder: Handle,
    loaded: ray.ObjectRef[Preprocessed],
    request_id: str,
    num_epochs: int,
    shares: int,
) -> AsyncGenerator[Progress | Encoded | OtherSettings | OtherWeights | Refusal]:
    """As `hear_alone`, by several Encoders; OtherWeights when their models are not the same.

    Which replicas hear the shares is Serve's choice, by their queues; one may get two.
    """
    done = [0] * shares
    steps: asyncio.Queue[Progress] = asyncio.Queue()

    async def hear(index: int) -> Any:  # Any: an ObjectRef of a HeardShare
        stream: Any = encoder.options(stream=True)
        call = stream.share_steps.remote(loaded, request_id, index, shares)
        working = True
        try:
            async for ref in await call._to_object_ref_gen():
                step = await ref
                if not isinstance(step, Progress):
                    working = False
                    if isinstance(step, HeardShare):
                        return ref
                    raise _NoShareError(step)
                done[index] = step.done
                steps.put_nowait(Progress(step.stage, sum(done), num_epochs))
        finally:
            if working:
                cancel_call(call)
        raise AssertionError("the steps end with an outcome")

    async def hear_all() -> Encoded | OtherSettings | OtherWeights | Refusal:
        work = [asyncio.ensure_future(hear(index)) for index in range(shares)]
        try:
            heard = await asyncio.gather(*work)
        except _NoShareError as error:
            return error.outcome
        finally:  # where one has failed, the others hear for nothing
            for share in work:
                share.cancel()
        joined: Encoded | OtherWeights | Refusal = await encoder.joined.remote(
            loaded, request_id, *heard
        )
        return joined

    work = asyncio.ensure_future(hear_all())
    async with aclosing(while_running(work, steps)) as told:
        async for step in told:
            yield step
    yield await work


def cancel_call(call: Any) -> None:  # Any: a DeploymentResponseGenerator
    """End a call that nobody reads any more; its replica would go on to the end.

    Serve does so by itself for calls of an HTTP request that is cancelled, not for those of a job.
    """
    with suppress(RayError, RayServeException):  # of a call that could not begin, or failed
        call.cancel()
