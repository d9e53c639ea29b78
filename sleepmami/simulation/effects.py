"""How age and sex act on sleep: the sizes in which the two `simulate.effects` differ.

Effects that are not here have one size in both: heart rate variability (heart.py), arousals and
desaturations (events.py), the apnea index (subjects.py), wake and latency (hypnogram.py).
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

Sex = Literal["female", "male"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """Sizes at 20 years and their change; a share is of the time asleep.

    Attributes:
        n1_per_year: growth of the N1 share.
        n3_women: N3 share at 20 years, before apnea takes some.
        n3_women_per_year: its loss.
        n3_men: ditto for men.
        n3_men_per_year: ditto.
        alpha_hz: peak of the waking rhythm at 20 years.
        alpha_hz_per_year: its slowing.
        alpha_range_hz: of individuals.
        spindle_gain_per_year: relative loss of spindle amplitude, exponential.
        spindle_gain_women: amplitude of women's spindles relative to men's.
        spindle_hz_per_year: rise of the spindle frequency.
        rem_apnea_women: rate of respiratory events in REM relative to the other weights, women.
        rem_apnea_men: ditto for men.
    """

    n1_per_year: float
    n3_women: float
    n3_women_per_year: float
    n3_men: float
    n3_men_per_year: float
    alpha_hz: float
    alpha_hz_per_year: float
    alpha_range_hz: tuple[float, float]
    spindle_gain_per_year: float
    spindle_gain_women: float
    spindle_hz_per_year: float
    rem_apnea_women: float
    rem_apnea_men: float

    def n3_share(self, age_years: float, sex: Sex) -> float:
        """Expected share of N3 without apnea."""
        years = age_years - 20.0
        if sex == "male":
            return self.n3_men - self.n3_men_per_year * years
        return self.n3_women - self.n3_women_per_year * years

    def spindle_gain(self, age_years: float, sex: Sex) -> float:
        """Amplitude of spindles relative to a man of 20 years."""
        of_sex = self.spindle_gain_women if sex == "female" else 1.0
        return of_sex * math.exp(-self.spindle_gain_per_year * (age_years - 20.0))

    def rem_apnea(self, sex: Sex) -> float:
        """Relative rate of respiratory events in REM."""
        return self.rem_apnea_women if sex == "female" else self.rem_apnea_men


# Set so that stage shares resemble the paper's Table 5 at each cohort's mean age and sex. Men lose
# 2.1 points of N3 a decade, women 0.7: the gap of the sexes is about twice that of Redline et al.
PLAIN: Final = Effects(
    n1_per_year=0.0009,
    n3_women=0.235,
    n3_women_per_year=0.0007,
    n3_men=0.235,
    n3_men_per_year=0.0021,
    alpha_hz=10.4,
    alpha_hz_per_year=0.015,
    alpha_range_hz=(8.2, 11.8),
    spindle_gain_per_year=0.0,
    spindle_gain_women=1.0,
    spindle_hz_per_year=0.0,
    rem_apnea_women=1.3,
    rem_apnea_men=1.3,
)
# Sizes of the sources where they give one, cited from memory:
# - N3: about 2 points a decade up to 60 years (Ohayon et al. 2004, both sexes); 11.2 % in men and
#   14.2 % in women of SHHS, a gap of 3 points (Redline et al. 2004).
# - N1: about 5 points more over the adult life (Ohayon et al. 2004); apnea adds its own.
# - Alpha: 11.95 Hz - 0.053 Hz a year (Koepruner et al. 1984, in Klimesch 1999): 10.9 Hz at 20.
# - Spindles: smaller and somewhat faster with age (Martin et al. 2013; Crowley et al. 2002), larger
#   in women (Ujma et al. 2014); sizes ours.
# - Women's apnea gathers in REM (O'Connor et al. 2000); size ours.
PUBLISHED: Final = Effects(
    n1_per_year=0.0005,
    n3_women=0.225,
    n3_women_per_year=0.0013,
    n3_men=0.220,
    n3_men_per_year=0.0018,
    alpha_hz=10.89,
    alpha_hz_per_year=0.053,
    alpha_range_hz=(6.5, 12.8),
    spindle_gain_per_year=0.006,
    spindle_gain_women=1.15,
    spindle_hz_per_year=0.006,
    rem_apnea_women=2.2,
    rem_apnea_men=1.2,
)
_BY_NAME: Final = {"plain": PLAIN, "published": PUBLISHED}


def effects(name: str) -> Effects:
    """The sizes of a name in `simulate.effects`; KeyError for any other."""
    return _BY_NAME[name]
