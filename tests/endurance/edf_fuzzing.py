"""The whole reading path over damaged recordings, in a process of its own, and what it cost."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingError
from sleepmami.psg import EPOCH_S, Night
from sleepmami.signals.edf import EdfFile, open_edf
from sleepmami.signals.preprocess import load_night
from tests.endurance.edf_mutations import Mutant, mutants, valid_files

CONFIG = PreprocessConfig(truncated="keep")


@dataclass
class FuzzReport:
    """Counts of outcomes, and the worst of each cost.

    Attributes:
        read: outcomes of opening a file and reading everything in it, by code.
        nights: outcomes of preprocessing, by code.
        failures: what must never happen, as "index kind: what"; the first few.
        slowest_s: CPU seconds of one file, and which.
        growth_mb: growth of the process's largest resident size, over its imports and valid files.
    """

    read: Counter[str] = field(default_factory=Counter)
    nights: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: tuple[float, str] = (0.0, "")
    growth_mb: float = 0.0


def fuzz(seed: int, count: int, folder: Path, night_share: int) -> FuzzReport:
    """Read `count` damaged files; preprocess one in `night_share` of them."""
    report = FuzzReport()
    path = folder / "night.edf"
    for content in valid_files()[:1]:  # what the first use of a library costs is no file's fault
        examine(Mutant("valid", content, None), path, as_night=True, report=FuzzReport())
    before_mb = peak_memory_mb()
    for index, mutant in enumerate(mutants(seed, count)):
        start_s = time.process_time()
        try:
            examine(mutant, path, as_night=index % night_share == 0, report=report)
        except Exception as error:  # the very thing that is looked for
            _fail(report, f"{index} {mutant.kind}: {type(error).__name__}: {error}")
        spent_s = time.process_time() - start_s
        report.slowest_s = max(report.slowest_s, (spent_s, f"{index} {mutant.kind}"))
    report.growth_mb = peak_memory_mb() - before_mb
    return report


def examine(mutant: Mutant, path: Path, *, as_night: bool, report: FuzzReport) -> None:
    """Read one file from memory and from disk; anything but a RecordingError passes through."""
    path.write_bytes(mutant.content)
    from_memory, from_disk = (outcome(s, mutant, report) for s in (mutant.content, path))
    if from_memory != from_disk:
        _fail(report, f"{mutant.kind}: {from_memory} from memory, {from_disk} from disk")
    report.read[from_memory.partition(" ")[0]] += 1
    if as_night:
        try:
            night = load_night(mutant.content, CONFIG, recording_id="night", name="night.edf")
            report.nights["gaps" if night.gaps else "ok"] += 1
            _check_gaps(night, mutant, report)
        except RecordingError as error:
            report.nights[error.code] += 1


def outcome(source: bytes | Path, mutant: Mutant, report: FuzzReport) -> str:
    """A code; after "ok", a digest of everything that was read."""
    try:
        file = open_edf(source, name="night.edf", truncated="keep")
        digest = _digest(file)
    except RecordingError as error:
        return error.code
    missing_s = sum(stop_s - start_s for start_s, stop_s in file.gaps)
    if mutant.gap_s is not None and abs(missing_s - mutant.gap_s) > 0.01:
        _fail(report, f"{mutant.kind}: {missing_s} s of gaps for {mutant.gap_s} s")
    return f"{'gaps' if file.gaps else 'ok'} {digest}"


def _digest(file: EdfFile) -> str:
    """Reads every sample and annotation."""
    digest = hashlib.blake2b(repr((file.channels, file.gaps, file.notes)).encode())
    for channel in file.channels:
        digital = file.digital(channel)
        expected = file.duration_s * channel.sample_rate_hz
        if channel.sample_rate_hz and abs(len(digital) - expected) > 0.51 + 1e-9 * expected:
            raise AssertionError(f"{len(digital)} samples, {expected} expected")
        digest.update(digital.tobytes())
        physical = file.physical(channel)
        if not np.isfinite(physical).all():
            raise AssertionError(f"channel {channel} is not finite")
    digest.update(repr(file.annotations()).encode())
    return digest.hexdigest()


def _check_gaps(night: Night, mutant: Mutant, report: FuzzReport) -> None:
    """A night knows its gaps, and no epoch that one touches is usable."""
    missing_s = sum(stop_s - start_s for start_s, stop_s in night.gaps)
    if mutant.gap_s is not None and abs(missing_s - mutant.gap_s) > 0.01:
        _fail(report, f"{mutant.kind}: night with {missing_s} s of gaps for {mutant.gap_s} s")
    for start_s, stop_s in night.gaps:
        touched = slice(int((start_s + 1e-6) // EPOCH_S), math.ceil((stop_s - 1e-6) / EPOCH_S))
        if any(usable[touched].any() for usable in night.usable.values()):
            _fail(report, f"{mutant.kind}: a usable epoch in the gap {start_s} to {stop_s} s")


def _fail(report: FuzzReport, text: str) -> None:
    if len(report.failures) < 50:
        report.failures.append(text)


def peak_memory_mb() -> float:
    """Largest resident size of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")
