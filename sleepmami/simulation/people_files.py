"""Who slept, in tables beside the nights: metadata.csv for the ingest, truth.csv for a judge."""

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from sleepmami.config import SimulateConfig
from sleepmami.simulation.devices import device_of
from sleepmami.simulation.follow_up import OUTCOMES, RISK_FACTORS, FollowUp, simulate_follow_up
from sleepmami.simulation.measures import NightMeasures, measure_night
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.night_files import replacing
from sleepmami.simulation.subjects import Subject

COLUMNS = ("recording_id", "subject_id", "age_years", "sex", "bmi", "ahi_per_h")
DEATHS = ("cvd_death", "chd_death", "all_cause_death")  # nobody has them before the night
MEASURES = tuple(field.name for field in dataclasses.fields(NightMeasures))
TRUTH_COLUMNS = (
    "recording_id",
    "log_hazard",
    "frailty",
    *(f"{factor.name}_term" for factor in RISK_FACTORS),
    *MEASURES,
)


def write_people(root: Path, config: SimulateConfig, subjects: Sequence[Subject]) -> None:
    """metadata.csv, one row a night; with `follow_up_years` also outcomes in it, and truth.csv.

    ahi_per_h is what this night's scoring counts, empty without sleep; `device` is there where the
    cohort has other recorders than the reference. A night without sleep has no follow-up.
    """
    recorders = config.devices != SimulateConfig().devices
    followed = config.follow_up_years > 0
    header = [*COLUMNS, *(["device"] if recorders else [])]
    header += [column for name in OUTCOMES for column in _columns(name)] if followed else []
    rows, truths = [], []
    for subject in subjects:
        night = measure_night(plan_night(subject, config.duration_h, config.seed))
        name = subject.subject_id
        row = [name, name, subject.age_years, subject.sex, subject.bmi]
        row.append("" if night is None else f"{night.ahi_per_h:.1f}")
        if recorders:
            row.append(device_of(config.devices, subject.index).name)
        if followed and night:
            after = simulate_follow_up(subject, night, config.follow_up_years, config.seed)
            row += _outcome_cells(after)
            truths.append([name, *truth_cells(subject, night, after)])
        rows.append(row + [""] * (len(header) - len(row)))
    write_csv(root / "metadata.csv", header, rows)
    if followed:
        write_csv(root / "truth.csv", TRUTH_COLUMNS, truths)
    else:
        (root / "truth.csv").unlink(missing_ok=True)  # of an earlier call with a follow-up


def _columns(outcome: str) -> tuple[str, ...]:
    known = (f"{outcome}_event", f"{outcome}_days")
    return known if outcome in DEATHS else (*known, f"{outcome}_prevalent")


def _outcome_cells(after: FollowUp) -> list[object]:
    cells: list[object] = []
    for outcome in after.outcomes:
        cells += [int(outcome.event), f"{outcome.time_days:.0f}"]
        cells += [] if outcome.name in DEATHS else [int(outcome.prevalent)]
    return cells


def truth_cells(subject: Subject, night: NightMeasures, after: FollowUp) -> list[str]:
    """A row of truth.csv without the recording's name: TRUTH_COLUMNS[1:]."""
    terms = [factor.term(subject, night) for factor in RISK_FACTORS]
    measures = [getattr(night, name) for name in MEASURES]
    return [f"{value:.6g}" for value in (after.log_hazard, after.frailty, *terms, *measures)]


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table whole or not at all."""
    with replacing(file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
