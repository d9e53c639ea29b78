"""Segments cover the night."""

import pytest

from sleepmami.psg import segment_start_epochs


@pytest.mark.parametrize(
    ("num_epochs", "starts"),
    [(1, []), (2, [0]), (3, [0, 1]), (4, [0, 2]), (7, [0, 2, 4, 5])],
)
def test_an_odd_nights_last_segment_overlaps(num_epochs: int, starts: list[int]) -> None:
    assert segment_start_epochs(num_epochs) == starts
