import threading
from collections.abc import Iterator

import pytest

from sleepmami.training.prefetch import prefetched


def test_items_come_in_order_and_complete() -> None:
    assert list(prefetched(iter(range(100)), depth=3)) == list(range(100))


def test_an_error_of_the_source_is_raised_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    items = prefetched(source())
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_the_next_item_is_made_while_the_consumer_is_busy_with_the_last() -> None:
    second_made = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        second_made.set()
        yield 2

    items = prefetched(source())
    assert next(items) == 1
    assert second_made.wait(timeout=5)


def test_the_source_is_never_more_than_depth_and_one_ahead() -> None:
    made = 0

    def source() -> Iterator[int]:
        nonlocal made
        while made < 10_000:
            made += 1
            yield made

    assert all(made <= taken + 3 for taken in prefetched(source(), depth=2))


def test_closing_ends_the_thread_of_an_endless_source() -> None:
    def source() -> Iterator[int]:
        while True:
            yield 0

    before = set(threading.enumerate())
    items = prefetched(source())
    next(items)
    (thread,) = set(threading.enumerate()) - before
    items.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
