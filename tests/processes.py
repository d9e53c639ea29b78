"""Commands run in a session of their own, so that a test sees and ends all that they start."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what Ray keeps in it for its own children."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"} | more


@contextlib.contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in its own session; whatever of it is still there afterwards is killed.

    It hears Ctrl-C even when this suite was started as a shell's background job, which ignores it.
    """
    options |= {"text": True, "start_new_session": True, "preexec_fn": _hear_interrupts}
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            for pid in in_session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def in_session(session: int) -> list[int]:
    """Processes of a session that run; one that has ended and waits for its parent does not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and os.getsid(int(folder.name)) == session:
                found.append(int(folder.name))
    return found


def left_in_session(session: int, seconds: float) -> list[int]:
    """What still runs after at most so many seconds; daemons take a moment to follow."""
    deadline = time.monotonic() + seconds
    while (found := in_session(session)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found
