"""`verify` finds what is not as ingest wrote it, and nothing else."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.ingest_edf import ingest
from pipelines.verify import verify
from sleepmami.config import IngestConfig
from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.checksums import segment_checksums
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS
from tests.ingest_faults import flip_back, flip_one_byte, write_cohort
from tests.noise_nights import in_process, write_noise

CONFIG = IngestConfig(nights_per_commit=2, recording_ids="file_name")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "edfs", 6)


@pytest.fixture
def corpus(cohort: Path, tmp_path: Path) -> Path:
    ingest(str(cohort), str(tmp_path / "corpus"), CONFIG)
    return tmp_path / "corpus"


def problems(corpus: Path) -> list[tuple[str, str, str]]:
    return verify(str(corpus)).problems


def test_a_sound_corpus_has_no_problem_and_is_counted(corpus: Path) -> None:
    found = verify(str(corpus))
    assert (found.problems, found.notes) == ([], [])
    counts = found.counts
    assert (counts["recordings"], counts["nights"], counts["segments"]) == (6, 5, 10)
    on_disk = [p for p in corpus.glob("*.lance/**/*") if p.is_file()]
    assert counts["files"] == len(on_disk)


def test_flipped_bytes_are_found_wherever_they_lie(corpus: Path) -> None:
    choose = random.Random(0)
    for _ in range(25):
        file, place, was = flip_one_byte(corpus, choose)
        assert problems(corpus), (file, place)
        flip_back(file, place, was)
    assert problems(corpus) == []


def test_a_damaged_data_file_names_the_night_it_holds(corpus: Path) -> None:
    (file, *_) = (corpus / "segments.lance" / "data").iterdir()
    night = lance_io.read_table(str(corpus / "segments.lance"))
    fragments = lance.dataset(str(corpus / "segments.lance")).get_fragments()
    (own,) = [f for f in fragments if f.data_files()[0].path == file.name]
    holder = own.to_table(columns=["recording_id"]).column(0)[0].as_py()
    assert holder in night.column("recording_id").to_pylist()
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    ((table, name, what),) = problems(corpus)
    assert (table, name) == ("segments.lance", f"data/{file.name}")
    assert what.endswith(f"holds {holder}")
    file.unlink()
    ((_, name, what),) = problems(corpus)
    assert (name, what) == (f"data/{file.name}", f"found no such file; expected it; holds {holder}")


# -------------------------------------------------- what files do not say: rows that Lance was given


def put(corpus: Path, table: str, rows: pa.Table, schema: pa.Schema) -> None:
    uri = str(corpus / table)
    lance_io.commit(uri, lance_io.write_fragments(rows, uri, schema), schema, metadata={})


def take(corpus: Path, table: str, recording_id: str) -> pa.Table:
    return lance_io.read_table(str(corpus / table), filter=f"recording_id = '{recording_id}'")


def lose_a_segment(corpus: Path) -> None:
    where = "recording_id = 'n0001' AND segment_index = 1"
    lance_io.delete_rows(str(corpus / "segments.lance"), where)


def repeat_a_segment(corpus: Path) -> None:
    put(corpus, "segments.lance", take(corpus, "segments.lance", "n0001").slice(0, 1), SEGMENTS)


def lose_a_row(corpus: Path) -> None:
    lance_io.delete_recordings(str(corpus / "recordings.lance"), ["n0001"])


def repeat_a_row(corpus: Path) -> None:
    put(corpus, "recordings.lance", take(corpus, "recordings.lance", "n0001"), RECORDINGS)


def change_a_value(corpus: Path) -> None:
    rows = take(corpus, "recordings.lance", "n0001")
    place = RECORDINGS.get_field_index("subject_id")
    lose_a_row(corpus)
    changed = rows.set_column(place, RECORDINGS.field(place), pa.array(["other"]))
    put(corpus, "recordings.lance", changed, RECORDINGS)


def swap_segments(corpus: Path) -> None:
    """Each segment's own checksum is right, but they are those of another night."""
    rows = take(corpus, "segments.lance", "n0002")
    lance_io.delete_recordings(str(corpus / "segments.lance"), ["n0001"])
    rows = rows.set_column(0, SEGMENTS.field(0), pa.array(["n0001"] * rows.num_rows))
    place = SEGMENTS.get_field_index("checksum")
    rows = rows.set_column(place, SEGMENTS.field(place), pa.array(segment_checksums(rows)))
    put(corpus, "segments.lance", rows, SEGMENTS)


def shift_a_segment(corpus: Path) -> None:
    rows = take(corpus, "segments.lance", "n0001")
    lance_io.delete_recordings(str(corpus / "segments.lance"), ["n0001"])
    later = pc.add(rows.column("start_epoch"), pa.scalar(1, pa.int32()))
    put(corpus, "segments.lance", rows.set_column(2, SEGMENTS.field(2), later), SEGMENTS)


ORPHAN = [f"segment {k}: found no night of this name" for k in (0, 1)]


