"""What becomes of the sleepers: a latent risk and seven outcomes with times and censoring.

Each person has one log hazard, the sum of `RISK_FACTORS` and of a frailty that nothing in the night
shows, and each outcome's hazard is a constant times its exponential. So hazards are proportional,
Cox's model is the right one, and the best possible C-index is below 1 by the frailty and by chance.
Sources are cited from memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from sleepmami.simulation.measures import NightMeasures
from sleepmami.simulation.subjects import Stream, Subject, random_stream
from sleepmami.tables.demographics import Outcome

DAYS_PER_YEAR = 365.25
FRAILTY = 0.5  # standard deviation of the part of the log hazard that no recording shows
LOST_PER_YEAR = 0.01  # people who cannot be found again
RECRUITED_OVER = 0.2  # of the follow-up; those who came last are followed so much shorter
YEARS_BEFORE = 5.0  # in which an event counts as prevalent


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskFactor:
    """A term of the log hazard: log(hazard_ratio) * (value - reference) / unit.

    Attributes:
        name: a column of truth.csv, or of metadata.csv.
        hazard_ratio: per `unit` more of it.
        source: of the direction, and of the size where it says so.
    """

    name: str
    hazard_ratio: float
    unit: float
    reference: float
    value: Callable[[Subject, NightMeasures], float]
    source: str

    def term(self, subject: Subject, night: NightMeasures) -> float:
        """Its part of the log hazard."""
        above = self.value(subject, night) - self.reference
        return math.log(self.hazard_ratio) * above / self.unit


RISK_FACTORS: Final = (
    RiskFactor(
        name="age_years",
        hazard_ratio=1.6,
        unit=10.0,
        reference=60.0,
        value=lambda subject, night: subject.age_years,
        source="D'Agostino et al. 2008: 3.06 per log age in men is 1.60 from 60 to 70 years",
    ),
    RiskFactor(
        name="male",
        hazard_ratio=1.5,
        unit=1.0,
        reference=0.5,
        value=lambda subject, night: float(subject.sex == "male"),
        source="Jousilahti et al. 1999: men have more coronary disease; size ours",
    ),
    RiskFactor(
        name="bmi_over_25",
        hazard_ratio=1.29,
        unit=5.0,
        reference=2.5,
        value=lambda subject, night: max(subject.bmi - 25.0, 0.0),
        source="Prospective Studies Collaboration 2009: 1.29 in all-cause mortality per 5 kg/m2",
    ),
    RiskFactor(
        name="log2_hypoxic_burden",
        hazard_ratio=1.2,
        unit=1.0,
        reference=4.0,
        value=lambda subject, night: math.log2(1.0 + night.hypoxic_burden),
        source="Azarbarzin et al. 2019: 1.96 between the outer fifths of SHHS; 1.2 a doubling ours",
    ),
    RiskFactor(
        name="rem_share",
        hazard_ratio=1 / 1.13,
        unit=0.05,
        reference=0.19,
        value=lambda subject, night: night.rem_share,
        source="Leary et al. 2020: 1.13 in mortality per 5 points less REM",
    ),
    RiskFactor(
        name="n3_share",
        hazard_ratio=1 / 1.05,
        unit=0.05,
        reference=0.12,
        value=lambda subject, night: night.n3_share,
        source="Javaheri et al. 2018: hypertension after little slow-wave sleep; size ours",
    ),
    RiskFactor(
        name="arousals_per_h",
        hazard_ratio=1.1,
        unit=10.0,
        reference=25.0,
        value=lambda subject, night: night.arousals_per_h,
        source="Shahrbabaki et al. 2021: arousal burden and cardiovascular death; size ours",
    ),
    RiskFactor(
        name="heart_rate_bpm",
        hazard_ratio=1.08,
        unit=10.0,
        reference=62.0,
        value=lambda subject, night: subject.heart_rate_bpm,
        source="Zhang et al. 2016: 1.08 in cardiovascular mortality per 10 beats a minute, at rest",
    ),
)
# Events per person and year where the log hazard is 0; roughly a cohort of 60 years, sizes ours.
DEATHS_PER_YEAR: Final = {"chd_death": 0.003, "other_cvd_death": 0.002, "other_death": 0.009}
EVENTS_PER_YEAR: Final = {"angina": 0.010, "chf": 0.010, "mi": 0.007, "stroke": 0.005}
# The paper's six tasks and death of any cause, in the order of docs/people.md.
OUTCOMES: Final = ("angina", "cvd_death", "chf", "chd_death", "mi", "stroke", "all_cause_death")


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowUp:
    """The truth of one person's risk, and what a study would know of it.

    Attributes:
        log_hazard: of every outcome relative to its constant, with the frailty.
        frailty: the part that no recording shows.
        outcomes: in the order of OUTCOMES.
    """

    log_hazard: float
    frailty: float
    outcomes: tuple[Outcome, ...]


def visible_log_hazard(subject: Subject, night: NightMeasures) -> float:
    """The log hazard without the frailty: the best that a model could know."""
    return sum(factor.term(subject, night) for factor in RISK_FACTORS)


def simulate_follow_up(subject: Subject, night: NightMeasures, years: float, seed: int) -> FollowUp:
    """Draw what happens to one person after the night; depends on these arguments alone.

    Death ends the follow-up of every outcome, as do its planned end and being lost. Deaths by
    coronary disease are cardiovascular deaths, and those are deaths. Whoever had an event in the
    YEARS_BEFORE the night is prevalent; new events are drawn all the same, as studies count them.
    """
    rng = random_stream(seed, subject.index, Stream.FOLLOW_UP)
    frailty = FRAILTY * rng.standard_normal()
    log_hazard = visible_log_hazard(subject, night) + frailty
    ratio = math.exp(log_hazard)
    rates = {**DEATHS_PER_YEAR, **EVENTS_PER_YEAR}
    drawn = rng.exponential(size=len(rates)) / ratio / np.array(list(rates.values()))
    year_of = dict(zip(rates, drawn.tolist(), strict=True))
    had = dict(zip(EVENTS_PER_YEAR, rng.random(len(EVENTS_PER_YEAR)).tolist(), strict=True))
    planned = years * (1 - RECRUITED_OVER * rng.random())
    followed = min(planned, rng.exponential(1 / LOST_PER_YEAR))
    cause = min(DEATHS_PER_YEAR, key=year_of.__getitem__)
    end = min(followed, year_of[cause])
    dead = year_of[cause] <= followed
    happened = {
        "chd_death": dead and cause == "chd_death",
        "cvd_death": dead and cause != "other_death",
        "all_cause_death": dead,
        **{name: year_of[name] <= end for name in EVENTS_PER_YEAR},
    }
    outcomes = []
    for name in OUTCOMES:
        year = year_of[name] if name in EVENTS_PER_YEAR and happened[name] else end
        before = 1 - math.exp(-EVENTS_PER_YEAR.get(name, 0.0) * ratio * YEARS_BEFORE)
        outcomes.append(
            Outcome(
                name=name,
                event=happened[name],
                time_days=float(math.ceil(year * DAYS_PER_YEAR)),
                prevalent=had.get(name, 1.0) < before,
            )
        )
    return FollowUp(log_hazard=log_hazard, frailty=float(frailty), outcomes=tuple(outcomes))
