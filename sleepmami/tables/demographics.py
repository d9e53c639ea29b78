"""Age, sex, BMI and follow-up of people, and their training statistics."""

import dataclasses
import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sleepmami.errors import TableError

Sex = Literal["female", "male"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One follow-up of a person for survival analysis.

    Attributes:
        name: stable, such as "stroke" or "all_cause_death".
        event: whether it happened within the follow-up; a count in the file is not a flag.
        time_days: from the recording to the event, or to the end of the follow-up.
        prevalent: had happened before the recording: leave the person out of incidence analyses.
    """

    name: str
    event: bool
    time_days: float
    prevalent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Demographics:
    """What is known of the person on the day of a recording; None is unknown.

    Attributes:
        age_top_coded: age_years is the code for everybody at or over it (90 for "over 89").
        ahi: apneas and hypopneas per hour of sleep, as the study's own file states it.
        outcomes: None when there was no follow-up.
    """

    subject_id: str | None = None
    age_years: float | None = None
    age_top_coded: bool = False
    sex: Sex | None = None
    bmi: float | None = None
    ahi: float | None = None
    outcomes: tuple[Outcome, ...] | None = None


def known_number(value: float | None) -> float | None:
    """None where it is not finite: tables from elsewhere may say "unknown" by NaN."""
    return value if value is not None and math.isfinite(value) else None


def demographic_cells(demographics: Demographics | None) -> dict[str, float | str | None]:
    """The columns age_years, sex and bmi of a table; all null when nothing is known."""
    known = demographics or Demographics()
    return {"age_years": known.age_years, "sex": known.sex, "bmi": known.bmi}


def person_cells(demographics: Demographics | None) -> dict[str, Any]:  # Any: a table's values
    """All columns of recordings.lance about the person but subject_id."""
    known = demographics or Demographics()
    outcomes = known.outcomes
    return {
        **demographic_cells(demographics),
        "age_top_coded": None if known.age_years is None else known.age_top_coded,
        "ahi": known.ahi,
        "outcomes": None if outcomes is None else [dataclasses.asdict(o) for o in outcomes],
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class DemographicStatistics:
    """Mean and standard deviation of age (years) and BMI (kg/m^2) over the training set.

    Both numbers of a value are None where the training set knows it of nobody and did not need it.
    """

    age_mean: float | None
    age_std: float | None
    bmi_mean: float | None
    bmi_std: float | None

    @classmethod
    def fit(
        cls, entries: Iterable[Demographics], *, needed: Collection[str] = ("age", "bmi")
    ) -> "DemographicStatistics":
        """Statistics of the known values; a value that never varies gets a deviation of 1.

        Args:
            entries: one per recording or per subject, as the caller gives them; each counts once.
            needed: which of "age" and "bmi" must be there; others may be known of nobody.

        Raises:
            TableError: no entry has an age, or none has a BMI, that is needed.
        """
        known = list(entries)
        ages, bmis = [entry.age_years for entry in known], [entry.bmi for entry in known]
        age_mean, age_std = _mean_and_std("age", ages, "age" in needed)
        bmi_mean, bmi_std = _mean_and_std("BMI", bmis, "bmi" in needed)
        return cls(age_mean=age_mean, age_std=age_std, bmi_mean=bmi_mean, bmi_std=bmi_std)

    def z_scores(
        self, age_years: Sequence[float | None], bmi: Sequence[float | None]
    ) -> tuple[list[float], list[float]]:
        """Both in deviations from the training set's mean; NaN where unknown."""
        return (
            _z_scores(age_years, self.age_mean, self.age_std),
            _z_scores(bmi, self.bmi_mean, self.bmi_std),
        )


def _z_scores(
    values: Sequence[float | None], mean: float | None, deviation: float | None
) -> list[float]:
    if mean is None or deviation is None:
        return [math.nan] * len(values)
    return [math.nan if value is None else (value - mean) / deviation for value in values]


def _mean_and_std(
    name: str, values: list[float | None], needed: bool
) -> tuple[float, float] | tuple[None, None]:
    known = [value for value in map(known_number, values) if value is not None]
    if not known and not needed:
        return None, None
    if not known:
        raise TableError(
            f"found no {name} among {len(values)} training entries; expected at least one"
        )
    # exact arithmetic: rounding would give equal values a tiny deviation to be divided by
    return statistics.fmean(known), statistics.pstdev(known) or 1.0
