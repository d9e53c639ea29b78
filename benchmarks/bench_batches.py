"""What batches from segments.lance cost the CPU, against a bare scan of the same table.

One process of one torch thread, contestants in turns (README.md: who does what).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lance
import numpy as np
import torch
from provenance import git_state, machine

from sleepmami import __version__
from sleepmami.models.cpu import prepare_cpu
from sleepmami.psg import MODALITIES, SEGMENT_S, STORED_RATE_HZ, Modality, Night
from sleepmami.tables import lance_io
from sleepmami.tables.lance_io import OpenTable
from sleepmami.tables.rows import segments_table
from sleepmami.tables.schemas import SEGMENTS
from sleepmami.training.batches import SEGMENT_BATCH_COLUMNS
from sleepmami.training.segment_order import Chunk, SegmentOrder, runs_of
from sleepmami.training.segment_reader import (
    Read,
    read_ahead,
    read_chunk,
    step_batches,
    stored_batches,
)

SEGMENTS_PER_NIGHT = 512  # eight and a half hours; whole batches, so that a pass drops nothing
BATCH_SIZE, MICRO_BATCH, SHUFFLE_BUFFER = 512, 64, 1024  # the paper's preset
RAY_PASSES = 4  # as one dataset: a training's holds 256 chunks, and starting one takes a second
LANES = range(BATCH_SIZE // MICRO_BATCH)
NUMBER_BYTES = 2
PACKAGES = ("pylance", "pyarrow", "numpy", "torch")
CPU = torch.device("cpu")

Reader = Callable[[Iterator[Chunk]], Iterator[Read]]
Work = Callable[[int], int]  # number of the round -> rows


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--rounds", type=int, default=7, help="of all contestants; medians count")
    parser.add_argument("--nights", type=int, default=24, help="of 28 MB each")
    parser.add_argument("--no-ray", action="store_true", help="leave out the path through Ray Data")
    arguments = parser.parse_args()
    prepare_cpu(1)  # as a training worker does
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        result = measure(arguments, Path(scratch))
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Every number of the report."""
    load_start, started = os.getloadavg(), datetime.now(UTC)
    uri = str(scratch / "segments.lance")
    num_bytes = write_table(uri, arguments.nights)
    order = SegmentOrder(
        {"synthetic": runs_of(np.arange(arguments.nights * SEGMENTS_PER_NIGHT))},
        mixing={},
        batch_size=BATCH_SIZE,
        num_lanes=len(LANES),
        shuffle_buffer=SHUFFLE_BUFFER,
        seed=0,
    )
    works = contestants(uri, order)
    row_bytes = num_bytes / (arguments.nights * SEGMENTS_PER_NIGHT)
    if arguments.no_ray:
        runs = interleaved(works, arguments.rounds, row_bytes)
    else:
        from pipelines.ray_session import start_local
        from pipelines.segment_source import stream

        start_local(scratch / "ray", num_cpus=4)
        table_version = lance_io.version(uri)
        works["ray_data"] = batches(
            order, lambda chunks: stream(uri, table_version, chunks), num_passes=RAY_PASSES
        )
        try:
            runs = interleaved(works, arguments.rounds, row_bytes)
        finally:
            import ray

            ray.shutdown()
    return summary(runs) | {
        "rounds": arguments.rounds,
        "rows": arguments.nights * SEGMENTS_PER_NIGHT,
        "stored_bytes": num_bytes,
        "page_cache": "warm: the table was just written and fits; storage itself is not measured",
        "started": started.isoformat(timespec="seconds"),
        "load_average": {"start": load_start, "end": os.getloadavg()},
        "machine": machine(),
        "versions": {name: version(name) for name in PACKAGES},
        "code": {"version": __version__, **git_state("../sleepmami", "../pipelines", ".")},
    }


def write_table(uri: str, num_nights: int) -> int:
    """Nights of noise; every fifth lacks its EOG. Returns the bytes of all signals in it."""
    rng = np.random.default_rng(0)
    fragments, num_bytes = [], 0
    for number in range(num_nights):
        there = [m for m in MODALITIES if number % 5 or m is not Modality.EOG]
        shapes = {m: (SEGMENTS_PER_NIGHT, SEGMENT_S * STORED_RATE_HZ[m]) for m in there}
        num_epochs = 2 * SEGMENTS_PER_NIGHT
        night = Night(
            recording_id=f"night{number}",
            num_epochs=num_epochs,
            signals={m: rng.integers(-5000, 5000, shapes[m], np.int16) for m in there},
            usable={m: np.ones(num_epochs, np.bool_) for m in there},
            statistics={},
        )
        fragments += lance_io.write_fragments(segments_table(night), uri, SEGMENTS)
        num_bytes += sum(NUMBER_BYTES * rows * samples for rows, samples in shapes.values())
    lance_io.commit(uri, fragments, SEGMENTS, metadata={})
    return num_bytes


