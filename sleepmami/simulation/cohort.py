"""A folder of simulated nights with their tables of people; a stopped run goes on.

Layout `plain` is edf/, annotations/ and metadata.csv; `shhs` is a download of SHHS (shhs.py).
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sleepmami.config import SimulateConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import ConfigError
from sleepmami.simulation.devices import device_of
from sleepmami.simulation.effects import effects
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import edf_path, replacing, write_night, xml_path
from sleepmami.simulation.people_files import write_people
from sleepmami.simulation.shhs import night_seed, shhs_folders, shhs_recorder, shhs_subjects
from sleepmami.simulation.shhs_tables import write_shhs_people
from sleepmami.simulation.subjects import Subject, simulate_subject

AND_NIGHTS_DEPEND_ON = (
    "devices",
    "layout",
    "effects",
    "spectra",
    "artefacts",
)  # besides seed and duration
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
        folder: gets NAME.edf, NAME-nsrr.xml and tables where the layout has them, and
            simulation.json.
        config: how many, how long, which seed.
        progress: called as (nights complete, nights in all) at the start and after each night.

    Raises:
        ConfigError: the folder holds nights of other settings, or the seed is negative.
    """
    missing = begin_cohort(folder, config)
    subjects = cohort_subjects(config)
    total = len(subjects)
    if progress:
        progress(total - len(missing), total)
    for number, subject in enumerate(missing, start=total - len(missing) + 1):
        write_cohort_night(folder, config, subject)
        if progress:
            progress(number, total)
    write_cohort_tables(folder, config, subjects)


def begin_cohort(folder: str | os.PathLike[str], config: SimulateConfig) -> list[Subject]:
    """Take the folder for a cohort of these settings; those whose night has yet to be written.

    Raises:
        ConfigError: the folder holds nights of other settings, or the seed is negative.
    """
    root = Path(folder)
    subjects = cohort_subjects(config)
    root.mkdir(parents=True, exist_ok=True)
    _claim(root, config)
    return [subject for subject in subjects if not night_is_complete(root, config, subject)]


def cohort_subjects(config: SimulateConfig) -> list[Subject]:
    """Every night of a cohort, in the order of the people's numbers."""
    sizes = effects(config.effects)
    if config.layout == "shhs":
        return shhs_subjects(config.num_subjects, config.seed, sizes)
    return [simulate_subject(index, config.seed, sizes) for index in range(config.num_subjects)]


def night_is_complete(
    folder: str | os.PathLike[str], config: SimulateConfig, subject: Subject
) -> bool:
    """Both files of the subject's night are in a cohort's folder; the EDF is written last."""
    edfs, scorings = _folders(Path(folder), config, subject)
    return edf_path(edfs, subject).is_file() and xml_path(scorings, subject).is_file()


def write_cohort_tables(
    folder: str | os.PathLike[str], config: SimulateConfig, subjects: Sequence[Subject]
) -> None:
    """The tables of people, as the layout has them."""
    write = write_shhs_people if config.layout == "shhs" else write_people
    write(Path(folder), config, subjects)


def _folders(root: Path, config: SimulateConfig, subject: Subject) -> tuple[Path, Path]:
    """Of a night's EDF and of its scoring."""
    if config.layout == "shhs":
        return shhs_folders(root, subject)
    return root / "edf", root / "annotations"


def write_cohort_night(
    folder: str | os.PathLike[str], config: SimulateConfig, subject: Subject
) -> None:
    """Simulate and write one night of a cohort; safe to run for many subjects at once."""
    shhs = config.layout == "shhs"
    night = simulate_night(
        subject,
        config.duration_h,
        night_seed(config.seed, subject),
        shhs_recorder(subject) if shhs else device_of(config.devices, subject.index),
        config.artefacts,
        measured_spectra=config.spectra == "measured",
    )
    edfs, scorings = _folders(Path(folder), config, subject)
    write_night(edfs, subject, night, annotations=scorings)


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
