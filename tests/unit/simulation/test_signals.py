"""What the ten channels of one night show, measured without looking inside the generators."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.simulation import eeg, heart, respiration
from sleepmami.simulation.events import APNEAS, EventKind, NightEvent, NightPlan, of_kind
from sleepmami.simulation.night import SimulatedNight, plan_night, simulate_night
from sleepmami.simulation.subjects import Subject, simulate_subject
from tests.unit.simulation.conftest import band_power, samples


def rms_by_epoch(signal: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    rms: NDArray[np.float64] = signal.reshape(-1, EPOCH_S * rate_hz).std(axis=1)
    return rms


def test_channels_are_those_of_shhs(night: SimulatedNight) -> None:
    seconds = night.hypnogram.size * EPOCH_S
    found = [(c.label, c.unit, c.sample_rate_hz, c.samples.size // seconds) for c in night.channels]
    assert found == [
        ("EEG C4-A1", "uV", 125.0, 125),
        ("EEG C3-A2", "uV", 125.0, 125),
        ("EOG(L)", "uV", 125.0, 125),
        ("EOG(R)", "uV", 125.0, 125),
        ("EMG chin", "uV", 125.0, 125),
        ("ECG", "mV", 125.0, 125),
        ("AIRFLOW", "", 10.0, 10),
        ("THOR RES", "", 10.0, 10),
        ("ABDO RES", "", 10.0, 10),
        ("SaO2", "%", 1.0, 1),
    ]


def test_the_same_seed_gives_the_same_night_and_another_seed_another() -> None:
    subject = simulate_subject(3, seed=1)
    first, again, other = (simulate_night(subject, 0.3, seed) for seed in (1, 1, 2))
    for one, two in zip(first.channels, again.channels, strict=True):
        np.testing.assert_array_equal(one.samples, two.samples)
    assert first.events == again.events
    assert not np.array_equal(first.channels[0].samples, other.channels[0].samples)


def test_delta_is_strongest_in_n3(night: SimulatedNight) -> None:
    signal, stage = samples(night, "EEG C4-A1"), night.hypnogram
    n3, n2 = (band_power(signal, stage == s, 0.5, 4.0) for s in (Stage.N3, Stage.N2))
    quiet = (stage == Stage.WAKE) & (rms_by_epoch(signal, 125) < 20)  # without movement
    assert n3 > 2 * n2
    assert n3 > 8 * band_power(signal, quiet, 0.5, 4.0)


def test_spindle_power_is_higher_in_n2_than_in_any_other_stage(
    sleeper: Subject, night: SimulatedNight
) -> None:
    signal, stage = samples(night, "EEG C3-A2"), night.hypnogram
    low, high = sleeper.spindle_hz - 0.7, sleeper.spindle_hz + 0.7
    power = {s: band_power(signal, stage == s, low, high) for s in Stage if (stage == s).any()}
    assert power[Stage.N2] > 1.5 * power[Stage.N3]
    assert power[Stage.N2] > 2 * power[Stage.REM]


def test_alpha_peaks_in_wake_at_the_subjects_frequency(
    sleeper: Subject, night: SimulatedNight
) -> None:
    signal, awake = samples(night, "EEG C4-A1"), night.hypnogram == Stage.WAKE
    peak = band_power(signal, awake, sleeper.alpha_hz - 0.5, sleeper.alpha_hz + 0.5)
    assert peak > 4 * band_power(signal, awake, 6.0, 7.0)
    rem = night.hypnogram == Stage.REM
    assert peak > 5 * band_power(signal, rem, sleeper.alpha_hz - 0.5, sleeper.alpha_hz + 0.5)


def test_two_central_derivations_are_alike_but_not_equal(night: SimulatedNight) -> None:
    between = np.corrcoef(samples(night, "EEG C4-A1"), samples(night, "EEG C3-A2"))[0, 1]
    assert 0.6 < between < 0.95


def test_slow_waves_and_spindles_decline_with_age_and_slow_waves_are_larger_in_women() -> None:
    young = dataclasses.replace(simulate_subject(0, seed=1), age_years=25.0, sex="female")
    old = dataclasses.replace(young, age_years=80.0)
    man = dataclasses.replace(young, sex="male")
    assert eeg.slow_wave_amplitude(old) < 0.75 * eeg.slow_wave_amplitude(young)
    assert eeg.slow_wave_amplitude(man) < eeg.slow_wave_amplitude(young)
    assert eeg.spindles_per_min(old) < 0.6 * eeg.spindles_per_min(young)
    assert eeg.k_complexes_per_min(old) < 0.6 * eeg.k_complexes_per_min(young)


def test_eyes_move_oppositely_in_the_two_eog_channels(night: SimulatedNight) -> None:
    left, right = samples(night, "EOG(L)"), samples(night, "EOG(R)")
    for stage, low, high in ((Stage.REM, -1.0, -0.6), (Stage.N3, 0.3, 1.0)):
        at = np.repeat(night.hypnogram == stage, EPOCH_S * 125)
        assert low < np.corrcoef(left[at], right[at])[0, 1] < high


def test_chin_tone_is_lowest_in_rem_and_highest_in_wake(night: SimulatedNight) -> None:
    rms = rms_by_epoch(samples(night, "EMG chin"), 125)
    tone = {s: np.median(rms[night.hypnogram == s]) for s in list(Stage)[1:]}
    assert tone[Stage.REM] < 0.75 * tone[Stage.N3] < tone[Stage.N3] < tone[Stage.N2]
    assert tone[Stage.N2] < tone[Stage.N1] < tone[Stage.WAKE]


def find_r_peaks(ecg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Local maxima above half a millivolt."""
    middle = ecg[1:-1]
    return np.flatnonzero((middle > 0.5) & (middle >= ecg[:-2]) & (middle > ecg[2:])) + 1


