"""Nobody is on both sides, and everybody is tested once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepmami.config import ProbeSplitConfig
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation.folds import make_folds

FIVE = ProbeSplitConfig(kind="folds")


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(2, 6), st.integers(0, 99)
)
def test_no_subject_is_in_two_splits_and_every_night_is_tested_once(
    people: list[int], num_folds: int, seed: int
) -> None:
    names = [f"p{person}" for person in people]
    config = ProbeSplitConfig(kind="folds", num_folds=num_folds)
    if len(set(names)) < max(num_folds, 4):
        return
    folds = make_folds(names, [None] * len(names), config, seed)
    for fold in folds:
        fit = {name for name, there in zip(names, fold.fit_N, strict=True) if there}
        test = {name for name, there in zip(names, fold.test_N, strict=True) if there}
        assert not fit & test
        assert fit | test == set(names)
    np.testing.assert_array_equal(np.sum([fold.test_N for fold in folds], axis=0), 1)
    sizes = [len(np.unique(np.array(names)[fold.test_N])) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_a_seed_makes_the_same_folds_whatever_the_order_of_nights() -> None:
    names = [f"p{number}" for number in range(20)]
    ours = make_folds(names, [None] * 20, FIVE, 3)
    theirs = make_folds(names[::-1], [None] * 20, FIVE, 3)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.test_N, other.test_N[::-1])
    others = make_folds(names, [None] * 20, FIVE, 4)
    assert any((a.test_N != b.test_N).any() for a, b in zip(ours, others, strict=True))


def test_the_stored_split_fits_on_validation_too() -> None:
    splits = ["train", "train", "validation", "test", "test"]
    (fold,) = make_folds(list("abcde"), splits, ProbeSplitConfig(), 0)
    assert fold.fit_N.tolist() == [True, True, True, False, False]
    assert fold.test_N.tolist() == [False, False, False, True, True]


def test_a_subject_that_a_table_has_in_two_splits_is_refused() -> None:
    with pytest.raises(TableError, match="such as b"):
        make_folds(list("abbc"), ["train", "train", "test", "test"], ProbeSplitConfig(), 0)


def test_too_few_subjects_are_refused_with_the_way_out() -> None:
    with pytest.raises(TableError, match=r"3 subjects to fit and 1 to test.*split\.kind=folds"):
        make_folds(list("abcd"), ["train"] * 3 + ["test"], ProbeSplitConfig(), 0)
    with pytest.raises(TableError, match="found 3 subjects with labels"):
        make_folds(list("abc"), [None] * 3, FIVE, 0)


def test_a_split_nobody_knows_is_refused() -> None:
    with pytest.raises(TableError, match="split is not known"):
        make_folds(list("abcd"), ["train", None, None, "test"], ProbeSplitConfig(), 0)


def test_settings_of_folds_have_no_effect_on_a_stored_split() -> None:
    with pytest.raises(ConfigError, match="no effect"):
        ProbeSplitConfig(num_folds=3)
