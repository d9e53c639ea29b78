from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.signals.edf import open_edf
from sleepmami.signals.heart_beats import find_r_peaks, interbeat_signal, keep_intervals

# Wave: time from the R peak in s, standard deviation in s, amplitude in mV.
WAVES = ((-0.16, 0.022, 0.12), (-0.03, 0.009, -0.1), (0.0, 0.011, 1.0), (0.03, 0.01, -0.2),
         (0.26, 0.045, 0.35))  # fmt: skip


def heart(duration_s: float = 300, bpm: float = 60, seed: int = 0) -> NDArray[np.float64]:
    """Beat times with breathing and chance in their intervals."""
    rng = np.random.default_rng(seed)
    times = [0.7]
    while times[-1] < duration_s - 0.7:
        swing = 0.06 * np.sin(2 * np.pi * 0.25 * times[-1]) + 0.02 * rng.standard_normal()
        times.append(times[-1] + 60 / bpm * (1 + swing))
    return np.array(times[:-1])


def ecg(beat_s: NDArray[np.float64], rate_hz: float = 200, duration_s: float = 300) -> NDArray[np.float32]:  # fmt: skip
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    nearest = np.searchsorted((beat_s[1:] + beat_s[:-1]) / 2, time_s)
    signal = np.zeros_like(time_s)
    for shift in (-1, 0, 1):  # a T wave may reach past the middle between two beats
        place = nearest + shift
        there = (place >= 0) & (place < len(beat_s))
        from_r = time_s - beat_s[np.clip(place, 0, len(beat_s) - 1)]
        waves = sum(a * np.exp(-0.5 * ((from_r - t) / sd) ** 2) for t, sd, a in WAVES)
        signal += np.where(there, waves, 0)
    return signal.astype(np.float32)


def white(signal: NDArray[np.float32], std: float, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, std, len(signal)).astype(np.float32)


def steady(interval_s: float, num: int) -> NDArray[np.float64]:
    return np.linspace(0, interval_s * (num - 1), num)


def score(
    found_s: NDArray[np.float64], true_s: NDArray[np.float64], tolerance_s: float
) -> tuple[float, float]:
    """(sensitivity, positive predictive value), each beat matched once."""
    place = np.searchsorted((true_s[1:] + true_s[:-1]) / 2, found_s)
    hits = np.unique(place[np.abs(true_s[place] - found_s) <= tolerance_s])
    return len(hits) / len(true_s), len(hits) / max(len(found_s), 1)


@pytest.mark.parametrize("rate_hz", [50.0, 125.0, 200.0, 512.0, 10 / 0.0784])
def test_every_beat_is_found_within_milliseconds_at_any_rate(rate_hz: float) -> None:
    beat_s = heart()
    found = find_r_peaks(ecg(beat_s, rate_hz), rate_hz)
    assert len(found) == len(beat_s)
    assert np.abs(found - beat_s - np.median(found - beat_s)).max() < 0.003
    assert abs(np.median(found - beat_s)) < 0.003


@pytest.mark.parametrize("bpm", [38, 100, 170])
def test_slow_and_fast_hearts(bpm: float) -> None:
    beat_s = heart(bpm=bpm)
    assert score(find_r_peaks(ecg(beat_s), 200), beat_s, 0.02) == (1, 1)


def test_polarity_and_scale_do_not_matter() -> None:
    signal = ecg(heart()) + white(ecg(heart()), 0.02)
    upright = find_r_peaks(signal, 200)
    np.testing.assert_allclose(find_r_peaks(-1000 * signal, 200), upright, atol=1e-5)


def test_drift_hum_and_noise_cost_no_beat() -> None:
    beat_s = heart()
    signal = ecg(beat_s)
    time_s = np.arange(len(signal)) / 200
    signal += np.float32(2) * np.sin(2 * np.pi * 0.2 * time_s).astype(np.float32)
    signal += np.float32(0.3) * np.sin(2 * np.pi * 50 * time_s).astype(np.float32)
    signal += white(signal, 0.15)
    assert score(find_r_peaks(signal, 200), beat_s, 0.02) == (1, 1)


@pytest.mark.parametrize("bpm", [45, 90])
def test_strong_noise_costs_beats_before_it_makes_false_ones(bpm: float) -> None:
    beat_s = heart(bpm=bpm)
    signal = ecg(beat_s, 125)
    sensitivity, predictive = score(find_r_peaks(signal + white(signal, 0.2), 125), beat_s, 0.05)
    assert sensitivity > 0.95
    assert predictive > 0.985


def test_beats_of_a_fifth_of_the_height_are_found_when_the_height_changes_slowly() -> None:
    beat_s = heart()
    signal = ecg(beat_s)
    signal *= np.geomspace(1, 0.2, len(signal)).astype(np.float32)
    assert score(find_r_peaks(signal, 200), beat_s, 0.02) == (1, 1)


def test_one_low_beat_among_high_ones_is_found_again() -> None:
    beat_s = heart()
    signal = ecg(beat_s)
    low = beat_s[100]
    signal[round((low - 0.3) * 200) : round((low + 0.4) * 200)] *= np.float32(0.35)
    assert np.abs(find_r_peaks(signal, 200) - low).min() < 0.02


