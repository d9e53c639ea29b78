"""Short nights of noise, ingest without Ray, and what a corpus holds in the end."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import ingest_edf
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.tables import lance_io

Order = Callable[[Sequence[Any]], Sequence[Any]]


def write_noise(path: Path, seed: int, seconds: int = 120) -> Path:
    """An EDF of one EEG channel at 100 Hz."""
    samples = np.random.default_rng(seed).normal(0, 30, 100 * seconds)
    channel = WriteChannel(
        label="C4-M1",
        unit="uV",
        sample_rate_hz=100.0,
        samples=samples,
        physical_min=-500.0,
        physical_max=500.0,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_edf(path, [channel])
    return path


def in_process(monkeypatch: pytest.MonkeyPatch, order: Order = list) -> None:
    """Files are read in this process, one after another; `order` is that of the results."""

    def map_each(items: Sequence[Any], function: Callable[..., Any], **_: object) -> Iterator[Any]:
        return map(function, order(items))

    monkeypatch.setattr(ingest_edf, "map_each", map_each)
    monkeypatch.setattr(ingest_edf, "require_cluster", lambda *_, **__: None)
    monkeypatch.setattr(ingest_edf, "ray_session", lambda _: contextlib.nullcontext())


def recordings(corpus: Path) -> dict[str, dict[str, Any]]:
    rows = lance_io.read_table(str(corpus / "recordings.lance")).to_pylist()
    found = {row["recording_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def segments(corpus: Path) -> pa.Table:
    order = [("recording_id", "ascending"), ("segment_index", "ascending")]
    return lance_io.read_table(str(corpus / "segments.lance")).sort_by(order)


def whole(corpus: Path) -> tuple[dict[str, dict[str, Any]], pa.Table]:
    return recordings(corpus), segments(corpus)


class StoppedError(Exception):
    """Stands for a killed process: nothing after it happens."""


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Stop just before the given one of all changes to tables."""
    calls = iter(range(1, 1000))
    for name in ("commit", "delete_recordings"):
        real = getattr(lance_io, name)

        def change(*args: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            if next(calls) == call:
                raise StoppedError
            return real(*args, **more)

        monkeypatch.setattr(lance_io, name, change)
