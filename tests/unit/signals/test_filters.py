import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from sleepmami.config import PreprocessConfig
from sleepmami.psg import MODALITIES, Modality
from sleepmami.signals.filters import (
    Band,
    _by_blocks,
    _whole,
    band_of,
    block_seconds,
    filter_resample,
    guard_seconds,
    magnitude,
    taper,
)
from sleepmami.signals.oximetry import spo2_to_1hz

CONFIG = PreprocessConfig()
EEG = band_of(Modality.EEG, CONFIG)
Floats = NDArray[np.float32]


def tone(frequency_hz: float, rate_hz: float, duration_s: float = 600) -> Floats:
    seconds = np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * seconds).astype(np.float32)


def noise(rate_hz: float, duration_s: float, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    return generator.standard_normal(round(duration_s * rate_hz)).astype(np.float32)


def gain_db(filtered: Floats) -> float:
    middle = filtered[len(filtered) // 4 : -len(filtered) // 4]
    return float(20 * np.log10(np.sqrt(2) * middle.std() + 1e-12))


@pytest.mark.parametrize("rate_hz", [125.0, 128.0, 200.0, 256.0, 512.0, 128 / 1.0284])
def test_a_10_hz_tone_keeps_its_size_and_phase(rate_hz: float) -> None:
    filtered = filter_resample(tone(10, rate_hz), rate_hz, 100, EEG, 60_000)
    expected = tone(10, 100) * magnitude(np.array([10.0]), EEG)[0]  # 0.998
    np.testing.assert_allclose(filtered[2000:-2000], expected[2000:-2000], atol=2e-4)
    assert gain_db(filtered) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("frequency_hz", "db"), [(0.01, -78), (0.1, -38.5), (0.3, -6.02), (40.0, -6.1), (60.0, -80)]
)
def test_tones_outside_the_band_are_attenuated(frequency_hz: float, db: float) -> None:
    filtered = filter_resample(tone(frequency_hz, 256.0), 256.0, 100, EEG, 60_000)
    if db <= -78:
        assert gain_db(filtered) < db
    else:
        assert gain_db(filtered) == pytest.approx(db, abs=0.1)


def test_the_emg_highpass_is_half_way_down_at_its_edge() -> None:
    emg = band_of(Modality.EMG, CONFIG)
    assert magnitude(np.array([0.0, 10.0, 30.0]), emg) == pytest.approx([0, 0.5, 81 / 82], rel=0.02)


def test_the_notch_removes_its_frequency_and_is_half_power_at_its_width() -> None:
    band = Band(notch_hz=60.0, notch_quality=30.0)
    edge = 59.00833  # f with (60^2 - f^2) = f * 60 / 30: one pass is 1/2 in power here
    assert magnitude(np.array([60.0, edge, 10.0]), band) == pytest.approx([0, 0.5, 1], abs=1e-3)


def test_bands_of_section_3_3_and_a_notch_of_zero() -> None:
    bands = {modality: band_of(modality, CONFIG) for modality in MODALITIES}
    edges = {m.value: (b.highpass_hz, b.lowpass_hz, b.notch_hz) for m, b in bands.items()}
    assert edges == {
        "EEG": (0.3, 40.0, 60.0),
        "EOG": (0.3, 40.0, 60.0),
        "EMG": (10.0, None, 60.0),
        "ECG": (0.3, 60.0, 60.0),
        "RESP": (None, 15.0, None),
        "SPO2": (None, None, None),
    }
    assert band_of(Modality.EEG, PreprocessConfig(notch_hz=0)).notch_hz is None


def test_nothing_above_the_new_nyquist_folds_back() -> None:
    wide = Band()
    assert gain_db(filter_resample(tone(60, 256.0), 256.0, 100, wide, 60_000)) < -90
    assert gain_db(filter_resample(tone(44, 256.0), 256.0, 100, wide, 60_000)) > -0.01
    assert taper(np.array([0.0, 45.0, 47.5, 50.0, 60.0]), 256.0, 100) == pytest.approx(
        [1, 1, 0.5, 0, 0], abs=1e-9
    )


def test_equal_to_scipy_in_float64_inside_and_at_the_edges() -> None:
    # At 2000 Hz the bilinear warp of scipy's design is small (2e-3 at 40 Hz), and white noise kept
    # below 44 Hz needs no anti-alias filter, so plain decimation is exact.
    rate_hz, step = 2000.0, 20
    low = signal.butter(12, 30, fs=rate_hz, output="sos")
    raw = signal.sosfiltfilt(low, noise(rate_hz, 120).astype(np.float64))
    band = signal.butter(2, (0.3, 40), "bandpass", fs=rate_hz, output="sos")
    padding = round(16 * rate_hz)
    expected = signal.sosfiltfilt(band, raw, padlen=padding)
    expected = signal.filtfilt(*signal.iirnotch(60, 30, rate_hz), expected, padlen=padding)[::step]
    actual = filter_resample(raw.astype(np.float32), rate_hz, 100, EEG, len(expected))
    error = np.abs(actual - expected) / expected.std()
    assert error[1000:-1000].max() < 1e-3  # interior: the bilinear warp
    assert error.max() < 2.5e-3  # first and last 10 s


@pytest.mark.parametrize("rate_hz", [10.0, 50.0, 62.5, 125.0, 256.0])
@pytest.mark.parametrize("modality", [Modality.EEG, Modality.EMG, Modality.RESP])
def test_blocks_equal_one_filter_over_the_whole_recording(
    rate_hz: float, modality: Modality
) -> None:
    band = band_of(modality, CONFIG)
    samples, target_hz = noise(rate_hz, 1500), 50
    guard_s = guard_seconds(band, min(rate_hz, target_hz))
    blocks = _by_blocks(samples, rate_hz, target_hz, band, 75_000, guard_s)
    whole = _whole(samples, rate_hz, target_hz, band, 75_000, guard_s)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)


