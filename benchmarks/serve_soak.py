"""Thousands of small requests of every kind: what grows in each process of the service, and stays.

Part of serve_faults.py. Of each 20 actions 9 send a window, 5 a recording of a minute, 2 ask what
would be used of one, 3 are refused, and one uploads, has a job done, fetches its result and deletes
both. One job in KEEP_EVERY is left as it ended: memory must not hold what only the disk should.

    mb_per_1000_requests  slope of the memory that is a process's own, over the later two thirds
    descriptors_more      open files at the end more than at a third
    idle_cores            cores that each process takes when nobody asks: a loop that nobody ended
    left                  folders in the service's state at the end; of jobs, those that were kept
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from serve_clients import window_npz
from serve_process import service, service_processes

from serve_apps.keys import add_key

ROUNDS = 20
KEEP_EVERY = 5
REST_S = 10.0
POLL_S = 0.02
MB = 1e6
JSON = "application/json"
NPZ = "application/x-npz"
EDF = "application/edf"
TUS = {"tus-resumable": "1.0.0"}
PLENTY = 10**6  # requests a minute and nights a day: quotas count, and refuse nobody


@dataclass(slots=True)
class Asker:
    """One client of a soak: what it asked, and what was answered otherwise than expected."""

    client: httpx.Client
    window: bytes
    minute: bytes
    requests: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    unexpected: list[str] = field(default_factory=list)
    jobs: int = 0
    kept: int = 0

    def ask(self, expected: int, method: str, path: str, **request: Any) -> httpx.Response:
        """One request; Any: of httpx."""
        answer = self.client.request(method, path, **request)
        self.requests += 1
        self.statuses[answer.status_code] += 1
        if answer.status_code != expected:
            self.unexpected.append(f"{method} {path}: {answer.status_code}, expected {expected}")
        return answer


def encode(asker: Asker) -> None:
    """One window."""
    headers = {"content-type": NPZ, "accept": NPZ}
    asker.ask(200, "POST", "/v1/encode", content=asker.window, headers=headers)


def embed(asker: Asker) -> None:
    """One minute."""
    headers = {"content-type": EDF, "accept": NPZ}
    asker.ask(200, "POST", "/v1/embeddings", content=asker.minute, headers=headers)


def inspect(asker: Asker) -> None:
    """What would be used of one minute."""
    asker.ask(200, "POST", "/v1/inspect", content=asker.minute, headers={"content-type": EDF})


def not_an_edf(asker: Asker) -> None:
    """A recording that is none."""
    headers = {"content-type": EDF}
    asker.ask(400, "POST", "/v1/embeddings", content=b"no recording", headers=headers)


def no_windows(asker: Asker) -> None:
    """Half of an archive."""
    half = asker.window[: len(asker.window) // 2]
    asker.ask(400, "POST", "/v1/encode", content=half, headers={"content-type": NPZ})


def no_key(asker: Asker) -> None:
    """Nobody's request for a path that is not there."""
    path = f"/v1/jobs/{asker.requests:026d}"
    asker.ask(401, "GET", path, headers={"authorization": "Bearer none"})


