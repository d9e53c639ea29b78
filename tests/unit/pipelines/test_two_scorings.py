"""Stages in one file of the scorer and events in another."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipelines.ingest_file import Outcome, ingest_file
from pipelines.ingest_plan import IngestItem
from sleepmami.config import IngestConfig
from sleepmami.config_edit import to_dict
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

SECONDS = 120
RESPIRATORY_EVENTS = """
                         Respiratory events
Time      Type    PB/CS  Duration  Low   %Drop
23:00:40  HYP-C     -        16    91.2   3.4
23:01:20  APNEA-O   -        10    90.0   4.1
"""


def item(folder: Path) -> IngestItem:
    rng = np.random.default_rng(0)
    records = [rng.integers(-90, 90, 100, dtype=np.int16).tobytes() for _ in range(SECONDS)]
    edf = folder / "ucddb002.rec"
    edf.write_bytes(RawEdf([RawSignal(records)], clock=b"23.00.00").to_bytes())
    (folder / "ucddb002_stage.txt").write_text("0\n2\n3\n1\n")
    (folder / "ucddb002_respevt.txt").write_text(RESPIRATORY_EVENTS)
    return IngestItem(
        file=str(edf),
        recording_id="ucddb002",
        subject_id="ucddb002",
        annotation=str(folder / "ucddb002_stage.txt"),
        second=str(folder / "ucddb002_respevt.txt"),
        demographics=None,
        known=None,
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_each_file_says_what_the_other_is_silent_about(tmp_path: Path, swapped: bool) -> None:
    both = item(tmp_path)
    if swapped:
        both = dataclasses.replace(both, annotation=both.second, second=both.annotation)
    config = to_dict(IngestConfig(recording_ids="file_name"))
    result = ingest_file(both, corpus=str(tmp_path / "corpus"), config=config)
    assert result.outcome is Outcome.INGESTED
    assert result.row is not None
    (row,) = result.row.to_pylist()
    assert row["hypnogram"] == [0, 1, 2, 4]
    assert [(event["start_s"], event["duration_s"], event["kind"]) for event in row["events"]] == [
        (40.0, 16.0, "hypopnea"),
        (80.0, 10.0, "obstructive_apnea"),
    ]


def test_a_second_file_that_is_no_scoring_takes_nothing_away(tmp_path: Path) -> None:
    both = item(tmp_path)
    Path(both.second or "").write_text("slept badly")
    config = to_dict(IngestConfig(recording_ids="file_name"))
    result = ingest_file(both, corpus=str(tmp_path / "corpus"), config=config)
    assert result.row is not None
    (row,) = result.row.to_pylist()
    assert (row["hypnogram"], row["events"]) == ([0, 1, 2, 4], None)


def test_a_second_file_stands_in_for_one_that_is_no_scoring(tmp_path: Path) -> None:
    both = item(tmp_path)
    both = dataclasses.replace(both, annotation=both.second, second=both.annotation)
    Path(both.annotation or "").write_text("the technician's report")
    config = to_dict(IngestConfig(recording_ids="file_name"))
    result = ingest_file(both, corpus=str(tmp_path / "corpus"), config=config)
    assert result.row is not None
    (row,) = result.row.to_pylist()
    assert (row["hypnogram"], result.outcome) == ([0, 1, 2, 4], Outcome.INGESTED)
    assert result.problem is not None
    assert result.problem.code == "annotation_invalid"


@pytest.mark.parametrize("has_own", [True, False])
def test_a_report_beside_a_recording_does_not_take_its_own_stages_away(
    tmp_path: Path, has_own: bool
) -> None:
    one = dataclasses.replace(item(tmp_path), second=None)
    Path(one.annotation or "").write_text("the technician's report")
    if has_own:
        records = [bytes(range(200))] * SECONDS
        tals = [f"+{second}".encode() + b"\x14\x14\0" for second in range(SECONDS)]
        tals[0] += b"+0\x15120\x14Sleep stage N2\x14"
        raw = RawEdf([RawSignal(records), annotation_signal(*tals)], reserved="EDF+C")
        Path(one.file).write_bytes(raw.to_bytes())
    config = to_dict(IngestConfig(recording_ids="file_name"))
    result = ingest_file(one, corpus=str(tmp_path / "corpus"), config=config)
    assert result.row is not None
    (row,) = result.row.to_pylist()
    expected = ([2] * 4, Outcome.INGESTED) if has_own else (None, Outcome.WITHOUT_SCORING)
    assert (row["hypnogram"], result.outcome) == expected
    assert result.problem is not None
