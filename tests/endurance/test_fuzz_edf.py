"""20,000 damaged recordings: no crash, hang, untyped error, hidden gap or memory bomb."""

import contextlib
import multiprocessing
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from sleepmami.errors import RecordingError
from sleepmami.signals.edf import open_edf
from tests.endurance.edf_fuzzing import FuzzReport, fuzz
from tests.unit.signals.raw_edf import RawEdf, annotation_signal

NUM_FILES = 20_000
MAX_FILE_CPU_S = 2.0
MAX_GROWTH_MB = 64.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> FuzzReport:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(fuzz, 20260921, NUM_FILES, folder, 8).result(timeout=1800)
    print(found, file=sys.stderr)
    return found


@pytest.mark.endurance
def test_nothing_but_recording_errors_comes_of_damage_and_no_gap_is_hidden(
    report: FuzzReport,
) -> None:
    assert report.failures == []
    assert sum(report.read.values()) == NUM_FILES


@pytest.mark.endurance
def test_every_way_to_end_was_met(report: FuzzReport) -> None:
    refusals = {"not_an_edf", "header_invalid", "truncated_recording", "discontinuous_recording"}
    assert set(report.read) == {"ok", "gaps", *refusals}
    assert min(report.read.values()) > NUM_FILES // 200
    assert min(report.nights["ok"], report.nights["gaps"]) > NUM_FILES // 80


@pytest.mark.endurance
def test_no_file_takes_long(report: FuzzReport) -> None:
    assert report.slowest_s[0] < MAX_FILE_CPU_S


@pytest.mark.endurance
def test_no_file_takes_much_memory(report: FuzzReport) -> None:
    assert report.growth_mb < MAX_GROWTH_MB


@pytest.mark.endurance
@pytest.mark.parametrize(
    "text",
    [
        b"+5\x14a\x14\0",
        b"+1\x14\x14\0",
        b"\0+",
        b"+5\x14\0",
        b"a\x14",
        b"+",
        b"1",
        b"\xff\x01",
        b"x",
    ],
)
@pytest.mark.parametrize("start", [b"", b"+5\x14"])
def test_six_megabytes_of_hostile_annotations_cost_little(start: bytes, text: bytes) -> None:
    size = 6 * 2**20
    tals = annotation_signal((b"+0\x14\x14\0" + start + text * size)[:size], width=size)
    raw = RawEdf([tals], reserved="EDF+C", record_duration="0").to_bytes()
    start_s = time.process_time()
    with contextlib.suppress(RecordingError):
        open_edf(raw).annotations()
    assert time.process_time() - start_s < MAX_FILE_CPU_S
    tracemalloc.start()
    with contextlib.suppress(RecordingError):
        open_edf(raw).annotations()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MAX_GROWTH_MB * 2**20
