import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sleepmami.errors import TableError
from sleepmami.psg import Modality, Night
from sleepmami.tables import lance_io
from sleepmami.tables.rows import (
    fixed_size_values,
    night_from_rows,
    read_micro_nights,
    recording_row,
    recordings_table,
    rows_table,
    segments_table,
)
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS, micro_nights_schema, provenance
from tests.unit.tables.nights import assert_same_night, make_night
from tests.unit.tables.test_rows import micro_row

SMALL = pa.schema(
    [
        pa.field("recording_id", pa.string(), nullable=False),
        pa.field("pair", pa.list_(pa.int16(), 2)),
    ],
    metadata={"schema_name": "small", "schema_version": "1"},
)
ODD_IDS = [
    "o'neill's night",
    'say "night"',
    "a b  c",
    "\u00fc\u00f1\u00ee\u65e5\u672c",
    "back\\slash",
    "100%",
    "x' OR '1'='1",
    "sub/night1",
    "night1",
]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "table.lance")


def small(ids: list[str], pairs: list[Any] | None = None) -> pa.Table:
    return pa.table({"recording_id": ids, "pair": pairs or [[1, 2]] * len(ids)}, schema=SMALL)


def put(uri: str, table: pa.Table, schema: pa.Schema = SMALL, **metadata: str) -> int:
    fragments = lance_io.write_fragments(table, uri, schema)
    return lance_io.commit(uri, fragments, schema, metadata=metadata)


def ids_in(uri: str) -> list[str]:
    found: list[str] = lance_io.read_table(uri, columns=["recording_id"])[0].to_pylist()
    return found


# -------------------------------------------------------------------------- writing, atomically


def test_commits_append_in_order_and_count_versions(uri: str) -> None:
    versions = [put(uri, small([f"n{i}"])) for i in range(3)]
    assert versions == [1, 2, 3]
    assert lance_io.version(uri) == 3
    assert ids_in(uri) == ["n0", "n1", "n2"]


def test_fragments_of_many_nights_become_visible_in_one_commit(uri: str) -> None:
    fragments = [
        f for i in range(3) for f in lance_io.write_fragments(small([f"n{i}"]), uri, SMALL)
    ]
    assert not lance_io.exists(uri)
    assert lance_io.commit(uri, fragments, SMALL, metadata={}) == 1
    assert ids_in(uri) == ["n0", "n1", "n2"]


def test_a_crash_before_the_first_commit_leaves_no_table(uri: str) -> None:
    lance_io.write_fragments(small(["lost"]), uri, SMALL)
    assert not lance_io.exists(uri)
    with pytest.raises(TableError, match=r"table\.lance: found no table"):
        lance_io.read_table(uri)
    put(uri, small(["kept"]))
    assert ids_in(uri) == ["kept"]


def test_a_crash_before_a_later_commit_leaves_the_table_unchanged(uri: str) -> None:
    put(uri, small(["kept"]))
    before = lance_io.read_table(uri)
    lance_io.write_fragments(small(["lost"]), uri, SMALL)
    assert lance_io.version(uri) == 1
    assert lance_io.read_table(uri).equals(before)


def test_writers_that_all_create_the_table_lose_no_row(uri: str) -> None:
    fragments = [lance_io.write_fragments(small([f"n{i}"]), uri, SMALL) for i in range(4)]
    start = threading.Barrier(4)

    def commit(mine: list[str]) -> None:
        start.wait()
        lance_io.commit(uri, mine, SMALL, metadata={})

    threads = [threading.Thread(target=commit, args=(mine,)) for mine in fragments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids_in(uri)) == ["n0", "n1", "n2", "n3"]


