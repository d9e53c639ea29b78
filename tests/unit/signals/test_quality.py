import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.psg import Modality
from sleepmami.signals.quality import (
    EpochQuality,
    Fault,
    bridge,
    measured_quality,
    merged,
    moments,
    oximeter_quality,
    raw_quality,
    second_sums,
    with_flat_seconds,
    with_gaps,
    with_outliers,
)

RATE_HZ = 100.0
RAILS = (-2048, 2047)
EPOCH = 3000


def night(num_epochs: int = 4, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).normal(0, 50, num_epochs * EPOCH).astype(np.int16)


def judge(samples: NDArray[np.int16], modality: Modality = Modality.EEG) -> EpochQuality:
    return raw_quality(samples, RATE_HZ, len(samples) // EPOCH, RAILS, modality)


def test_a_clean_signal_is_usable_throughout() -> None:
    quality = judge(night())
    assert quality.usable.tolist() == [True] * 4
    assert quality.counts() == {}
    assert quality.describe() == ""


def test_constant_and_last_bit_toggling_epochs_are_flat() -> None:
    samples = night()
    samples[:EPOCH] = 7
    samples[EPOCH : 2 * EPOCH] = np.arange(EPOCH) % 16 == 0  # deviation 0.24 steps
    assert judge(samples).faults[Fault.FLAT].tolist() == [True, True, False, False]


def test_a_flat_epoch_with_one_spike_is_still_flat_but_a_small_signal_is_not() -> None:
    samples = night()
    samples[:EPOCH] = 7
    samples[10] = 30  # 23 / sqrt(3000) = 0.42 steps
    samples[EPOCH : 2 * EPOCH] = np.arange(EPOCH) % 3  # deviation 0.82 steps
    assert judge(samples).faults[Fault.FLAT].tolist() == [True, False, False, False]


def test_more_than_a_twentieth_at_the_rails_is_clipped() -> None:
    samples = night()
    samples[:140] = RAILS[1]
    samples[140:155] = RAILS[0]  # 155 of 3000: above 5 percent
    samples[EPOCH : EPOCH + 145] = RAILS[1]  # 145: below
    quality = judge(samples)
    assert quality.faults[Fault.CLIPPED].tolist() == [True, False, False, False]
    assert quality.describe() == "1 of 4 epochs unusable (clipped 1)"


def test_breathing_may_clip_up_to_half_of_the_time() -> None:
    samples = night()
    samples[:1400] = RAILS[1]
    assert judge(samples, Modality.RESP).usable.all()
    samples[:1600] = RAILS[1]
    assert judge(samples, Modality.RESP).usable.tolist() == [False, True, True, True]


def test_seconds_with_a_clipped_sample_are_known() -> None:
    samples = night()
    samples[EPOCH + 250] = RAILS[0]
    assert np.flatnonzero(judge(samples).clipped_seconds).tolist() == [32]


def test_samples_beyond_the_header_move_the_rails() -> None:
    samples = night()
    samples[:200] = 2047
    samples[-1] = 9000
    assert judge(samples).usable.all()


def test_a_fractional_rate_cuts_epochs_by_time() -> None:
    rate_hz = 10 / 1.0284
    samples = (np.arange(round(4 * 30 * rate_hz)) % 50).astype(np.int16)
    flat = (np.arange(len(samples)) / rate_hz >= 60) & (np.arange(len(samples)) / rate_hz < 90)
    samples[flat] = 3
    quality = raw_quality(samples, rate_hz, 4, RAILS, Modality.RESP)
    assert quality.faults[Fault.FLAT].tolist() == [False, False, True, False]


def test_an_epoch_half_without_oximeter_readings_is_unusable() -> None:
    measured = np.ones(90, dtype=bool)
    measured[:15] = False
    measured[30:46] = False
    assert measured_quality(measured).usable.tolist() == [True, False, True]


def test_a_fault_of_the_reference_is_a_fault_of_the_derivation() -> None:
    first, second = night(), night()
    first[:EPOCH] = 0
    second[EPOCH : 2 * EPOCH] = 0
    assert merged([judge(first), judge(second)]).usable.tolist() == [False, False, True, True]


def test_an_epoch_a_hundred_times_the_typical_is_out_of_range() -> None:
    samples = night(6).astype(np.float32)
    samples[:EPOCH] *= 50
    samples[EPOCH : 2 * EPOCH] *= 300
    quality = with_outliers(judge(night(6)), samples)
    assert np.flatnonzero(quality.faults[Fault.OUT_OF_RANGE]).tolist() == [1]


def test_an_epoch_whose_signal_stops_for_long_is_flat_and_a_short_stop_is_not() -> None:
    rng = np.random.default_rng(7)
    seconds = rng.normal(0, 20, (4 * 30, 100)).astype(np.float32)
    seconds[30:41] = 3.0  # 11 s of epoch 1: more than a third
    seconds[60:70] = 3.0  # 10 s of epoch 2: a third
    sums = second_sums(seconds.reshape(-1), 4)
    whole = EpochQuality({Fault.FLAT: np.zeros(4, bool)}, np.zeros(120, bool))
    found = with_flat_seconds(whole, sums, 100)
    assert found.faults[Fault.FLAT].tolist() == [False, True, False, False]


def test_limits_in_a_known_unit_find_dead_and_impossible_epochs() -> None:
    samples = night(6).astype(np.float32)  # deviation 50
    samples[:EPOCH] *= 0.001
    samples[EPOCH : 2 * EPOCH] *= 20
    quality = with_outliers(judge(night(6)), samples, (0.1, 800.0))
    assert quality.counts() == {Fault.OUT_OF_RANGE: 1, Fault.DISCONNECTED: 1}
    assert np.flatnonzero(quality.faults[Fault.DISCONNECTED]).tolist() == [0]
    assert np.flatnonzero(quality.faults[Fault.OUT_OF_RANGE]).tolist() == [1]
    assert with_outliers(judge(night(6)), samples).usable.all()  # unit not known


@pytest.mark.parametrize("limits", [(0.1, 15.0), (60.0, 800.0)])
def test_limits_have_no_say_when_the_whole_night_is_beyond_them(
    limits: tuple[float, float],
) -> None:
    samples = night(6).astype(np.float32)  # deviation 50: the header's unit must be wrong
    assert with_outliers(judge(night(6)), samples, limits).usable.all()


def test_a_night_a_little_above_the_limit_is_out_of_range() -> None:
    samples = night(6).astype(np.float32)
    quality = with_outliers(judge(night(6)), samples, (0.1, 30.0))
    assert quality.counts() == {Fault.OUT_OF_RANGE: 6}


def test_an_epoch_that_a_gap_touches_has_no_other_fault() -> None:
    samples = night(6)
    samples[2 * EPOCH :] = 7  # what fills a gap is as flat as a dead channel
    quality = with_gaps(judge(samples), [(59.99, 120.0), (179.5, 180.0)])
    assert quality.faults[Fault.GAP].tolist() == [False, True, True, True, False, True]
    assert quality.counts() == {Fault.FLAT: 1, Fault.GAP: 4}
    assert quality.share == 0.5  # epoch 0 is good, epoch 4 flat: gaps are no channel's fault


def test_gaps_at_the_borders_of_epochs_touch_no_neighbour() -> None:
    quality = with_gaps(judge(night(6)), [(60.0, 90.0), (0.1 + 0.2 + 119.7, 150.0 + 1e-9)])
    assert np.flatnonzero(~quality.usable).tolist() == [2, 4]
    assert with_gaps(judge(night()), []).counts() == {}
    assert with_gaps(judge(night(2)), [(10.0, 50.0)]).share == 0


def test_one_repeated_implausible_reading_is_a_sentinel_and_others_are_not() -> None:
    percent = np.full(120, 96, np.float32)
    percent[:30] = -1
    percent[30:60] = np.linspace(0, 25, 30)
    percent[70] = 127  # isolated: the epoch stays
    measured = (percent > 30) & (percent <= 100)
    quality = oximeter_quality(percent, 1.0, measured, (30.0, 100.5))
    assert quality.usable.tolist() == [False, False, True, True]
    assert quality.counts() == {Fault.OUT_OF_RANGE: 1, Fault.SENTINEL: 1}
    assert not quality.clipped_seconds[71]
    assert quality.clipped_seconds[70]


def test_a_slow_oximeter_without_reading_has_a_sentinel() -> None:
    percent = np.array([-1, -1, -1, 96, 97, 96], np.float32)  # one reading in 10 s
    measured = np.repeat(percent > 0, 10)
    quality = oximeter_quality(percent, 0.1, measured, (30.0, 100.5))
    assert quality.faults[Fault.SENTINEL].tolist() == [True, False]


def test_a_fault_is_added_only_where_there_was_none() -> None:
    samples = night()
    samples[:EPOCH] = 7
    quality = judge(samples).adding(Fault.DISCONNECTED, np.array([True, True, False, False]))
    assert quality.counts() == {Fault.FLAT: 1, Fault.DISCONNECTED: 1}


def test_bridges_join_the_levels_on_both_sides() -> None:
    samples = np.repeat(np.float32([1, 99, 5, 99]), EPOCH)
    bridge(samples, RATE_HZ, np.array([True, False, True, False]))
    middle = samples[EPOCH : 2 * EPOCH]
    assert (middle[0], middle[-1]) == pytest.approx((1, 5))
    assert np.ptp(np.diff(middle)) < 1e-5  # a straight line
    assert np.all(samples[3 * EPOCH :] == 5)


def test_integers_are_bridged_by_the_nearest_steps() -> None:
    samples = np.repeat(np.int16([1, 99, -5, 99]), EPOCH)
    bridge(samples, RATE_HZ, np.array([True, False, True, False]))
    assert np.abs(samples[EPOCH : 2 * EPOCH] - np.linspace(1, -5, EPOCH)).max() <= 0.5
    assert np.all(samples[3 * EPOCH :] == -5)


def test_a_night_without_usable_epochs_is_bridged_to_zero() -> None:
    samples = np.full(2 * EPOCH, 9, dtype=np.float32)
    bridge(samples, RATE_HZ, np.zeros(2, dtype=bool))
    assert not samples.any()


def test_moments_leave_out_unusable_epochs_and_clipped_seconds() -> None:
    clean = night(6)
    spoiled = clean.copy()
    spoiled[:EPOCH] = RAILS[1]
    spoiled[2 * EPOCH] = RAILS[0]
    kept = np.concatenate([clean[EPOCH : 2 * EPOCH], clean[2 * EPOCH + 100 :]])
    mean, std = moments(spoiled.astype(np.float32), judge(spoiled))
    assert (mean, std) == pytest.approx((kept.mean(), kept.std()), rel=1e-4)


def test_moments_keep_clipped_seconds_when_most_seconds_clip() -> None:
    samples = night()
    samples[::100] = RAILS[1]  # one sample of every second
    mean, std = moments(samples.astype(np.float32), judge(samples))
    assert (mean, std) == pytest.approx((samples.mean(), samples.std()), rel=1e-4)


def test_moments_of_nothing_are_zero() -> None:
    flat = np.zeros(2 * EPOCH, dtype=np.int16)
    assert moments(flat.astype(np.float32), judge(flat)) == (0.0, 0.0)
