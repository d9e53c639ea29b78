"""Which requests are small: those that others may wait for."""

from pathlib import Path

import numpy as np
import pytest

from serve_apps.backend import WindowBatch
from serve_apps.small_requests import (
    MAX_RECORDING_BYTES,
    MAX_RECORDING_S,
    ONGOING_PER_REPLICA,
    calls_of,
    is_small,
)
from sleepmami.psg import MODALITIES
from sleepmami.signals.edf_writer import WriteChannel, write_edf


def edf(tmp_path: Path, *, minutes: int, rate_hz: int = 1) -> bytearray:
    channel = WriteChannel(
        label="SpO2",
        unit="%",
        sample_rate_hz=rate_hz,
        samples=np.full(minutes * 60 * rate_hz, 95.0),
        physical_min=0.0,
        physical_max=100.0,
    )
    path = tmp_path / "night.edf"
    write_edf(path, [channel])
    return bytearray(path.read_bytes())


def test_minutes_are_small_and_a_whole_night_of_few_bytes_is_not(tmp_path: Path) -> None:
    most = int(MAX_RECORDING_S // 60)
    assert is_small(bytes(edf(tmp_path, minutes=most)))
    night = bytes(edf(tmp_path, minutes=most + 1))
    assert len(night) < MAX_RECORDING_BYTES
    assert not is_small(night)


@pytest.mark.parametrize("told", [b"-1", b"0", b"1"])
def test_a_header_that_does_not_know_its_records_makes_no_night_small(
    tmp_path: Path, told: bytes
) -> None:
    night = edf(tmp_path, minutes=480)
    night[236:244] = told.ljust(8)
    assert not is_small(bytes(night))


def test_many_bytes_are_not_small_however_short(tmp_path: Path) -> None:
    short = bytes(edf(tmp_path, minutes=1, rate_hz=10_000))
    assert len(short) > MAX_RECORDING_BYTES
    assert not is_small(short)


def test_an_upload_is_not_small_and_what_is_no_edf_is_refused_in_no_time() -> None:
    assert not is_small("/state/uploads/ID/data")
    assert is_small(b"")
    assert is_small(b"PK\x03\x04" * 1000)


@pytest.mark.parametrize(("num_windows", "small"), [(1, True), (4, True), (5, False)])
def test_few_windows_are_small(num_windows: int, small: bool) -> None:
    windows = WindowBatch({}, np.ones((num_windows, len(MODALITIES)), np.bool_))
    assert is_small(windows) == small


def test_enough_calls_may_be_under_way_that_serve_adds_the_last_replica() -> None:
    """It adds one for ONGOING_PER_REPLICA calls in hand, and sees no other requests."""
    assert calls_of(3, None) == 3
    for most in (1, 2, 5):
        assert calls_of(1, most) / ONGOING_PER_REPLICA >= most