def test_a_table_that_appears_while_it_is_being_created_is_appended_to(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_exists = lance_io.exists
    looks: list[str] = []

    def too_early(uri: str) -> bool:  # the other writer commits just after our first look
        looks.append(uri)
        return len(looks) > 1 and really_exists(uri)

    put(uri, small(["theirs"]))
    monkeypatch.setattr(lance_io, "exists", too_early)
    fragments = lance_io.write_fragments(small(["ours"]), uri, SMALL)
    looks.clear()
    lance_io.commit(uri, fragments, SMALL, metadata={})
    assert ids_in(uri) == ["theirs", "ours"]


def test_appends_made_for_the_same_version_are_both_kept(uri: str) -> None:
    put(uri, small(["first"]))
    one, two = (lance_io.write_fragments(small([name]), uri, SMALL) for name in ("one", "two"))
    assert lance_io.commit(uri, one, SMALL, metadata={}) == 2
    assert lance_io.commit(uri, two, SMALL, metadata={}) == 3
    assert sorted(ids_in(uri)) == ["first", "one", "two"]


def test_a_table_can_be_created_empty_and_filled_later(uri: str) -> None:
    assert lance_io.write_fragments(SMALL.empty_table(), uri, SMALL) == []
    assert lance_io.commit(uri, [], SMALL, metadata={}) == 1
    assert lance_io.count_rows(uri) == 0
    assert lance_io.read_table(uri).schema.equals(SMALL)
    assert put(uri, small(["n"])) == 2
    assert lance_io.commit(uri, [], SMALL, metadata={}) == 2  # nothing to add, no new version


def test_writing_prints_nothing(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    put(uri, small(["a"]))
    put(uri, small(["b"]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a b.lance", "o'neill.lance", "100%25.lance", "\u00fc#?.lance"])
def test_a_table_may_have_any_name(tmp_path: Path, name: str) -> None:
    put(str(tmp_path / name), small(["n"]))
    assert ids_in(str(tmp_path / name)) == ["n"]
    assert ids_in(f"file://{tmp_path / name}") == ["n"]


# ------------------------------------------------------------------------- metadata and refusals


def test_metadata_is_that_of_the_tables_creation(uri: str) -> None:
    made_by = provenance({"notch_hz": 50}, {"recordings": 7})
    put(uri, small(["a"]), **made_by)
    put(uri, small(["b"]), config="{}")
    assert lance_io.metadata(uri) == {"schema_name": "small", "schema_version": "1", **made_by}


@pytest.mark.parametrize("key", ["schema_version", "model"])
def test_metadata_has_no_other_keys(uri: str, key: str) -> None:
    with pytest.raises(TableError, match=key):
        lance_io.commit(uri, [], SMALL, metadata={key: "1"})


@pytest.mark.parametrize("key", ["schema_name", "schema_version"])
def test_another_schema_or_version_is_refused_with_uri_found_and_expected(
    uri: str, key: str
) -> None:
    put(uri, small(["a"]))
    other = SMALL.with_metadata({**SMALL.metadata, key.encode(): "other"})
    expected = r"table\.lance: found schema 'small' version 1; expected schema '(\w+)' version \w+"
    with pytest.raises(TableError, match=expected):
        put(uri, small(["b"]), schema=other)
    with pytest.raises(TableError, match=expected):
        lance_io.read_table(uri, schema=other)
    assert ids_in(uri) == ["a"]


def test_the_same_name_and_version_with_other_columns_is_refused(uri: str) -> None:
    put(uri, small(["a"]))
    other = SMALL.append(pa.field("more", pa.int8()))
    with pytest.raises(TableError, match=r"expected .*more int8"):
        lance_io.commit(uri, [], other, metadata={})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"recording_id": ["a"]}), "found columns"),
        (pa.table({"recording_id": ["a"], "pair": [[1, 2]]}), "'pair': found list.*int64"),
        (small(["a", None], [[1, 2], None]), "'recording_id': found a null in row 1"),  # type: ignore[list-item]  # the fault
    ],
)
def test_a_table_that_does_not_fit_its_schema_is_refused(
    uri: str, table: pa.Table, message: str
) -> None:
    with pytest.raises(TableError, match=message):
        lance_io.write_fragments(table, uri, SMALL)


@pytest.mark.parametrize(
    "call",
    [
        lance_io.read_table,
        lance_io.count_rows,
        lance_io.metadata,
        lance_io.version,
        lambda uri: lance_io.delete_rows(uri, "true"),
    ],
)
def test_a_missing_table_is_named(uri: str, call: Any) -> None:
    with pytest.raises(TableError, match=r"table\.lance: found no table; expected a Lance table"):
        call(uri)


def test_a_missing_column_or_a_bad_condition_is_a_table_error(uri: str) -> None:
    put(uri, small(["a"]))
    with pytest.raises(TableError, match="nope"):
        lance_io.read_table(uri, columns=["nope"])
    with pytest.raises(TableError, match=r"table\.lance"):
        lance_io.read_table(uri, filter="recording_id = 'unclosed")
    with pytest.raises(TableError, match="nope"):
        lance_io.delete_rows(uri, "nope = 1")


def test_a_lost_data_file_is_a_table_error_and_does_not_look_like_a_missing_table(
    uri: str,
) -> None:
    put(uri, small(["a"]))
    for file in (Path(uri) / "data").iterdir():
        file.unlink()
    assert lance_io.exists(uri)
    with pytest.raises(TableError, match="could not be read"):
        lance_io.read_table(uri)


def test_a_damaged_manifest_does_not_look_like_a_missing_table(uri: str) -> None:
    put(uri, small(["a"]))
    for file in (Path(uri) / "_versions").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(TableError, match="could not be opened"):
        lance_io.exists(uri)


# ----------------------------------------------------------------------------- reading, deleting


def test_columns_and_condition_select(uri: str) -> None:
    put(uri, small(["a", "b"], [[1, 2], [3, 4]]))
    table = lance_io.read_table(uri, columns=["pair"], filter="recording_id = 'b'")
    assert table.to_pydict() == {"pair": [[3, 4]]}
    assert lance_io.count_rows(uri, "recording_id = 'b'") == 1


