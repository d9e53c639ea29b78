"""Two models on the same people: the difference by hand, and what pairing takes away."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from sleepmami.errors import TableError
from sleepmami.evaluation import metrics
from sleepmami.evaluation.bootstrap import estimate, resampled_counts
from sleepmami.evaluation.paired import NUM_RESAMPLES, difference
from sleepmami.evaluation.predictions import Predictions
from tests.unit.evaluation.csv_tables import as_predictions


def ages(truth: list[float], guess: list[float], first: int = 0) -> Predictions:
    people = [f"p{number}" for number in range(first, first + len(truth))]
    columns = {"recording_id": people, "subject_id": people, "truth": truth, "guess": guess}
    return as_predictions(columns, quantities=True)


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


def staged(truth: np.ndarray, guess: np.ndarray, first: int = 0) -> Predictions:
    """Ten epochs of each subject."""
    rows = np.arange(first, first + len(truth))
    return as_predictions(
        {
            "recording_id": [f"r{row // 10}" for row in rows],
            "subject_id": [f"s{row // 10}" for row in rows],
            "epoch": [row % 10 for row in rows],
            "truth": truth,
            "guess": guess,
        }
    )


def test_macro_f1_equals_scikit_learns_and_rows_of_one_model_alone_are_left_out() -> None:
    rng = np.random.default_rng(1)
    truth, one, other = rng.choice(["WAKE", "N1", "N2"], (3, 60))
    found = difference("staging", staged(truth, one), staged(truth[20:], other[20:], 20), 0.95)
    assert found is not None
    expected = f1_score(truth[20:], one[20:], average="macro") - f1_score(
        truth[20:], other[20:], average="macro"
    )
    assert (found.estimate.value, found.num_subjects) == (pytest.approx(expected), 4)


Row = tuple[str, str, int, int, str, str]


def seconds(seed: int) -> list[Row]:
    """Recording, subject, epoch, second, truth and guess, of 12 nights of 7 people."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(9).choice(["normal", "disordered"], 12 * 4 * 30, p=[0.8, 0.2])
    rows = []
    for place, true in enumerate(truth):
        night, epoch = divmod(place // 30, 4)
        guess = true if rng.random() < 0.8 else "normal"
        rows.append((f"r{night}", f"s{night % 7}", epoch, place % 30, str(true), str(guess)))
    return rows


def as_table(rows: list[Row]) -> Predictions:
    names = ("recording_id", "subject_id", "epoch", "second", "truth", "guess")
    return as_predictions(dict(zip(names, zip(*rows, strict=True), strict=True)))


def by_text(one: list[Row], other: list[Row]) -> tuple[float, float, float]:
    """The same difference from a dictionary of rows, and a loop."""
    twin_of = {row[:4]: row for row in other}
    pairs = [(row, twin_of[row[:4]]) for row in one if row[:4] in twin_of]
    subjects = sorted({row[1] for row, _ in pairs})
    classes = ["normal", "disordered"]
    counts = np.zeros((2, len(subjects), 2, 2), np.int64)
    for pair in pairs:
        for model, row in enumerate(pair):
            cell = (subjects.index(row[1]), classes.index(row[4]), classes.index(row[5]))
            counts[model][cell] += 1
    drawn_BS = resampled_counts(len(subjects), NUM_RESAMPLES, 0)
    f1 = [metrics.macro_f1(np.einsum("bs,sij->bij", drawn_BS, own)) for own in counts]
    found = estimate(f1[0] - f1[1], 0.95)
    return found.value, found.low, found.high


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("lacking", [0, 500])
def test_rows_are_joined_as_their_names_say(shuffled: bool, lacking: int) -> None:
    one, other = seconds(1)[lacking:], seconds(2)[: -lacking or None]
    if shuffled:
        other = [other[n] for n in np.random.default_rng(3).permutation(len(other))]
    found = difference("apnea", as_table(one), as_table(other), 0.95)
    assert found is not None
    estimated = found.estimate
    assert (estimated.value, estimated.low, estimated.high) == pytest.approx(
        by_text(one, other), abs=1e-15
    )


def test_a_row_twice_is_refused() -> None:
    one, other = seconds(1), seconds(2)
    with pytest.raises(TableError, match="same row of r0 twice"):
        difference("apnea", as_table(one), as_table([*other[1:], other[5]]), 0.95)


def test_seconds_have_no_row_in_common_with_epochs() -> None:
    by_second, by_epoch = as_table(seconds(1)[::30]), seconds(1)[::30]
    columns = dict(zip("abcdef", zip(*by_epoch, strict=True), strict=True))
    epochs = as_predictions({
        "recording_id": columns["a"], "subject_id": columns["b"], "epoch": columns["c"],
        "truth": columns["e"], "guess": columns["f"],
    })  # fmt: skip
    assert difference("apnea", by_second, epochs, 0.95) is None


def test_auroc_equals_scikit_learns_within_a_fold() -> None:
    rng = np.random.default_rng(2)
    truth = rng.choice(["female", "male"], 40)
    scores = rng.uniform(size=(2, 40))
    people = [f"p{number}" for number in range(40)]
    tables = [
        as_predictions(
            {
                "recording_id": people,
                "subject_id": people,
                "fold": [0] * 40,
                "truth": truth,
                "p_male": score,
            }
        )
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
    assert difference("age", one, ages([30, 50], [31, 53], first=2), 0.95) is None
    with pytest.raises(TableError, match=r"'N2' and 'REM'.*r0"):
        difference("staging", staged(["N2"], ["N2"]), staged(["REM"], ["N2"]), 0.95)


def test_follow_up_is_compared_by_its_outcome() -> None:
    people = [f"p{number}" for number in range(4)]
    columns = {
        "recording_id": people * 2,
        "subject_id": people * 2,
        "outcome": ["stroke"] * 4 + ["mi"] * 4,
        "event": [1, 1, 1, 0] * 2,
        "time_days": [1.0, 2.0, 3.0, 4.0] * 2,
        "log_hazard": [*"4321", *"1234"],
    }
    table = as_predictions(columns)
    backwards = as_predictions(columns | {"log_hazard": [*"1234"] * 2})
    for outcome, expected in (("stroke", 1.0), ("mi", 0.0)):
        found = difference("survival", table, backwards, 0.95, outcome)
        assert found is not None
        assert (found.figure, found.estimate.value) == ("c_index", expected)