def job(asker: Asker) -> None:
    """Upload, job, result; then both are deleted, or the job is left as it is."""
    length = {"upload-length": str(len(asker.minute))}
    made = asker.ask(201, "POST", "/v1/uploads", headers=TUS | length)
    upload = made.headers.get("location", "/v1/uploads/none")
    part = {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
    asker.ask(204, "PATCH", upload, content=asker.minute, headers=TUS | part)
    found = asker.ask(202, "POST", "/v1/jobs", json={"upload_id": upload.rpartition("/")[2]})
    place = found.headers.get("location", "/v1/jobs/none")
    while found.status_code < 300 and found.json()["state"] in ("queued", "running"):
        time.sleep(POLL_S)
        found = asker.ask(200, "GET", place)
    asker.ask(200, "GET", f"{place}/embeddings.npz")
    asker.jobs += 1
    if asker.jobs % KEEP_EVERY:
        asker.ask(204, "DELETE", place)
        asker.ask(404, "GET", place)
    else:
        asker.kept += 1
    asker.ask(204, "DELETE", upload, headers=TUS)


Action = Callable[[Asker], None]
# Mixed, so that every client does all of them.
CYCLE: tuple[Action, ...] = (
    encode, embed, encode, inspect, encode, not_an_edf, encode, embed, encode, job,
    encode, embed, no_windows, encode, embed, encode, inspect, no_key, encode, embed,
)  # fmt: skip


def soak(bundle: str, minute: bytes, *, requests: int, clients: int) -> dict[str, Any]:
    """Ask, and measure every process of the service after each of ROUNDS rounds.

    Args:
        bundle: of the service.
        minute: an EDF of a minute.
        requests: at least so many in all.
        clients: that ask at once.
    """
    folder = Path(bundle).parent
    state, keys = folder / "soak-state", folder / "soak-keys.json"
    key, _ = add_key(keys, "soak", requests_per_minute=PLENTY, nights_per_day=PLENTY)
    settings = (f"state_dir={state}", f"keys_file={keys}")
    taken: list[tuple[int, dict[str, tuple[float, int]]]] = []
    with service(bundle, *settings) as (process, url), contextlib.ExitStack() as stack:
        bearer = {"authorization": f"Bearer {key}"}
        askers = [
            Asker(stack.enter_context(http(url, bearer)), window_npz(), minute)
            for _ in range(clients)
        ]
        started_s = time.perf_counter()
        for number in range(1, ROUNDS + 1):
            one_round(askers, requests * number // ROUNDS)
            asked = sum(asker.requests for asker in askers)
            taken.append((asked, {n: usage(p) for n, p in named(process).items()}))
        seconds = time.perf_counter() - started_s
        left = {part: len(list((state / part).iterdir())) for part in ("uploads", "jobs", "spool")}
        idle_cores = cores(named(process), REST_S)
    statuses = sum((asker.statuses for asker in askers), collections.Counter[int]())
    unexpected = [text for asker in askers for text in asker.unexpected]
    kept = sum(asker.kept for asker in askers)
    return {
        "requests": sum(asker.requests for asker in askers),
        "failed": len(unexpected),
        "unexpected": unexpected[:10],
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "seconds": round(seconds, 1),
        **growth(taken),
        "idle_cores": {name: share for name, share in idle_cores.items() if share >= 0.005},
        "left": left | {"jobs_kept": kept},
    }


def one_round(askers: list[Asker], until: int) -> None:
    """Each asker goes on through CYCLE until all have asked so many."""
    lock, asked = threading.Lock(), sum(asker.requests for asker in askers)

    def work(number: int, asker: Asker) -> None:
        nonlocal asked
        step = number * len(CYCLE) // len(askers)  # not all do the same at once
        while True:
            before = asker.requests
            CYCLE[step % len(CYCLE)](asker)
            step += 1
            with lock:
                asked += asker.requests - before
                if asked >= until:
                    return

    with ThreadPoolExecutor(len(askers)) as pool:
        for future in [pool.submit(work, *pair) for pair in enumerate(askers)]:
            future.result()


def growth(taken: list[tuple[int, dict[str, tuple[float, int]]]]) -> dict[str, Any]:
    """Slopes, of the processes that lived from a third of the rounds to the end.

    Args:
        taken: after each round, requests so far and of each process MB and descriptors.
    """
    later = taken[len(taken) // 3 :]
    thousands = [asked / 1000 for asked, _ in later]
    names = [name for name in later[-1][1] if all(name in found for _, found in later)]
    mb = {name: [found[name][0] for _, found in later] for name in names}
    more = {name: later[-1][1][name][1] - later[0][1][name][1] for name in names}
    slopes = {name: round(slope(thousands, mb[name]), 2) for name in names}
    worst = max(names, key=lambda name: slopes[name])
    return {
        "fitted_from_request": later[0][0],
        "worst": {"process": worst, "mb_per_1000_requests": slopes[worst]},
        "mb_per_1000_requests": slopes,
        "mb_from_a_third_to_the_end": {n: [round(m[0], 1), round(m[-1], 1)] for n, m in mb.items()},
        "descriptors_more": more,
        "replaced": sorted(set(taken[0][1]) - set(taken[-1][1])),
    }


def slope(x: list[float], y: list[float]) -> float:
    """Of the line of least squares."""
    return float(np.polyfit(x, y, 1)[0])


def named(process: Any) -> dict[str, psutil.Process]:  # Any: a Popen of `service`
    """Every process of the service, by what it is and its id."""
    found = {}
    for member in service_processes(process):
        with contextlib.suppress(psutil.Error):
            found[f"{title_of(member.cmdline(), member.name())}-{member.pid}"] = member
    return found


def title_of(command: list[str], name: str) -> str:
    """What a process is.

    A worker's title names also the task in hand, which changes: no name, and no count of CPU
    seconds, may hang on it.
    """
    title = " ".join(command)
    if title.startswith("ray::"):
        own = title.removeprefix("ray::").split()[0]
        return own.split(":")[-1].split(".")[0]
    scripts = [Path(part).stem for part in command if part.endswith(".py")]
    return scripts[-1] if scripts else name


def usage(process: psutil.Process) -> tuple[float, int]:
    """MB that only this process has, and its open descriptors; zeros of a dead one."""
    try:
        return process.memory_full_info().uss / MB, process.num_fds()
    except psutil.Error:
        return 0.0, 0


def cores(processes: dict[str, psutil.Process], seconds: float) -> dict[str, float]:
    """Cores that each takes while nobody asks."""

    def spent() -> dict[str, float]:
        found = {}
        for name, process in processes.items():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found[name] = times.user + times.system
        return found

    before = spent()
    time.sleep(seconds)
    return {n: round((s - before[n]) / seconds, 3) for n, s in spent().items() if n in before}


def http(url: str, headers: dict[str, str]) -> httpx.Client:
    """A client with a connection of its own."""
    return httpx.Client(base_url=url, headers=headers, timeout=600, trust_env=False)
