"""What a sweep leaves: trials.csv, two pictures, best.json, and what is said at the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipelines.progress import console
from sleepmami import storage
from sleepmami.errors import TrainingError
from sleepmami.report.sweep_figures import SweptAxis, SweptTrial, parallel_coordinates, slices
from tune_spaces.record import SweepRecord, TrialRecord
from tune_spaces.spaces import Choice, Overrides, Range, Space

SHOWN = 10


def finish(
    folder: str,
    record: SweepRecord,
    space: Space,
    objective: str,
    *,
    stage: str,
    preset: str,
    base: Overrides,
    about: dict[str, Any],
) -> str:
    """Write the outcome below SWEEP and print it; returns the URI of best.json.

    The best is the whole trial of the highest objective: a trial that was ended early has not been
    compared over the same steps. Of equals the default, then the earliest.

    Args:
        folder: SWEEP.
        record: of the trials, all ended.
        space: that was searched.
        objective: higher is better.
        stage: group of the preset that the best belongs to, `macro` or `micro`.
        preset: that the sweep started from.
        base: settings of the start that differ from the preset's.
        about: how the sweep was made: seeds, split, numbers of steps.

    Raises:
        TrainingError: the default trial failed, or no trial reported anything; says each reason.
    """
    _write(folder, "trials.csv", _csv(record, space, objective))
    failed = [trial for trial in record.ended if trial.status == "failed"]
    whole = [trial for trial in record.ended if trial.status == "finished"]
    default = next((trial for trial in whole if trial.number == 0), None)
    if default is None:
        reasons = "; ".join(f"{trial.name}: {trial.reason}" for trial in failed[:5])
        raise TrainingError(
            f"{folder}: found no end of trial_000, the configuration itself, expected one to "
            f"compare with; {len(failed)} of {len(record.trials)} trials failed: {reasons}"
        )
    best = max(whole, key=lambda trial: (_value(trial, objective), -trial.number))
    _pictures(folder, record, space, objective)
    gain = _value(best, objective) - _value(default, objective)
    values = {
        "preset": preset,
        "stage": stage,
        "overrides": {**base, **best.overrides},
        "about": {
            **about,
            "trial": best.name,
            "objective": objective,
            "value": _value(best, objective),
            "default_value": _value(default, objective),
            "above_default": gain,
            "trials": {
                status: sum(t.status == status for t in record.ended)
                for status in ("finished", "stopped", "failed")
            },
        },
    }
    uri = _write(folder, "best.json", json.dumps(values, indent=2).encode())
    _say(record, space, objective, failed)
    console.print(
        f"best: {best.name}, {objective} {_value(best, objective):.4f}, {gain:+.4f} above the "
        f"default, of one seed; {uri}"
    )
    return uri


def _value(trial: TrialRecord, objective: str) -> float:
    value = trial.value(objective)
    assert value is not None  # it reported
    return value


def _write(folder: str, name: str, data: bytes) -> str:
    uri = storage.join(folder, name)
    storage.write_bytes(uri, data)
    return uri


def _by_merit(record: SweepRecord, objective: str) -> list[TrialRecord]:
    """Whole trials first, the best of each kind first, those that failed last."""
    order = {"finished": 0, "stopped": 1, "failed": 2, "running": 3}

    def merit(trial: TrialRecord) -> tuple[int, int, float]:
        value = trial.value(objective)
        return order[trial.status], -trial.steps, -(value if value is not None else 0.0)

    return sorted(record.trials, key=merit)


def _csv(record: SweepRecord, space: Space, objective: str) -> bytes:
    text = io.StringIO()
    metrics = sorted(
        {n for t in record.trials for row in t.rows for n in row if n.startswith("validation/")}
        | {objective}
    )
    writer = csv.writer(text, lineterminator="\n")
    names = [item.name for item in space]
    writer.writerow(["trial", "status", "steps", *names, *metrics, "reason"])
    for trial in _by_merit(record, objective):
        last = trial.rows[-1] if trial.rows else {}
        writer.writerow(
            [
                trial.name,
                trial.status,
                trial.steps,
                *(trial.overrides[name] for name in names),
                *(last.get(name, "") for name in metrics),
                trial.reason,
            ]
        )
    return text.getvalue().encode()


def _pictures(folder: str, record: SweepRecord, space: Space, objective: str) -> None:
    axes = [_axis(item) for item in space]
    trials = [
        SweptTrial(
            settings=trial.overrides,
            score=_value(trial, objective),
            whole=trial.status == "finished",
            is_default=trial.number == 0,
        )
        for trial in record.ended
        if trial.rows
    ]
    for name, draw in (("parallel.png", parallel_coordinates), ("slices.png", slices)):
        image = io.BytesIO()
        draw(axes, trials, objective).savefig(image, format="png", dpi=130)
        _write(folder, name, image.getvalue())


def _axis(item: Range | Choice) -> SweptAxis:
    if isinstance(item, Choice):
        return SweptAxis(name=item.name, options=item.options)
    return SweptAxis(name=item.name, low=item.low, high=item.high, log=item.log)


def _say(record: SweepRecord, space: Space, objective: str, failed: Sequence[TrialRecord]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "status", "steps", *(i.name for i in space), Path(objective).name):
        table.add_column(heading)
    for trial in _by_merit(record, objective)[:SHOWN]:
        value = trial.value(objective)
        cells = [trial.name, trial.status, str(trial.steps)]
        cells += [_cell(trial.overrides[item.name]) for item in space]
        cells.append("" if value is None else f"{value:.4f}")
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for trial in failed:
        console.print(f"{trial.name} failed: {trial.reason}")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
