"""The tables of a SHHS-shaped cohort, with NSRR's names of files and columns.

Columns are those of the data dictionary 0.21.0 that a simulated night has an answer to; the real
tables have hundreds more. `truth.csv` is ours, and no part of a download.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from sleepmami.config import SimulateConfig
from sleepmami.simulation.follow_up import FollowUp, simulate_follow_up
from sleepmami.simulation.measures import NightMeasures, measure_night
from sleepmami.simulation.night import plan_night
from sleepmami.simulation.people_files import TRUTH_COLUMNS, truth_cells, write_csv
from sleepmami.simulation.shhs import night_seed, shhs_id
from sleepmami.simulation.subjects import Subject
from sleepmami.tables.demographics import Outcome

VERSION: Final = "0.21.0"
TOP_CODE_YEARS: Final = 90  # everybody over 89
_GENDER: Final = {"male": 1, "female": 2}
_SLEEP: Final = (
    "ahi_a0h3",
    "slpprdp",
    "waso",
    "timest1p",
    "timest2p",
    "times34p",
    "timeremp",
    "ai_all",
)
_HARMONISED: Final = (
    "nsrrid",
    "visitnumber",
    "nsrr_age",
    "nsrr_age_gt89",
    "nsrr_sex",
    "nsrr_bmi",
    "nsrr_ahi_hp3u",
    "nsrr_ttldursp_f1",
)
# outcome: column of the event, of its time, of what was before; docs/people.md
_EVENTS: Final[dict[str, tuple[str, str, str | None]]] = {
    "angina": ("angina", "ang_date", "prev_ang"),
    "chf": ("chf", "chf_date", "prev_chf"),
    "mi": ("mi", "mi_date", "prev_mi"),
    "stroke": ("stroke", "stk_date", "prev_stk"),
    "cvd_death": ("cvd_death", "cvd_dthdt", None),
    "chd_death": ("chd_death", "chd_dthdt", None),
}
_FOLLOW_UP: Final = (
    "nsrrid",
    *(column for columns in _EVENTS.values() for column in columns if column),
    "vital",
    "censdate",
)


def write_shhs_people(root: Path, config: SimulateConfig, subjects: Sequence[Subject]) -> None:
    """datasets/*.csv of both visits; with `follow_up_years` also the summary and truth.csv.

    A night without sleep has no index and no follow-up.
    """
    measured = [
        (s, measure_night(plan_night(s, config.duration_h, night_seed(config.seed, s))))
        for s in subjects
    ]
    for visit in (1, 2):
        name = f"shhs{visit}-dataset-{VERSION}.csv"
        header = ("nsrrid", "visitnumber", "gender", f"age_s{visit}", f"bmi_s{visit}", *_SLEEP)
        rows = [_dataset_row(s, night) for s, night in measured if s.visit == visit]
        write_csv(_dataset(root, name), header, rows)
    harmonised = [_harmonised_row(s, night) for s, night in measured]
    write_csv(_dataset(root, f"shhs-harmonized-dataset-{VERSION}.csv"), _HARMONISED, harmonised)
    summary = _dataset(root, f"shhs-cvd-summary-dataset-{VERSION}.csv")
    if not config.follow_up_years:
        for file in (summary, root / "truth.csv"):
            file.unlink(missing_ok=True)  # of an earlier call with a follow-up
        return
    followed = [
        (s, night, simulate_follow_up(s, night, config.follow_up_years, config.seed))
        for s, night in measured
        if s.visit == 1 and night  # times count from the first night
    ]
    write_csv(summary, _FOLLOW_UP, (_summary_row(s, after) for s, _, after in followed))
    truths: Iterable[list[object]] = (
        [s.subject_id, *truth_cells(s, night, after)] for s, night, after in followed
    )
    write_csv(root / "truth.csv", TRUTH_COLUMNS, truths)


def _dataset(root: Path, name: str) -> Path:
    folder = root / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _age(subject: Subject) -> int:
    """In whole years."""
    return min(int(subject.age_years), TOP_CODE_YEARS)


def _dataset_row(subject: Subject, night: NightMeasures | None) -> list[object]:
    row: list[object] = [shhs_id(subject), subject.visit, _GENDER[subject.sex], _age(subject)]
    row.append(subject.bmi)
    if night is None:
        return row + [""] * len(_SLEEP)
    shares = (night.n1_share, night.n2_share, night.n3_share, night.rem_share)
    minutes = (60 * night.sleep_h, night.waso_min)
    return [
        *row,
        f"{night.ahi_per_h:.4f}",
        *(f"{value:.1f}" for value in minutes),
        *(f"{100 * share:.2f}" for share in shares),
        f"{night.arousals_per_h:.4f}",
    ]


def _harmonised_row(subject: Subject, night: NightMeasures | None) -> list[object]:
    over_89 = "yes" if subject.age_years >= TOP_CODE_YEARS else "no"
    row: list[object] = [shhs_id(subject), subject.visit, _age(subject), over_89, subject.sex]
    if night is None:
        return [*row, subject.bmi, "", ""]
    return [*row, subject.bmi, f"{night.ahi_per_h:.4f}", f"{60 * night.sleep_h:.1f}"]


def _summary_row(subject: Subject, after: FollowUp) -> list[object]:
    """Counts of events, days to the first, and when the follow-up ended (`censdate`)."""
    by_name: dict[str, Outcome] = {outcome.name: outcome for outcome in after.outcomes}
    row: list[object] = [shhs_id(subject)]
    for name, (_, _, before) in _EVENTS.items():
        outcome = by_name[name]
        row += [int(outcome.event), f"{outcome.time_days:.0f}" if outcome.event else ""]
        row += [int(outcome.prevalent)] if before else []
    death = by_name["all_cause_death"]
    return [*row, int(not death.event), f"{death.time_days:.0f}"]