def test_every_second_beat_may_be_wide_and_low() -> None:
    beat_s = heart()
    time_s = np.arange(300 * 200) / 200
    signal = ecg(beat_s[::2])
    for early in beat_s[1::2]:
        from_r = time_s - early
        rise, fall = (np.exp(-0.5 * ((from_r - at) / 0.03) ** 2) for at in (0, 0.075))
        signal += (rise - 0.6 * fall).astype(np.float32)
    found = find_r_peaks(signal, 200)
    sensitivity, predictive_value = score(found, beat_s, 0.03)
    assert sensitivity > 0.99  # 0.5 without a second look
    assert predictive_value == 1.0


def test_a_slow_heart_under_noise_gets_no_beats_in_between() -> None:
    beat_s = heart(bpm=40)
    signal = ecg(beat_s)
    found = find_r_peaks(signal + white(signal, 0.15), 200)
    assert score(found, beat_s, 0.03) == (1.0, 1.0)


def test_no_beat_is_found_while_the_electrode_is_off() -> None:
    beat_s = heart()
    signal = ecg(beat_s)
    signal[100 * 200 : 200 * 200] = 0
    signal += white(signal, 0.02)
    found = find_r_peaks(signal, 200)
    inside = (found > 102) & (found < 198)
    assert not inside.any()
    on = (beat_s < 98) | (beat_s > 202)
    assert score(found[(found < 98) | (found > 202)], beat_s[on], 0.02) == (1, 1)


def test_what_an_open_input_picks_up_of_other_leads_is_no_heart_beat() -> None:
    beat_s = heart()
    signal = ecg(beat_s)
    signal[100 * 200 : 200 * 200] *= np.float32(0.03)
    found = find_r_peaks(signal, 200)
    assert not ((found > 115) & (found < 185)).any()
    assert ((found < 85) | (found > 215)).sum() == ((beat_s < 85) | (beat_s > 215)).sum()


@pytest.mark.parametrize(
    "signal", [white(np.zeros(60_000, np.float32), 1.0), np.zeros(60_000, np.float32)]
)
def test_noise_and_silence_hold_no_heart(signal: NDArray[np.float32]) -> None:
    assert len(find_r_peaks(signal, 200)) == 0


def test_a_burst_of_movement_hides_few_of_the_beats_around_it() -> None:
    beat_s = heart()
    signal = ecg(beat_s)
    signal[150 * 200 : 155 * 200] += white(signal[:1000], 10.0)
    found = find_r_peaks(signal, 200)
    calm = (beat_s < 149) | (beat_s > 156)
    assert score(found[(found < 149) | (found > 156)], beat_s[calm], 0.02) == (1, 1)


def test_intervals_of_missed_false_and_early_beats_are_not_kept() -> None:
    beat_s = steady(1.0, 60)
    assert keep_intervals(beat_s).all()
    assert np.flatnonzero(~keep_intervals(np.delete(beat_s, 20))).tolist() == [19]
    assert np.flatnonzero(~keep_intervals(np.sort([*beat_s, 20.5]))).tolist() == [20, 21]
    early = beat_s.copy()
    early[20] -= 0.4
    assert np.flatnonzero(~keep_intervals(early)).tolist() == [19, 20]


def test_intervals_out_of_physiology_are_not_kept() -> None:
    assert not keep_intervals(steady(0.25, 20)).any()
    assert not keep_intervals(steady(2.5, 20)).any()
    assert keep_intervals(steady(1.9, 20)).all()
    assert keep_intervals(np.array([3.0])).tolist() == []


def test_intervals_stand_at_the_beat_that_ends_them_with_lines_between() -> None:
    beat_s = np.array([0.0, 1.0, 2.2, 3.2, *np.arange(4.2, 60, 1.0)])
    values, covered = interbeat_signal(beat_s, 4, 2)
    assert values[4] == pytest.approx(1.0)  # at 1.0 s
    assert values[6] == pytest.approx(1.0 + 0.2 * 0.5 / 1.2)  # at 1.5 s, on the way to 1.2 at 2.2 s
    assert values[10] == pytest.approx(1.2 - 0.2 * 0.3 / 1.0)  # at 2.5 s
    assert values.shape == (240,)
    assert covered.tolist() == [True] * 60


def test_seconds_without_beats_are_not_covered_and_bridged() -> None:
    beat_s = np.concatenate([np.arange(0.5, 20, 1.0), np.arange(40.5, 60, 1.0)])
    values, covered = interbeat_signal(beat_s, 4, 2)
    assert np.flatnonzero(~covered).tolist() == [0, *range(20, 41)]
    np.testing.assert_allclose(values, 1.0)


def test_no_beats_give_zeros_and_cover_nothing() -> None:
    values, covered = interbeat_signal(np.empty(0), 4, 2)
    assert not values.any()
    assert not covered.any()


def test_a_clinical_ecg_agrees_with_its_annotated_complexes(shared_data: Path) -> None:
    edf = open_edf(shared_data / "psg" / "Osas2002plusQRS.edf")
    true_s = np.array([note.onset_s for note in edf.annotations() if note.text == "QRS"])
    channel = next(c for c in edf.channels if c.label == "ECG")
    found = find_r_peaks(edf.physical(channel), channel.sample_rate_hz)
    assert len(true_s) == 1556
    sensitivity, predictive = score(found, true_s, 0.1)
    assert (sensitivity, predictive) >= (0.99, 0.99)
    assert predictive >= 0.99
