"""Write a simulated cohort, with progress."""

from __future__ import annotations

from collections import Counter

from pipelines.progress import print_outcomes, stage
from sleepmami import storage
from sleepmami.config import SimulateConfig
from sleepmami.errors import ConfigError
from sleepmami.simulation.cohort import write_cohort


def simulate_cohort(folder: str, config: SimulateConfig) -> None:
    """EDFs in `folder/edf`, scorings in `folder/annotations`, people in `folder/metadata.csv`.

    Nights that are already complete are left alone.

    Raises:
        ConfigError: `folder` is an object-store URI; EDFs are written to a disk.
    """
    if not storage.is_local(folder):
        raise ConfigError(f"simulate writes to a local folder, got {folder!r}")
    counts: list[int] = []
    with stage("simulate", config.num_subjects, unit="nights") as advance:

        def progress(done: int, total: int) -> None:
            advance(done - counts[-1] if counts else done, "")
            counts.append(done)

        write_cohort(folder, config, progress)
    kept = counts[0]
    written = config.num_subjects - kept
    print_outcomes("simulate", Counter({"written": written, "already there": kept}), [])