def test_a_second_night_is_filtered_like_the_first() -> None:
    samples = noise(128.0, 700)  # gains are kept between nights: nothing may write to them
    first = filter_resample(samples, 128.0, 100, EEG, 70_000)
    wide = filter_resample(samples, 128.0, 100, Band(), 70_000)
    np.testing.assert_array_equal(filter_resample(samples, 128.0, 100, EEG, 70_000), first)
    assert np.abs(wide - first).max() > 1


def test_steeper_filters_get_longer_guards() -> None:
    assert guard_seconds(EEG, 100) == 12
    assert guard_seconds(Band(highpass_hz=0.1, order=2), 100) == 36
    assert guard_seconds(Band(lowpass_hz=15.0), 10) == 60  # the taper is 0.5 Hz wide
    steep = Band(highpass_hz=0.1, lowpass_hz=40.0, order=4)
    samples = noise(64.0, 4000)
    blocks = _by_blocks(samples, 64.0, 100, steep, 400_000, guard_seconds(steep, 64))
    whole = _whole(samples, 64.0, 100, steep, 400_000, guard_seconds(steep, 64))
    np.testing.assert_allclose(blocks, whole, atol=1e-4)


@pytest.mark.parametrize("record_s", [1.0284, 0.7])
def test_a_fractional_rate_keeps_time_over_eight_hours(record_s: float) -> None:
    rate_hz, night_s = 16 / record_s, 8 * 3600
    seconds = np.arange(int(night_s * rate_hz)) / rate_hz
    samples = np.sin(2 * np.pi * 2 * seconds).astype(np.float32)  # phase shows any drift
    resp = band_of(Modality.RESP, CONFIG)
    filtered = filter_resample(samples, rate_hz, 50, resp, (night_s - 1) * 50)
    for start_s in (60, night_s - 120):
        clock = start_s + np.arange(1500) / 50
        piece = filtered[start_s * 50 :][:1500]
        angle = np.angle(np.vdot(np.exp(2j * np.pi * 2 * clock), piece)) + np.pi / 2
        assert abs(angle) / (2 * np.pi * 2) < 1e-4  # seconds; one sample is 2e-2


def test_a_large_offset_or_slope_leaves_the_band_untouched() -> None:
    samples = noise(128.0, 600)
    clean = filter_resample(samples, 128.0, 100, EEG, 60_000)
    offset = filter_resample(samples + np.float32(1000), 128.0, 100, EEG, 60_000)
    assert np.abs(clean - offset).max() < 2e-3


@pytest.mark.parametrize("rate_hz", [128.0, 128 / 1.0284])  # by blocks, and a whole recording
def test_integers_about_a_centre_are_filtered_like_their_differences(rate_hz: float) -> None:
    digital = (noise(rate_hz, 600) * 300).astype(np.int16) + np.int16(20_000)
    resp = band_of(Modality.RESP, CONFIG)  # keeps 0 Hz, where the centre shows
    expected = filter_resample(digital.astype(np.float32) - 20_000, rate_hz, 50, resp, 29_000)
    found = filter_resample(digital, rate_hz, 50, resp, 29_000, centre=20_000)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_blocks_are_whole_on_both_grids_and_mostly_signal() -> None:
    for rate_hz in (10.0, 15.625, 50.0, 62.5, 125.0, 200.0, 248.0, 256.0, 512.0, 2000.0):
        guard_s = guard_seconds(EEG, min(rate_hz, 100))
        block_s, whole_guard_s = block_seconds(rate_hz, 100, guard_s)
        assert block_s * rate_hz % 1 == 0
        assert whole_guard_s * rate_hz % 1 == 0
        assert guard_s <= whole_guard_s <= block_s / 10


