import numpy as np
import pytest

from sleepmami.simulation import noise


def test_shaped_noise_has_the_power_and_the_frequency_asked_for() -> None:
    rng = np.random.default_rng(0)
    frames = noise.num_frames(1200)
    shape = noise.band(noise.frame_frequencies(125), 10.0, 0.5) * 49.0
    density = np.tile(shape, (frames, 1)).astype(np.float32)
    signal = noise.shaped_noise(noise.white_spectra(frames, 125, rng), density, 125)
    assert signal.shape == (1200 * 125,)
    assert signal.std() == pytest.approx(7.0, rel=0.03)
    power = np.abs(np.fft.rfft(signal.astype(float))) ** 2
    frequency_hz = np.fft.rfftfreq(signal.size, 1 / 125)
    assert (power * frequency_hz).sum() / power.sum() == pytest.approx(10.0, abs=0.05)


def test_shaped_noise_keeps_its_variance_at_the_joints_of_frames() -> None:
    rng = np.random.default_rng(1)
    frames = noise.num_frames(4000)
    density = np.tile(noise.band(noise.frame_frequencies(125), 20.0, 5.0), (frames, 1))
    signal = noise.shaped_noise(
        noise.white_spectra(frames, 125, rng), density.astype(np.float32), 125
    )
    by_place = signal.reshape(-1, 250).std(axis=0)  # 2000 hops, each place of a hop
    assert by_place.mean() == pytest.approx(1.0, abs=0.01)
    assert by_place.std() < 0.03  # 1 / sqrt(2 * 2000) = 0.016 by chance


def test_slow_noise_has_unit_variance_and_no_kinks() -> None:
    values = noise.slow_noise(200_000, 10.0, 5.0, np.random.default_rng(2))
    assert values.mean() == pytest.approx(0.0, abs=0.06)
    assert values.std() == pytest.approx(1.0, abs=0.05)
    assert np.abs(np.diff(values, 2)).max() < 0.05


def test_smooth_keeps_a_constant_and_averages_an_impulse() -> None:
    assert noise.smooth(np.full(9, 3.0), 4).tolist() == pytest.approx([3.0] * 9)
    impulse = np.zeros(9)
    impulse[4] = 1.0
    assert noise.smooth(impulse, 4) == pytest.approx([0, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0])


def test_waves_add_where_they_overlap_and_never_run_over_the_end() -> None:
    signal = np.zeros(6, np.float32)
    waves = np.ones((3, 3), np.float32)
    noise.add_waves(signal, np.array([0, 1, 4]), waves)
    assert signal.tolist() == [1, 2, 2, 1, 0, 0]
