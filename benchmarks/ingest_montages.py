"""Synthetic EDFs with the montages of SHHS, MESA and KISS, for the ingest benchmark.

Labels, rates, units and digital ranges are the cohorts'; records last 1 s. SHHS is 8-bit. Signals
have the spectrum, the artefacts and the mains of real ones: enough to make every branch of a
preprocessing run, and not meant to look right to a scorer. Equal seeds give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from sleepmami.psg import Modality

Floats = NDArray[np.float64]
MAINS_HZ = 60.0
PROBE_OFF_S = (12_000, 12_090)  # the oximeter reads 0


@dataclass(frozen=True)
class MontageChannel:
    """One signal of a montage; `modality` is None when the paper does not use it."""

    label: str
    rate_hz: int
    modality: Modality | None


def _channels(text: str) -> tuple[MontageChannel, ...]:
    """Lines of `label; rate; modality or -`."""
    cells = [[cell.strip() for cell in line.split(";")] for line in text.strip().splitlines()]
    return tuple(
        MontageChannel(label, int(rate), None if kind == "-" else Modality(kind))
        for label, rate, kind in cells
    )


MONTAGES = {
    "shhs": _channels("""
        SaO2; 1; SPO2
        H.R.; 1; -
        EEG(sec); 125; EEG
        ECG; 125; ECG
        EMG; 125; EMG
        EOG(L); 50; EOG
        EOG(R); 50; EOG
        EEG; 125; EEG
        THOR RES; 10; RESP
        ABDO RES; 10; RESP
        POSITION; 1; -
        LIGHT; 1; -
        NEW AIR; 10; RESP
        OX stat; 1; -
    """),
    "mesa": _channels("""
        EKG; 256; ECG
        EOG-L; 256; EOG
        EOG-R; 256; EOG
        EMG; 256; EMG
        EEG1; 256; EEG
        EEG2; 256; EEG
        EEG3; 256; EEG
        Pres; 32; -
        Flow; 32; RESP
        Snore; 32; -
        Thor; 32; RESP
        Abdo; 32; RESP
        Leg; 32; -
        Therm; 32; -
        Pos; 32; -
        EKG_Off; 1; -
        EOG-L_Off; 1; -
        EEG1_Off; 1; -
        Pleth; 256; -
        OxStatus; 1; -
        SpO2; 1; SPO2
        HR; 1; -
        DHR; 256; -
    """),
    "kiss": _channels("""
        C3-M2; 200; EEG
        C4-M1; 200; EEG
        O1-M2; 200; EEG
        O2-M1; 200; EEG
        F3-M2; 200; -
        F4-M1; 200; -
        E1-M2; 200; EOG
        E2-M1; 200; EOG
        Chin EMG; 200; EMG
        LAT; 200; -
        RAT; 200; -
        ECG; 200; ECG
        Flow; 200; RESP
        Thermistor; 200; RESP
        Thorax; 200; RESP
        Abdomen; 200; -
        Snore; 200; -
        Saturation; 200; SPO2
        Position; 200; -
        HR; 200; -
        Pleth; 200; -
    """),
}
"""The modality marks the channels of Table 7: 10 of SHHS, 11 of MESA, 12 of KISS."""

_UNITS = {
    Modality.EEG: ("uV", 500),
    Modality.EOG: ("uV", 500),
    Modality.EMG: ("uV", 200),
    Modality.ECG: ("mV", 5),
    Modality.RESP: ("V", 4),
    None: ("", 8),
}  # unit and physical limit


def write_montage(name: str, path: Path, *, hours: float = 8.0, seed: int = 20260210) -> None:
    """One night of a montage as plain EDF; the same bytes for the same arguments.

    Args:
        name: a key of MONTAGES.
        path: the file to write.
        hours: its length; whole seconds.
        seed: of the random numbers; every channel has its own stream.
    """
    montage, num_seconds = MONTAGES[name], round(hours * 3600)
    ranges = [_range(channel, eight_bit=name == "shhs") for channel in montage]
    width = sum(channel.rate_hz for channel in montage)
    records_RS = np.empty((num_seconds, width), dtype="<i2")
    stop = 0
    for index, (channel, limits) in enumerate(zip(montage, ranges, strict=True)):
        start, stop = stop, stop + channel.rate_hz
        random = np.random.default_rng([seed, *name.encode(), index])
        physical = _SIGNALS[channel.modality](random, num_seconds, channel.rate_hz)
        _, low, high, low_step, high_step = limits
        steps = np.rint((physical - low) * ((high_step - low_step) / (high - low)) + low_step)
        digital = np.clip(steps, low_step, high_step)
        records_RS[:, start:stop] = digital.reshape(num_seconds, channel.rate_hz)
    with path.open("wb") as file:
        file.write(_header(montage, ranges, num_seconds))
        records_RS.tofile(file)


_Range = tuple[str, float, float, int, int]  # unit, physical and digital minimum and maximum


def _range(channel: MontageChannel, *, eight_bit: bool) -> _Range:
    if channel.modality is Modality.SPO2:
        return "%", 0, 100, 0, 1000
    unit, limit = _UNITS[channel.modality]
    if eight_bit:
        return unit, -limit / 4, limit / 4, -128, 127
    return unit, -limit, limit, -32768, 32767


def _header(montage: tuple[MontageChannel, ...], ranges: list[_Range], num_seconds: int) -> bytes:
    """The EDF header: fields of fixed width, each signal field for all signals in turn."""
    count = len(montage)
    fields = [
        ("0", 8),
        ("X X X X", 80),
        ("Startdate 01-JAN-1985 X X X", 80),
        ("01.01.85", 8),
        ("22.00.00", 8),
        (str(256 * (count + 1)), 8),
        ("", 44),
        (str(num_seconds), 8),
        ("1", 8),
        (str(count), 4),
    ]
    fields += [(channel.label, 16) for channel in montage]
    fields += [("", 80)] * count
    for place in range(5):
        fields += [(f"{limits[place]:g}" if place else limits[0], 8) for limits in ranges]
    fields += [("", 80)] * count
    fields += [(str(channel.rate_hz), 8) for channel in montage]
    fields += [("", 32)] * count
    return "".join(text.ljust(width) for text, width in fields).encode("ascii")


# ----------------------------------------------------------------------------------------- signals


def _pink(random: np.random.Generator, num: int, rate_hz: float) -> Floats:
    """Noise of unit deviation whose power falls as 1 / f above 0.05 Hz."""
    bins = num // 2 + 1
    frequency_hz = np.arange(bins) * rate_hz / num
    spectrum = random.standard_normal(bins) + 1j * random.standard_normal(bins)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency_hz, 0.05)), num)
    return np.asarray(noise / noise.std())


def _seconds(num_seconds: int, rate_hz: int) -> Floats:
    return np.arange(num_seconds * rate_hz) / rate_hz


def _depth(seconds: Floats) -> Floats:
    """How deep the sleep is, 0..1, in cycles of 90 minutes."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * seconds / 5400))


