"""CPU seconds per night from EDF to committed table, against MNE and textbook scipy.

Every contestant gets the same EDF and the same channels, in fresh processes of one thread, in turns
(README.md: what each does, which numbers to quote, and what they do not show).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ingest_contestants import OURS, Job
from ingest_montages import MONTAGES, write_montage
from provenance import git_state, machine

from sleepmami import __version__
from sleepmami.config import PreprocessConfig
from sleepmami.psg import Modality
from sleepmami.signals.channels import plan_channels
from sleepmami.signals.edf import open_edf

PEERS = ("mne", "mne_tuned", "scipy")
CONTESTANTS = (*OURS, *PEERS, "fft_bound")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
LIMIT_S = 900  # of one process; a hang ends the benchmark
PACKAGES = ("numpy", "scipy", "mne", "pyedflib", "pylance", "pyarrow", "ray")
BYTES_PER_SAMPLE = 2


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--rounds", type=int, default=3, help="processes per contestant; medians")
    parser.add_argument("--hours", type=float, default=8.0, help="length of the nights")
    parser.add_argument("--seed", type=int, default=20260210, help="of the generated signals")
    parser.add_argument("--montages", nargs="+", choices=MONTAGES, default=list(MONTAGES))
    parser.add_argument("--scopes", nargs="+", choices=("used", "all"), default=["used", "all"])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--edf", type=Path, metavar="FOLDER", help="keep the EDFs here")
    arguments = parser.parse_args()
    if {"mne", "mne_tuned"} & set(arguments.contestants) and not importlib.util.find_spec("mne"):
        parser.error("found no mne to compare with; make bench-ingest installs it (extra: bench)")
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, Path(scratch))
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Every number of the report: per montage the used channels; all channels of Table 7 below."""
    from ingest_accuracy import accuracy

    load_start, started = os.getloadavg(), datetime.now(UTC)
    folder = arguments.edf or scratch
    folder.mkdir(parents=True, exist_ok=True)
    cells: dict[str, dict[str, Any]] = {"used": {}, "all": {}}
    for montage in arguments.montages:
        edf = folder / f"{montage}-{arguments.hours:g}h-{arguments.seed}.edf"
        if not edf.exists():
            write_montage(montage, edf, hours=arguments.hours, seed=arguments.seed)
        for scope in arguments.scopes:
            cells[scope][montage] = montage_row(montage, scope, edf, arguments, scratch)
    return {
        **cells["used"],
        "all_channels": cells["all"],
        "accuracy": accuracy(),
        "hours": arguments.hours,
        "rounds": arguments.rounds,
        "seed": arguments.seed,
        "started": started.isoformat(timespec="seconds"),
        "load_average": {"start": load_start, "end": os.getloadavg()},
        "machine": machine() | {"threads": 1},
        "versions": {name: version(name) for name in PACKAGES},
        "code": {"version": __version__, **git_state("../sleepmami", "../pipelines", ".")},
    }


def montage_row(
    montage: str, scope: str, edf: Path, arguments: argparse.Namespace, scratch: Path
) -> dict[str, Any]:
    """All contestants on one EDF, in turns."""
    passes = channel_passes(montage, edf)[: None if scope == "all" else 1]
    channels = {label: kind for used, _ in passes for label, kind in used.items()}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.contestants}
    for number in range(arguments.rounds):
        for name, done in runs.items():
            folder = scratch / f"{montage}-{scope}-{name}-{number}"
            folder.mkdir()
            job = Job(
                contestant=name,
                edf=str(edf),
                folder=str(folder),
                channels={label: kind.value for label, kind in channels.items()},
                ignored=[ignored for _, ignored in passes[1:]],
            )
            done.append(run_process(job))
            print(f"{montage} {scope} round {number} {name}: {done[-1]}", file=sys.stderr)
            subprocess.run(["rm", "-r", str(folder)], check=True)
    return summary(montage, scope, edf, channels, runs, arguments.hours)


