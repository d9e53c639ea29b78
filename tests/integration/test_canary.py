"""A name in every place that a recording has for one: with pseudonyms it gets nowhere."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.ingest_edf import ingest
from pipelines.verify import verify
from sleepmami.config import IngestConfig
from sleepmami.psg import Stage
from sleepmami.simulation.night_files import nsrr_xml
from sleepmami.tables import lance_io
from tests.planted import CANARY, names_it, planted_edf

pytestmark = pytest.mark.ray

CONFIG = IngestConfig(cohort="c", nights_per_commit=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nights that are used, each kind of rejection and a copy, in a folder of that name."""
    base = tmp_path_factory.mktemp("planted")
    deep = base / "edfs" / CANARY
    deep.mkdir(parents=True)
    good = planted_edf(0)
    contents = {
        f"{CANARY} night.edf": good,
        f"{CANARY} copy.edf": good.replace(b"C4-M1", b"C4-A1"),
        f"{CANARY} scored badly.edf": planted_edf(1),
        f"{CANARY} cut.edf": planted_edf(2)[:300],
        f"{CANARY}.edf": f"{CANARY} is no EDF".encode(),
        f"{CANARY} count.edf": good[:236] + CANARY.encode() + good[244:],
        f"{CANARY} range.edf": good.replace(b"-100".ljust(8), CANARY.encode(), 1),
        f"{CANARY} blind.edf": good.replace(b"EEG C4-M1", b"Light    ").replace(b"EOG", b"Lux"),
    }
    for name, content in contents.items():
        (deep / name).write_bytes(content)
    (deep / f"{CANARY} link.edf").symlink_to(deep / "nowhere")
    stages = nsrr_xml(np.array([Stage.N2] * 4, np.int8), ())
    (deep / f"{CANARY} night-nsrr.xml").write_bytes(
        stages.replace(b"<ScoredEvents>", f"<ScoredEvents><!-- {CANARY} -->".encode())
    )
    (deep / f"{CANARY} scored badly.xml").write_text(f"<{CANARY}/>")
    (base / "people.csv").write_text(
        f"recording_id,subject_id,age_years,sex,bmi\n{CANARY}/{CANARY} night,{CANARY},50,female,\n"
    )
    (base / "site.key").write_bytes(bytes(range(32)))
    (base / "site.key").chmod(0o600)
    return base


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_planted_name_is_nowhere(
    ray_cluster: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = folder / "corpus"
    for _ in range(2):  # what an ingest says of a cohort that it knows, too
        found = ingest(
            str(folder / "edfs"),
            str(corpus),
            CONFIG,
            metadata=str(folder / "people.csv"),
            site_key=str(folder / "site.key"),
        )
    verified = verify(str(corpus))
    said = capfd.readouterr()
    rows = lance_io.read_table(str(corpus / "recordings.lance")).to_pylist()
    codes = {row["rejected_code"] for row in rows}
    assert len(rows) == 9
    assert {None, "duplicate_recording", "truncated_recording", "not_an_edf"} <= codes
    assert {"unreadable", "header_invalid", "channels_missing"} <= codes
    assert [row["sex"] for row in rows].count("female") == 1  # the metadata were found by that name

    assert not names_it(repr((rows, found, verified)).encode())
    assert not names_it((said.out + said.err).encode())
    assert "duplicate_recording" in said.err
    assert [str(file) for file in files_below(corpus) if names_it(file.read_bytes())] == []
    assert [str(file) for file in files_below(corpus) if names_it(file.name.encode())] == []
    logs = list(files_below(ray_cluster))
    assert any(file.name.startswith("worker-") for file in logs)
    assert [str(file) for file in logs if names_it(file.read_bytes())] == []


def test_the_name_would_be_found_where_recordings_keep_their_names(
    ray_cluster: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the test above looks for is there to be seen."""
    corpus = folder / "named"
    named = IngestConfig(recording_ids="file_name")
    ingest(str(folder / "edfs"), str(corpus), named)
    assert names_it(capfd.readouterr().err.encode())
    assert any(names_it(file.read_bytes()) for file in files_below(corpus))
