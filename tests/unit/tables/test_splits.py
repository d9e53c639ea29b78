import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.config import SplitConfig
from sleepmami.tables.splits import split_of

CONFIG = SplitConfig()


@pytest.mark.parametrize(
    ("subject_id", "split"),
    [
        ("200001", "train"),
        ("AA0001", "train"),
        ("n\u00e4chtliche 1", "train"),
        ("sub-1", "test"),
        ("ucddb002", "test"),
        ("7", "test"),
        ("3", "validation"),  # hashes to 0.1000042: just outside test
    ],
)
def test_the_split_of_a_subject_never_changes(subject_id: str, split: str) -> None:
    assert split_of(subject_id, CONFIG) == split


def test_fractions_are_those_of_the_config() -> None:
    splits = [
        split_of(f"subject {i}", SplitConfig(validation=0.2, test=0.1)) for i in range(20_000)
    ]
    # three standard deviations of a binomial share: 3 * sqrt(0.2 * 0.8 / 20000) = 0.0085
    assert splits.count("validation") / 20_000 == pytest.approx(0.2, abs=0.0085)
    assert splits.count("test") / 20_000 == pytest.approx(0.1, abs=0.0064)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_a_larger_validation_split_takes_nobody_from_test(subject_id: str) -> None:
    small, large = SplitConfig(validation=0.05, test=0.2), SplitConfig(validation=0.3, test=0.2)
    assert (split_of(subject_id, small) == "test") == (split_of(subject_id, large) == "test")


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_with_no_fractions_everyone_trains(subject_id: str) -> None:
    assert split_of(subject_id, SplitConfig(validation=0.0, test=0.0)) == "train"


def test_another_salt_is_another_partition() -> None:
    subjects = [f"subject {i}" for i in range(2000)]
    tests = [
        {s for s in subjects if split_of(s, SplitConfig(salt=salt)) == "test"}
        for salt in ("sleepmami-1", "other")
    ]
    # two independent 10 % draws share about 1 % of the subjects
    assert 5 <= len(tests[0] & tests[1]) <= 40
