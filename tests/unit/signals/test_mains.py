import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.signals.mains import detect_mains, hum_prominence, only_hum

DURATION_S = 600


def brain(rate_hz: float, seed: int = 0) -> NDArray[np.float32]:
    """Noise of 20 uV whose density falls with frequency, and a rhythm at 10 Hz."""
    size = round(DURATION_S * rate_hz)
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.maximum(np.fft.rfftfreq(size, 1 / rate_hz), 0.5)
    noise = np.fft.irfft(spectrum, size)
    rhythm = 10 * np.sin(2 * np.pi * 10 * np.arange(size) / rate_hz)
    return np.asarray(20 * noise / noise.std() + rhythm, dtype=np.float32)


def hum(hz: float, rate_hz: float, amplitude: float) -> NDArray[np.float32]:
    time_s = np.arange(round(DURATION_S * rate_hz)) / rate_hz
    return np.asarray(amplitude * np.sin(2 * np.pi * hz * time_s), dtype=np.float32)


@pytest.mark.parametrize("rate_hz", [125.0, 200.0, 256.0, 512.0, 199.5])
@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_a_weak_hum_is_found(rate_hz: float, mains_hz: float) -> None:
    signal = brain(rate_hz) + hum(mains_hz + 0.05, rate_hz, 0.7)
    assert detect_mains(signal, rate_hz) == mains_hz


@pytest.mark.parametrize("rate_hz", [125.0, 200.0, 512.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_signal_without_hum_has_no_mains(rate_hz: float, seed: int) -> None:
    assert detect_mains(brain(rate_hz, seed), rate_hz) is None
    white = np.random.default_rng(seed).standard_normal(round(DURATION_S * rate_hz))
    assert detect_mains(white.astype(np.float32), rate_hz) is None


def test_the_stronger_of_two_hums_wins() -> None:
    signal = brain(256) + hum(50, 256, 2) + hum(60, 256, 1)
    assert detect_mains(signal, 256) == 50.0


def test_only_fifty_hertz_is_visible_at_110_hz_and_nothing_at_100() -> None:
    assert set(hum_prominence(brain(110), 110)) == {50.0}
    assert hum_prominence(brain(100), 100) == {}
    assert detect_mains(brain(100), 100) is None


def test_integers_a_movement_and_a_flat_half_do_not_hide_the_hum() -> None:
    signal = brain(200) + hum(50, 200, 1)
    signal[:5000] += 3000 * np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    signal[70_000:] = 7
    assert detect_mains((10 * signal).astype(np.int16), 200) == 50.0


def test_a_flat_or_very_short_signal_has_no_mains() -> None:
    assert detect_mains(np.full(60_000, 7, np.int16), 200) is None
    assert detect_mains(brain(200)[:300], 200) is None


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_epochs_of_nothing_but_hum_are_found(mains_hz: float) -> None:
    signal = brain(256)
    off = slice(3 * 30 * 256, 6 * 30 * 256)
    air = hum(mains_hz, 256, 500) + hum(2 * mains_hz, 256, 60)
    signal[off] = air[off] + np.random.default_rng(1).normal(0, 2, len(air[off]))
    found = only_hum(signal, 256, np.ones(20, dtype=bool), may_fall_silent=True)
    assert np.flatnonzero(found).tolist() == [3, 4, 5]


def test_a_whole_night_of_hum_is_found_and_a_strong_hum_on_a_living_signal_is_not() -> None:
    everything = np.ones(20, dtype=bool)
    assert only_hum(hum(60, 256, 500), 256, everything, may_fall_silent=True).all()
    assert not only_hum(brain(256) + hum(60, 256, 400), 256, everything, may_fall_silent=True).any()


def test_a_chin_without_tone_in_half_the_night_keeps_its_epochs() -> None:
    chin = np.random.default_rng(0).normal(0, 3, DURATION_S * 256).astype(np.float32)
    chin[: 8 * 30 * 256] *= np.float32(0.05)
    signal = chin + hum(50, 256, 30)
    assert not only_hum(signal, 256, np.ones(20, dtype=bool), may_fall_silent=True).any()


def test_unusable_epochs_are_not_judged() -> None:
    usable = np.arange(20) >= 10
    assert np.flatnonzero(
        only_hum(hum(60, 256, 500), 256, usable, may_fall_silent=True)
    ).tolist() == [*range(10, 20)]


def test_an_electrode_that_falls_off_is_found_where_silence_is_not_natural() -> None:
    signal = brain(256)
    off = slice(12 * 30 * 256, None)
    air = hum(60, 256, 400)[off]
    signal[off] = air + np.random.default_rng(1).normal(0, 1, len(air))
    everything = np.ones(20, dtype=bool)
    found = only_hum(signal, 256, everything, may_fall_silent=False)
    assert np.flatnonzero(found).tolist() == [*range(12, 20)]
    assert not only_hum(signal, 256, everything, may_fall_silent=True).any()


def test_a_living_signal_keeps_its_quiet_epochs_under_strong_hum() -> None:
    signal = brain(256)
    signal[: 6 * 30 * 256] *= np.float32(0.25)  # from deep sleep to low voltage
    found = only_hum(
        signal + hum(60, 256, 400), 256, np.ones(20, dtype=bool), may_fall_silent=False
    )
    assert not found.any()
