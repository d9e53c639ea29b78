"""Faults by the thousand: kills, one corrupt file among many, flipped bytes."""

import random
import resource
import time
from pathlib import Path

import pytest

from pipelines.ingest_edf import ingest
from pipelines.verify import verify
from sleepmami.config import IngestConfig
from tests.ingest_faults import (
    flip_back,
    flip_one_byte,
    kill_again_and_again,
    partial_or_double,
    write_cohort,
)
from tests.noise_nights import in_process, recordings

pytestmark = pytest.mark.endurance

CONFIG = IngestConfig(nights_per_commit=2, recording_ids="file_name")
NUM_KILLS, NUM_FILES, NUM_FLIPS = 50, 1000, 1000


@pytest.mark.ray
def test_fifty_kills(ray_cluster: Path, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "edfs", 300)
    ingest(str(folder), str(tmp_path / "whole"), CONFIG)
    content = verify(str(tmp_path / "whole")).content_hash
    assert content is not None
    found = list(kill_again_and_again(folder, tmp_path, ray_cluster, NUM_KILLS, wait_s=8.0, seed=2))
    assert [partial_or_double(summary) for _, summary in found] == [[]] * len(found)
    finished = [summary for state, summary in found if state == "finished"]
    assert [s.content_hash for s in finished] == [content] * len(finished)
    print(f"{NUM_KILLS} kills; {len(found) - len(finished)} corpora looked at after a kill, "
          f"{len(finished)} finished, each of content {content[:12]}")  # fmt: skip


@pytest.mark.ray
def test_one_corrupt_file_in_a_thousand(ray_cluster: Path, tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "edfs", NUM_FILES)
    corrupt = folder / f"n{NUM_FILES - 1:04}.edf"
    corrupt.write_bytes(random.Random(0).randbytes(corrupt.stat().st_size))
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    config = IngestConfig(recording_ids="file_name")
    found = ingest(str(folder), str(tmp_path / "corpus"), config)
    elapsed_s = time.perf_counter() - began
    after_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert found.outcomes == {"ingested": NUM_FILES - 1, "rejected": 1}
    rows = recordings(tmp_path / "corpus")
    assert {name for name, row in rows.items() if row["rejected_code"]} == {corrupt.stem}
    print(
        f"{60 * NUM_FILES / elapsed_s:.0f} files/min; driver {before_mb:.0f} -> {after_mb:.0f} MB"
    )


def test_a_thousand_flipped_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    folder, corpus = write_cohort(tmp_path / "edfs", 8), tmp_path / "corpus"
    ingest(str(folder), str(corpus), CONFIG)
    assert verify(str(corpus)).problems == []
    choose, missed, files = random.Random(3), [], set()
    for _ in range(NUM_FLIPS):
        file, place, was = flip_one_byte(corpus, choose)
        files.add(file)
        if not verify(str(corpus)).problems:
            missed.append((file.relative_to(corpus), place))
        flip_back(file, place, was)
    assert missed == []
    assert verify(str(corpus)).problems == []
    print(f"{NUM_FLIPS} flips in {len(files)} files, all found")