def test_each_beat_shows_one_r_peak_at_its_time(sleeper: Subject) -> None:
    plan = plan_night(sleeper, 1.0, seed=7)
    rng = np.random.default_rng(0)
    breathing = respiration.simulate_breathing(sleeper, plan, rng)
    beats = heart.simulate_heart(sleeper, plan, breathing.phase, rng)
    peaks_s = find_r_peaks(beats.ecg.astype(np.float64)) / 125
    true_s = beats.beat_s[(beats.beat_s > 0.3) & (beats.beat_s < 3599.5)]
    found_s = peaks_s[(peaks_s > 0.3) & (peaks_s < 3599.5)]
    assert abs(found_s.size - true_s.size) <= 0.001 * true_s.size
    nearest = np.abs(found_s[:, None] - true_s[None, :]).min(axis=1)
    assert nearest.max() < 0.02


def test_the_heart_beats_at_the_subjects_rate_and_faster_awake(
    sleeper: Subject, night: SimulatedNight
) -> None:
    peaks = find_r_peaks(samples(night, "ECG"))
    per_min = np.bincount(peaks // (EPOCH_S * 125), minlength=night.hypnogram.size) * 2
    n2 = per_min[night.hypnogram == Stage.N2].mean()
    assert n2 == pytest.approx(sleeper.heart_rate_bpm, abs=4)
    assert per_min[night.hypnogram == Stage.WAKE].mean() > n2 + 2


def test_rr_intervals_vary_less_in_old_age(sleeper: Subject) -> None:
    def rmssd(age_years: float) -> float:
        subject = dataclasses.replace(sleeper, age_years=age_years)
        plan = NightPlan(hypnogram=np.full(60, Stage.N2, np.int8), events=())
        rng = np.random.default_rng(1)
        breathing = respiration.simulate_breathing(subject, plan, rng)
        rr = np.diff(heart.simulate_heart(subject, plan, breathing.phase, rng).beat_s)
        return float(np.sqrt(np.mean(np.diff(rr) ** 2)))

    assert rmssd(80.0) < 0.7 * rmssd(25.0)


def test_flow_stops_in_apneas_while_effort_goes_on_only_in_obstructive_ones(
    sleeper: Subject,
) -> None:
    hypnogram = np.full(20, Stage.N2, np.int8)
    ratio = {}
    for kind in (EventKind.OBSTRUCTIVE_APNEA, EventKind.CENTRAL_APNEA, EventKind.HYPOPNEA):
        event = plan_with(hypnogram, kind)
        breathing = respiration.simulate_breathing(sleeper, event, np.random.default_rng(0))
        inside, before = slice(3020, 3270), slice(2000, 2900)
        ratio[kind] = [
            float(signal[inside].std() / signal[before].std())
            for signal in (breathing.flow, breathing.thorax)
        ]
    obstructive, central = ratio[EventKind.OBSTRUCTIVE_APNEA], ratio[EventKind.CENTRAL_APNEA]
    assert obstructive[0] < 0.1  # scored as apnea below a tenth of the flow
    assert central[0] < 0.1
    assert obstructive[1] > 0.5
    assert central[1] < 0.15
    assert 0.3 < ratio[EventKind.HYPOPNEA][0] < 0.7  # scored below 70 percent


def plan_with(hypnogram: NDArray[np.int8], kind: EventKind) -> NightPlan:
    """One event from 300 to 330 s that desaturates by ten points."""
    event = NightEvent(kind=kind, start_s=300.0, duration_s=30.0, depth=10.0)
    return NightPlan(hypnogram=hypnogram, events=(event,))


def test_saturation_is_lowest_one_delay_after_breathing_resumes(sleeper: Subject) -> None:
    plan = plan_with(np.full(20, Stage.N2, np.int8), EventKind.OBSTRUCTIVE_APNEA)
    level = respiration.simulate_saturation(sleeper, plan, np.random.default_rng(0))
    lowest_s = int(level.argmin())
    assert lowest_s == pytest.approx(330 + sleeper.oximeter_delay_s, abs=2)
    assert level[:300].min() - level.min() == pytest.approx(10.0, abs=1.5)
    assert level[lowest_s + 45] > level.min() + 8  # recovered


def test_saturation_falls_ten_to_forty_seconds_after_each_apnea(night: SimulatedNight) -> None:
    level = samples(night, "SaO2")
    apneas = of_kind(night.events, *APNEAS)
    assert len(apneas) >= 10
    for apnea in apneas:
        end_s = int(apnea.end_s)
        fallen = level[end_s + 10 : end_s + 40].min()
        # In a run of events the level before may itself not have recovered: compare with before it.
        assert fallen < level[max(int(apnea.start_s) - 60, 0) : int(apnea.start_s) + 10].max() - 2.0


def test_signals_stay_inside_what_is_written(night: SimulatedNight) -> None:
    for channel in night.channels:
        assert np.isfinite(channel.samples).all()
        at_rail = (channel.samples <= channel.physical_min) | (
            channel.samples >= channel.physical_max
        )
        assert at_rail.mean() < 1e-4
