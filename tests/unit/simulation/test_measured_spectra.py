import math

import numpy as np
import pytest

from sleepmami.psg import Stage
from sleepmami.simulation import noise
from sleepmami.simulation.measured_spectra import (
    KNOTS_HZ,
    MOVED_DB,
    PERSON_DB,
    STAGE_DB,
    frame_gains,
    stage_gains,
)
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.subjects import simulate_subject
from tests.unit.simulation.conftest import band_power, samples

FREQUENCY_HZ = noise.frame_frequencies(125)


def test_the_rows_are_in_the_order_of_the_stages() -> None:
    assert [int(s) for s in list(Stage)[1:]] == [0, 1, 2, 3, 4]
    assert MOVED_DB.shape == (5, KNOTS_HZ.size)


def test_people_lie_about_the_measured_median_with_the_stated_spread() -> None:
    rng = np.random.default_rng(0)
    gains_db = 10 * np.log10([stage_gains(KNOTS_HZ, rng) for _ in range(800)])
    np.testing.assert_allclose(gains_db.mean(axis=0), MOVED_DB, atol=0.35)  # 2.6 / sqrt(800) = 0.09
    spread = math.hypot(PERSON_DB, STAGE_DB)
    np.testing.assert_allclose(gains_db.std(axis=0), spread, rtol=0.12)
    within = (gains_db - gains_db.mean(axis=0))[:, :, 5]  # at 6 Hz: two stages of one person
    alike = np.corrcoef(within[:, 2], within[:, 3])[0, 1]
    assert alike == pytest.approx(PERSON_DB**2 / spread**2, abs=0.06)


def test_frequencies_between_two_knots_lie_between_them_and_none_is_lost() -> None:
    gains = stage_gains(FREQUENCY_HZ, np.random.default_rng(1))
    at_knots = stage_gains(KNOTS_HZ, np.random.default_rng(1))
    assert np.isfinite(gains).all()
    assert gains[0, 0] == at_knots[0, 0]  # below the first knot as at it
    low, high = sorted(at_knots[3, 1:3])
    inside = gains[3, (FREQUENCY_HZ > 1) & (FREQUENCY_HZ < 2)]
    assert ((inside >= low) & (inside <= high)).all()


def test_wake_comes_and_goes_more_than_rem() -> None:
    spread = {}
    for stage in (Stage.WAKE, Stage.REM):
        stages = np.full(20_000, stage, np.int8)
        gains = frame_gains(stages, FREQUENCY_HZ, np.random.default_rng(2))
        spread[stage] = 10 * np.log10(gains[:, np.searchsorted(FREQUENCY_HZ, 2.0)]).std()
    assert spread[Stage.WAKE] == pytest.approx(3.8, rel=0.1)
    assert spread[Stage.REM] == pytest.approx(0.6, rel=0.1)


def test_smooth_and_measured_nights_share_everything_but_the_eeg_in_head_channels() -> None:
    subject = simulate_subject(2, 5)
    smooth, measured = (
        simulate_night(subject, 0.5, 5, measured_spectra=choice) for choice in (False, True)
    )
    assert smooth.events == measured.events
    for one, other in zip(smooth.channels, measured.channels, strict=True):
        head = one.label.startswith(("EEG", "EOG"))
        assert np.array_equal(one.samples, other.samples) != head, one.label


def test_slow_waves_still_mark_n3() -> None:
    subject = simulate_subject(0, 5)
    night = simulate_night(subject, 3.0, 5, measured_spectra=True)
    signal = samples(night, "EEG C4-A1")
    delta = {s: band_power(signal, night.hypnogram == s, 0.5, 4.0) for s in (Stage.N2, Stage.N3)}
    assert delta[Stage.N3] > 2 * delta[Stage.N2]
