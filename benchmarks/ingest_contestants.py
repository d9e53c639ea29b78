"""One contestant of the ingest benchmark in a process of its own.

Reads a Job from standard input, does its work twice, and prints what the second time cost: the
first loads code, makes FFT plans and fills the page cache.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleepmami.psg import STORED_RATE_HZ, Modality

OURS = ("ours", "ours_ray")
BLOCKS_AT_ONCE = 8  # of signals/filters.py, for the bound


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        contestant: who.
        edf: the file.
        folder: an empty folder to write into.
        channels: label -> modality, what peers work on.
        ignored: ours works on the file once more for each entry: labels that it must not use then.
    """

    contestant: str
    edf: str
    folder: str
    channels: dict[str, str]
    ignored: list[list[str]]


def main() -> None:
    """Run the job of standard input and print its numbers as one line of JSON."""
    job = Job(**json.load(sys.stdin))
    print(json.dumps(_CONTESTANTS[job.contestant](job)))


def timed(work: Callable[[int], object]) -> dict[str, float]:
    """CPU seconds of all threads of this process and its children, and wall seconds, of work(1)."""
    work(0)
    gc.collect()
    cpu_s, wall_s = _cpu_s(), time.perf_counter()
    work(1)
    return {"cpu_s": _cpu_s() - cpu_s, "wall_s": time.perf_counter() - wall_s}


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _memory_mb(field: str) -> float:
    """A line of this process's status, such as VmHWM (the peak) or VmRSS (now)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


# -------------------------------------------------------------------------------------------- ours


def _ingest(job: Job, number: int) -> float:
    """What `sleepmami ingest` does with a file, from its hash to a night that readers see.

    Returns:
        CPU seconds of the commit, which a run shares among `nights_per_commit` files.
    """
    from pipelines.ingest_commit import Committer
    from pipelines.ingest_file import ingest_file
    from pipelines.ingest_plan import IngestItem
    from sleepmami.config import IngestConfig
    from sleepmami.config_edit import to_dict
    from sleepmami.tables.file_checksums import FileChecksums

    corpus, config = f"{job.folder}/{number}", IngestConfig(cohort="benchmark")
    item = IngestItem(
        file=job.edf,
        recording_id="night",
        subject_id="person",
        annotation=None,
        demographics=None,
        known=None,
    )
    result = ingest_file(item, corpus=corpus, config=to_dict(config))
    if not result.segments:
        raise SystemExit(f"not ingested: {result.problem}")
    for place, ignored in enumerate(job.ignored):
        _write_more(job.edf, f"{corpus}/more-{place}.lance", ignored)
    began_s = _cpu_s()
    committer = Committer(corpus, config, {}, FileChecksums(corpus), "")
    committer.add(result)
    committer.settle()
    return _cpu_s() - began_s


def _write_more(edf: str, uri: str, ignored: list[str]) -> None:
    """The channels that are left without some, preprocessed and written as of a night."""
    from sleepmami.config import PreprocessConfig
    from sleepmami.psg import LAYOUTS
    from sleepmami.signals.preprocess import load_night
    from sleepmami.tables import lance_io
    from sleepmami.tables.rows import segments_table
    from sleepmami.tables.schemas import SEGMENTS, segment_column

    channels = tuple((label, "ignore") for label in ignored)
    night = load_night(edf, PreprocessConfig(channels=channels), recording_id="more")
    absent = {segment_column(m) for m in LAYOUTS["sleepmami"].modalities if m not in night.signals}
    names = [name for name in SEGMENTS.names if name not in absent]
    schema = SEGMENTS.remove_metadata()
    for name in absent:
        schema = schema.remove(schema.get_field_index(name))
    lance_io.write_fragments(segments_table(night).select(names), uri, schema)


def _ours(job: Job) -> dict[str, float]:
    import pipelines.ingest_edf  # noqa: F401  # everything that a worker imports
    from sleepmami.config import IngestConfig

    imported_mb = _memory_mb("VmRSS")
    commits_s = []
    numbers = timed(lambda number: commits_s.append(_ingest(job, number)))
    # a run commits many nights at once
    numbers["cpu_s"] -= commits_s[1] * (1 - 1 / IngestConfig().nights_per_commit)
    stored = sum(f.stat().st_size for f in Path(job.folder, "1").rglob("*") if f.is_file())
    return numbers | {"peak_mb": _memory_mb("VmHWM") - imported_mb, "stored_bytes": stored}


def _ours_ray(job: Job) -> dict[str, float]:
    """The same inside a Ray task; the numbers are those of the worker's process."""
    import ray

    from pipelines.ray_session import ray_session

    with ray_session():
        task = ray.remote(num_cpus=1, max_retries=0)(_ours)
        numbers: dict[str, float] = ray.get(task.remote(job))
    return numbers


# ------------------------------------------------------------------------------------------- peers


def _peer(job: Job) -> dict[str, float]:
    from ingest_peers import PEERS

    if job.contestant.startswith("mne"):
        import mne  # noqa: F401  # before memory is read
    imported_mb = _memory_mb("VmRSS")
    channels = {label: Modality(kind) for label, kind in job.channels.items()}
    work, out = PEERS[job.contestant], Path(job.folder, "night.npy")
    numbers = timed(lambda _: work(Path(job.edf), channels, out))
    return numbers | {"peak_mb": _memory_mb("VmHWM") - imported_mb}


def _fft_bound(job: Job) -> dict[str, float]:
    """Nothing but the transforms that filtering by blocks needs, on data in the cache."""
    import numpy as np
    import scipy.fft

    from sleepmami.config import PreprocessConfig
    from sleepmami.signals.edf import open_edf
    from sleepmami.signals.filters import band_of, block_seconds, guard_seconds

    recording = open_edf(job.edf)
    rates = {channel.label: channel.sample_rate_hz for channel in recording.channels}

    def transforms(_: int) -> None:
        for label, kind in job.channels.items():
            modality = Modality(kind)
            if modality is Modality.SPO2:
                continue
            rate_hz, target_hz = rates[label], STORED_RATE_HZ[modality]
            guard_s = guard_seconds(band_of(modality, PreprocessConfig()), min(rate_hz, target_hz))
            block_s, guard_s = block_seconds(rate_hz, target_hz, guard_s)
            num_blocks = math.ceil(recording.duration_s / (block_s - 2 * guard_s))
            samples = np.ones((BLOCKS_AT_ONCE, round(block_s * rate_hz)), dtype=np.float32)
            bins = min(samples.shape[1], block_s * target_hz) // 2 + 1
            for _ in range(math.ceil(num_blocks / BLOCKS_AT_ONCE)):
                spectrum = scipy.fft.rfft(samples, axis=1)[:, :bins]
                scipy.fft.irfft(spectrum, block_s * target_hz, axis=1)

    return timed(transforms)


_CONTESTANTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "ours": _ours,
    "ours_ray": _ours_ray,
    "mne": _peer,
    "mne_tuned": _peer,
    "scipy": _peer,
    "fft_bound": _fft_bound,
}


if __name__ == "__main__":
    main()
