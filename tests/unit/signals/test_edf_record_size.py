"""A header whose samples per record are not the file's is told from a file that was cut."""

import numpy as np
import pytest

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals.edf import open_edf
from tests.unit.signals.raw_edf import RawEdf, RawSignal

RECORDS = 60
HEADER_BYTES = 256 * 4
RECORD_BYTES = 2 * (100 + 32 + 1)


def night(stated_eeg: int | None = None, *, bdf: bool = False, records: int = RECORDS) -> bytes:
    """An EEG of 100 Hz around 0, a belt of 32 Hz around 3000 and a saturation of 1 Hz near 950."""
    chance = np.random.default_rng(7)
    width = 3 if bdf else 2
    scale = 256 if bdf else 1

    def signal(count: int, middle: int, spread: int, stated: int | None = None) -> RawSignal:
        values = chance.normal(middle, spread, (records, count)).astype(np.int32) * scale
        rows = [row.astype("<i4").tobytes() for row in values]
        cut = [b"".join(r[i : i + width] for i in range(0, len(r), 4)) for r in rows]
        return RawSignal(cut, samples_per_record=None if stated is None else str(stated))

    signals = [signal(100, 0, 200, stated_eeg), signal(32, 3000, 80), signal(1, 950, 3)]
    version = b"\xffBIOSEMI" if bdf else b"0       "
    return RawEdf(signals, version=version).to_bytes()


@pytest.mark.parametrize("bdf", [False, True])
@pytest.mark.parametrize("stated", [80, 99, 101, 128, 200])
def test_samples_per_record_that_are_not_the_files_are_refused(stated: int, bdf: bool) -> None:
    with pytest.raises(RecordingError) as caught:
        open_edf(night(stated, bdf=bdf), truncated="keep")
    width = 3 if bdf else 2
    assert caught.value.code == RecordingCode.HEADER_INVALID
    assert f"make {width * (stated + 33)} bytes" in caught.value.found
    assert f"{RECORDS} records of {width * 133}" in caught.value.found


@pytest.mark.parametrize("per_record", [70, 100, 150, 200, 264])
def test_a_cut_file_whose_size_divides_by_chance_is_a_cut_file(per_record: int) -> None:
    raw = night()[: HEADER_BYTES + RECORDS * per_record]
    file = open_edf(raw, truncated="keep")
    assert file.num_records == RECORDS * per_record // RECORD_BYTES
    assert file.notes[0].startswith("truncated")


def test_bytes_behind_the_records_are_no_longer_records() -> None:
    file = open_edf(night() + bytes(RECORDS * 10))
    assert (file.num_records, file.notes) == (RECORDS, ("600 trailing bytes ignored",))


@pytest.mark.parametrize("there", [1, 15, 30, 59])
def test_whole_records_of_the_stated_size_are_never_refused(there: int) -> None:
    file = open_edf(night()[: HEADER_BYTES + there * RECORD_BYTES], truncated="keep")
    assert file.num_records == there


def test_of_a_few_records_nothing_is_concluded() -> None:
    assert open_edf(night(101, records=5), truncated="keep").num_records == 4


def one_slow_signal() -> bytes:
    """A pressure that drifts: its samples are the more alike the nearer they are."""
    rows = np.cumsum(np.random.default_rng(3).normal(0, 30, (RECORDS, 100)).ravel())
    records = [row.tobytes() for row in rows.reshape(RECORDS, 100).astype("<i2")]
    return RawEdf([RawSignal(records)]).to_bytes()


def test_the_short_rest_of_a_file_is_no_evidence() -> None:
    """Its samples are alike because there are few of them; shorter than one record there is none."""
    raw = one_slow_signal()
    cut = raw[: 256 * 2 + RECORDS * 6]  # 1.8 records
    assert open_edf(cut, truncated="keep").num_records == 1
    less = raw[: 256 * 2 + RECORDS * 2]
    with pytest.raises(RecordingError) as caught:
        open_edf(less, truncated="keep")
    assert caught.value.code != RecordingCode.HEADER_INVALID


@pytest.mark.parametrize("per_record", range(8, 200, 6))
def test_one_slow_signal_alone_is_more_alike_the_shorter_the_lag(per_record: int) -> None:
    cut = one_slow_signal()[: 256 * 2 + RECORDS * per_record]
    assert open_edf(cut, truncated="keep").num_records == RECORDS * per_record // 200
