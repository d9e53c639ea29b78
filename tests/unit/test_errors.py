"""Errors cross process borders whole."""

import pickle

from sleepmami.errors import RecordingCode, RecordingError


def test_a_recording_error_says_file_found_and_expected_in_one_line() -> None:
    error = RecordingError(
        RecordingCode.NOT_AN_EDF, file="a.edf", found="a PDF", expected="an EDF header"
    )
    assert str(error) == "a.edf: not_an_edf: found a PDF; expected an EDF header"


def test_a_recording_error_survives_pickling() -> None:
    error = RecordingError(RecordingCode.UNREADABLE, file="a", found="b", expected="c")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, copy.file) == (str(error), "unreadable", "a")
