"""What the service does when things go wrong under load: each trial says what was lost.

    python benchmarks/serve_faults.py --json FILE                   # all trials
    python benchmarks/serve_faults.py --trials kill overload

Trials, each on a service of its own with the tiny preset and recordings of one minute:
    kill      an Encoder or Preprocessor gets SIGKILL every 5 s for 60 s; clients send again
    update    the bundle is exchanged while clients ask; each answer names the weights it is of
    overload  ten times as many requests as there are places, not sent again
    sigterm   the service is told to stop while it holds requests
    soak      many small requests; memory and file descriptors of every process along the way
    uploads   four resumable uploads at once; memory of every process
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import serve_soak
from provenance import git_state, machine
from serve_clients import (
    Answer,
    load,
    percentiles_ms,
    upload,
    write_bundle,
    write_noise,
)
from serve_process import serve_here, service, service_processes

KILL_EVERY_S = 5.0
SMALL_LIMITS = ("max_ongoing_requests=4", "max_queued_requests=4")


def main() -> None:
    """Run the trials, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", nargs="*", choices=sorted(TRIALS), default=list(TRIALS))
    parser.add_argument("--requests", type=int, default=2000, help="at least so many in `kill`")
    parser.add_argument("--seconds", type=float, default=60, help="of `kill`")
    parser.add_argument("--soak", type=int, default=10_000, help="requests of `soak`")
    parser.add_argument("--upload-mb", type=int, default=1000, help="of each of four uploads")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the service must not outlive us
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="serve-faults-") as folder:
        bundle = write_bundle(f"{folder}/bundle", "tiny")
        body = write_noise(Path(folder) / "minute.edf", 1).read_bytes()
        for name in arguments.trials:
            result[name] = TRIALS[name](bundle, body, arguments)
            print(name, json.dumps(result[name]), flush=True)
    result |= {"machine": machine(), "code": git_state("sleepmami", "serve_apps")}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def kill(bundle: str, body: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Replicas die; a client that sends again must get every answer."""
    chance = random.Random(0)
    with service(bundle, "num_replicas=2", "cpus_per_preprocessor=0.5") as (process, url):
        stop, killed = threading.Event(), []

        def killer() -> None:
            started_s = time.monotonic()
            while time.monotonic() - started_s < arguments.seconds:
                time.sleep(KILL_EVERY_S)
                names = ("Encoder", "Preprocessor")
                victims = [p for p in service_processes(process) if replica_of(p) in names]
                if victims:
                    victim = chance.choice(victims)
                    killed.append(replica_of(victim))
                    victim.kill()

        def ender() -> None:
            killer()
            while len(done) < arguments.requests:
                time.sleep(0.5)
            stop.set()

        done: list[Answer] = []
        thread = threading.Thread(target=ender)
        thread.start()
        answers, seconds = load(
            url, [body], clients=arguments.clients, retry=True, until=stop, into=done
        )
        thread.join()
    tries = collections.Counter(answer.tries for answer in answers)
    return {
        "requests": len(answers),
        "failed": failed(answers),
        "killed": dict(collections.Counter(killed)),
        "sent_again": sum(count for number, count in tries.items() if number > 1),
        "seconds": round(seconds, 1),
        **percentiles_ms(answers),
    }


def update(bundle: str, body: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """New weights by `serve deploy`'s own way, while clients ask."""
    other = write_bundle(f"{bundle}-new", "tiny", seed=1)
    stop = threading.Event()
    answers: list[Answer] = []
    with serve_here(bundle) as (url, deploy):
        thread = threading.Thread(
            target=load,
            args=(url, [body]),
            kwargs={"clients": arguments.clients, "retry": True, "until": stop, "into": answers},
        )
        thread.start()
        time.sleep(5)
        deploy(other)
        time.sleep(5)
        stop.set()
        thread.join()
        last = httpx.get(f"{url}/info", trust_env=False).json()["model"]["weights_sha256"]
    versions = collections.Counter(answer.weights for answer in answers)
    by_version = {str(name): len(vectors) for name, vectors in vectors_of(answers).items()}
    return {
        "requests": len(answers),
        "failed": failed(answers),
        "answers_by_version": {str(name)[:12]: count for name, count in versions.items()},
        "versions": len(versions),
        # one recording, one model: more vectors than versions are answers of both
        "distinct_vectors": sum(by_version.values()),
        "last_is_new": answers[-1].weights == last,
        "sent_again": sum(answer.tries > 1 for answer in answers),
    }


def overload(bundle: str, body: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ten times the places."""
    with service(bundle, *SMALL_LIMITS) as (_, url):
        quiet, _ = load(url, [body] * 40, clients=4)
        answers, _ = load(url, [body] * 800, clients=80)
        started_s = time.perf_counter()
        while load(url, [body], clients=1)[0][0].status != 200:
            time.sleep(0.1)
        recovered_s = time.perf_counter() - started_s
    statuses = collections.Counter(str(answer.status) for answer in answers)
    return {
        "statuses": dict(statuses),
        "other_than_200_and_429": sum(v for k, v in statuses.items() if k not in ("200", "429")),
        "unloaded": percentiles_ms(quiet),
        "accepted": percentiles_ms(answers),
        "recovered_s": round(recovered_s, 2),
    }


def sigterm(bundle: str, body: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the service holds is answered; what comes later is told to come again."""
    with service(bundle) as (process, url):
        load(url, [body] * 8, clients=8)
        answers: list[Answer] = []
        stop = threading.Event()
        thread = threading.Thread(
            target=load,
            args=(url, [body]),
            kwargs={"clients": arguments.clients, "until": stop, "into": answers},
        )
        thread.start()
        time.sleep(2)
        signalled_s = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        code = process.wait(150)
        stop.set()
        thread.join()
    statuses = collections.Counter(str(answer.status) for answer in answers)
    held = [answer for answer in answers if answer.started_s < signalled_s]
    return {
        "statuses": dict(statuses),
        "sent_before": len(held),
        "lost_in_flight": sum(answer.status not in (200, 503) for answer in held),
        "broken_later": sum(answer.broken for answer in answers) - sum(a.broken for a in held),
        "exit_code": code,
    }


def soak(bundle: str, body: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Slopes of memory and descriptors: serve_soak.py."""
    return serve_soak.soak(bundle, body, requests=arguments.soak, clients=arguments.clients)


def uploads(bundle: str, body: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak growth of each process over idle, by samples every 50 ms."""
    size = arguments.upload_mb * 10**6
    with service(bundle, "max_body_mb=2048") as (process, url):
        load(url, [body] * 8, clients=4)
        upload(url, 16 * 10**6)  # buffers are made once
        idle = {p.pid: usage(p)[0] for p in service_processes(process)}
        peak, stop = dict(idle), threading.Event()
        names = {p.pid: replica_of(p) or p.name() for p in service_processes(process)}

        def watch() -> None:
            while not stop.is_set():
                for p in service_processes(process):
                    peak[p.pid] = max(peak.get(p.pid, 0), usage(p)[0])
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        threads = [threading.Thread(target=upload, args=(url, size)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        watcher.join()
    grown = {f"{names.get(pid, '?')}-{pid}": round(peak[pid] - mb, 1) for pid, mb in idle.items()}
    most = max(grown, key=lambda name: grown[name])
    return {"mb_each": arguments.upload_mb, "most_grown": most, "grown_mb": grown[most],
            "all_grown_mb": {n: mb for n, mb in grown.items() if mb >= 1}}  # fmt: skip


def failed(answers: list[Answer]) -> int:
    """Answers that are not 200."""
    return sum(answer.status != 200 for answer in answers)


def vectors_of(answers: list[Answer]) -> dict[str | None, set[bytes]]:
    """The distinct bodies of each version; npz holds no time, so equal vectors are equal bytes."""
    found: dict[str | None, set[bytes]] = collections.defaultdict(set)
    for answer in answers:
        if answer.status == 200:
            found[answer.weights].add(answer.body)
    return found


def replica_of(process: psutil.Process) -> str:
    """The deployment of a replica's process; empty for another."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    for name in ("Encoder", "Preprocessor", "Ingress"):
        if f":{name}" in title:
            return name
    return "Proxy" if "Proxy" in title else ""


def usage(process: psutil.Process) -> tuple[float, int]:
    """MB of resident memory that are the process's own, and open descriptors; 0 of a dead one.

    Pages of Ray's object store are shared by all and counted to none.
    """
    try:
        memory = process.memory_info()
        return (memory.rss - memory.shared) / 1e6, process.num_fds()
    except psutil.Error:
        return 0.0, 0


Trial = Callable[[str, bytes, argparse.Namespace], dict[str, Any]]
TRIALS: dict[str, Trial] = {
    "kill": kill,
    "update": update,
    "overload": overload,
    "sigterm": sigterm,
    "soak": soak,
    "uploads": uploads,
}


if __name__ == "__main__":
    main()
