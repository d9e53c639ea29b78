"""Batches of subjects: full, distinct, complete, similar in length, balanced, repeatable."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sleepmami.errors import TrainingError
from sleepmami.training.batch_balance import pass_balance
from sleepmami.training.stratified import strata, stratified_batches


def cohort(recordings: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "lengths": np.clip(rng.normal(950, 120, recordings), 200, 1080).astype(int),
        "age": rng.normal(60, 12, recordings),
        "bmi": rng.normal(28, 5, recordings),
        "female": rng.random(recordings) < 0.5,
    }


def draw(recordings: int, batch: int, *, pass_index: int = 0, **more: Any) -> list[NDArray[np.int64]]:  # fmt: skip
    return stratified_batches(
        **cohort(recordings), batch_subjects=batch, seed=7, pass_index=pass_index, **more
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(0, 60), st.integers(0, 3))
def test_a_pass_visits_every_subject_once_or_twice_in_full_batches(
    batch: int, more: int, pass_index: int
) -> None:
    recordings = batch + more
    batches = draw(recordings, batch, pass_index=pass_index)
    assert len(batches) == -(-recordings // batch)
    assert all(len(set(b.tolist())) == batch for b in batches)
    visits = Counter(np.concatenate(batches).tolist())
    assert set(visits) == set(range(recordings))
    assert max(visits.values()) <= 2
    assert sum(n - 1 for n in visits.values()) == -recordings % batch


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_two_recordings_of_one_subject_never_share_a_batch(data: st.DataObject) -> None:
    batch = data.draw(st.integers(2, 6))
    again = data.draw(st.lists(st.integers(0, 2 * batch), max_size=30))
    ids = [f"subject-{k}" for k in [*range(2 * batch + 1), *again]]
    batches = draw(len(ids), batch, subject_ids=ids)
    assert len(batches) == -(-len(ids) // batch)
    assert all(len({ids[k] for k in b}) == len(b) == batch for b in batches)


def test_second_nights_of_a_third_of_the_subjects_are_all_visited() -> None:
    ids = [*range(300), *range(100)]
    for pass_index in range(3):
        batches = draw(400, 40, subject_ids=ids, pass_index=pass_index)
        assert set(np.concatenate(batches).tolist()) == set(range(400))


def test_same_arguments_same_batches() -> None:
    once, again = draw(100, 8), draw(100, 8)
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_another_pass_has_other_batches() -> None:
    first, second = ({frozenset(b.tolist()) for b in draw(100, 8, pass_index=p)} for p in (0, 1))
    assert not first & second


def test_global_random_state_is_neither_read_nor_changed() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    draw(100, 8)
    assert np.random.random() == expected


def test_lengths_within_a_batch_are_far_closer_than_by_chance() -> None:
    lengths = cohort(1600)["lengths"]

    def padded_away(batches: list[NDArray[np.int64]]) -> float:
        return float(np.mean([1 - lengths[b].mean() / lengths[b].max() for b in batches]))

    by_chance = np.split(np.random.default_rng(0).permutation(1600), 40)
    assert padded_away(draw(1600, 40)) < 0.3 * padded_away(by_chance)


@pytest.mark.parametrize("recordings", [200, 1600])
def test_each_batch_has_the_demographics_of_all(recordings: int) -> None:
    data = cohort(recordings)
    age_tertile = np.digitize(data["age"], np.quantile(data["age"], [1 / 3, 2 / 3]))
    for b in draw(recordings, 40):
        assert abs(data["female"][b].mean() - data["female"].mean()) < 0.15
        assert np.all(np.abs(np.bincount(age_tertile[b], minlength=3) / 40 - 1 / 3) < 0.15)


def test_strata_are_dealt_evenly_where_they_can_be() -> None:
    # 3 batches of 12 make one bucket; each of two strata has 18: 6 in each batch.
    female = np.arange(36) % 2 == 0
    same = np.ones(36)
    batches = stratified_batches(same * 900, same, same, female, 12, 0, 0)
    assert [int(female[b].sum()) for b in batches] == [6, 6, 6]


def test_strata_are_tertiles_by_sex() -> None:
    age = [20, 30, 40, 50, 60, 70]
    code = strata(age, [22.0] * 6, [False, True] * 3)
    assert code.tolist() == [0, 16, 4, 20, 8, 24]


def test_unknown_values_are_a_class_of_their_own_and_move_no_tertile() -> None:
    age = [20, 30, 40, 50, 60, 70, np.nan]
    code = strata(age, [np.nan] * 7, [False, True, False, True, False, True, np.nan])
    assert code.tolist() == [3, 19, 7, 23, 11, 27, 47]


def test_too_few_subjects_are_refused_with_the_numbers() -> None:
    with pytest.raises(TrainingError, match=r"^7 subjects .* in 9 recordings.*batch_subjects=8"):
        draw(9, 8, subject_ids=[*range(7), 0, 1])


def test_nights_without_a_bmi_are_dealt_evenly_too() -> None:
    data = cohort(400)
    data["bmi"][:100] = np.nan
    batches = stratified_batches(**data, batch_subjects=40, seed=0, pass_index=0)
    unknown = [int(np.isnan(data["bmi"][b]).sum()) for b in batches]
    assert sum(unknown) == 100
    assert min(unknown) >= 8
    assert max(unknown) <= 12


def test_the_balance_of_two_batches_by_hand() -> None:
    # Lengths 2 and 4 in each batch: of 8 places, 2 are padding. Three of four are women: 3/4 of
    # all, all of the first batch and half of the second.
    batches = [np.array([0, 1]), np.array([2, 3])]
    balance = pass_balance(
        batches, [2, 4, 2, 4], age=[1.0] * 4, bmi=[1.0] * 4, female=[True, True, True, False]
    )
    assert (balance.num_batches, balance.padding) == (2, 0.25)
    assert (balance.sex, balance.age, balance.bmi) == (0.25, 0.0, 0.0)
    assert (balance.twice, balance.left_out) == (0, 0)


def test_the_balance_counts_repeats_and_what_is_left_out() -> None:
    batches = [np.array([0, 1]), np.array([1, 2])]
    balance = pass_balance(batches, [9] * 4, [1.0] * 4, [1.0] * 4, [True] * 4)
    assert (balance.padding, balance.twice, balance.left_out) == (0.0, 1, 1)


def test_padding_of_a_pass_is_far_below_chance() -> None:
    balance = pass_balance(draw(1600, 40), **cohort(1600))
    assert balance.padding < 0.3 * balance.padding_by_chance
    assert max(balance.sex, balance.age, balance.bmi) < 0.15
