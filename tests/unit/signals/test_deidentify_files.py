"""Clean copies as files: who may read them, what their dates say, how many records they hold."""

import os
import stat
from pathlib import Path

import pytest

from sleepmami.signals.deidentify import deidentify
from sleepmami.signals.edf import open_edf
from tests.unit.signals.raw_edf import RawEdf, RawSignal, int16

THREE_RECORDS = RawSignal([int16(*range(20))] * 3)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_copy_is_as_secret_as_its_recording_and_of_another_date(
    tmp_path: Path, mode: int
) -> None:
    source, target = tmp_path / "in.edf", tmp_path / "out.edf"
    source.write_bytes(RawEdf([THREE_RECORDS]).to_bytes())
    source.chmod(mode)
    os.utime(source, (1e9, 1e9))
    before = os.umask(0o022)
    try:
        deidentify(source, target)
    finally:
        os.umask(before)
    status = target.stat()
    assert stat.S_IMODE(status.st_mode) == (mode | 0o600) & 0o644
    assert status.st_mtime > 1.1e9


@pytest.mark.parametrize("declared", ["-1", "0", "1", "3", "4"])
def test_a_copy_holds_the_records_that_an_ingest_reads(tmp_path: Path, declared: str) -> None:
    raw = RawEdf([THREE_RECORDS], num_records=declared).to_bytes()
    done = deidentify(raw, tmp_path / "out.edf")
    assert done.complete == (declared != "4")
    before, after = open_edf(raw, truncated="keep"), open_edf(tmp_path / "out.edf")
    assert done.num_records == before.num_records == after.num_records == 3
    assert after.notes == ()
