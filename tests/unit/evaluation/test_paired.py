"""Two models on the same people: the difference by hand, and what pairing takes away."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from sleepmami.errors import TableError
from sleepmami.evaluation.paired import difference


def ages(truth: list[float], guess: list[float]) -> dict[str, list[str]]:
    people = [f"p{number}" for number in range(len(truth))]
    return {
        "recording_id": people,
        "subject_id": people,
        "truth": [str(value) for value in truth],
        "guess": [str(value) for value in guess],
    }


def test_errors_by_hand() -> None:
    found = difference("age", ages([30, 50], [31, 53]), ages([30, 50], [34, 50]), 0.95)
    assert found is not None
    assert (found.figure, found.num_subjects) == ("mae", 2)
    assert found.estimate.value == 2 - 2  # (1 + 3) / 2 against (4 + 0) / 2
    assert (found.estimate.low, found.estimate.high) == (-3, 3)


def test_what_is_hard_for_both_falls_out() -> None:
    rng = np.random.default_rng(0)
    truth, error = rng.uniform(20, 80, 30), rng.normal(0, 20, 30)
    one = ages(truth.tolist(), (truth + error).tolist())
    other = ages(truth.tolist(), (truth + error + np.sign(error)).tolist())
    found = difference("age", one, other, 0.95)
    assert found is not None
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-1, -1))


def staged(truth: np.ndarray, guess: np.ndarray, first: int = 0) -> dict[str, list[str]]:
    """Ten epochs of each subject."""
    rows = np.arange(first, first + len(truth))
    return {
        "recording_id": [f"r{row // 10}" for row in rows],
        "subject_id": [f"s{row // 10}" for row in rows],
        "epoch": [str(row % 10) for row in rows],
        "truth": list(truth),
        "guess": list(guess),
    }


def test_macro_f1_equals_scikit_learns_and_rows_of_one_model_alone_are_left_out() -> None:
    rng = np.random.default_rng(1)
    truth, one, other = rng.choice(["WAKE", "N1", "N2"], (3, 60))
    found = difference("staging", staged(truth, one), staged(truth[20:], other[20:], 20), 0.95)
    assert found is not None
    expected = f1_score(truth[20:], one[20:], average="macro") - f1_score(
        truth[20:], other[20:], average="macro"
    )
    assert (found.estimate.value, found.num_subjects) == (pytest.approx(expected), 4)


def test_auroc_equals_scikit_learns_within_a_fold() -> None:
    rng = np.random.default_rng(2)
    truth = rng.choice(["female", "male"], 40)
    scores = rng.uniform(size=(2, 40))
    tables = [
        {name: column for name, column in ages([0] * 40, [0] * 40).items() if name != "guess"}
        | {"truth": truth.tolist(), "p_male": [str(v) for v in score], "fold": ["0"] * 40}
        for score in scores
    ]
    found = difference("sex", *tables, 0.95)
    one, other = (roc_auc_score(truth == "male", score) for score in scores)
    assert found is not None
    assert found.estimate.value == pytest.approx(one - other)


def test_other_truths_are_refused_and_nothing_in_common_is_nothing() -> None:
    one = ages([30, 50], [31, 53])
    with pytest.raises(TableError, match=r"'50' and '51'.*p1"):
        difference("age", one, ages([30, 51], [31, 53]), 0.95)
    strangers = one | {"recording_id": ["x", "y"]}
    assert difference("age", one, strangers, 0.95) is None


def test_follow_up_is_compared_by_its_outcome() -> None:
    people = [f"p{number}" for number in range(4)]
    table = {
        "recording_id": people * 2,
        "subject_id": people * 2,
        "outcome": ["stroke"] * 4 + ["mi"] * 4,
        "event": ["1", "1", "1", "0"] * 2,
        "time_days": ["1.0", "2.0", "3.0", "4.0"] * 2,
        "log_hazard": [*"4321", *"1234"],
    }
    backwards = table | {"log_hazard": [*"1234"] * 2}
    for outcome, expected in (("stroke", 1.0), ("mi", 0.0)):
        found = difference("survival", table, backwards, 0.95, outcome)
        assert found is not None
        assert (found.figure, found.estimate.value) == ("c_index", expected)
