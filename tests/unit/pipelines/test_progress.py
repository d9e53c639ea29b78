"""What a log file gets of a long stage."""

import io
import re
from collections import Counter

import pytest
from rich.console import Console

from pipelines import progress


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, markup=False, width=200))
    return text


def test_a_log_says_how_far_a_long_stage_is(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.stage("ingest", 4, unit="files") as advance:
        advance(1, "a.edf")
        advance(2, "b.edf")
    lines = log.getvalue().splitlines()
    assert lines[0] == "ingest: 4 files"
    assert re.match(r"ingest: 1/4 files, \d+/min, \d+ s left  a.edf", lines[1])
    assert lines[2].startswith("ingest: 3/4 files")
    assert lines[2].endswith("b.edf")
    assert lines[3].startswith("ingest: 4 files in ")


def test_a_long_stage_is_timed_in_minutes_or_hours(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 600.0, 9000.0])  # began twice, one file of ten done, ended
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    with progress.stage("ingest", 10, unit="files") as advance:
        advance(1, "a.edf")
    assert "1/10 files, 0.1/min, 90 min left  a.edf" in log.getvalue()
    assert "10 files in 2.5 h" in log.getvalue()


def test_a_log_is_not_flooded(log: io.StringIO) -> None:
    with progress.stage("ingest", 1000, unit="files") as advance:
        for _ in range(1000):
            advance(1, "")
    assert len(log.getvalue().splitlines()) == 2


def test_names_with_brackets_are_printed_as_they_are(log: io.StringIO) -> None:
    progress.print_outcomes("x", Counter({"rejected": 1}), [("[bold]a.edf", "code", "[/reason]")])
    assert "[bold]a.edf" in log.getvalue()
    assert "[/reason]" in log.getvalue()


def test_outcomes_that_did_not_happen_are_not_named(log: io.StringIO) -> None:
    progress.print_outcomes("ingest", Counter({"ingested": 3, "rejected": 0}), [])
    assert log.getvalue() == "ingest: 3 ingested\n"