@pytest.mark.parametrize(
    ("damage", "table", "expected"),
    [
        (lose_a_segment, "segments.lance", ["found 1 segments; expected 2"]),
        (repeat_a_segment, "segments.lance", ["found 3 segments; expected 2"]),
        (lose_a_row, "segments.lance", ORPHAN),
        (repeat_a_row, "recordings.lance", ["found twice; expected one row"]),
        (change_a_value, "recordings.lance", ["found another checksum than the row's own"]),
        (swap_segments, "segments.lance", ["found other signals than recordings.lance knows"]),
        (
            shift_a_segment,
            "segments.lance",
            [
                "found other signals than recordings.lance knows",
                "found segments at other epochs than the night's",
                "segment 0: found another checksum",
                "segment 1: found another checksum",
            ],
        ),
    ],
)
def test_rows_that_do_not_fit_are_found(
    corpus: Path, damage: Callable[[Path], None], table: str, expected: list[str]
) -> None:
    damage(corpus)
    shutil.rmtree(corpus / "checksums")  # the files are as somebody wrote them
    found = [p for p in problems(corpus) if "no checksum of it" not in p[2]]
    assert found == [(table, "n0001", what) for what in expected]
    assert verify(str(corpus)).content_hash is None


# ------------------------------------------------------------------------------- what is no problem


def test_the_content_hash_is_that_of_the_nights_in_any_order(corpus: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    in_process(monkeypatch, lambda items: list(reversed(items)))
    ingest(str(cohort), str(tmp_path / "other"), CONFIG)
    first, second = (verify(str(c)).content_hash for c in (corpus, tmp_path / "other"))
    assert first == second is not None
    lance_io.delete_recordings(str(corpus / "recordings.lance"), ["n0001"])
    lance_io.delete_recordings(str(corpus / "segments.lance"), ["n0001"])
    ingest(str(cohort), str(corpus), CONFIG)  # written again in another place
    assert verify(str(corpus)).content_hash == first
    edfs = shutil.copytree(cohort, tmp_path / "edfs")
    write_noise(edfs / "n0001.edf", seed=99)
    ingest(str(edfs), str(corpus), CONFIG)
    assert verify(str(corpus)).content_hash not in (first, None)


def test_files_of_a_killed_run_are_counted_and_no_problem(corpus: Path) -> None:
    rows = take(corpus, "segments.lance", "n0001")
    lance_io.write_fragments(rows, str(corpus / "segments.lance"), SEGMENTS)
    found = verify(str(corpus))
    assert (found.problems, found.counts["unreferenced files"]) == ([], 1)


def test_a_commit_without_its_record_is_said_and_healed_by_the_next_ingest(
    corpus: Path, cohort: Path
) -> None:
    newest = max((corpus / "checksums").iterdir())
    newest.unlink()
    found = problems(corpus)
    assert found
    assert {what for *_, what in found} == {"found no checksum of it: an ingest was cut short; run it again"}  # fmt: skip
    ingest(str(cohort), str(corpus), CONFIG)
    assert problems(corpus) == []


def test_a_version_hint_that_a_killed_run_left_behind_hides_no_rows(
    corpus: Path, cohort: Path
) -> None:
    hint = corpus / "recordings.lance" / "_versions" / "latest_version_hint.json"
    expected = hint.read_bytes()
    hint.write_bytes(b'{"version":1}')
    found = verify(str(corpus))
    what = f"found {hint.read_bytes()!r}; expected {expected!r}"
    assert found.problems == [("recordings.lance", f"_versions/{hint.name}", what)]
    assert found.counts["segments"] == 10
    ingest(str(cohort), str(corpus), CONFIG)
    assert problems(corpus) == []


@pytest.mark.parametrize("table", ["recordings.lance", "segments.lance"])
def test_a_lost_newest_commit_is_no_cleaned_up_one(corpus: Path, table: str) -> None:
    """What a copy that was cut short looks like: Lance reads the commit before it."""
    newest = min((corpus / table / "_versions").glob("*.manifest"))  # counted down
    newest.unlink()
    (corpus / table / "_versions" / "latest_version_hint.json").unlink()
    lost = (table, f"_versions/{newest.name}", "found no such file; expected it")
    assert lost in problems(corpus)


def test_after_a_compaction_the_rows_are_relied_on_and_that_is_said(corpus: Path, cohort: Path) -> None:  # fmt: skip
    before = verify(str(corpus)).content_hash
    for table in ("recordings.lance", "segments.lance"):
        lance.dataset(str(corpus / table)).optimize.compact_files()
    found = verify(str(corpus))
    assert found.problems == []
    assert [note.split(",")[0] for note in found.notes] == [
        f"{table}: compacted since the last ingest" for table in ("recordings.lance", "segments.lance")
    ]  # fmt: skip
    assert found.content_hash == before
    ingest(str(cohort), str(corpus), CONFIG)
    assert verify(str(corpus)).notes == []
    assert problems(corpus) == []


def test_where_there_is_no_corpus_there_is_nothing_to_verify(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TableError, match="found no corpus"):
            verify(str(place))
