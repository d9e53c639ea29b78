"""Make the next batches in a thread of its own while the current step computes."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class _End(NamedTuple):
    """The source has no more items, or raised."""

    error: Exception | None


def prefetched(source: Iterator[T], depth: int = 1) -> Generator[T]:
    """The items of `source`, in order, of which up to `depth` are made before they are asked for.

    What `source` raises is raised here, in its place. Closing the result stops the thread after the
    item it is making; the thread never keeps a process alive.
    """
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: T | _End) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        error = None
        try:
            for item in source:
                put(item)
                if stopped.is_set():
                    return
        except Exception as raised:  # handed to the consumer's thread, which raises it
            error = raised
        put(_End(error))

    threading.Thread(target=make, name="prefetch", daemon=True).start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error:
            raise item.error
    finally:
        stopped.set()
