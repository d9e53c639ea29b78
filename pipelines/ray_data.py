"""One function on many items with Ray: a Ray Data task for each, or actors taking them in turn.

An item comes back once, whatever dies on the way. What a function raises is raised on the driver as
one of our errors, without Ray's trace around it.
"""

from __future__ import annotations

import logging
import pickle
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

import ray
from ray.data import DataContext
from ray.exceptions import RayError, RayTaskError

from sleepmami.errors import SleepMaMiError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_RETRIES = 3  # of an item whose worker process died


def quiet() -> None:
    """Keep Ray Data's own progress off the terminal; ours is shown. Failures still raise."""
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def map_each(
    items: Sequence[Item],
    function: Callable[[Item], Result],
    *,
    lost: Callable[[Item], Result],
    num_cpus: float,
) -> Iterator[Result]:
    """Run `function` on each item as a Ray Data task of its own; results as they come.

    Args:
        items: what to work on; each is a block of its own, so that a dead worker costs one.
        function: the work.
        lost: called instead when the item's worker process died 1 + MAX_RETRIES times (memory, for
            one), because Ray Data repeats such a task without end.
        num_cpus: of each task.
    """
    if not items:
        return
    quiet()
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
    attempts = _start(_Attempts, num_cpus=0, max_restarts=-1)

    def work(row: dict[str, Any]) -> dict[str, bytes]:  # Any: a number and bytes
        begun: int = ray.get(attempts.begin.remote(row["number"]))
        task = function if begun <= 1 + MAX_RETRIES else lost
        return {"result": pickle.dumps(_attempt(task, pickle.loads(row["item"])))}

    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    for row in dataset.map(work, num_cpus=num_cpus).iter_rows():
        yield _value(pickle.loads(row["result"]))


class _Attempts:
    """How often each item was begun; it outlives the workers that die."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        self._begun[number] += 1
        return self._begun[number]


def map_on_actors(
    items: Sequence[Item],
    make_function: Callable[[], Callable[[Item], Result]],
    *,
    lost: Callable[[Item], Result],
    num_actors: int,
    num_cpus: float,
    num_gpus: float,
) -> Iterator[Result]:
    """Run a function that is costly to make on each item; results as they come.

    The actors are Ray Core's. Those of Ray Data take arguments from the object store, so that Ray
    warns of every one that it may not be able to restart it (ray-project/ray#57733, #53727). A dead
    actor is replaced here: Ray's own restarts go on for ever where making the function is deadly.

    Args:
        items: each is run once; one that kills its actor is tried MAX_RETRIES times more.
        make_function: called once in each actor; small enough to travel with the call.
        lost: called here in place of the function for an item whose actor died each time.
        num_actors: at most; no more are started than there are items.
        num_cpus: of each actor.
        num_gpus: of each actor.

    Raises:
        SleepMaMiError: what the function or its making raised, or actors died again and again
            before they took an item.
    """
    options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_restarts": 0}
    waiting = deque(range(len(items)))
    idle: list[Any] = []  # Any: handles carry no types
    running: dict[Any, tuple[Any, int | None]] = {}  # call -> (actor, item; None while it starts)
    deaths: Counter[int | None] = Counter()
    left = len(items)
    try:
        while left:
            while waiting and idle:
                actor, number = idle.pop(), waiting.popleft()
                running[actor.run.remote(items[number])] = actor, number
            starting = sum(number is None for _, number in running.values())
            for _ in range(min(len(waiting) - starting, num_actors - len(running))):
                actor = _start(_Actor, make_function, **options)
                running[actor.ready.remote()] = actor, None
            (done,), _ = ray.wait(list(running), num_returns=1)
            actor, at = running.pop(done)
            try:
                answer = _value(ray.get(done))
            except RayTaskError as error:  # the call's argument or answer did not travel
                raise as_ours(error.cause, "a worker process") from error
            except RayError as error:
                ray.kill(actor)  # one that is only out of reach would keep its place
                deaths[at] += 1
                if deaths[at] <= MAX_RETRIES:
                    waiting.extendleft([] if at is None else [at])
                    continue
                if at is None:
                    raise _no_start(error) from error
                answer = lost(items[at])
            else:
                idle.append(actor)
            if at is None:
                deaths.pop(None, None)
                continue
            left -= 1
            yield answer
    finally:
        if ray.is_initialized():  # out of scope alone, they would keep their CPUs for a while
            for actor in (*idle, *(actor for actor, _ in running.values())):
                ray.kill(actor)


class _Actor:
    def __init__(self, make_function: Callable[[], Callable[[Any], Any]]) -> None:
        self._make_function = make_function

    def ready(self) -> SleepMaMiError | None:
        """Make the function; apart from the constructor, whose errors Ray shows as deaths."""
        made = _attempt(lambda make: make(), self._make_function)
        if isinstance(made, SleepMaMiError):
            return made
        self._function = made
        return None

    def run(self, item: Any) -> Any:  # Any: Ray's actors carry no types
        return _attempt(self._function, item)


def _start(actor: type, *arguments: Any, **options: Any) -> Any:  # Any: handles carry no types
    return ray.remote(actor).options(**options).remote(*arguments)


def _no_start(error: Exception) -> SleepMaMiError:
    return SleepMaMiError(
        f"found {1 + MAX_RETRIES} worker processes in a row that died while they started, such as "
        f"by want of memory; expected them to load the model ({type(error).__name__})"
    )


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | SleepMaMiError:
    try:
        return function(item)
    except Exception as error:  # raised on the driver, by _value
        return as_ours(error, "a worker process")


def as_ours(error: Exception, what: str) -> SleepMaMiError:
    """The error itself if it is one of ours, or one of ours that says what it was and where."""
    if isinstance(error, SleepMaMiError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {PurePath(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    said = next((": " + line for line in str(error).splitlines() if line.strip()), "")
    return SleepMaMiError(f"{what}: {type(error).__name__}{place}{said}")


def _value(result: Result | SleepMaMiError) -> Result:
    if isinstance(result, SleepMaMiError):
        raise result
    return result
