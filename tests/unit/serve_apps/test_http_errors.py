import json
import logging

import pytest

from serve_apps.http_errors import ERRORS, error_response, log_failure
from sleepmami.errors import RecordingCode, RecordingError

REFUSALS = [code for code in RecordingCode if code is not RecordingCode.DUPLICATE_RECORDING]


@pytest.mark.parametrize("code", REFUSALS)  # only a corpus can hold the same night already
def test_every_reason_to_refuse_a_recording_is_the_clients_fault(code: RecordingCode) -> None:
    assert ERRORS[code.value].status in (400, 422)


@pytest.mark.parametrize("code", list(ERRORS))
def test_every_code_has_one_shape_and_its_own_text(code: str) -> None:
    response = error_response(code, "r-1")
    body = json.loads(bytes(response.body))
    assert body == {"error": {"code": code, "message": ERRORS[code].message, "request_id": "r-1"}}
    assert response.status_code == ERRORS[code].status


@pytest.mark.parametrize("code", list(ERRORS))
def test_only_what_passes_says_when_to_try_again(code: str) -> None:
    passes = ERRORS[code].status in (423, 429, 503)
    assert ("retry-after" in error_response(code, "r").headers) == passes


def test_a_code_we_do_not_know_is_an_internal_error() -> None:
    response = error_response("JANE-DOE", "r-1")
    assert response.status_code == 500
    assert b"JANE-DOE" not in bytes(response.body)


def test_the_log_names_type_and_place_but_not_the_text(caplog: pytest.LogCaptureFixture) -> None:
    def read_header() -> None:
        found = "JANE-" + "DOE"
        raise RecordingError(RecordingCode.HEADER_INVALID, file=found, found=found, expected="x")

    with caplog.at_level(logging.ERROR):
        try:
            read_header()
        except RecordingError as error:
            log_failure(error, "r-1")
    assert "JANE-DOE" not in caplog.text
    assert "RecordingError" in caplog.text
    assert "read_header" in caplog.text
