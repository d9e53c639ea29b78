import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation.hypnogram import simulate_hypnogram
from sleepmami.simulation.subjects import Stream, Subject, random_stream, simulate_subject

NUM_EPOCHS = 900  # 7.5 h


def draw(subject: Subject, num_epochs: int = NUM_EPOCHS) -> NDArray[np.int8]:
    rng = random_stream(5, subject.index, Stream.HYPNOGRAM)
    return simulate_hypnogram(subject, num_epochs, rng)


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [simulate_subject(index, seed=5) for index in range(300)]


@pytest.fixture(scope="module")
def nights(subjects: list[Subject]) -> NDArray[np.int8]:
    return np.stack([draw(subject) for subject in subjects])


def share_of_sleep(nights: NDArray[np.int8], stage: Stage) -> NDArray[np.float64]:
    share: NDArray[np.float64] = (nights == stage).sum(axis=1) / (nights != Stage.WAKE).sum(axis=1)
    return share


def slope_per_decade(subjects: list[Subject], values: NDArray[np.float64]) -> float:
    return float(np.polyfit([s.age_years / 10 for s in subjects], values, 1)[0])


@pytest.mark.parametrize("num_epochs", [2, 3, 12, 37, 384, 2880])
def test_any_length_begins_and_ends_awake_in_known_stages(num_epochs: int) -> None:
    night = draw(simulate_subject(0, seed=5), num_epochs)
    assert night.shape == (num_epochs,)
    assert night.dtype == np.int8
    assert night[0] == night[-1] == Stage.WAKE
    assert set(night.tolist()) <= {0, 1, 2, 3, 4}


def test_sleep_begins_through_n1(nights: NDArray[np.int8]) -> None:
    first = (nights != Stage.WAKE).argmax(axis=1)
    assert (nights[np.arange(len(nights)), first] == Stage.N1).all()


def test_n3_is_never_entered_from_wake_or_rem(nights: NDArray[np.int8]) -> None:
    before = nights[:, :-1][(nights[:, 1:] == Stage.N3) & (nights[:, :-1] != Stage.N3)]
    assert set(before.tolist()) <= {int(Stage.N1), int(Stage.N2)}


def test_most_n3_lies_in_the_first_half_and_most_rem_in_the_second(
    nights: NDArray[np.int8],
) -> None:
    half = NUM_EPOCHS // 2
    n3, rem = nights == Stage.N3, nights == Stage.REM
    assert n3[:, :half].sum() > 1.7 * n3[:, half:].sum()
    assert rem[:, half:].sum() > 1.7 * rem[:, :half].sum()


def test_rem_recurs_about_every_ninety_minutes(nights: NDArray[np.int8]) -> None:
    gaps = []
    for night in nights:
        rem = np.flatnonzero(night == Stage.REM)
        breaks = np.flatnonzero(np.diff(rem) > 60)  # 30 min without REM part two periods
        starts = rem[np.concatenate([[0], breaks + 1])]
        gaps += np.diff(starts).tolist()
    assert np.median(gaps) / 2 == pytest.approx(93, abs=12)


def test_stage_shares_resemble_the_cohorts_of_table_5(nights: NDArray[np.int8]) -> None:
    percent = 100 * np.bincount(nights.ravel(), minlength=5) / nights.size
    # Lowest and highest ratio over the scored cohorts of the paper's Table 5: W, N1, N2, N3, REM.
    assert (percent >= [17, 4, 35, 4, 12]).all()
    assert (percent <= [36, 19, 45, 14, 18]).all()


def test_n3_falls_with_age_and_more_in_men(
    subjects: list[Subject], nights: NDArray[np.int8]
) -> None:
    n3 = share_of_sleep(nights, Stage.N3)
    women, men = (np.array([s.sex == sex for s in subjects]) for sex in ("female", "male"))
    slope = {
        name: slope_per_decade([s for s, k in zip(subjects, keep, strict=True) if k], n3[keep])
        for name, keep in (("women", women), ("men", men))
    }
    assert slope["women"] < -0.003
    assert slope["men"] < 1.7 * slope["women"]
    assert n3[men].mean() < n3[women].mean() - 0.03


def test_wake_grows_and_rem_shrinks_with_age(
    subjects: list[Subject], nights: NDArray[np.int8]
) -> None:
    assert slope_per_decade(subjects, (nights == Stage.WAKE).mean(axis=1)) > 0.015
    assert -0.02 < slope_per_decade(subjects, share_of_sleep(nights, Stage.REM)) < -0.003


def test_apnea_makes_sleep_lighter_and_more_broken(subjects: list[Subject]) -> None:
    mild, severe = (
        np.stack([draw(dataclasses.replace(s, ahi_per_h=ahi)) for s in subjects[:80]])
        for ahi in (2.0, 60.0)
    )
    assert share_of_sleep(severe, Stage.N3).mean() < share_of_sleep(mild, Stage.N3).mean() - 0.02
    assert share_of_sleep(severe, Stage.N1).mean() > share_of_sleep(mild, Stage.N1).mean() + 0.04
    assert (severe == Stage.WAKE).mean() > (mild == Stage.WAKE).mean() + 0.03
