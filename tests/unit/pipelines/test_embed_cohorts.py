"""Whose nights `embed` takes."""

from typing import Any

import pytest

from pipelines.stored_nights import nights_of_cohorts
from sleepmami.config import EmbedConfig
from sleepmami.errors import ConfigError, TableError

CELLS: dict[str, Any] = {"a": {"cohort": "shhs1"}, "b": {"cohort": "shhs2"}, "c": {"cohort": "kiss"}}  # fmt: skip
NIGHTS: dict[str, Any] = dict.fromkeys(CELLS)


@pytest.mark.parametrize(
    ("cohorts", "names"),
    [((), "abc"), (("shhs1",), "a"), (("kiss", "shhs2"), "bc")],
)
def test_nights_are_of_the_cohorts_that_are_named(cohorts: tuple[str, ...], names: str) -> None:
    assert list(nights_of_cohorts(NIGHTS, CELLS, cohorts, "corpus")) == list(names)


def test_a_cohort_that_is_not_there_is_refused() -> None:
    with pytest.raises(TableError, match=r"corpus: found cohorts \['kiss', 'shhs1', 'shhs2'\]"):
        nights_of_cohorts(NIGHTS, CELLS, ("shhs",), "corpus")


def test_a_cohort_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="cohorts must be a list of different names"):
        EmbedConfig(cohorts=("a", "a"))
