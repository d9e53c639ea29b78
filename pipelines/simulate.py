"""Write a simulated cohort, with progress: one Ray Data task per night where there are many."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.progress import print_outcomes, stage
from sleepmami import storage
from sleepmami.config import SimulateConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import ConfigError, SleepMaMiError
from sleepmami.simulation.cohort import (
    begin_cohort,
    cohort_subjects,
    night_is_complete,
    write_cohort_night,
    write_cohort_tables,
)
from sleepmami.simulation.subjects import Subject

# Ray takes some ten seconds to start: fewer nights are written sooner by this process alone.
RAY_FROM_NIGHTS = 48


def simulate_cohort(folder: str, config: SimulateConfig, *, address: str | None = None) -> None:
    """EDFs in `folder/edf`, scorings in `folder/annotations`, people in `folder/metadata.csv`.

    With `layout="shhs"` they lie where a download of SHHS has them.

    Nights that are already complete are left alone. A night is written whole or not at all, so a
    stopped run goes on; memory is of the nights in work, whatever the size of the cohort.

    Args:
        folder: on a disk; on a cluster, on one that all nodes share.
        config: how many, how long, which seed, and what of.
        address: of a running Ray cluster. Without it, and without RAY_ADDRESS, RAY_FROM_NIGHTS and
            more are shared out by a Ray of this machine, fewer are written one after the other.

    Raises:
        ConfigError: `folder` is an object-store URI, holds nights of other settings, or is not
            the same folder on the nodes of the cluster.
    """
    if not storage.is_local(folder):
        raise ConfigError(f"simulate writes to a local folder, got {folder!r}")
    folder = str(Path(folder).resolve())
    missing = begin_cohort(folder, config)
    if missing:
        with_ray = address or os.environ.get("RAY_ADDRESS") or len(missing) >= RAY_FROM_NIGHTS
        names = (
            _by_ray(missing, folder, config, address)
            if with_ray
            else _one_by_one(missing, folder, config)
        )
        with stage("simulate", len(missing), unit="nights") as advance:
            for name in names:
                advance(1, name)
        lost = [s.subject_id for s in missing if not night_is_complete(folder, config, s)]
        if lost:
            raise ConfigError(
                f"{folder}: found {len(lost)} nights written elsewhere, such as {lost[0]}; "
                "expected a folder that all nodes of the cluster share"
            )
    subjects = cohort_subjects(config)
    write_cohort_tables(folder, config, subjects)
    kept = len(subjects) - len(missing)
    print_outcomes("simulate", Counter({"written": len(missing), "already there": kept}), [])


def _one_by_one(subjects: list[Subject], folder: str, config: SimulateConfig) -> Iterator[str]:
    for subject in subjects:
        write_cohort_night(folder, config, subject)
        yield subject.subject_id


def _by_ray(
    subjects: list[Subject], folder: str, config: SimulateConfig, address: str | None
) -> Iterator[str]:
    from pipelines.ray_data import map_each
    from pipelines.ray_session import ray_session

    work = functools.partial(_night_of, folder=folder, config=to_dict(config))
    with ray_session(address):
        yield from map_each(subjects, work, lost=_lost, num_cpus=1.0)


def _night_of(subject: Subject, *, folder: str, config: dict[str, Any]) -> str:
    write_cohort_night(folder, from_dict(SimulateConfig, config), subject)
    return subject.subject_id


def _lost(subject: Subject) -> str:
    raise SleepMaMiError(
        f"{subject.subject_id}: the process that wrote this night died each time; expected about "
        "1 GB of memory for each task"
    )
