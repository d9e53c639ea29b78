"""A folder of simulated nights: edf/, annotations/, metadata.csv; a stopped run goes on."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

from sleepmami.config import SimulateConfig
from sleepmami.errors import ConfigError
from sleepmami.simulation.devices import device_of
from sleepmami.simulation.night import plan_night, simulate_night
from sleepmami.simulation.night_files import edf_path, replacing, write_night, xml_path
from sleepmami.simulation.subjects import Subject, simulate_subject

COLUMNS = ("recording_id", "subject_id", "age_years", "sex", "bmi", "ahi_per_h")
DEFAULTS = SimulateConfig()  # what differs from them is noted in the folder


def write_cohort(
    folder: str | os.PathLike[str],
    config: SimulateConfig,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write every night that is not there yet, then metadata.csv.

    A night depends on its number and the settings but `num_subjects`: any order or interruption
    gives the same files, and the number may grow from one call to the next.

    Args:
        folder: gets edf/NAME.edf, annotations/NAME-nsrr.xml, metadata.csv and simulation.json.
        config: how many, how long, which seed.
        progress: called as (nights complete, nights in all) at the start and after each night.

    Raises:
        ConfigError: the folder holds nights of other settings, or the seed is negative.
    """
    root = Path(folder)
    subjects = [simulate_subject(index, config.seed) for index in range(config.num_subjects)]
    root.mkdir(parents=True, exist_ok=True)
    _claim(root, config)
    missing = [subject for subject in subjects if not night_is_complete(root, subject)]
    if progress:
        progress(len(subjects) - len(missing), len(subjects))
    for number, subject in enumerate(missing, start=len(subjects) - len(missing) + 1):
        write_cohort_night(root, config, subject)
        if progress:
            progress(number, len(subjects))
    _write_metadata(root, config, subjects)


def night_is_complete(folder: str | os.PathLike[str], subject: Subject) -> bool:
    """Both files of the subject's night are in a cohort's folder; the EDF is written last."""
    root = Path(folder)
    edf, xml = edf_path(root / "edf", subject), xml_path(root / "annotations", subject)
    return edf.is_file() and xml.is_file()


def write_cohort_night(
    folder: str | os.PathLike[str], config: SimulateConfig, subject: Subject
) -> None:
    """Simulate and write one night of a cohort; safe to run for many subjects at once."""
    recorder = device_of(config.devices, subject.index)
    night = simulate_night(subject, config.duration_h, config.seed, recorder)
    root = Path(folder)
    write_night(root / "edf", subject, night, annotations=root / "annotations")


def _claim(root: Path, config: SimulateConfig) -> None:
    """Note what the folder holds, or refuse to mix it with nights of other settings."""
    file = root / "simulation.json"
    wanted: dict[str, object] = {"seed": config.seed, "duration_h": config.duration_h}
    if config.devices != DEFAULTS.devices:
        wanted["devices"] = list(config.devices)
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(wanted) + "\n")
        return
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"{file}: found no JSON ({error}); expected {wanted}") from error
    if found != wanted:
        raise ConfigError(
            f"{file}: the folder holds nights of {found}, expected {wanted}; use another folder"
        )


def _write_metadata(root: Path, config: SimulateConfig, subjects: list[Subject]) -> None:
    """One row a night; ahi_per_h is what this night's scoring counts, empty without sleep."""
    file = root / "metadata.csv"
    with replacing(file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        recorders = config.devices != DEFAULTS.devices
        writer.writerow([*COLUMNS, *(["device"] if recorders else [])])
        for subject in subjects:
            ahi = plan_night(subject, config.duration_h, config.seed).ahi_per_h
            scored = "" if ahi is None else f"{ahi:.1f}"
            name = subject.subject_id
            row = [name, name, subject.age_years, subject.sex, subject.bmi, scored]
            if recorders:
                row.append(device_of(config.devices, subject.index).name)
            writer.writerow(row)