@pytest.mark.parametrize("duration_s", [1, 20, 60, 1151, 1152, 1153, 2305])  # blocks of 1152 s
def test_any_duration_gives_the_samples_asked_for(duration_s: int) -> None:
    samples = np.full(duration_s * 10, 3.0, dtype=np.float32)
    filtered = filter_resample(samples, 10.0, 50, band_of(Modality.RESP, CONFIG), duration_s * 50)
    np.testing.assert_allclose(filtered, 3.0, rtol=1e-5)  # a low-pass keeps a constant


def test_an_impulse_stays_where_it_was() -> None:
    samples = np.zeros(256 * 700, dtype=np.float32)
    samples[256 * 288] = 1.0  # where two blocks meet
    assert np.argmax(filter_resample(samples, 256.0, 100, EEG, 70_000)) == 28_800


def test_spo2_is_averaged_held_or_kept_to_one_per_second() -> None:
    fast = np.repeat([90.0, 94.0, 96.0], 2).astype(np.float32)
    fast[0] = 92.0  # mean of the first second: 91
    assert spo2_to_1hz(fast, 2.0, 3)[0].tolist() == [91, 94, 96]
    assert spo2_to_1hz(np.float32([90, 95]), 0.5, 4)[0].tolist() == [90, 90, 95, 95]
    assert spo2_to_1hz(np.float32([90, 95]), 1.0, 2)[0].tolist() == [90, 95]


def test_spo2_in_steps_of_a_fast_channel_is_like_its_percents() -> None:
    generator = np.random.default_rng(5)
    steps = np.repeat(generator.integers(800, 1000, 300), 200).astype(np.int16)
    steps[10_000:10_150] = -1000  # 50 readings of second 50 are left
    steps[20_000:20_100] += 7  # second 100 holds two readings
    steps[30_000:30_200] = 0
    values, measured = spo2_to_1hz(steps, 200.0, 300, gain=0.05, offset=50.0)
    percent = (steps * 0.05 + 50).astype(np.float32)
    expected, there = spo2_to_1hz(percent, 200.0, 300)
    np.testing.assert_allclose(values, expected, atol=1e-4)
    assert measured.tolist() == there.tolist()
    assert values[100] == pytest.approx(percent[20_000:20_200].mean(), abs=1e-4)


def test_spo2_sentinels_within_a_second_are_left_out_of_its_mean() -> None:
    fast = np.float32([90, 0, 94, 255, -1, 127, 0, 0, 91, 95, 93, 97])
    values, measured = spo2_to_1hz(fast, 4.0, 3)
    assert values.tolist() == [92, 93, 94]
    assert measured.tolist() == [True, False, True]


def test_spo2_tenths_of_a_percent_become_percent() -> None:
    values, measured = spo2_to_1hz(np.float32([905, 0, 965, 1270]), 1.0, 4)
    assert values == pytest.approx([90.5, 93.5, 96.5, 96.5])
    assert measured.tolist() == [True, False, True, False]


@pytest.mark.parametrize("sentinel", [-1, 0, 101, 127, 255])
def test_spo2_sentinels_are_missing_not_data(sentinel: float) -> None:
    values, measured = spo2_to_1hz(np.float32([90, sentinel, sentinel, 96]), 1.0, 4)
    assert measured.tolist() == [True, False, False, True]
    assert values.tolist() == [90, 92, 94, 96]


def test_spo2_fractions_become_percent() -> None:
    values, measured = spo2_to_1hz(np.float32([0.9, 0, 0.96]), 1.0, 3)
    assert values == pytest.approx([90, 93, 96])
    assert measured.tolist() == [True, False, True]


def test_spo2_of_an_absent_oximeter_is_nothing_at_all() -> None:
    values, measured = spo2_to_1hz(np.full(60, -1, dtype=np.float32), 1.0, 60)
    assert not measured.any()
    assert not values.any()


def test_spo2_at_a_fractional_rate_keeps_time() -> None:
    rate_hz, num_seconds = 3 / 1.0284, 28_000
    ramp = np.linspace(80, 100, round(num_seconds * rate_hz) + 3, dtype=np.float32)
    values, _ = spo2_to_1hz(ramp, rate_hz, num_seconds)
    middle = np.arange(num_seconds) + 0.5
    expected = 80 + 20 * middle * rate_hz / (len(ramp) - 1)
    assert np.abs(values - expected).max() < 1e-3
