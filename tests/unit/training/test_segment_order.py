"""The order as a pure function: what every lane reads at every step."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.errors import TableError
from sleepmami.training.segment_order import (
    RUN_ROWS,
    SegmentOrder,
    count_rows,
    digest_of,
    runs_of,
)

NUM_ROWS = 1003
A, B = runs_of(np.arange(600)), runs_of(np.arange(600, NUM_ROWS))


def order(
    *, mixing: dict[str, float] | None = None, seed: int = 7, lanes: int = 4, buffer: int = 48
) -> SegmentOrder:
    """Batches of 32 rows; 31 steps a pass and 11 rows left over."""
    return SegmentOrder(
        {"a": A, "b": B},
        mixing=mixing or {},
        batch_size=32,
        num_lanes=lanes,
        shuffle_buffer=buffer,
        seed=seed,
    )


def steps(
    one: SegmentOrder, lanes: Sequence[int], start: int, stop: int
) -> dict[tuple[int, int], list[int]]:
    """Rows by (step, lane)."""
    found = {}
    for chunk in one.chunks(lanes, start, stop):
        for number, rows in enumerate(chunk.rows):
            found[chunk.first_step + number, chunk.lane] = rows.tolist()
    return found


def rows_of_pass(one: SegmentOrder, pass_index: int) -> list[int]:
    first = pass_index * one.steps_per_pass
    found = steps(one, range(4), first, first + one.steps_per_pass)
    return [row for place in sorted(found) for row in found[place]]


def test_neighbouring_rows_make_runs_of_at_most_the_length_allowed() -> None:
    rows = np.array([0, 1, 2, 5, *range(10, 10 + RUN_ROWS + 1)])
    last = 10 + RUN_ROWS
    assert runs_of(rows).tolist() == [[0, 3], [5, 6], [10, last], [last, last + 1]]


def test_no_rows_make_no_runs() -> None:
    assert runs_of(np.array([], dtype=np.int64)).shape == (0, 2)
    assert count_rows(runs_of(np.array([], dtype=np.int64))) == 0


def test_the_digest_tells_rows_and_cohorts_apart() -> None:
    a, b = runs_of(np.arange(100)), runs_of(np.arange(200, 300))
    same = digest_of({"b": b, "a": a, "nothing to train on": runs_of(np.arange(0))})
    assert digest_of({"a": a, "b": b}) == same
    others = [{"a": b, "b": a}, {"a": a}, {"a": np.concatenate([a, b])}, {"a": a, "b": b + 1}]
    assert len({same, *map(digest_of, others)}) == 5


def test_every_lane_has_one_micro_batch_at_every_step_of_every_pass() -> None:
    found = steps(order(), range(4), 0, 70)
    assert sorted(found) == [(step, lane) for step in range(70) for lane in range(4)]
    assert {len(rows) for rows in found.values()} == {8}


def test_a_pass_reads_no_row_twice_and_drops_less_than_a_batch() -> None:
    rows = rows_of_pass(order(), 0)
    assert len(rows) == len(set(rows)) == 31 * 32
    assert set(rows) <= set(range(NUM_ROWS))


def test_every_pass_has_another_order_and_drops_other_rows() -> None:
    passes = [rows_of_pass(order(), number) for number in range(4)]
    assert len({tuple(rows) for rows in passes}) == 4
    assert len(set.intersection(*map(set, passes))) < NUM_ROWS - 11


def test_a_seed_gives_the_same_order_and_another_seed_another() -> None:
    assert rows_of_pass(order(), 1) == rows_of_pass(order(), 1)
    assert rows_of_pass(order(), 1) != rows_of_pass(order(seed=8), 1)


@pytest.mark.parametrize("start", range(0, 70, 3))
def test_a_resume_reads_at_each_step_what_the_whole_run_reads(start: int) -> None:
    whole = steps(order(), range(4), 0, 70)
    resumed = steps(order(), range(4), start, 70)
    assert resumed == {place: rows for place, rows in whole.items() if place[0] >= start}


def test_a_resume_reads_no_row_that_it_does_not_train_on() -> None:
    (chunk, *_) = order().chunks([0], 4, 31)
    assert chunk.first_step == 4
    assert chunk.rows.shape == (2, 8)  # of the six micro batches of a chunk, four are done


def test_two_workers_read_together_what_one_reads_in_micro_batches() -> None:
    one = steps(order(), range(4), 5, 40)
    assert steps(order(), [0, 1], 5, 40) | steps(order(), [2, 3], 5, 40) == one


def test_chunks_come_in_the_order_in_which_their_first_steps_do() -> None:
    firsts = [chunk.first_step for chunk in order().chunks(range(4), 9, 62)]
    assert firsts == sorted(firsts)


def test_lanes_begin_chunks_at_different_steps() -> None:
    begun = Counter(chunk.first_step for chunk in order().chunks(range(4), 0, 31))
    assert begun.pop(0) == 4
    assert max(begun.values()) <= 2  # 4 lanes over the 6 steps of a chunk, and the pass's end


def test_a_chunk_holds_the_shuffle_buffer_rounded_up_to_micro_batches() -> None:
    sizes = [chunk.rows.size for chunk in order(buffer=41).chunks([0], 0, 31)]
    assert sizes == [48, 48, 48, 48, 48, 8]
    assert {chunk.rows.size for chunk in order(buffer=0).chunks([0], 0, 31)} == {8}


def test_a_micro_batch_mixes_rows_of_many_runs() -> None:
    runs = [chunk.rows // RUN_ROWS for chunk in order(lanes=1, buffer=992).chunks([0], 0, 31)]
    assert np.mean([len(set(rows)) for rows in runs[0]]) > 12  # of 32 rows, from 16 runs


def times_read(one: SegmentOrder, pass_index: int) -> NDArray[np.int64]:
    return np.bincount(rows_of_pass(one, pass_index), minlength=NUM_ROWS)


def test_a_cohort_of_weight_two_is_read_twice() -> None:
    one = order(mixing={"b": 2.0})
    assert one.rows_per_pass == 600 + 2 * 403
    times = times_read(one, 0)
    assert times[:600].max() == 1
    assert times[600:].max() == 2
    assert times.sum() == one.steps_per_pass * 32
    assert (times[:600] == 1).sum() >= 600 - 31


def test_of_a_fraction_other_rows_are_drawn_in_each_pass() -> None:
    one = order(mixing={"a": 1.25, "b": 0.5})
    assert one.rows_per_pass == 750 + 202  # Python rounds 201.5 to even
    first, second = times_read(one, 0), times_read(one, 1)
    assert first[:600].max() == 2
    assert first[600:].max() == 1
    assert 202 - 31 <= first[600:].sum() <= 202
    assert (first != second).sum() > 100


def test_a_cohort_of_weight_zero_is_left_out() -> None:
    assert set(rows_of_pass(order(mixing={"a": 0.0}), 0)) <= set(range(600, NUM_ROWS))


def test_a_resume_of_a_mixed_training_reads_what_the_whole_run_reads() -> None:
    one = order(mixing={"a": 1.3, "b": 0.7})
    whole = steps(one, range(4), 0, 80)
    resumed = steps(one, range(4), 47, 80)
    assert resumed == {place: rows for place, rows in whole.items() if place[0] >= 47}


def test_a_cohort_that_is_not_there_is_refused_naming_those_that_are() -> None:
    with pytest.raises(TableError, match=r"found cohorts \['c'\]; expected some of \['a', 'b'\]"):
        order(mixing={"c": 2.0})
