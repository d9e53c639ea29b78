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
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

pytestmark = pytest.mark.ray

CANARY = "Quibblex"  # eight letters, as long as the shortest field
SECONDS = 130
CONFIG = IngestConfig(cohort="c", nights_per_commit=2)
FIRST_OF_TEXT = {"transducer": 16, "prefilter": 16 + 80 + 5 * 8, "reserved": 16 + 80 + 5 * 8 + 88}
WIDTHS = {"transducer": 80, "prefilter": 80, "reserved": 32}


def planted_edf(seed: int) -> bytes:
    """An EDF+ of two minutes, readable, with the name in each field that may hold text."""
    rng = np.random.default_rng(seed)

    def signal(label: str, unit: str) -> RawSignal:
        noise = rng.normal(0, 30, (SECONDS, 100)).astype("<i2")
        return RawSignal([row.tobytes() for row in noise], label=label, unit=unit)

    marks = [f"+{t}\x14\x14\0+{t}\x14{CANARY} snored\x14\0".encode() for t in range(SECONDS)]
    signals = [
        signal("EEG C4-M1", "uV"),
        signal(f"EOG {CANARY}", "uV"),
        signal(CANARY, CANARY),
        annotation_signal(*marks),
    ]
    raw = RawEdf(signals, reserved=f"EDF+C {CANARY}", patient=f"X F 01-JAN-1950 {CANARY}")
    content = bytearray(raw.to_bytes())
    content[88:168] = f"Startdate 01-JAN-1985 {CANARY} {CANARY} {CANARY}".ljust(80).encode()
    for field, before in FIRST_OF_TEXT.items():
        for index in range(len(signals)):
            at = 256 + len(signals) * before + index * WIDTHS[field]
            content[at : at + WIDTHS[field]] = CANARY.ljust(WIDTHS[field]).encode()
    return bytes(content)


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


def places_of(content: bytes) -> bool:
    return CANARY.lower().encode() in content.lower()


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

    assert not places_of(repr((rows, found, verified)).encode())
    assert not places_of((said.out + said.err).encode())
    assert "duplicate_recording" in said.err
    assert [str(file) for file in files_below(corpus) if places_of(file.read_bytes())] == []
    assert [str(file) for file in files_below(corpus) if places_of(file.name.encode())] == []
    logs = list(files_below(ray_cluster))
    assert any(file.name.startswith("worker-") for file in logs)
    assert [str(file) for file in logs if places_of(file.read_bytes())] == []


def test_the_name_would_be_found_where_recordings_keep_their_names(
    ray_cluster: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the test above looks for is there to be seen."""
    corpus = folder / "named"
    named = IngestConfig(recording_ids="file_name")
    ingest(str(folder / "edfs"), str(corpus), named)
    assert places_of(capfd.readouterr().err.encode())
    assert any(places_of(file.read_bytes()) for file in files_below(corpus))
