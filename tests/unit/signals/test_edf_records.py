"""Reads of data records: layouts of every size, and files that change or fail under the reader."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals import edf_records
from sleepmami.signals.edf import open_edf
from sleepmami.signals.edf_records import EdfRecords, EdfSource, FileDigest
from sleepmami.signals.preprocess import load_night
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal, int16

HEADER_BYTES = 7


def written(tmp_path: Path, records_RB: np.ndarray, tail: bytes = b"xyz") -> Path:
    path = tmp_path / "records"
    path.write_bytes(b"h" * HEADER_BYTES + records_RB.tobytes() + tail)
    return path


def recording(seed: int = 0) -> bytes:
    values = np.random.default_rng(seed).integers(-99, 99, (4, 50)).astype("<i2")
    return RawEdf([RawSignal([row.tobytes() for row in values])]).to_bytes()


@pytest.mark.parametrize("block_bytes", [1, 64, 2**20])
@pytest.mark.parametrize("seek_bytes", [1, 2**15])
def test_any_layout_gives_the_bytes_of_its_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, seek_bytes: int
) -> None:
    monkeypatch.setattr(edf_records, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(edf_records, "_SEEK_BYTES", seek_bytes)
    records_RB = np.random.default_rng(1).integers(0, 256, (23, 30)).astype(np.uint8)
    path = written(tmp_path, records_RB)
    spans = [(0, 30), (29, 30), (4, 9), (12, 12)]
    for source in (EdfSource(path, "f"), EdfSource(path.read_bytes(), "f")):
        for (first, last), found in zip(
            spans, source.pick(HEADER_BYTES, 23, 30, spans), strict=True
        ):
            np.testing.assert_array_equal(found, records_RB[:, first:last])


@pytest.mark.parametrize("block_bytes", [1, 64, 2**20])
def test_a_pass_over_the_signals_hashes_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(edf_records, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(edf_records, "_SEEK_BYTES", 2**15 if block_bytes > 30 else 1)
    path = written(tmp_path, np.random.default_rng(1).integers(0, 256, (23, 30)).astype(np.uint8))
    digest = FileDigest(hashlib.sha256)
    source = EdfSource(path, "f", digest)
    source.head(HEADER_BYTES)
    assert digest.hexdigest == ""
    source.pick(HEADER_BYTES, 23, 30, [(4, 9)])
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest.hexdigest == (expected if block_bytes > 30 else "")  # jumps see few bytes
    source.pick(HEADER_BYTES, 23, 30, [(0, 3)])
    assert digest.hexdigest in (expected, "")


def test_signals_announced_are_read_in_one_pass_and_each_time_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records_RB = np.arange(40, dtype=np.uint8).reshape(4, 10)
    source = EdfSource(written(tmp_path, records_RB), "f")
    passes: list[int] = []
    pick = EdfSource.pick
    monkeypatch.setattr(
        EdfSource, "pick", lambda self, *args: passes.append(len(args[3])) or pick(self, *args)
    )
    records = EdfRecords(source, HEADER_BYTES, 4, 10)
    records.will_take([(0, 2), (2, 5), (0, 2), (5, 9)])
    for first, last in [(0, 2), (2, 5), (0, 2), (5, 9), (9, 10), (0, 2)]:
        found = records.take((first, last))
        np.testing.assert_array_equal(found, records_RB[:, first:last])
        found[:] = 0
    assert passes == [3, 1, 1]  # the last two were not announced


def test_signals_that_wait_stay_within_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edf_records, "AHEAD_BYTES", 20)
    records_RB = np.arange(40, dtype=np.uint8).reshape(4, 10)
    records = EdfRecords(EdfSource(written(tmp_path, records_RB), "f"), HEADER_BYTES, 4, 10)
    spans = [(0, 2), (2, 5), (5, 7), (7, 9)]  # 8, 12, 8 and 8 bytes
    records.will_take(spans)
    waiting = []
    for first, last in spans:
        np.testing.assert_array_equal(records.take((first, last)), records_RB[:, first:last])
        waiting.append(sum(kept.nbytes for kept in records._kept.values()))
    assert waiting == [20, 8, 0, 0]


@pytest.mark.parametrize("size", [0, 600, 880])
def test_a_file_that_shrinks_after_it_was_opened_is_an_error_and_no_crash(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "night.edf"
    path.write_bytes(recording())
    edf = open_edf(path)
    os.truncate(path, size)
    with pytest.raises(RecordingError, match="changed while it was read") as raised:
        edf.digital(edf.channels[0])
    assert raised.value.code == RecordingCode.UNREADABLE


def test_a_file_that_shrinks_during_a_pass_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "night.edf"
    path.write_bytes(recording())
    edf = open_edf(path)
    state = edf_records._state

    def shrink(status: os.stat_result) -> object:
        os.truncate(path, 700)
        return state(status)

    monkeypatch.setattr(edf_records, "_state", shrink)
    with pytest.raises(RecordingError, match="changed while it was read"):
        edf.digital(edf.channels[0])


def test_two_versions_of_a_file_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "night.edf"
    path.write_bytes(recording())
    os.utime(path, (1e9, 1e9))
    edf = open_edf(path)
    path.write_bytes(recording(seed=1))  # as long as the first
    with pytest.raises(RecordingError, match="changed while it was read"):
        edf.digital(edf.channels[0])


def test_a_file_that_is_gone_or_fails_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "night.edf"
    path.write_bytes(recording())
    edf = open_edf(path)
    path.unlink()
    with pytest.raises(RecordingError) as raised:
        edf.digital(edf.channels[0])
    assert raised.value.code == RecordingCode.UNREADABLE


def test_a_relative_path_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "night.edf").write_bytes(recording())
    monkeypatch.chdir(tmp_path)
    edf = open_edf("night.edf")
    monkeypatch.chdir("/")
    assert len(edf.digital(edf.channels[0])) == 200


@pytest.mark.parametrize("block_bytes", [8, 2**20])
@pytest.mark.parametrize("reserved", ["", "EDF+C", "EDF+D"])
def test_zeros_that_a_power_cut_leaves_at_the_end_are_no_signal(
    monkeypatch: pytest.MonkeyPatch, reserved: str, block_bytes: int
) -> None:
    monkeypatch.setattr(edf_records, "_BLOCK_BYTES", max(block_bytes, 70))  # a record has 64
    samples = RawSignal([int16(k, 0) for k in (1, 0, 3, 0, 0, 0, 0)])
    times = [b"+%d\x14\x14\0" % k for k in range(3)]
    tals = annotation_signal(*times, *[b""] * 4)
    raw = RawEdf([samples, tals], num_records="-1", reserved=reserved).to_bytes()
    edf = open_edf(raw)
    assert edf.digital(edf.channels[0]).tolist() == [1, 0, 0, 0, 3, 0]
    assert "the last 4 hold nothing but zeros and are left out" in edf.notes


def test_a_file_of_nothing_but_zeros_keeps_its_length() -> None:
    raw = RawEdf([RawSignal([int16(0)] * 5)], num_records="-1").to_bytes()
    assert open_edf(raw).num_records == 5


def test_a_night_is_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = ("EEG C3", "EEG M2", "EOG E1", "EMG chin", "ECG", "Thorax", "SpO2")
    signals = [
        RawSignal([row.tobytes() for row in rng.integers(80, 99, (120, 64)).astype("<i2")], label)
        for label in labels
    ]
    path = tmp_path / "night.edf"
    path.write_bytes(RawEdf(signals).to_bytes())
    passes: list[int] = []
    pick = EdfSource.pick
    monkeypatch.setattr(
        EdfSource, "pick", lambda self, *args: passes.append(len(args[3])) or pick(self, *args)
    )
    night = load_night(path, PreprocessConfig(), recording_id="night")
    assert len(night.signals) >= 5
    assert passes == [len(labels)]
