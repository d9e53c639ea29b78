"""One function on many items with Ray: a Ray Data task for each, or actors taking them in turn.

An item comes back once, whatever dies on the way. What a function refuses with one of our errors
is raised on the driver as that error, without Ray's trace around it.
"""

from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.data import DataContext
from ray.util import ActorPool

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
    num_actors: int,
    num_cpus: float,
    num_gpus: float,
) -> Iterator[Result]:
    """Run a function that is costly to make on each item; results as they come.

    The actors are Ray Core's. Those of Ray Data take arguments from the object store, so that Ray
    warns of every one that it may not be able to restart it (ray-project/ray#57733, #53727).

    Args:
        items: each is run once; one that kills its actor is tried MAX_RETRIES times more.
        make_function: called once in each actor; small enough to travel with the call.
        num_actors: at most; no more are started than there are items.
        num_cpus: of each actor.
        num_gpus: of each actor.
    """
    options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_task_retries": MAX_RETRIES}
    actors = [
        _start(_Actor, make_function, max_restarts=-1, **options)
        for _ in range(min(num_actors, len(items)))
    ]
    yield from map(_value, ActorPool(actors).map_unordered(_run, list(items)))


class _Actor:
    def __init__(self, make_function: Callable[[], Callable[[Any], Any]]) -> None:
        self._function = make_function()

    def run(self, item: Any) -> Any:  # Any: Ray's actors carry no types
        return _attempt(self._function, item)


def _start(actor: type, *arguments: Any, **options: Any) -> Any:  # Any: handles carry no types
    return ray.remote(actor).options(**options).remote(*arguments)


def _run(actor: Any, item: Any) -> Any:
    return actor.run.remote(item)


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | SleepMaMiError:
    try:
        return function(item)
    except SleepMaMiError as error:
        return error


def _value(result: Result | SleepMaMiError) -> Result:
    if isinstance(result, SleepMaMiError):
        raise result
    return result
