"""SWEEP/trials.json: what each trial was given, what it reported and how it ended.

The sweep continues from this file alone, and not from Ray Tune's own: that one keeps no rungs of
ASHA, and what it writes is a minute old. The file is rewritten whole after each report.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from sleepmami import storage
from tune_spaces.spaces import Overrides

Status = Literal["running", "finished", "stopped", "failed"]


@dataclass(kw_only=True, slots=True)
class TrialRecord:
    """One trial; `rows` holds the metrics of each validation, with its step."""

    number: int
    overrides: Overrides
    status: Status = "running"
    reason: str = ""  # of a failure
    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """trial_007."""
        return f"trial_{self.number:03d}"

    @property
    def steps(self) -> int:
        """Trained before it ended."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def value(self, objective: str) -> float | None:
        """The objective at the end; None where nothing was reported."""
        return self.rows[-1][objective] if self.rows else None


class SweepRecord:
    """The trials of a sweep; one that was running when the driver died begins again."""

    def __init__(self, sweep: str) -> None:
        self._uri = storage.join(sweep, "trials.json")
        self.trials: list[TrialRecord] = []
        if storage.exists(self._uri):
            stored = json.loads(storage.read_bytes(self._uri))
            self.trials = [TrialRecord(**values) for values in stored]

    @property
    def ended(self) -> list[TrialRecord]:
        """Trials that are not run again."""
        return [trial for trial in self.trials if trial.status != "running"]

    @property
    def interrupted(self) -> list[TrialRecord]:
        """Trials that a dead driver left."""
        return [trial for trial in self.trials if trial.status == "running"]

    def begin(self, overrides: Overrides) -> TrialRecord:
        """The interrupted trial of these settings from its beginning, else a new one."""
        for trial in self.interrupted:
            if trial.overrides == overrides:
                trial.rows.clear()
                return trial
        trial = TrialRecord(number=len(self.trials), overrides=dict(overrides))
        self.trials.append(trial)
        return trial

    def write(self) -> None:
        """Bring the file up to date."""
        rows: list[dict[str, Any]] = [dataclasses.asdict(trial) for trial in self.trials]
        storage.write_bytes(self._uri, json.dumps(rows, indent=1).encode())
