"""A folder of simulated nights: edf/, annotations/, metadata.csv; a stopped run goes on."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from sleepmami.config import SimulateConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import ConfigError
from sleepmami.simulation.devices import device_of
from sleepmami.simulation.effects import effects
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import edf_path, replacing, write_night, xml_path
from sleepmami.simulation.people_files import write_people
from sleepmami.simulation.subjects import Subject, simulate_subject

AND_NIGHTS_DEPEND_ON = ("devices", "effects", "spectra", "artefacts")  # besides seed and duration
DEFAULTS = SimulateConfig()  # what differs from them is noted in the folder


def write_cohort(
    folder: str | os.PathLike[str],
    config: SimulateConfig,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write every night that is not there yet, then the tables of people.

    A night depends on its number and on the settings noted in simulation.json alone: any order or
    interruption gives the same files, the cohort may grow, and a follow-up may be added later.

    Args:
        folder: gets edf/NAME.edf, annotations/NAME-nsrr.xml, metadata.csv and simulation.json.
        config: how many, how long, which seed.
        progress: called as (nights complete, nights in all) at the start and after each night.

    Raises:
        ConfigError: the folder holds nights of other settings, or the seed is negative.
    """
    missing = begin_cohort(folder, config)
    total = config.num_subjects
    if progress:
        progress(total - len(missing), total)
    for number, subject in enumerate(missing, start=total - len(missing) + 1):
        write_cohort_night(folder, config, subject)
        if progress:
            progress(number, total)
    write_people(Path(folder), config, cohort_subjects(config))


def begin_cohort(folder: str | os.PathLike[str], config: SimulateConfig) -> list[Subject]:
    """Take the folder for a cohort of these settings; those whose night has yet to be written.

    Raises:
        ConfigError: the folder holds nights of other settings, or the seed is negative.
    """
    root = Path(folder)
    subjects = cohort_subjects(config)
    root.mkdir(parents=True, exist_ok=True)
    _claim(root, config)
    return [subject for subject in subjects if not night_is_complete(root, subject)]


def cohort_subjects(config: SimulateConfig) -> list[Subject]:
    """Everybody of a cohort, in the order of their numbers."""
    sizes = effects(config.effects)
    return [simulate_subject(index, config.seed, sizes) for index in range(config.num_subjects)]


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
    night = simulate_night(
        subject,
        config.duration_h,
        config.seed,
        recorder,
        config.artefacts,
        measured_spectra=config.spectra == "measured",
    )
    root = Path(folder)
    write_night(root / "edf", subject, night, annotations=root / "annotations")


def _claim(root: Path, config: SimulateConfig) -> None:
    """Note what the folder holds, or refuse to mix it with nights of other settings."""
    file = root / "simulation.json"
    wanted: dict[str, object] = {"seed": config.seed, "duration_h": config.duration_h}
    for name in AND_NIGHTS_DEPEND_ON:
        if getattr(config, name) != getattr(DEFAULTS, name):
            wanted[name] = to_dict(config)[name]
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
