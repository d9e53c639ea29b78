"""A night in shares: how far it is, and what becomes of the others when one share fails or ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from ray.exceptions import RayActorError

from serve_apps.backend import Progress, Refusal
from serve_apps.night_calls import hear_in_shares, num_shares
from serve_apps.stages import Encoded, HeardShare, OtherSettings
from tests.unit.serve_apps.fake_handles import FakeHandle, Ref, run, until

EPOCHS = 301
JOINED = Encoded(None, {"queued": 0.0, "encoding": 1.0, "night": 0.1})  # type: ignore[arg-type]


def share(index: int) -> HeardShare:
    return HeardShare((), (f"weights-{index}",), {"queued": 0.0, "encoding": 1.0}, 1, 1)


async def joined(loaded: Any, request_id: str, *shares: Ref) -> AsyncIterator[Any]:
    assert [await ref for ref in shares] == [share(0), share(1)]
    yield JOINED


async def for_ever(loaded: Any, request_id: str, index: int, shares: int) -> AsyncIterator[Any]:
    yield Progress("encoding", 1, 150)
    await asyncio.Event().wait()


def encoder_whose_second_share(outcome: Any) -> FakeHandle:
    """The first is heard for ever."""

    async def share_steps(loaded: Any, request_id: str, index: int, n: int) -> AsyncIterator[Any]:
        if index == 0:
            async for step in for_ever(loaded, request_id, index, n):
                yield step
        yield Progress("encoding", 2, 150)
        yield outcome

    return FakeHandle(share_steps=share_steps, joined=joined)


async def steps_of(encoder: FakeHandle) -> list[Any]:
    heard = hear_in_shares(encoder, "night", "r-1", EPOCHS, 2)  # type: ignore[arg-type]
    return [step async for step in heard]


@pytest.mark.parametrize(
    ("num_epochs", "num_encoders", "shares"),
    [(2, 8, 1), (255, 2, 1), (256, 2, 2), (960, 1, 1), (960, 4, 4), (960, 100, 7)],
)
def test_every_share_has_at_least_64_windows(
    num_epochs: int, num_encoders: int, shares: int
) -> None:
    assert num_shares(num_epochs, num_encoders) == shares


def test_what_is_heard_grows_and_never_beyond_the_night() -> None:
    async def share_steps(loaded: Any, request_id: str, index: int, n: int) -> AsyncIterator[Any]:
        for done in range(0, 151, 50 + 25 * index):
            yield Progress("encoding", done, 150)
            await asyncio.sleep(0.001)
        yield share(index)

    encoder = FakeHandle(share_steps=share_steps, joined=joined)
    *told, last = run(steps_of(encoder))
    assert last == JOINED
    assert {(step.stage, step.total) for step in told} == {("encoding", EPOCHS)}
    done = [step.done for step in told]
    assert done == sorted(done)
    assert done[-1] == 300
    assert [call.args[2:] for call in encoder.of("share_steps")] == [(0, 2), (1, 2)]
    assert not any(call.cancelled for call in encoder.calls)


@pytest.mark.parametrize("outcome", [OtherSettings({"notch_hz": 50}), Refusal("internal_error")])
def test_a_share_that_is_refused_ends_the_others_at_once(outcome: OtherSettings | Refusal) -> None:
    encoder = encoder_whose_second_share(outcome)
    assert run(steps_of(encoder))[-1] == outcome
    assert [call.cancelled for call in encoder.calls] == [True, False]
    assert encoder.of("joined") == []


def test_a_replica_that_dies_ends_the_other_share_and_is_told() -> None:
    encoder = encoder_whose_second_share(RayActorError())
    with pytest.raises(RayActorError):
        run(steps_of(encoder))
    assert [call.cancelled for call in encoder.calls] == [True, True]


def test_who_hangs_up_ends_all_shares() -> None:
    encoder = FakeHandle(share_steps=for_ever, joined=joined)

    async def scenario() -> None:
        heard = hear_in_shares(encoder, "night", "r-1", EPOCHS, 3)  # type: ignore[arg-type]
        async with aclosing(heard) as steps:
            async for step in steps:
                if step.done == 3:
                    break
        await until(lambda: all(call.cancelled for call in encoder.calls))

    run(scenario())
    assert len(encoder.calls) == 3
