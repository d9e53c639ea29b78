"""Labels that recorders and public cohorts write, by the hundred: each is what its source says."""

import itertools

import pytest

from tests.unit.signals.montages import Expected, Row
from tests.unit.signals.test_channels import chosen
from tests.unit.signals.world import Case, cases, role_of
from tests.unit.signals.world_montages import WORLD_MONTAGES

CASES = cases()
BY_SOURCE = {source: list(group) for source, group in itertools.groupby(CASES, lambda c: c.source)}


def test_the_table_is_read_whole() -> None:
    assert len(BY_SOURCE) == 18
    assert len(CASES) > 1_500


@pytest.mark.parametrize("source", BY_SOURCE)
def test_labels_of_a_source_are_what_it_says(source: str) -> None:
    wrong = {
        (case.label, case.unit): (case.role, found)
        for case in BY_SOURCE[source]
        if not case.kept_by(found := role_of(case.label, case.unit))
    }
    assert wrong == {}


def test_a_wrong_role_is_noticed() -> None:
    assert not Case("", "Leg", "", "EMG", False).kept_by(role_of("Leg"))
    assert not Case("", "C3-M2", "uV", "NONE", True).kept_by(role_of("C3-M2", "uV"))


@pytest.mark.parametrize(("rows", "expected"), WORLD_MONTAGES.values(), ids=WORLD_MONTAGES)
def test_whole_montages_of_the_world_resolve(rows: list[Row], expected: Expected) -> None:
    assert chosen(rows) == expected
