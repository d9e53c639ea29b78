"""Faults that an ingest and a store have to survive, in whatever number a test asks for."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ray

from pipelines.verify import VerifySummary, verify
from sleepmami.tables import lance_io
from tests.noise_nights import write_noise

ROOT = Path(__file__).resolve().parents[1]
DRIVER = """
import sys
from pipelines.ingest_edf import ingest
from pipelines.ray_session import ray_session
from sleepmami.config import IngestConfig

folder, corpus, address = sys.argv[1:]
config = IngestConfig(nights_per_commit=2, recording_ids="file_name")
with ray_session(address):
    ingest(folder, corpus, config)
"""
CUT_SHORT = "found no checksum of it: an ingest was cut short; run it again"
WITHOUT_NIGHT = re.compile(r"segment \d+: found no night of this name")
BEHIND = re.compile(r"found b'\{\"version\":\d+\}'; expected b'\{\"version\":\d+\}'")
LONGEST_S = 120.0


def write_cohort(folder: Path, num_files: int) -> Path:
    """Short nights, of which the last is a copy of the first under another name."""
    for number in range(num_files - 1):
        write_noise(folder / f"n{number:04}.edf", seed=number)
    first = folder / "n0000.edf"
    first.with_name(f"n{num_files - 1:04}.edf").write_bytes(first.read_bytes())
    return folder


class Driver:
    """An ingest in a process group of its own, joined to the session's cluster."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        address = ray.get_runtime_context().gcs_address
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), str(corpus), address],
            cwd=ROOT,
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:  # everything before is the start of Python and Ray
            if line.startswith("ingest: "):
                break

    def ends_within(self, seconds: float) -> bool:
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        assert self._process.stderr is not None
        said = self._process.stderr.read()
        self._process.stderr.close()
        assert code == 0, said
        return True

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.wait() == -signal.SIGKILL
        assert self._process.stderr is not None
        self._process.stderr.close()


def kill_some_worker(session: Path, choose: random.Random) -> bool:
    """SIGKILL one process of a session that is at work on a file; False when there is none."""
    parents, at_work = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        if "/raylet" in command and str(session) in command:
            parents[int(entry.name)] = command
        if command.startswith("ray::Map"):  # a task of Ray Data, none of the daemons
            at_work.append((int(entry.name), parent))
    own = sorted(pid for pid, parent in at_work if parent in parents)
    if not own:
        return False
    os.kill(choose.choice(own), signal.SIGKILL)
    return True


def kill_again_and_again(
    folder: Path, corpora: Path, session: Path, num_kills: int, wait_s: float, seed: int
) -> Iterator[tuple[str, VerifySummary]]:
    """Kill drivers and workers in turn at random moments.

    Args:
        folder: the cohort.
        corpora: a corpus is made below it, and another whenever one is finished before the kill.
        session: folder of the Ray session.
        num_kills: how many.
        wait_s: before each of them at most; less than an ingest takes.
        seed: of the moments.

    Yields:
        ("killed" or "finished", what `verify` says of the corpus then).
    """
    choose, kills, number = random.Random(seed), 0, 0
    while kills < num_kills:
        corpus = corpora / f"corpus{number}"
        driver = Driver(folder, corpus)
        wanted = 2 if kills % 2 == 0 and kills + 1 < num_kills else 1  # a worker, then the driver
        ended = driver.ends_within(choose.uniform(0, wait_s))
        if not ended and wanted == 2:
            began = time.monotonic()
            while not ended and not kill_some_worker(session, choose):
                ended = driver.ends_within(0.01)
                assert time.monotonic() - began < LONGEST_S
            kills += not ended
            ended = ended or driver.ends_within(choose.uniform(0, wait_s))
        if ended:
            number += 1
            yield "finished", verify(str(corpus))
            continue
        driver.kill()
        kills += 1
        if lance_io.exists(str(corpus / "recordings.lance")):
            yield "killed", verify(str(corpus))
    corpus = corpora / f"corpus{number}"
    assert Driver(folder, corpus).ends_within(LONGEST_S)
    yield "finished", verify(str(corpus))


def partial_or_double(found: VerifySummary) -> list[tuple[str, str, str]]:
    """What a killed ingest must not leave; segments without a night are seen by nobody."""
    return [
        problem
        for problem in found.problems
        if problem[2] != CUT_SHORT
        and not WITHOUT_NIGHT.fullmatch(problem[2])
        and not BEHIND.fullmatch(problem[2])
    ]


def flip_one_byte(corpus: Path, choose: random.Random) -> tuple[Path, int, int]:
    """Change one byte anywhere; (file, place, what it was).

    Every second one lies in a file drawn without regard to its size, because most bytes of a corpus
    are signals.
    """
    files = sorted(file for file in corpus.rglob("*") if file.is_file() and file.stat().st_size)
    weights = [file.stat().st_size for file in files] if choose.random() < 0.5 else None
    (file,) = choose.choices(files, weights)
    content = bytearray(file.read_bytes())
    place = choose.randrange(len(content))
    was = content[place]
    content[place] ^= choose.randrange(1, 256)
    file.write_bytes(content)
    return file, place, was


def flip_back(file: Path, place: int, was: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] = was
    file.write_bytes(content)
