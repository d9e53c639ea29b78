"""From a body's signals to a recorder's channels: mix, filter, resample, hum, noise, resolution."""

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S
from sleepmami.signals.edf_writer import WriteChannel
from sleepmami.simulation import noise
from sleepmami.simulation.body import Body, BodySignal, Source
from sleepmami.simulation.devices import Device, Sensor

MASTOID_UV = 8.0  # root mean square, against a distant ground
PIECE_S, GUARD_S = 300, 30  # of a Fourier transform; the guard outlasts every filter here
GAIN_OF_HARMONIC = 0.3  # third harmonic of the mains, relative


def record(body: Body, device: Device, rng: np.random.Generator) -> tuple[WriteChannel, ...]:
    """Physical samples of every channel, clipped to the recorder's range.

    The reference recorder passes signals through untouched and draws nothing.

    Args:
        body: signals of one night; a mastoid is added where the recorder has electrodes of its own.
        device: what records.
        rng: of the night's hardware: gains, electrode noise, hum.
    """
    seconds = body[Source.SATURATION].samples.size
    sources = {source for sensor in device.sensors for source, _ in sensor.mix}
    if Source.MASTOID in sources:
        body = body | {Source.MASTOID: _mastoid(seconds, body[Source.C4].rate_hz, rng)}
    hums: dict[int, NDArray[np.float32]] = {}
    channels = []
    for sensor in device.sensors:
        samples = _sensed(body, sensor, seconds)
        if sensor.noise:
            floor = sensor.noise * np.exp(0.3 * rng.standard_normal())
            hiss = rng.standard_normal(samples.size, dtype=np.float32)
            hiss *= np.float32(floor)
            samples = np.add(hiss, samples, out=hiss)
        if sensor.hum and device.mains_hz < sensor.rate_hz / 2:
            rate_hz = sensor.rate_hz
            if not sensor.shared_hum or rate_hz not in hums:
                hums[rate_hz] = _hum(seconds, rate_hz, device.mains_hz, rng)
            # electrodes of unlike impedance: a difference of two keeps some of a shared hum
            unlike = 1 + 0.08 * rng.standard_normal()
            samples = samples + np.float32(sensor.hum * unlike) * hums[rate_hz]
        if device.gain_spread and sensor.mix and not sensor.step:
            samples = samples * np.float32(1 + device.gain_spread * rng.standard_normal())
        channels.append(_written(sensor, samples))
    return tuple(channels)


def _written(sensor: Sensor, samples: NDArray[np.float32]) -> WriteChannel:
    """An amplifier saturates: what exceeds its range is written as the range's end."""
    if sensor.scale != 1:
        samples = samples * np.float32(sensor.scale)
    if sensor.step:
        samples = np.round(samples / np.float32(sensor.step)) * np.float32(sensor.step)
    corners = [("HP", sensor.highpass_hz), ("LP", sensor.lowpass_hz)]
    return WriteChannel(
        label=sensor.label,
        unit=sensor.unit,
        sample_rate_hz=float(sensor.rate_hz),
        samples=np.clip(samples, sensor.low, sensor.high),
        physical_min=sensor.low,
        physical_max=sensor.high,
        digital_min=sensor.digital[0],
        digital_max=sensor.digital[1],
        prefilter=" ".join(f"{name}:{corner:g}Hz" for name, corner in corners if corner),
    )


def _sensed(body: Body, sensor: Sensor, seconds: int) -> NDArray[np.float32]:
    """The mixed signal at the sensor's rate, through the amplifier's filters."""
    if not sensor.mix:
        return np.zeros(seconds * sensor.rate_hz, np.float32)
    first, weight = sensor.mix[0]
    rate_hz = body[first].rate_hz
    mixed = body[first].samples if weight == 1 else np.float32(weight) * body[first].samples
    for source, weight in sensor.mix[1:]:
        mixed = mixed + np.float32(weight) * body[source].samples
    if sensor.rectified:
        return _envelope(mixed, rate_hz, sensor.rate_hz)
    return through_amplifier(mixed, rate_hz, sensor)


def _envelope(signal: NDArray[np.float32], rate_hz: int, to_hz: int) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = np.abs(signal).reshape(-1, rate_hz // to_hz).mean(axis=1)
    return mean


def through_amplifier(
    signal: NDArray[np.float32], rate_hz: int, sensor: Sensor
) -> NDArray[np.float32]:
    """Filter and resample in one step, with the delays of analog filters.

    A first-order high-pass and a second-order Butterworth low-pass, by Fourier transforms of
    overlapping pieces; before and after the night its first and last sample are taken to last.

    Args:
        signal: a whole number of seconds.
        rate_hz: of `signal`.
        sensor: gives corners and the rate to go to.
    """
    to_hz = sensor.rate_hz
    if to_hz == rate_hz and not sensor.highpass_hz and not sensor.lowpass_hz:
        return signal
    seconds = signal.size // rate_hz
    num_pieces = -(-seconds // PIECE_S)
    after_s = GUARD_S + num_pieces * PIECE_S - seconds
    padded = np.pad(signal, (GUARD_S * rate_hz, after_s * rate_hz), mode="edge")
    size_s = PIECE_S + 2 * GUARD_S
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size_s * rate_hz)
    spectra = np.fft.rfft(pieces[:: PIECE_S * rate_hz], axis=1)[:, : size_s * to_hz // 2 + 1]
    frequency_hz = np.arange(spectra.shape[1]) / size_s
    response = np.full(frequency_hz.size, to_hz / rate_hz, np.complex128)
    if sensor.highpass_hz:
        s = 1j * frequency_hz / sensor.highpass_hz
        response *= s / (1 + s)
    if sensor.lowpass_hz:
        s = 1j * frequency_hz / sensor.lowpass_hz
        response /= s * s + np.sqrt(2) * s + 1
    filtered = np.fft.irfft(spectra * response.astype(np.complex64), size_s * to_hz, axis=1)
    middle = filtered[:, GUARD_S * to_hz : (GUARD_S + PIECE_S) * to_hz]
    night: NDArray[np.float32] = middle.reshape(-1)[: seconds * to_hz].astype(np.float32)
    return night


def _hum(
    seconds: int, rate_hz: int, mains_hz: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Mains of unit root mean square that wax and wane over minutes; the grid's frequency holds."""
    t = np.arange(rate_hz * EPOCH_S) / rate_hz  # whole periods of 50 and 60 Hz
    wave = np.sin(2 * np.pi * mains_hz * t + rng.uniform(0, 2 * np.pi))
    if 3 * mains_hz < rate_hz / 2:
        wave += GAIN_OF_HARMONIC * np.sin(2 * np.pi * 3 * mains_hz * t)
    level = np.exp(0.5 * noise.slow_noise(seconds, 1.0, 300.0, rng)) * np.sqrt(2)
    night = np.tile(wave.astype(np.float32), seconds // EPOCH_S).reshape(seconds, rate_hz)
    hum: NDArray[np.float32] = (night * level.astype(np.float32)[:, None]).reshape(-1)
    return hum


def _mastoid(seconds: int, rate_hz: int, rng: np.random.Generator) -> BodySignal:
    """Slow potentials and muscle that a mastoid has against ground, alike on both sides."""
    frames = noise.num_frames(seconds)
    shape = noise.aperiodic(noise.frame_frequencies(rate_hz), 1.2) * MASTOID_UV**2
    density = np.broadcast_to(shape.astype(np.float32), (frames, shape.size))
    samples = noise.shaped_noise(noise.white_spectra(frames, rate_hz, rng), density, rate_hz)
    return BodySignal(samples=samples, rate_hz=rate_hz)
