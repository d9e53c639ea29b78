"""Every file of a folder through the ingest and the scoring readers, as a table for the docs.

python benchmarks/every_file.py ../shared/data docs/recordings_tried.md
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.ingest_edf import ingest
from pipelines.ray_session import ray_session
from pipelines.recording_names import RECORDING_SUFFIXES
from sleepmami.config import IngestConfig
from sleepmami.errors import RecordingError
from sleepmami.psg import EPOCH_S
from sleepmami.signals.pairing import ANNOTATION_SUFFIXES
from sleepmami.signals.scorings import read_scoring
from sleepmami.tables import lance_io

INTRODUCTION = """# Every recording we could try

Written by `benchmarks/every_file.py` from the recordings that the project is developed with, none
of which is in the repository. Each EDF and BDF file ends as one row: ingested, or rejected with a
code. "Stages" counts scored epochs.
"""
SCORING_EPOCHS = 3000  # more than any night


def main(folder: Path, page: Path) -> None:
    """Ingest what is below `folder` and write `page`."""
    with tempfile.TemporaryDirectory() as scratch, ray_session():
        corpus = str(Path(scratch, "corpus"))
        config = IngestConfig(cohort="tried", recording_ids="file_name")
        summary = ingest(str(folder), corpus, config)
        rows = lance_io.read_table(f"{corpus}/recordings.lance").to_pylist()
    base = f"{folder.resolve()}/"
    refusals = {(file.removeprefix(base), code): why for file, code, why in summary.details}
    lines = [INTRODUCTION, *recordings(rows, refusals), "", *scorings(folder)]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def recordings(
    rows: list[dict[str, Any]],  # Any: cells of a table
    refusals: dict[tuple[str, str], str],
) -> Iterator[str]:
    """A line per recording."""
    codes = Counter(row["rejected_code"] or "ingested" for row in rows)
    yield f"{len(rows)} recordings: " + ", ".join(f"{n} {c}" for c, n in codes.most_common()) + "."
    yield ""
    yield "| recording | outcome | what is there, or why not |"
    yield "|---|---|---|"
    for row in sorted(rows, key=lambda row: row["recording_id"]):
        if row["rejected_code"]:
            name, code = row["recording_id"], row["rejected_code"]
            files = [name, *(name + suffix for suffix in RECORDING_SUFFIXES)]
            said = [refusals[file, code] for file in files if (file, code) in refusals]
            reason = said[0] if said else row["rejected_reason"]
            yield _line(row["recording_id"], row["rejected_code"], reason)
        else:
            yield _line(row["recording_id"], "ingested", _content(row))


def _content(row: dict[str, Any]) -> str:  # Any: cells of a table
    sources = [
        f"{channel['modality']} from {channel['label']}"
        for channel in row["channels"]
        if channel["decision"] == "used"
    ]
    parts = [f"{row['num_epochs'] * EPOCH_S / 60:g} min; {', '.join(sources)}"]
    if row["gaps"]:
        absent_s = sum(gap["stop_s"] - gap["start_s"] for gap in row["gaps"])
        parts.append(f"{len(row['gaps'])} gaps, {absent_s:g} s")
    if row["hypnogram"]:
        parts.append(f"stages {sum(stage >= 0 for stage in row['hypnogram'])}")
    if row["events"]:
        parts.append(f"events {len(row['events'])}")
    return "; ".join(parts)


def scorings(folder: Path) -> Iterator[str]:
    """Per folder and ending, how many files read as scorings and what they hold."""
    yield "## Scorings"
    yield ""
    yield "Every file that could be one, read without a recording; those that are none say so."
    yield ""
    yield "| files | read | scored epochs | events | refused |"
    yield "|---|---|---|---|---|"
    families: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix.lower() in ANNOTATION_SUFFIXES:
            families.setdefault(_family(file, folder), []).append(file)
    for family, files in families.items():
        read = stages = events = 0
        refused: Counter[str] = Counter()
        for file in files:
            try:
                found = read_scoring(file, SCORING_EPOCHS)
            except RecordingError as error:
                refused[error.code] += 1
                continue
            read += 1
            stages += 0 if found.hypnogram is None else int((found.hypnogram >= 0).sum())
            events += len(found.events or ())
        reasons = ", ".join(f"{code} {n}" for code, n in refused.items()) or "-"
        yield f"| {family} ({len(files)}) | {read} | {stages} | {events} | {reasons} |"


def _family(file: Path, folder: Path) -> str:
    top = "/".join(file.relative_to(folder).parts[:-1][:2])
    kind = file.stem.rpartition("_")[2] if file.suffix == ".tsv" else ""
    return f"{top}/*{kind}{file.suffix.lower()}"


def _line(*cells: str) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
