import dataclasses
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.config import SimulateConfig
from sleepmami.signals.edf_writer import WriteChannel
from sleepmami.simulation.body import Body, BodySignal, Source
from sleepmami.simulation.devices import Device, Sensor, device, device_of
from sleepmami.simulation.hardware import record, through_amplifier

SECONDS = 900
T = np.arange(SECONDS * 125) / 125


def sine(frequency_hz: float, amplitude: float = 1.0) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * frequency_hz * T)).astype(np.float32)


def sensor(**changes: object) -> Sensor:
    plain = Sensor(label="EEG", unit="uV", rate_hz=125, mix=((Source.C4, 1.0),), low=-500, high=500)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # fields of every type


def recorder(*sensors: Sensor, mains_hz: float = 50.0) -> Device:
    return Device(
        name="test",
        sensors=sensors,
        mains_hz=mains_hz,
        plus=True,
        record_duration_s=1.0,
        gain_spread=0.0,
    )


def body(**signals: NDArray[np.float32]) -> Body:
    made = {Source(name): BodySignal(samples=s, rate_hz=125) for name, s in signals.items()}
    level = np.full(SECONDS, 96.4, np.float32)
    return made | {Source.SATURATION: BodySignal(samples=level, rate_hz=1)}


def recorded(made: Body, *sensors: Sensor, mains_hz: float = 50.0) -> list[WriteChannel]:
    return list(record(made, recorder(*sensors, mains_hz=mains_hz), np.random.default_rng(0)))


def amplitude(signal: NDArray[np.floating[Any]], rate_hz: int, frequency_hz: float) -> float:
    """Of one sine in the middle of a signal that it fits into whole."""
    part = signal[30 * rate_hz : 30 * rate_hz + 600 * rate_hz]
    t = np.arange(part.size) / rate_hz
    return float(2 * np.abs(np.mean(part * np.exp(-2j * np.pi * frequency_hz * t))))


def test_filters_take_at_their_corners_what_their_formulas_say() -> None:
    both = sensor(highpass_hz=0.5, lowpass_hz=20.0, rate_hz=200)
    for frequency_hz in (0.5, 3.0, 20.0, 40.0):
        filtered = through_amplifier(sine(frequency_hz), 125, both)
        assert filtered.size == SECONDS * 200
        ratio = frequency_hz / 0.5
        expected = ratio / np.sqrt(1 + ratio**2) / np.sqrt(1 + (frequency_hz / 20) ** 4)
        assert amplitude(filtered, 200, frequency_hz) == pytest.approx(expected, rel=0.01)


def test_what_a_lower_rate_cannot_hold_is_gone_and_does_not_fold() -> None:
    slow = through_amplifier(sine(40.0), 125, sensor(rate_hz=50))
    middle = slow[60 * 50 : -60 * 50]
    assert np.abs(middle).max() < 0.01


def test_no_join_shows_between_the_pieces_of_a_night() -> None:
    same = through_amplifier(sine(1.0), 125, sensor(lowpass_hz=50.0))
    late = np.angle(1 / (-((1 / 50) ** 2) + 1j * np.sqrt(2) / 50 + 1))
    expected = np.sin(2 * np.pi * T + late)
    np.testing.assert_allclose(
        same[125 * 40 : -125 * 40], expected[125 * 40 : -125 * 40], atol=0.01
    )


def test_a_turned_lead_and_millivolts_are_what_they_say() -> None:
    made = body(c4=sine(2.0, 100.0))
    (channel,) = recorded(made, sensor(mix=((Source.C4, -1.0),), scale=1e-3, unit="mV"))
    np.testing.assert_allclose(channel.samples, -made[Source.C4].samples / 1000, atol=1e-7)


def test_a_shared_hum_mostly_leaves_a_difference_and_one_of_its_own_does_not() -> None:
    made = body(c4=np.zeros(SECONDS * 125, np.float32))
    for shared, low, high in ((True, 0.0, 0.35), (False, 0.6, 3.0)):
        hums = sensor(hum=10.0, shared_hum=shared)
        one, two = (c.samples for c in recorded(made, hums, hums))
        assert one.std() > 5
        assert low < (one - two).std() / one.std() < high


def test_the_hum_is_at_the_mains_and_absent_where_the_rate_cannot_hold_it() -> None:
    made = body(c4=np.zeros(SECONDS * 125, np.float32))
    for mains_hz in (50.0, 60.0):
        (channel,) = recorded(made, sensor(hum=2.0), mains_hz=mains_hz)
        spectrum = np.abs(np.fft.rfft(channel.samples.astype(np.float64)))
        peak_hz = spectrum.argmax() / SECONDS
        assert peak_hz == pytest.approx(mains_hz, abs=0.05)
    (slow,) = recorded(made, sensor(hum=2.0, rate_hz=50))
    assert np.abs(slow.samples).max() == 0.0


def test_an_oximeter_of_whole_percents_shows_whole_percents() -> None:
    (channel,) = recorded(
        body(), sensor(mix=((Source.SATURATION, 1.0),), unit="%", rate_hz=1, step=1.0)
    )
    assert set(channel.samples.tolist()) == {96.0}


def test_an_amplifier_saturates() -> None:
    (channel,) = recorded(body(c4=sine(1.0, 400.0)), sensor(low=-125, high=125))
    assert channel.samples.min() == -125
    assert channel.samples.max() == 125


def test_a_flat_sensor_is_flat() -> None:
    (channel,) = recorded(body(), sensor(mix=(), rate_hz=1))
    assert channel.samples.tolist() == [0.0] * SECONDS


def test_each_recorder_sleeps_both_sexes_and_is_used_equally() -> None:
    devices = ("compumedics", "nox", "embla")
    used = [(device_of(devices, index).name, index % 2) for index in range(24)]
    assert all(used.count((name, sex)) == 4 for name in devices for sex in (0, 1))


def test_every_name_that_a_config_takes_is_a_recorder() -> None:
    options = get_args(get_args(get_type_hints(SimulateConfig)["devices"])[0])
    assert [device(name).name for name in options] == list(options)


def test_the_reference_recorder_leaves_every_signal_as_it_is() -> None:
    names = ("c4", "c3", "left_eye", "right_eye", "chin", "ecg")
    made = body(**{name: sine(i + 1.0) for i, name in enumerate(names)})
    slow = np.linspace(-1, 1, SECONDS * 10, dtype=np.float32)
    made |= {
        s: BodySignal(samples=slow, rate_hz=10)
        for s in Source
        if s.value in ("flow", "thorax", "abdomen")
    }
    rng = np.random.default_rng(0)
    reference = device("reference")
    for channel, s in zip(record(made, reference, rng), reference.sensors, strict=True):
        np.testing.assert_array_equal(channel.samples, made[s.mix[0][0]].samples)
    assert rng.random() == np.random.default_rng(0).random()  # nothing was drawn
