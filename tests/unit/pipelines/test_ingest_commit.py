"""Two ingests at once do not make two nights of one."""

from pathlib import Path

import pytest

from pipelines.ingest_commit import Committer
from pipelines.ingest_file import ingest_file, table_uris
from pipelines.ingest_plan import IngestItem
from sleepmami import storage
from sleepmami.config import IngestConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.file_checksums import FileChecksums


def test_the_second_of_two_ingests_at_once_is_refused(tmp_path: Path) -> None:
    config = IngestConfig(cohort="c", recording_ids="file_name")
    edf = tmp_path / "a.edf"
    edf.write_bytes(b"not an EDF")
    item = IngestItem(
        file=str(edf),
        recording_id="a",
        subject_id="a",
        annotation=None,
        demographics=None,
        known=None,
    )
    corpus = storage.join(str(tmp_path), "corpus")
    uris = table_uris(corpus)
    first, second = (Committer(corpus, config, {}, FileChecksums(corpus), "") for _ in range(2))
    for committer in (first, second):  # both looked before either had committed
        committer.add(ingest_file(item, corpus=corpus, config=to_dict(config)))
    first.flush()
    with pytest.raises(TableError, match="found a committed by another ingest"):
        second.flush()
    assert lance_io.count_rows(uris[0]) == 1
