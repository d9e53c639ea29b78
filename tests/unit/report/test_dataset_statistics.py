"""The tables of a corpus are Tables 5 and 6 of its rows."""

from dataclasses import replace

import numpy as np

from sleepmami.report.dataset_statistics import CorpusNight, dataset_finding, dataset_tables

NIGHT = CorpusNight(
    recording_id="r0",
    subject_id="s0",
    cohort="x",
    split="train",
    num_epochs=240,
    hypnogram=np.array([0, 0, 1, 2, 2, 2, 3, 3, 4, -1], np.int8),
    age_years=40.0,
    sex="female",
    bmi=20.0,
    ahi=None,
)


def texts(nights: list[CorpusNight], table: int) -> list[list[str]]:
    return [[cell.text for cell in row] for row in dataset_tables(nights)[table].rows]


def test_people_by_hand() -> None:
    second = replace(NIGHT, recording_id="r1", age_years=50.0, bmi=None)  # of the same subject
    other = replace(NIGHT, recording_id="r2", subject_id="s2", split="test", sex="male")
    assert texts([other, NIGHT, second], 0) == [
        ["x train", "2", "1", "4", "45.0 \u00b1 7.1", "20.0 (of 1)", "\u2013", "100 / 0"],
        ["x test", "1", "1", "2", "40.0", "20.0", "\u2013", "0 / 100"],
        ["all", "3", "2", "6", "43.3 \u00b1 5.8", "20.0 \u00b1 0.0 (of 2)", "\u2013", "67 / 33"],
    ]


def test_stages_are_shares_of_scored_epochs() -> None:
    unscored = replace(NIGHT, recording_id="r1", hypnogram=None)
    assert texts([NIGHT, unscored], 1) == [["x train", "1", "9", "22", "11", "33", "22", "11"]]


def test_refused_files_are_counted_and_in_no_table() -> None:
    refused = replace(
        NIGHT, recording_id="r1", cohort="y", num_epochs=None, rejected_code="not_an_edf"
    )
    assert [row[0] for row in texts([NIGHT, refused], 0)] == ["x train"]
    assert dataset_finding([NIGHT, refused]) == (
        "1 recording of 1 subject, 2 hours. Refused: 1 file (not_an_edf 1)."
    )
