"""Checksums of rows, of nights and of files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from sleepmami.errors import TableError
from sleepmami.psg import Modality
from sleepmami.tables import lance_io
from sleepmami.tables.checksums import (
    content_checksums,
    digest_of,
    row_checksums,
    segment_checksums,
    signals_digest,
)
from sleepmami.tables.file_checksums import (
    HINT,
    FileChecksums,
    FileSum,
    decode,
    encode,
    file_sum,
    fragment_sums,
)
from sleepmami.tables.rows import segments_table
from sleepmami.tables.schemas import SEGMENTS
from tests.unit.tables.nights import make_night

RECORD = {
    "segments.lance/data/a.lance": FileSum(7, "00000000deadbeef", "night"),
    "recordings.lance/_versions/1.manifest": FileSum(0, "2d06800538d394c2"),
}


# --------------------------------------------------------------------------------------------- rows


def test_a_row_of_plain_values_has_the_hash_of_its_json() -> None:
    table = pa.table({"b": [[1, None]], "a": ["x"], "checksum": pa.array([0], pa.uint64())})
    assert row_checksums(table).tolist() == [xxh3_64_intdigest(b'{"a": "x", "b": [1, null]}')]


def test_a_segments_checksum_is_worked_by_hand() -> None:
    """The name as JSON, and apart from it cells as bytes, each seeded with the hash before it."""
    cells = pa.array([[1, 2], None], pa.list_(pa.int16(), 2))
    table = pa.table({"recording_id": ["n", "n"], "eeg": cells, "k": [7, 8], "checksum": [0, 0]})
    name = xxh3_64_intdigest(b'"n"')
    assert segment_checksums(table).tolist() == [
        name ^ xxh3_64_intdigest(b"7", xxh3_64_intdigest(b"\1\0\2\0", 1)),
        name ^ xxh3_64_intdigest(b"8", xxh3_64_intdigest(b"", 0)),
    ]


@pytest.mark.parametrize("column", [f.name for f in SEGMENTS if f.name != "checksum"])
def test_a_change_in_any_column_changes_the_checksum_of_its_row_alone(column: str) -> None:
    table = segments_table(make_night(6, unusable={Modality.EEG: [2, 3]}))
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    if isinstance(values[1], list):
        values[1][-1] = not values[1][-1] if column == "usable" else values[1][-1] ^ 1
    elif values[1] is None:
        values[1] = [0] * table.schema.field(column).type.list_size  # zeros are not a null
    else:
        values[1] = values[1] + ("x" if column == "recording_id" else 1)
    changed = table.set_column(place, SEGMENTS.field(place), pa.array(values, SEGMENTS.field(place).type))  # fmt: skip
    before, after = segment_checksums(table), segment_checksums(changed)
    assert (before != after).tolist() == [False, True, False]


def test_the_digest_is_of_the_signals_whatever_the_night_is_called() -> None:
    first, second = (segments_table(make_night(6, recording_id=name)) for name in ("a", "b"))
    other = segments_table(make_night(6, seed=1))
    assert signals_digest(first) == signals_digest(second) != signals_digest(other)
    assert (segment_checksums(first) != segment_checksums(second)).all()
    in_parts = np.concatenate([content_checksums(first.slice(k, 1)) for k in range(3)])
    assert digest_of(in_parts) == signals_digest(first)


# -------------------------------------------------------------------------------------------- files


def test_a_files_sum_is_its_size_and_hash(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_001)  # several blocks
    (tmp_path / "f").write_bytes(content)
    assert file_sum(tmp_path / "f") == FileSum(3_000_001, xxh3_64_hexdigest(content))


def test_a_record_comes_back_and_any_changed_byte_is_noticed() -> None:
    record = encode(RECORD)
    assert decode(record) == RECORD
    for place in range(len(record)):
        for change in (1, 32, 128):  # 32 turns a letter into its capital
            damaged = bytearray(record)
            damaged[place] ^= change
            with pytest.raises(TableError, match="another checksum"):
                decode(bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 9, 10, 40])
def test_a_record_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(TableError):
        decode(encode(RECORD)[:length])


def commit(corpus: Path, name: str, record: FileChecksums | None) -> None:
    uri = str(corpus / "segments.lance")
    written = lance_io.write_fragments(segments_table(make_night(4, recording_id=name)), uri, SEGMENTS)  # fmt: skip
    sums = fragment_sums(uri, written, name)
    lance_io.commit(uri, written, SEGMENTS, metadata={})
    if record:
        record.add(sums)


def test_each_commit_is_one_record_of_what_it_made_visible(tmp_path: Path) -> None:
    record = FileChecksums(str(tmp_path))
    commit(tmp_path, "a", record)
    commit(tmp_path, "b", record)
    assert sorted(p.name for p in (tmp_path / "checksums").iterdir()) == ["00000000.json", "00000001.json"]  # fmt: skip
    again = FileChecksums(str(tmp_path))
    on_disk = {str(p.relative_to(tmp_path)) for p in (tmp_path / "segments.lance").rglob("*") if p.is_file()}  # fmt: skip
    assert set(again.sums) == on_disk - {f"segments.lance/{HINT}"}
    assert again.sums == {n: file_sum(tmp_path / n, s.holds) for n, s in again.sums.items()}
    assert sorted(s.holds for s in again.sums.values() if s.holds) == ["a", "b"]
    assert again.problems == []


def test_what_a_killed_run_did_not_record_is_recorded_by_the_next(tmp_path: Path) -> None:
    commit(tmp_path, "a", FileChecksums(str(tmp_path)))
    commit(tmp_path, "b", None)
    (tmp_path / "checksums" / ".writing-1").write_bytes(b"half")
    (tmp_path / "segments.lance" / HINT).write_bytes(b'{"version":1}')
    FileChecksums(str(tmp_path)).heal()
    healed = FileChecksums(str(tmp_path))
    assert set(healed.sums) == healed.stored()
    assert len(list((tmp_path / "checksums").iterdir())) == 2
    assert (tmp_path / "segments.lance" / HINT).read_bytes() == b'{"version":2}'


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_or_damaged_record_stops_an_ingest(tmp_path: Path, lost: int) -> None:
    record = FileChecksums(str(tmp_path))
    for name in "abc":
        commit(tmp_path, name, record)
    FileChecksums(str(tmp_path)).require_sound()
    file = tmp_path / "checksums" / f"{lost:08}.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"lance", b"lanse", 1))
    with pytest.raises(TableError, match=f"{lost:08}.json: found another checksum"):
        FileChecksums(str(tmp_path)).require_sound()
    file.unlink()
    with pytest.raises(TableError, match=f"{lost:08}.json: found no such record"):
        FileChecksums(str(tmp_path)).require_sound()


def test_lance_writes_the_hint_as_expected(tmp_path: Path) -> None:
    for number, name in enumerate("abc", start=1):
        commit(tmp_path, name, None)
        expected = FileChecksums(str(tmp_path)).expected_hint("segments.lance")
        assert (tmp_path / "segments.lance" / HINT).read_bytes() == expected == f'{{"version":{number}}}'.encode()  # fmt: skip