def contestants(uri: str, order: SegmentOrder) -> dict[str, Work]:
    """Each reads every row of the table, in the columns that training needs."""
    dataset, table = lance.dataset(uri), OpenTable(uri)
    columns = list(SEGMENT_BATCH_COLUMNS)

    def scan(_: int) -> int:
        parts = dataset.to_batches(columns=columns, batch_size=MICRO_BATCH)
        return sum(part.num_rows for part in parts)

    def reads(number: int) -> int:
        chunks = order.chunks(LANES, *steps_of(order, number))
        return sum(part.num_rows for chunk in chunks for part in read_chunk(table, chunk))

    def float32(number: int) -> int:
        steps = steps_of(order, number)
        found = step_batches(read_ahead(table, order.chunks(LANES, *steps)), LANES, *steps, CPU)
        return sum(batch.num_rows for step in found for batch in step)

    plain = batches(order, lambda chunks: read_ahead(table, chunks))
    return {"raw_scan": scan, "reads": reads, "batches": plain, "batches_float32": float32}


def batches(order: SegmentOrder, reader: Reader, num_passes: int = 1) -> Work:
    """All micro batches of some passes, as they leave for a device."""

    def work(number: int) -> int:
        steps = steps_of(order, number, num_passes)
        reads = reader(order.chunks(LANES, *steps))
        stored = stored_batches(reads, LANES, *steps, pinned=False)
        return sum(batch.num_rows for step in stored for batch in step)

    return work


def steps_of(order: SegmentOrder, number: int, num_passes: int = 1) -> tuple[int, int]:
    first = number * order.steps_per_pass
    return first, first + num_passes * order.steps_per_pass


def interleaved(
    works: dict[str, Work], rounds: int, row_bytes: float
) -> dict[str, list[dict[str, float]]]:
    """One call of each contestant a round, after a call of each that does not count."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            wall_s, cpu_s = time.perf_counter(), family_cpu_s()
            rows = work(number)
            wall_s, cpu_s = time.perf_counter() - wall_s, family_cpu_s() - cpu_s
            if number:
                mb = rows * row_bytes / 1e6
                speed = {"mb_per_core_s": mb / cpu_s, "mb_per_s": mb / wall_s}
                runs[name].append(speed | {"rows_per_s": rows / wall_s})
    return runs


def family_cpu_s() -> float:
    """CPU seconds of this process, and of those below it while they live: Ray's daemons, workers.

    Whatever dies in between is not counted; Ray keeps idle workers for longer than a round.
    """
    ticks: dict[int, int] = {}
    parent: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(file.parent.name)
        parent[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    family = {os.getpid()}
    while more := {pid for pid in parent if parent[pid] in family} - family:
        family |= more
    others = sum(ticks[pid] for pid in family - {os.getpid()}) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + others


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians over the rounds, and medians of the ratios within a round."""

    def share(name: str) -> list[float]:
        pairs = zip(runs[name], runs["raw_scan"], strict=True)
        return [one["mb_per_core_s"] / scan["mb_per_core_s"] for one, scan in pairs]

    shares = {name: share(name) for name in runs}
    return {
        "share_of_raw_scan": statistics.median(shares["batches"]),
        "contestants": {
            name: {key: statistics.median(run[key] for run in done) for key in done[0]}
            | {
                "share_of_raw_scan": statistics.median(shares[name]),
                "share_min_max": [min(shares[name]), max(shares[name])],
            }
            for name, done in runs.items()
        },
    }


def print_table(result: dict[str, Any]) -> None:
    """The numbers a person compares."""
    print(f"{result['machine']['cpu']}, {result['rounds']} rounds, {result['rows']} rows")
    keys = ("mb_per_core_s", "mb_per_s", "rows_per_s", "share_of_raw_scan")
    print(f"{'':18s}" + "".join(f"{key:>19s}" for key in keys))
    for name, row in result["contestants"].items():
        print(f"{name:18s}" + "".join(f"{row[key]:19.3f}" for key in keys))


if __name__ == "__main__":
    main()
