"""The service against one night at a time under a lock: throughput, latency, where the time goes.

Both serve the same weights with the same routes on the same cores, one thread per model. README.md
says how to read it.

    python benchmarks/bench_serve.py --json FILE                  # tiny preset
    python benchmarks/bench_serve.py --preset paper --minutes 30 --json FILE
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from provenance import git_state, machine
from serve_clients import Answer, load, percentiles_ms, window_npz, write_bundle, write_noise
from serve_process import lock_server, service

from sleepmami.config import ServeConfig
from sleepmami.inference.embedder import Embedder
from sleepmami.models.cpu import prepare_cpu
from sleepmami.presets import PRESETS
from sleepmami.signals.preprocess import load_night

KINDS = ("load", "minutes", "windows")  # recordings of --minutes, of a minute, and one window
HEADLINE = ("throughput_over_lock", "overhead_night", "p50_ms", "p95_ms", "p99_ms", "failed")
# One Encoder per core; the Preprocessor shares the cores with them.
SETTINGS = ("cpus_per_preprocessor=0.5", "max_ongoing_requests=64")


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--minutes", type=float, default=480, help="of the recordings under load")
    parser.add_argument("--night-minutes", type=float, default=480, help="of the night alone")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--nights", type=int, default=16, help="requests of --minutes, per server")
    parser.add_argument(
        "--windows", type=int, default=200, help="requests of one window, of each kind"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the night alone; the median")
    parser.add_argument("--replicas", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the service must not outlive us
    result = measure(arguments)
    for name in HEADLINE:
        print(f"{name:24s} {result[name]}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All numbers; the servers run one after the other."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        bundle = write_bundle(f"{folder}/bundle", arguments.preset)
        edfs = {
            "night": write_noise(Path(folder) / "night.edf", arguments.night_minutes),
            "load": write_noise(Path(folder) / "load.edf", arguments.minutes),
            "minute": write_noise(Path(folder) / "minute.edf", 1),
        }
        bodies = {name: path.read_bytes() for name, path in edfs.items()}
        bodies["encode"] = window_npz()
        bare = {n: bare_seconds(bundle, bodies["night"], arguments.rounds, n) for n in (1, 2)}
        locked = {}
        for threads in (1, 2):
            with lock_server(bundle, threads) as url:
                locked[threads] = rates(url, bodies, arguments, alone=False)
        with service(bundle, f"num_replicas={arguments.replicas}", *SETTINGS) as (_, url):
            ours = rates(url, bodies, arguments, alone=True)
            where = stage_seconds(url)
    night_s = statistics.median(answer.seconds for answer in ours["alone"])
    every = [
        a for run in (*locked.values(), ours) for part in run.values() for a in as_answers(part)
    ]
    return {
        "throughput_over_lock": ratio(ours, locked[1], "load"),
        "throughput_over_lock_2_threads": ratio(ours, locked[2], "load"),
        "minutes_over_lock": ratio(ours, locked[1], "minutes"),
        "minutes_over_lock_2_threads": ratio(ours, locked[2], "minutes"),
        "windows_over_lock": ratio(ours, locked[1], "windows"),
        "windows_over_lock_2_threads": ratio(ours, locked[2], "windows"),
        "overhead_night": round(night_s / bare[1]["total"] - 1, 4),
        "overhead_night_2_threads": round(night_s / bare[2]["total"] - 1, 4),
        **percentiles_ms(ours["windows"][0]),
        "failed": sum(answer.status != 200 for answer in every),
        "night_alone_s": round(night_s, 3),
        "bare_night_s": bare[1],
        "bare_night_2_threads_s": bare[2],
        "minute_ms": percentiles_ms(ours["minutes"][0]),
        "lock_minute_ms": percentiles_ms(locked[1]["minutes"][0]),
        "loaded_ms": percentiles_ms(ours["load"][0]),
        "window_alone_ms": percentiles_ms(ours["single"]),
        "window_beside_nights_ms": percentiles_ms(ours["beside"]),
        "lock_window_ms": percentiles_ms(locked[1]["windows"][0]),
        "where_s": where,
        "per_s": {
            "service": per_second(ours),
            "lock_1_thread": per_second(locked[1]),
            "lock_2_threads": per_second(locked[2]),
        },
        "settings": {k: v for k, v in vars(arguments).items() if k != "json"}
        | {"haproxy": haproxy()},
        "night_mb": round(len(bodies["night"]) / 1e6, 1),
        "load_mb": round(len(bodies["load"]) / 1e6, 1),
        "machine": machine(),
        "load_average": os.getloadavg(),
        "code": git_state("sleepmami", "serve_apps"),
    }


def haproxy() -> bool:
    """Whether HAProxy stands in the place of Serve's own proxy: docs/serving.md."""
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"


