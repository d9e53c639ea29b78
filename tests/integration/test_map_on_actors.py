"""Items on Ray actors: what kills an actor costs itself, and actors that cannot start end the run."""

import os
import signal
from collections.abc import Callable

import pytest

from pipelines import ray_data
from sleepmami.errors import SleepMaMiError

pytestmark = pytest.mark.ray


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("num_actors", [1, 40])  # 40: more than the cluster holds
def test_an_item_that_always_kills_its_actor_costs_itself(
    ray_cluster: object, monkeypatch: pytest.MonkeyPatch, num_actors: int
) -> None:
    monkeypatch.setattr(ray_data, "MAX_RETRIES", 1)
    results = ray_data.map_on_actors(
        [1, 2, 3, 4],
        lambda: square_or_die,
        lost=lambda number: -number,
        num_actors=num_actors,
        num_cpus=3,
        num_gpus=0,
    )
    assert sorted(results) == [-3, 1, 4, 16]


def die() -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return square_or_die


def fail() -> Callable[[int], int]:
    raise MemoryError("no room for the model")


@pytest.mark.parametrize(
    ("make", "said"),
    [(die, "2 worker processes in a row that died"), (fail, "MemoryError in .*: no room for the")],
)
def test_actors_that_cannot_start_end_the_run(
    ray_cluster: object,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], Callable[[int], int]],
    said: str,
) -> None:
    monkeypatch.setattr(ray_data, "MAX_RETRIES", 1)
    with pytest.raises(SleepMaMiError, match=said):
        list(ray_data.map_on_actors([1, 2], make, lost=abs, num_actors=1, num_cpus=1, num_gpus=0))
