"""The baseline's numbers, by hand on signals whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.signal

from sleepmami.config import BandPowersConfig
from sleepmami.errors import RecordingError
from sleepmami.evaluation.band_powers import (
    BLOCK,
    ModalityFeatures,
    band_power_vectors,
    baseline_id,
    epochs_of,
    night_normalised,
)
from sleepmami.evaluation.epoch_features import (
    EEG_BANDS_HZ,
    FEATURES,
    band_powers,
    epoch_features,
)
from sleepmami.psg import MODALITIES, STORED_RATE_HZ, STORED_SCALE, Modality
from tests.corpora import sine_night

NIGHT = BandPowersConfig()
T_100 = np.arange(3000) / 100


def one(modality: Modality, signal_T: np.ndarray, epochs: int = 1) -> dict[str, float]:
    """Features of the first of some epochs that are alike."""
    signal_LT = np.tile(signal_T, (epochs, 1)).astype(np.float32)
    x_LF = epoch_features(modality, signal_LT, STORED_RATE_HZ[modality])
    return dict(zip(FEATURES[modality], x_LF[0].tolist(), strict=True))


def test_ten_hertz_is_alpha_with_half_its_squared_amplitude() -> None:
    found = one(Modality.EEG, 3 * np.sin(2 * np.pi * 10 * T_100))
    assert found["alpha"] == pytest.approx(np.log(4.5), abs=0.01)
    others = [found[name] for name in EEG_BANDS_HZ if name != "alpha"]
    assert max(others) < found["alpha"] - 6
    assert found["activity"] == pytest.approx(np.log(4.5), abs=0.01)
    # Hjorth's mobility of a sine is its angular frequency; of differences, 2 sin(w/2) * rate
    assert found["mobility"] == pytest.approx(np.log(200 * np.sin(np.pi * 10 / 100)), abs=0.01)
    assert found["complexity"] == pytest.approx(0, abs=0.01)
    assert found["kurtosis"] == pytest.approx(np.log(1.5), abs=0.01)


def test_powers_are_those_of_welch() -> None:
    signal_LT = np.random.default_rng(0).normal(size=(2, 3000)).astype(np.float32)
    hz, density_LH = scipy.signal.welch(signal_LT, 100, nperseg=400)
    wanted = density_LH[:, (hz >= 4) & (hz < 8)].sum(1) * 0.25
    mean_LB, _ = band_powers(signal_LT, 100, 4, EEG_BANDS_HZ)
    np.testing.assert_allclose(mean_LB[:, 2], wanted, rtol=1e-4)
    assert mean_LB.sum(1) == pytest.approx([0.79, 0.79], abs=0.05)  # 39.5 of 50 Hz of white noise


def test_a_spindle_is_sigma_but_no_sigma_floor() -> None:
    wave = 0.01 * np.random.default_rng(0).normal(size=3000)
    with_spindle = wave + (np.abs(T_100 - 15) < 0.5) * np.sin(2 * np.pi * 13 * T_100)
    quiet, busy = one(Modality.EEG, wave), one(Modality.EEG, with_spindle)
    assert busy["sigma"] > quiet["sigma"] + 3
    assert busy["sigma_floor"] == pytest.approx(quiet["sigma_floor"], abs=0.3)


def test_a_twitch_is_no_tone() -> None:
    wave = np.random.default_rng(0).normal(size=3000)
    twitching = np.where(T_100 < 1, 10 * wave, wave)
    quiet, busy = one(Modality.EMG, wave), one(Modality.EMG, twitching)
    assert busy["tone"] == pytest.approx(quiet["tone"], abs=0.1)
    assert busy["twitch"] == pytest.approx(np.log(100), abs=0.5)


def beats(times_s: np.ndarray, seconds: int) -> np.ndarray:
    """A spike like a QRS complex at each of some times."""
    t = np.arange(seconds * 100) / 100
    distance = t[:, None] - times_s[None]
    return np.asarray(np.exp(-((distance / 0.02) ** 2)).sum(1))


def test_a_beat_each_second_is_a_rate_of_sixty_and_no_variation() -> None:
    ecg = beats(np.arange(0.5, 120, 1.0), 120).reshape(4, 3000).astype(np.float32)
    x_LF = epoch_features(Modality.ECG, ecg, 100)
    assert (x_LF[:, 3] == 1).all()
    np.testing.assert_allclose(x_LF[:, 0], 60, atol=0.1)
    assert (x_LF[:, 1] < np.log(0.01)).all()


def test_intervals_in_turn_longer_and_shorter_have_their_difference_as_rmssd() -> None:
    times_s = np.cumsum(np.tile([0.9, 1.0], 63))
    ecg = beats(times_s, 120).reshape(4, 3000).astype(np.float32)
    x_LF = epoch_features(Modality.ECG, ecg, 100)
    assert x_LF[1, 0] == pytest.approx(60 / 0.95, abs=0.5)
    assert np.exp(x_LF[1, 1]) == pytest.approx(0.1, abs=0.01)
    assert np.exp(x_LF[1, 2]) == pytest.approx(0.05, abs=0.01)


def test_epochs_without_heart_beats_have_their_neighbours_rate_and_are_marked() -> None:
    times_s = np.arange(0.5, 150, 1.0)
    ecg = beats(times_s[(times_s < 60) | (times_s > 90)], 150).reshape(5, 3000)
    x_LF = epoch_features(Modality.ECG, ecg.astype(np.float32), 100)
    assert x_LF[:, 3].tolist() == [1, 1, 0, 1, 1]
    assert x_LF[2, 0] == pytest.approx(60, abs=1)
    assert not epoch_features(Modality.ECG, np.zeros((2, 3000), np.float32), 100).any()


def test_a_quarter_hertz_is_fifteen_breaths_and_a_pause_is_a_low_least() -> None:
    t = np.arange(1500) / 50
    even, paused = np.sin(2 * np.pi * t / 4), np.sin(2 * np.pi * t / 4) * (np.abs(t - 15) > 5)
    breathing, apnea = one(Modality.RESP, even), one(Modality.RESP, paused)
    assert breathing["rate_per_min"] == pytest.approx(15, abs=0.6)
    assert breathing["regularity"] > 0.9
    assert breathing["amplitude"] == pytest.approx(np.log(np.sqrt(0.5)), abs=0.1)
    assert apnea["least"] < breathing["least"] - 4
    assert apnea["uneven"] > breathing["uneven"] + 1


def test_a_desaturation_is_as_deep_as_it_fell() -> None:
    oxygen = np.concatenate([np.full(10, 96.0), np.linspace(96, 90, 10), np.full(10, 93.0)])
    found = one(Modality.SPO2, oxygen)
    assert (found["least"], found["greatest"], found["drop"]) == (90, 96, 6)
    assert found["rise"] == pytest.approx(-3)
    rising = one(Modality.SPO2, np.linspace(90, 96, 30))
    assert rising["drop"] == 0  # it never fell


def test_a_night_is_cut_as_it_was_stored() -> None:
    """An odd night's last segment begins with the epoch that the one before ended with."""
    night = sine_night("n", 5, 0, [Modality.SPO2])
    numbers = np.repeat([0, 1, 2, 3, 3, 4], 30).reshape(3, 60)
    night = replace(night, signals={Modality.SPO2: (numbers * STORED_SCALE).astype(np.int16)})
    assert epochs_of(night, Modality.SPO2).mean(1).tolist() == [0, 1, 2, 3, 4]


