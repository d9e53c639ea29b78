"""Which requests are small: those that others may wait for."""

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
from sleepmami.signals.edf_header import parse_header


def edf(*, minutes: int, rate_hz: int = 1, told: bytes | None = None) -> bytes:
    """One SpO2 signal in records of a minute; its header tells that many records."""
    cells = [(b"0", 8), (b"X", 80), (b"X", 80), (b"01.01.0101.01.01", 16), (b"512", 8), (b"", 44)]
    cells += [(told or b"%d" % minutes, 8), (b"60", 8), (b"1", 4)]
    cells += [(b"SpO2", 16), (b"", 80), (b"%", 8), (b"0", 8), (b"100", 8), (b"0", 8), (b"1000", 8)]
    cells += [(b"", 80), (b"%d" % (60 * rate_hz), 8), (b"", 32)]
    header = b"".join(value.ljust(width) for value, width in cells)
    return header + bytes(minutes * 60 * rate_hz * 2)


def test_minutes_are_small_and_a_whole_night_of_few_bytes_is_not() -> None:
    most = MAX_RECORDING_S // 60
    assert parse_header(edf(minutes=most), "x").record_duration == 60
    assert is_small(edf(minutes=most))
    for minutes in (most + 1, 480):
        night = edf(minutes=minutes)
        assert len(night) < MAX_RECORDING_BYTES
        assert not is_small(night)


@pytest.mark.parametrize("told", [b"-1", b"0", b"1"])
def test_a_header_that_does_not_know_its_records_makes_no_night_small(told: bytes) -> None:
    night = edf(minutes=480, told=told)
    assert len(night) < MAX_RECORDING_BYTES
    assert not is_small(night)


def test_many_bytes_are_not_small_however_short() -> None:
    short = edf(minutes=1, rate_hz=10_000)
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
