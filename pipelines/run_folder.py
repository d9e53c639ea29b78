"""What a training run leaves in its folder besides checkpoints: its settings and its metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sleepmami import storage
from sleepmami.errors import ConfigError

# What decides neither the weights nor the order of the data may differ when a run is continued.
MAY_CHANGE = frozenset(
    {
        "engine.peak_tflops",
        "workers.max_failures",
        "workers.threads_per_worker",
        "loop.log_every",
        "loop.checkpoint_every",
        "loop.keep_checkpoints",
        "loop.validate_every",
        "loop.validate_rows",
        "loop.trackers",
    }
)


class History:
    """Metrics of a run as JSON lines, one per step reported.

    Rows of an interrupted run that this one continues are kept; a step trained again replaces its
    row.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._rows: dict[int, dict[str, float]] = {}
        if storage.exists(uri):
            for line in storage.read_bytes(uri).decode().splitlines():
                self.add(json.loads(line))
        self._written = True

    @property
    def last_step(self) -> int:
        """The newest step that has a row; 0 before any."""
        return max(self._rows, default=0)

    def add(self, metrics: dict[str, float]) -> None:
        """Keep the metrics of `metrics["step"]`."""
        self._rows[int(metrics["step"])] = metrics
        self._written = False

    def write(self) -> None:
        """Bring the file up to date."""
        if self._written:
            return
        lines = [json.dumps(self._rows[step]) + "\n" for step in sorted(self._rows)]
        storage.write_bytes(self._uri, "".join(lines).encode())
        self._written = True


class _NotThere:
    def __repr__(self) -> str:
        return "no such setting (another version of sleepmami)"


_NOT_THERE = _NotThere()


def require_same_run(run: str, name: str, settings: dict[str, Any]) -> None:
    """ConfigError when RUN already holds a run of this name with other settings or data."""
    uri = storage.join(run, f"{name}_config.json")
    if not storage.exists(uri):
        return
    there = json.loads(storage.read_bytes(uri))
    changed = [found for found in _differences(there, settings) if found[0] not in MAY_CHANGE]
    if changed:
        names = "; ".join(
            f"{name}={found!r}, expected {wanted!r}" for name, found, wanted in changed
        )
        raise ConfigError(
            f"{uri}: found a run with {names}; continue it with its own settings, or take a new RUN"
        )


def remember_run(run: str, name: str, settings: dict[str, Any]) -> None:
    """Keep the settings that a run begins with; called once nothing can refuse it any more."""
    uri = storage.join(run, f"{name}_config.json")
    storage.write_bytes(uri, json.dumps(settings, indent=2).encode())


def _differences(one: Any, other: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:  # Any: JSON
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            found, wanted = one.get(key, _NOT_THERE), other.get(key, _NOT_THERE)
            yield from _differences(found, wanted, f"{at}.{key}" if at else key)
    elif one != other:
        yield at, one, other
