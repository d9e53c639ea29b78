"""What a conversation with the service is made of: steps, which a driver carries out.

A flow is a generator that yields steps and is sent what came of each. It does no input or output
itself, so the sync and the async client share every flow, and a test can answer for the service.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """Send one request; comes to an Answer or NoAnswer.

    Attributes:
        timeout_s: to wait for the next byte of the answer.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    timeout_s: float
    params: Sequence[tuple[str, str]] = ()
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Listen:
    """Send one request and leave its answer open; comes to a Listening, or as Ask if not 200."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Listening:
    """An open answer; what it holds is the driver's."""

    handle: Any  # Any: another type in each driver


@dataclass(frozen=True, slots=True)
class NextLine:
    """Comes to the next line, None at the end, or NoAnswer when the connection broke."""

    listening: Listening


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait; comes to None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Read a file, hash, parse: what would hold up an event loop; comes to `done`'s answer."""

    do: Callable[[], Any]  # Any: `work` has the type

    def done(self) -> "tuple[Any, Exception | None]":  # Any: as above
        """What it returns, or what it raises: that is for the flow, not for the driver."""
        try:
            return self.do(), None
        except Exception as error:
            return None, error


@dataclass(frozen=True, slots=True)
class Together:
    """Carry out several flows, so many at once; comes to what they return, in their order."""

    flows: Sequence["Flow[Any]"]  # Any: `together` has the type
    at_once: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand a value to whoever iterates over the flow; comes to None."""

    value: Any  # Any: the flow says which


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The connection was refused, broke or fell silent; whether the request arrived is unknown.

    Attributes:
        reason: what broke it.
        tls: why there can be no connection; None where the next one may come about.
    """

    reason: str
    tls: str | None = None


Step = Ask | Listen | NextLine | Pause | Work | Together | Tell
Flow = Generator[Step, Any, T]  # Any: each step comes to its own type


def work(do: Callable[[], T]) -> Flow[T]:
    """`do`, away from an event loop."""
    found, error = yield Work(do)
    if error is not None:
        raise error
    kept: T = found
    return kept


def together(flows: Sequence[Flow[T]], at_once: int) -> Flow[list[T]]:
    """What several flows return."""
    found: list[T] = yield Together(flows, at_once)
    return found


def told(flow: Flow[T], see: Callable[[Any], None]) -> Flow[T]:  # Any: of Tell
    """The same flow, with `see` in place of whoever would iterate over it."""
    outcome = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            found: T = end.value
            return found
        if isinstance(step, Tell):
            see(step.value)
            outcome = None
        else:
            outcome = yield step
