"""Who sleeps: age, sex, body mass index, and the apnea-hypopnea index they imply."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from sleepmami.errors import ConfigError
from sleepmami.simulation.effects import PLAIN, Effects

YOUNGEST_YEARS, OLDEST_YEARS = 20.0, 88.0
BMI_RANGE = (17.0, 50.0)
AHI_RANGE = (0.2, 90.0)
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class Stream(IntEnum):
    """Independent random streams of one subject: what one draws never shifts another."""

    SUBJECT = 0
    HYPNOGRAM = 1
    EVENTS = 2
    RESPIRATION = 3
    HEART = 4
    EEG = 5
    EYES = 6
    MUSCLE = 7
    HARDWARE = 8
    ARTEFACTS = 9
    FOLLOW_UP = 10
    SPECTRA = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One simulated person; the traits below the demographics differ between people of one age.

    Attributes:
        index: number of the subject in its cohort, from 0.
        subject_id: name, also of the only recording; of this night, where there are several.
        ahi_per_h: expected apneas and hypopneas per hour of sleep; one night's count varies.
        heart_rate_bpm: in N2, between respiratory events.
        breaths_per_min: in N2.
        alpha_hz: peak of the waking alpha rhythm.
        spindle_hz: frequency of the sleep spindles.
        eeg_gain: amplitude of the EEG relative to others of the same age and sex.
        oximeter_delay_s: from a change of ventilation to its effect at the finger.
        effects: sizes of what age and sex do besides the traits above.
        visit: which night of the person it is, where a layout has several.
    """

    index: int
    subject_id: str
    age_years: float
    sex: Literal["female", "male"]
    bmi: float
    ahi_per_h: float
    heart_rate_bpm: float
    breaths_per_min: float
    alpha_hz: float
    spindle_hz: float
    eeg_gain: float
    oximeter_delay_s: float
    effects: Effects = PLAIN
    visit: int = 1


def random_stream(seed: int, index: int, stream: Stream) -> np.random.Generator:
    """The generator of one stream of one subject; ConfigError when seed or index is negative."""
    if seed < 0 or index < 0:
        raise ConfigError(
            f"simulate.seed and the subject's index must be >= 0, got {seed}, {index}"
        )
    return np.random.default_rng([seed, index, int(stream)])


def expected_ahi(age_years: float, sex: str, bmi: float) -> float:
    """Median apnea-hypopnea index per hour for these demographics.

    Medians at 57 years and 25.6 kg/m2 are 14.9 (men) and 6.9 (women), HypnoLaus (Heinzer et al.
    2015). Ten percent more weight raises the index by 32 % (Peppard et al. 2000): a power of BMI.
    It rises with age until about 60 years, then stays (Young et al. 2002); the slope is our choice.
    """
    median = 14.9 if sex == "male" else 6.9
    weight = math.pow(bmi / 25.6, math.log(1.32) / math.log(1.10))
    return median * weight * math.exp(0.025 * (min(age_years, 60.0) - 57.0))


def simulate_subject(index: int, seed: int, effects: Effects = PLAIN) -> Subject:
    """Draw one subject; depends on (seed, index) and the sizes of effects alone.

    Sexes alternate and ages follow a golden-ratio sequence from 20 to 88 years, so that even a
    cohort of a dozen spans both. BMI is lognormal about 27.3 kg/m2, the middle of Table 5.

    Raises:
        ConfigError: `seed` or `index` is negative.
    """
    rng = random_stream(seed, index, Stream.SUBJECT)
    first_age = random_stream(seed, 0, Stream.SUBJECT).random()
    age = YOUNGEST_YEARS + (OLDEST_YEARS - YOUNGEST_YEARS) * (
        (first_age + index * GOLDEN_RATIO) % 1
    )
    sex: Literal["female", "male"] = "male" if index % 2 else "female"
    bmi = float(np.clip(27.0 * math.exp(0.17 * rng.standard_normal()), *BMI_RANGE))
    # 0.8 is what BMI and age leave of the spread of log AHI in Heinzer et al. 2015.
    ahi = expected_ahi(age, sex, bmi) * math.exp(0.8 * rng.standard_normal())
    alpha_hz = effects.alpha_hz - effects.alpha_hz_per_year * (age - 20)
    return Subject(
        index=index,
        subject_id=f"sim-{index + 1:04d}",
        age_years=round(age, 1),
        sex=sex,
        bmi=round(bmi, 1),
        ahi_per_h=round(float(np.clip(ahi, *AHI_RANGE)), 1),
        heart_rate_bpm=float(np.clip(rng.normal(60 if sex == "male" else 63, 6), 45, 85)),
        breaths_per_min=float(np.clip(rng.normal(15, 1.5), 11, 20)),
        # The alpha rhythm slows with age (Klimesch 1999).
        alpha_hz=float(np.clip(rng.normal(alpha_hz, 0.5), *effects.alpha_range_hz)),
        spindle_hz=float(np.clip(rng.normal(13.1, 0.4), 12.2, 14.0))
        + effects.spindle_hz_per_year * (age - 54.0),
        eeg_gain=float(np.clip(math.exp(rng.normal(0, 0.15)), 0.7, 1.4)),
        oximeter_delay_s=float(np.clip(rng.normal(20, 2.5), 14, 27)),
        effects=effects,
    )
