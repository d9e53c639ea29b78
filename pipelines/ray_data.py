"""Ray Data wiring that several stages share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.data import DataContext


def quiet() -> None:
    """Keep Ray Data's own progress off the terminal; ours is shown. Failures still raise."""
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def map_each(
    items: Sequence[dict[str, Any]],
    function: Callable[[dict[str, Any]], dict[str, Any]] | type,
    **options: Any,  # Any: ray.data.Dataset.map's own options
) -> Iterator[dict[str, Any]]:
    """Run `function` on each item as a task or actor call of its own; results as they come.

    One block per item: a result reaches the driver when it is done, and a lost worker costs one.
    """
    if not items:
        return
    quiet()
    dataset = ray.data.from_items(list(items), override_num_blocks=len(items))
    yield from dataset.map(function, **options).iter_rows()