def test_rows_are_taken_by_position_in_the_order_asked_for_also_after_a_delete(uri: str) -> None:
    put(uri, small(["a", "b", "c"]))
    put(uri, small(["d", "e"], [None, [5, 6]]))
    lance_io.delete_recordings(uri, ["b"])
    assert ids_in(uri) == ["a", "c", "d", "e"]
    taken = lance_io.take_rows(uri, [3, 0, 2])
    assert taken.column("recording_id").to_pylist() == ["e", "a", "d"]
    assert taken.column("pair").to_pylist() == [[5, 6], [1, 2], None]
    assert lance_io.take_rows(uri, [1], columns=["pair"]).to_pydict() == {"pair": [[1, 2]]}


def test_a_position_beyond_the_table_is_refused(uri: str) -> None:
    put(uri, small(["a"]))
    with pytest.raises(TableError, match="no such rows"):
        lance_io.take_rows(uri, [1])


@pytest.mark.parametrize("target", ODD_IDS)
def test_a_recording_of_any_name_is_found_and_deleted_alone(uri: str, target: str) -> None:
    put(uri, small(ODD_IDS))
    assert lance_io.count_rows(uri, lance_io.is_one_of("recording_id", [target])) == 1
    assert lance_io.delete_recordings(uri, [target]) == 1
    assert ids_in(uri) == [name for name in ODD_IDS if name != target]


def test_deleting_nobody_deletes_nothing(uri: str) -> None:
    put(uri, small(["a"]))
    assert lance_io.delete_recordings(uri, []) == 0
    assert lance_io.delete_rows(uri, lance_io.is_one_of("recording_id", [])) == 0
    assert ids_in(uri) == ["a"]


def test_null_cells_keep_their_rows_over_deletes_appends_and_an_all_null_column(uri: str) -> None:
    put(uri, small(["a", "b", "c"], [None, [1, 2], None]))
    put(uri, small(["d", "e"], [None, None]))
    put(uri, small(["f"], [[3, 4]]))
    lance_io.delete_recordings(uri, ["a", "e"])
    table = lance_io.read_table(uri)
    values, valid = fixed_size_values(table.column("pair"))
    assert table.column("recording_id").to_pylist() == ["b", "c", "d", "f"]
    assert valid.tolist() == [True, False, False, True]
    assert values.tolist() == [[1, 2], [0, 0], [0, 0], [3, 4]]


# -------------------------------------------------------------------------- nights through Lance


def store(tmp_path: Path, *nights: Night) -> None:
    for night in nights:
        row = recording_row(
            night,
            recording_id=night.recording_id,
            subject_id="s",
            cohort="c",
            split="train",
            source_hash="ab",
            segments=segments_table(night),
            demographics=None,
        )
        put(f"{tmp_path}/recordings.lance", recordings_table([row]), RECORDINGS)
        put(f"{tmp_path}/segments.lance", segments_table(night), SEGMENTS)


def load(tmp_path: Path, recording_id: str) -> Night:
    mine = lance_io.is_one_of("recording_id", [recording_id])
    (row,) = lance_io.read_table(f"{tmp_path}/recordings.lance", filter=mine).to_pylist()
    return night_from_rows(row, lance_io.read_table(f"{tmp_path}/segments.lance", filter=mine))


def test_nights_come_back_from_lance_bit_by_bit(tmp_path: Path) -> None:
    even = make_night(4, recording_id="even", seed=1)
    odd = make_night(
        5, recording_id="odd", modalities=[Modality.EEG, Modality.RESP], hypnogram=False
    )
    store(tmp_path, even, odd)
    assert_same_night(load(tmp_path, "even"), even)
    assert_same_night(load(tmp_path, "odd"), odd)


def test_a_night_with_some_null_segments_keeps_the_others_in_their_place(tmp_path: Path) -> None:
    night = make_night(9, unusable={Modality.EEG: [0, 1, 4, 5, 8], Modality.SPO2: range(8)})
    store(tmp_path, night)
    again = load(tmp_path, "night")
    for modality, stored in ((Modality.EEG, [1, 3, 4]), (Modality.SPO2, [4])):
        expected = np.zeros_like(night.signals[modality])
        expected[stored] = night.signals[modality][stored]
        np.testing.assert_array_equal(again.signals[modality], expected)
        np.testing.assert_array_equal(again.usable[modality], night.usable[modality])


def test_micro_nights_come_back_from_lance(uri: str) -> None:
    schema = micro_nights_schema()
    rows = [micro_row(), micro_row(recording_id="n2", hypnogram=None)]
    put(uri, rows_table(rows, schema), schema)
    first, second = read_micro_nights(lance_io.read_table(uri, schema=schema))
    np.testing.assert_array_equal(first.micro.reshape(-1), rows[0]["micro"])
    assert first.hypnogram is not None
    assert second.hypnogram is None
    assert not first.micro.flags.writeable  # a view of Arrow's memory