def _mains(seconds: Floats, rate_hz: int, amplitude: float) -> Floats:
    if rate_hz <= 2 * MAINS_HZ:
        return np.zeros_like(seconds)
    return np.asarray(amplitude * np.sin(2 * np.pi * MAINS_HZ * seconds + 0.3))


def _eeg(random: np.random.Generator, num_seconds: int, rate_hz: int) -> Floats:
    """Slow waves and alpha by depth, spindles, drift, mains, and 60 movements."""
    seconds = _seconds(num_seconds, rate_hz)
    depth, turn = _depth(seconds), 2 * np.pi * seconds
    signal = 12 * _pink(random, len(seconds), rate_hz)
    signal += 35 * depth * np.sin(0.9 * turn + 4 * np.sin(0.013 * turn))
    signal += 10 * (1 - depth) * np.sin(10 * turn + 3 * np.sin(0.11 * turn))
    signal += 18 * (np.sin(turn / 17) > 0.97) * np.sin(13.5 * turn)
    signal += 15 * np.sin(0.01 * turn) + 8 * np.sin(0.1 * turn)
    for start_s in random.integers(0, num_seconds - 10, 60):
        size = int(random.uniform(1, 8) * rate_hz)
        piece = signal[start_s * rate_hz :][:size]
        piece += 250 * random.standard_normal() * np.hanning(size)
        piece += 40 * random.standard_normal(size)
    return signal + _mains(seconds, rate_hz, 6)


