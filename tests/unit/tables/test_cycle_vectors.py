"""Cycles and night vector out of a table's macro vectors."""

import numpy as np

from sleepmami.tables.cycle_vectors import cycle_vectors, night_vector


def counting(num_epochs: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Forward states say how many epochs were read, backward states too, with a minus."""
    read = np.arange(1, num_epochs + 1, dtype=np.float32)
    return np.stack([read, -read[::-1]], axis=1)


def test_each_direction_is_taken_after_as_many_epochs_from_its_own_end() -> None:
    assert cycle_vectors(counting(25), cycle_epochs=10).tolist() == [[10, -10], [20, -20]]


def test_a_rest_of_half_a_cycle_is_one_where_asked_for() -> None:
    found = cycle_vectors(counting(25), cycle_epochs=10, partial_cycle="last")
    assert found.tolist() == [[10, -10], [20, -20], [25, -25]]
    assert len(cycle_vectors(counting(24), cycle_epochs=10, partial_cycle="last")) == 2


def test_a_night_of_90_minutes_has_one_cycle() -> None:
    assert cycle_vectors(counting(180)).tolist() == [[180, -180]]
    assert cycle_vectors(counting(179)).shape == (0, 2)


def test_the_night_is_the_mean_of_its_valid_epochs() -> None:
    valid = np.array([True, False, False, True])  # forward 1 and 4, backward -4 and -1
    assert night_vector(counting(4), valid).tolist() == [2.5, -2.5]


def test_a_night_without_a_valid_epoch_is_the_last_state_of_each_direction() -> None:
    assert night_vector(counting(9), np.zeros(9, np.bool_)).tolist() == [9, -9]