def bare_seconds(bundle: str, night: bytes, rounds: int, threads: int) -> dict[str, float]:
    """The embedder alone in this process: median seconds."""
    prepare_cpu(threads)
    embedder = Embedder.from_checkpoint(bundle, windows_per_batch=ServeConfig().windows_per_batch)
    found: dict[str, list[float]] = {"preprocessing": [], "encoding": [], "night": [], "total": []}
    for _ in range(rounds + 1):
        started_s = time.perf_counter()
        loaded = load_night(night, embedder.bundle.preprocess, recording_id="x")
        loaded_s = time.perf_counter()
        epochs = embedder.epochs(loaded)
        encoded_s = time.perf_counter()
        embedder.in_context(loaded, epochs)
        ended_s = time.perf_counter()
        found["preprocessing"].append(loaded_s - started_s)
        found["encoding"].append(encoded_s - loaded_s)
        found["night"].append(ended_s - encoded_s)
        found["total"].append(ended_s - started_s)
    return {name: round(statistics.median(times[1:]), 4) for name, times in found.items()}


def rates(
    url: str, bodies: dict[str, bytes], arguments: argparse.Namespace, *, alone: bool
) -> dict[str, Any]:
    """Answers and wall seconds of each kind of load; the first few requests only warm up."""
    clients = arguments.clients
    load(url, [bodies["minute"], bodies["encode"]] * clients + [bodies["load"]], clients=clients)
    found: dict[str, Any] = {
        "load": load(url, [bodies["load"]] * arguments.nights, clients=clients),
        "minutes": load(url, [bodies["minute"]] * arguments.windows, clients=clients),
        "windows": load(url, [bodies["encode"]] * arguments.windows, clients=clients),
    }
    if alone:
        load(url, [bodies["night"]], clients=1)
        found["alone"] = load(url, [bodies["night"]] * arguments.rounds, clients=1)[0]
        found["single"] = load(url, [bodies["encode"]] * 40, clients=1)[0]
        # seven windows to each recording, from as many clients
        mixed = ([bodies["load"]] + [bodies["encode"]] * 7) * max(2, arguments.nights // 2)
        answers, _ = load(url, mixed, clients=clients)
        shortest = sorted(answers, key=lambda answer: len(answer.body))
        found["beside"] = shortest[: len(mixed) - len(mixed) // 8]
    return found


def as_answers(part: Any) -> list[Answer]:
    """Of `rates`: answers with or without their wall seconds."""
    return part[0] if isinstance(part, tuple) else part


def per_second(run: dict[str, Any]) -> dict[str, float]:
    """Answers a second."""
    return {name: round(len(run[name][0]) / run[name][1], 4) for name in KINDS}


def ratio(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> float:
    """Answers a second of ours to those of theirs."""
    return round(per_second(ours)[name] / per_second(theirs)[name], 3)


def stage_seconds(url: str) -> dict[str, float]:
    """Mean seconds of all answers by stage, and windows per batch."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    names = {f"sleepmami_stage_seconds.stage={s}": s for s in
             ("preprocessing", "queued", "encoding", "night", "total")}  # fmt: skip
    found = {}
    for stage in names.values():
        total = re.search(rf'^sleepmami_stage_seconds_sum{{stage="{stage}"}} (\S+)', text, re.M)
        count = re.search(rf'^sleepmami_stage_seconds_count{{stage="{stage}"}} (\S+)', text, re.M)
        if total and count:
            found[stage] = round(float(total[1]) / float(count[1]), 4)
    total = re.search(r"^sleepmami_batch_windows_sum (\S+)", text, re.M)
    count = re.search(r"^sleepmami_batch_windows_count (\S+)", text, re.M)
    if total and count:
        found["windows_per_batch"] = round(float(total[1]) / float(count[1]), 2)
    return found


if __name__ == "__main__":
    main()