def _eog(random: np.random.Generator, num_seconds: int, rate_hz: int) -> Floats:
    """Eye movements as steps that decay within half a second."""
    seconds = _seconds(num_seconds, rate_hz)
    steps = np.zeros(len(seconds))
    num_moves = num_seconds // 5
    steps[random.integers(0, len(seconds), num_moves)] = random.choice([-80, 80], num_moves)
    moves = scipy.signal.lfilter([1], [1, -np.exp(-1 / (0.4 * rate_hz))], steps)
    noise = 15 * _pink(random, len(seconds), rate_hz)
    return np.asarray(moves + noise + _mains(seconds, rate_hz, 4))


def _emg(random: np.random.Generator, num_seconds: int, rate_hz: int) -> Floats:
    """Noise above 15 Hz, weaker in deep sleep."""
    seconds = _seconds(num_seconds, rate_hz)
    highpass = scipy.signal.butter(2, 15, "highpass", fs=rate_hz, output="sos")
    muscle = scipy.signal.sosfilt(highpass, random.standard_normal(len(seconds)))
    muscle *= 3 + 12 * (1 - _depth(seconds))
    drift = 10 * _pink(random, len(seconds), rate_hz)
    return np.asarray(muscle + drift + _mains(seconds, rate_hz, 5))


def _ecg(random: np.random.Generator, num_seconds: int, rate_hz: int) -> Floats:
    """P, Q, R, S and T as Gaussians, one beat per second with breathing in it."""
    seconds = _seconds(num_seconds, rate_hz)
    t = np.arange(-int(0.35 * rate_hz), int(0.45 * rate_hz)) / rate_hz
    waves = ((0.12, -0.18, 0.025), (-0.12, -0.03, 0.01), (1.1, 0, 0.011))
    waves += ((-0.25, 0.03, 0.012), (0.28, 0.26, 0.05))
    beat = sum(height * np.exp(-(((t - at) / width) ** 2)) for height, at, width in waves)
    beats = np.arange(1.0, num_seconds - 1)
    beats += 0.06 * np.sin(2 * np.pi * 0.25 * beats) + 0.02 * random.standard_normal(len(beats))
    impulses = np.zeros(len(seconds))
    impulses[np.minimum((beats * rate_hz).astype(int), len(seconds) - 1)] = 1
    signal = scipy.signal.oaconvolve(impulses, beat, mode="same")
    signal += 0.15 * np.sin(2 * np.pi * 0.23 * seconds)
    signal += 0.02 * random.standard_normal(len(seconds))
    return np.asarray(signal + _mains(seconds, rate_hz, 0.05))


def _resp(random: np.random.Generator, num_seconds: int, rate_hz: int) -> Floats:
    """Breaths of 4 s whose amplitude falls in apneas."""
    seconds = _seconds(num_seconds, rate_hz)
    breaths_hz = 0.25 + 0.03 * np.sin(2 * np.pi * seconds / 300)
    breaths_hz += 0.02 * _pink(random, len(seconds), rate_hz)
    phase = 2 * np.pi * np.cumsum(breaths_hz) / rate_hz
    apnea = (seconds % 97 < 18) & (np.sin(2 * np.pi * seconds / 5000) > 0.2)
    signal = (1 - 0.85 * apnea) * (np.sin(phase) + 0.2 * np.sin(2 * phase + 0.4))
    return np.asarray(signal + 0.02 * random.standard_normal(len(seconds)))


def _spo2(random: np.random.Generator, num_seconds: int, rate_hz: int) -> Floats:
    """Whole percents that fall after apneas; the probe is off for a while."""
    seconds = _seconds(num_seconds, rate_hz)
    apnea = np.sin(2 * np.pi * seconds / 5000) > 0.2
    fall = 6 * np.exp(-(((seconds % 97 - 40) / 9) ** 2)) * apnea
    signal = np.round(95 + 1.2 * np.sin(2 * np.pi * seconds / 3000) - fall)
    signal[(seconds >= PROBE_OFF_S[0]) & (seconds < PROBE_OFF_S[1])] = 0
    return signal


_SIGNALS: dict[Modality | None, Callable[[np.random.Generator, int, int], Floats]] = {
    Modality.EEG: _eeg,
    Modality.EOG: _eog,
    Modality.EMG: _emg,
    Modality.ECG: _ecg,
    Modality.RESP: _resp,
    Modality.SPO2: _spo2,
    None: lambda random, num_seconds, rate_hz: _pink(random, num_seconds * rate_hz, rate_hz),
}
