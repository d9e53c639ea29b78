"""One ingest of a folder into a corpus, as tests of several of them need it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines import ingest_edf
from pipelines.ingest_edf import ingest
from pipelines.verify import verify
from sleepmami.config import IngestConfig
from tests.noise_nights import whole

CONFIG = IngestConfig(cohort="here", nights_per_commit=2, recording_ids="file_name")


def run(edfs: Path, corpus: Path, config: IngestConfig = CONFIG, **more: Any) -> Counter[str]:
    return ingest(str(edfs), str(corpus), config, **more).outcomes


def as_fresh(edfs: Path, corpus: Path) -> None:
    fresh = edfs.parent / "fresh"
    run(edfs, fresh)
    assert whole(corpus) == whole(fresh)
    assert verify(str(corpus)).problems == []


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(item: Any, **_: object) -> Any:
        raise AssertionError(f"{item.recording_id} was read")

    monkeypatch.setattr(ingest_edf, "ingest_file", refuse)
