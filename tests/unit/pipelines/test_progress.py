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


def test_a_stage_that_begins_with_a_jump_leaves_pace_and_time_left_to_its_notes(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.stage("pretrain", 2000, unit="steps", pace=False) as advance:
        advance(1000, "loss 1.2  3 min left")
    assert log.getvalue().splitlines()[1] == "pretrain: 1000/2000 steps  loss 1.2  3 min left"


def test_on_a_terminal_the_note_stands_below_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=60, markup=False)
    monkeypatch.setattr(progress, "console", terminal)
    with progress.stage("pretrain", 20, unit="steps", pace=False) as advance:
        advance(7, "loss 1.2  MFU 40 %")
    rows = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()).splitlines()
    (bar,) = [number for number, row in enumerate(rows) if "7/20 steps" in row][-1:]
    assert rows[bar + 1].strip() == "loss 1.2  MFU 40 %"