def test_vectors_are_finite_blocks_that_are_zero_where_a_modality_is_not() -> None:
    night = sine_night("n", 21, 0, [Modality.EEG, Modality.RESP])
    usable = {Modality.EEG: np.arange(21) > 2, Modality.RESP: np.ones(21, np.bool_)}
    vectors = band_power_vectors(replace(night, usable=usable), NIGHT)
    assert vectors.epoch_valid.all()
    assert vectors.modality_valid[:, 0].tolist() == (np.arange(21) > 2).tolist()
    blocks_LMD = vectors.micro.reshape(21, len(MODALITIES), BLOCK)
    np.testing.assert_array_equal(blocks_LMD.any(2), vectors.modality_valid)
    np.testing.assert_array_equal(blocks_LMD[:, :, -1] == 1, vectors.modality_valid)
    num_features = sum(map(len, FEATURES.values()))
    assert vectors.macro.shape == (21, 6 * num_features + 6 + 2)
    assert vectors.night.shape == (4 * num_features + 6,)
    for part in (vectors.micro, vectors.macro, vectors.night):
        assert part.dtype == np.float32
        assert np.isfinite(part).all()


def test_micro_knows_its_own_epoch_only_and_macro_its_neighbours() -> None:
    night = sine_night("n", 20, 0)
    before = band_power_vectors(night, NIGHT)
    changed = {m: signal.copy() for m, signal in night.signals.items()}
    changed[Modality.EEG][5, : 30 * 100] = 0  # the epoch 10
    after = band_power_vectors(replace(night, signals=changed), NIGHT)
    differ_L = (before.micro != after.micro).any(1)
    assert np.flatnonzero(differ_L).tolist() == [10]
    assert (before.macro != after.macro).any(1)[[9, 11]].all()


def test_physical_features_move_with_the_gain_and_the_nights_own_do_not() -> None:
    night = sine_night("n", 8, 0)
    louder = {m: replace(s, mean=90.0, std=10.0) for m, s in night.statistics.items()}
    louder_night = replace(night, statistics=louder)
    same = (band_power_vectors(n, NIGHT).micro for n in (night, louder_night))
    np.testing.assert_array_equal(*same)
    physical = BandPowersConfig(scale="physical")
    quiet_LD, loud_LD = (band_power_vectors(n, physical).micro for n in (night, louder_night))
    eeg = list(FEATURES[Modality.EEG])
    np.testing.assert_allclose(
        loud_LD[:, eeg.index("alpha")] - quiet_LD[:, eeg.index("alpha")], np.log(100), rtol=1e-4
    )
    np.testing.assert_allclose(
        loud_LD[:, eeg.index("mobility")], quiet_LD[:, eeg.index("mobility")]
    )
    oxygen = slice(5 * BLOCK, 5 * BLOCK + 1)  # its mean
    np.testing.assert_allclose(loud_LD[:, oxygen], 90 + 10 * quiet_LD[:, oxygen], rtol=1e-4)
    assert baseline_id(NIGHT) != baseline_id(physical)


def test_a_night_is_compared_with_itself() -> None:
    x_LF = np.linspace(0, 100, 101, dtype=np.float32)[:, None]
    there_L = np.ones(101, np.bool_)
    normal = night_normalised(ModalityFeatures(x_LF, there_L))[:, 0]
    assert normal[50] == pytest.approx(0)
    assert normal[95] - normal[5] == pytest.approx(1)
    np.testing.assert_allclose(
        night_normalised(ModalityFeatures(7 * x_LF + 3, there_L))[:, 0], normal, atol=1e-6
    )


def test_a_night_without_any_signal_is_refused() -> None:
    night = sine_night("n", 8, 0)
    silent = {m: np.zeros(8, np.bool_) for m in MODALITIES}
    with pytest.raises(RecordingError, match="no usable epoch"):
        band_power_vectors(replace(night, usable=silent), NIGHT)
    with pytest.raises(RecordingError, match="layout sleep2vec"):
        band_power_vectors(replace(night, layout="sleep2vec"), NIGHT)