def channel_passes(montage: str, edf: Path) -> list[tuple[dict[str, Modality], list[str]]]:
    """(channels used, labels ignored) of each time that it takes to see every needed channel.

    Ours stores one channel per modality. To work on all channels of Table 7, it is told to ignore
    those it has used, until none is left.
    """
    needed = {c.label for c in MONTAGES[montage] if c.modality}
    passes: list[tuple[dict[str, Modality], list[str]]] = []
    ignored: list[str] = []  # of an ingest as it is, none
    while needed:
        config = PreprocessConfig(channels=tuple((label, "ignore") for label in ignored))
        sources = plan_channels(open_edf(edf).channels, config).sources
        used = {source.label: modality for modality, source in sources.items()}
        if not used or not set(used) <= needed:
            raise SystemExit(f"{montage}: pass {len(passes)} used {used}; expected of {needed}")
        passes.append((used, ignored))
        needed -= set(used)
        ignored = [c.label for c in MONTAGES[montage] if c.label not in needed]
    return passes


def run_process(job: Job) -> dict[str, float]:
    """The numbers that a fresh process prints last."""
    command = [sys.executable, str(Path(__file__).with_name("ingest_contestants.py"))]
    done = subprocess.run(
        command,
        input=json.dumps(job.__dict__),
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{job.contestant} on {job.edf} failed:\n{done.stderr[-4000:]}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def summary(
    montage: str,
    scope: str,
    edf: Path,
    channels: dict[str, Modality],
    runs: dict[str, list[dict[str, float]]],
    hours: float,
) -> dict[str, Any]:
    """Medians over the rounds, their ranges, and ratios of the medians."""
    row: dict[str, Any] = {}
    cpu_s = {name: [run["cpu_s"] for run in done] for name, done in runs.items()}
    median = {name: statistics.median(times) for name, times in cpu_s.items()}
    row |= {f"cpu_s_{name}": seconds for name, seconds in median.items() if name != "fft_bound"}
    if ours := median.get("ours"):
        row |= {f"ratio_{name}": median[name] / ours for name in PEERS if name in median}
        row["nights_per_min_per_core"] = 60 / ours
        if ray := median.get("ours_ray"):
            row |= {f"ratio_{name}_ray": median[name] / ray for name in PEERS if name in median}
        if bound := median.get("fft_bound"):
            row |= {"fft_bound_s": bound, "share_of_fft_bound": bound / ours}
    for name, done in runs.items():
        if "peak_mb" in done[0]:
            row[f"peak_mb_{name}"] = max(run["peak_mb"] for run in done)
    rates = {channel.label: channel.rate_hz for channel in MONTAGES[montage]}
    needed = sum(rates[label] for label in channels) * hours * 3600 * BYTES_PER_SAMPLE
    if "ours" in runs and scope == "used":
        row["store_over_edf"] = runs["ours"][0]["stored_bytes"] / needed
    return row | {
        "edf_bytes": edf.stat().st_size,
        "edf_bytes_of_channels": round(needed),
        "channels": {label: kind.value for label, kind in channels.items()},
        "cpu_s_min_max": {name: [min(times), max(times)] for name, times in cpu_s.items()},
        "wall_s": {
            name: statistics.median(r["wall_s"] for r in done) for name, done in runs.items()
        },
    }


def print_table(result: dict[str, Any]) -> None:
    """The numbers a person compares."""
    print(f"{result['machine']['cpu']}, {result['rounds']} rounds, {result['hours']:g} h")
    keys = ("cpu_s_ours", "cpu_s_ours_ray", "cpu_s_mne", "cpu_s_mne_tuned", "cpu_s_scipy")
    keys += ("ratio_mne", "ratio_mne_tuned", "ratio_scipy", "nights_per_min_per_core")
    keys += ("share_of_fft_bound", "peak_mb_ours", "store_over_edf")
    rows = {name: result[name] for name in MONTAGES if name in result}
    rows |= {f"{name}, all": row for name, row in result["all_channels"].items()}
    print(f"{'':24s}" + "".join(f"{name:>11s}" for name in rows))
    for key in keys:
        cells = "".join(f"{row.get(key, float('nan')):11.3f}" for row in rows.values())
        print(f"{key:24s}{cells}")
    print(json.dumps(result["accuracy"], indent=2))


if __name__ == "__main__":
    main()
