"""A table of predictions is read as arrays, in parts, and what is none is refused by its name."""

import io

import numpy as np
import pytest

from sleepmami.errors import TableError
from sleepmami.evaluation import predictions
from sleepmami.evaluation.predictions import read_predictions_csv
from tests.unit.evaluation.csv_tables import as_predictions

HEADER = "recording_id,subject_id,epoch,second,truth,guess,p_normal,p_disordered\n"


def read(text: str, **options: bool) -> predictions.Predictions:
    options = {"quantities": False} | options
    return read_predictions_csv(io.BytesIO(text.encode()), "x.csv", **options)


def test_names_are_numbers_in_the_order_in_which_they_came() -> None:
    found = read(
        HEADER + "b,p,0,29,normal,disordered,.4,.6\na,p,1,0,normal,normal,.7,.3\n", likelihoods=True
    )
    recordings = found.texts["recording_id"]
    assert (recordings.names, recordings.code_R.tolist()) == (("b", "a"), [0, 1])
    assert recordings.codes_in(("a", "c", "b")).tolist() == [2, 0]
    assert recordings.codes_in(("c", "a")).tolist() == [-1, 1]
    assert found.numbers["second"].tolist() == [29, 0]
    assert found.numbers["p_disordered"].tolist() == [0.6, 0.3]
    assert "p_normal" not in read(HEADER + "b,p,0,29,normal,normal,.4,.6\n").columns


def test_parts_of_a_table_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        f"night {n // 7},p{n // 20},{n % 7},{n % 30},normal,{'normal' if n % 3 else 'disordered'}"
        for n in range(2000)  # more names than a byte numbers
    ]
    text = HEADER.replace(",p_normal,p_disordered", "") + "\n".join(rows)
    whole = read(text)
    monkeypatch.setattr(predictions, "BLOCK_BYTES", 300)
    parts = read(text)
    for name, column in whole.texts.items():
        assert parts.texts[name].names == column.names
        assert np.array_equal(parts.texts[name].code_R, column.code_R)
    for name, numbers in whole.numbers.items():
        assert np.array_equal(parts.numbers[name], numbers)
    names, code_R = whole.texts["recording_id"].names, whole.texts["recording_id"].code_R
    assert [names[code] for code in code_R] == [row.partition(",")[0] for row in rows]


def test_ids_with_commas_quotes_and_lines_come_back() -> None:
    odd = ["a,b", 'he said "so"', "two\nlines", "", "  n\u00e4chtlich "]
    columns = {"recording_id": odd, "subject_id": odd, "truth": ["x"] * 5, "guess": ["x"] * 5}
    assert list(as_predictions(columns).texts["subject_id"].names) == odd


def test_rows_of_one_outcome() -> None:
    table = as_predictions({
        "recording_id": [*"abab"], "subject_id": [*"pqpq"], "outcome": ["mi", "mi", "stroke", "stroke"],
        "event": [1, 0, 0, 1], "time_days": [1.5, 2, 3, 4], "log_hazard": [0.1, 0.2, 0.3, 0.4],
    })  # fmt: skip
    assert table.of_outcome("stroke").numbers["log_hazard"].tolist() == [0.3, 0.4]
    assert len(table.of_outcome("angina")) == 0
    assert len(table.of_outcome("")) == 4


def test_a_header_without_rows_is_an_empty_table() -> None:
    assert len(read(HEADER)) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found columns"),
        ("recording_id,subject_id,guess\n", "found columns"),
        (HEADER + "a,p,0,0,normal,normal,1\n", "Expected 8 columns, got 7"),
        (HEADER + "a,p,zero,0,normal,normal,1,0\n", "zero"),
        (HEADER + "a,p,0,300,normal,normal,1,0\n", "300"),
        (HEADER + "a,p,-1,0,normal,normal,1,0\n", "epoch -1"),
        (HEADER + "a,p,1,-3,normal,normal,1,0\n", "second -3"),
    ],
)
def test_what_is_no_table_of_predictions_is_refused(text: str, said: str) -> None:
    with pytest.raises(TableError, match=rf"x\.csv: .*{said}.*expected predictions"):
        read(text)


def test_a_quantity_is_a_number() -> None:
    text = "recording_id,subject_id,truth,guess\na,p,41.5,twenty\n"
    with pytest.raises(TableError, match=r"x\.csv: .*twenty"):
        read(text, quantities=True)
    assert read(text).texts["guess"].names == ("twenty",)
