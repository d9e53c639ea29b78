"""Small pictures: what is in them is tested, and how they look is looked at."""

from collections.abc import Iterator

import pytest

from sleepmami.report import pictures


@pytest.fixture(scope="session", autouse=True)
def few_dots() -> Iterator[None]:
    """A tenth of the width and of the height."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "DPI", 16)
        yield
