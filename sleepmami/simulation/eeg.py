"""Central EEG: a background spectrum per stage, with spindles, K-complexes and sawtooth waves."""

import math

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation import measured_spectra, noise
from sleepmami.simulation.events import EventKind, NightPlan
from sleepmami.simulation.subjects import Subject

RATE_HZ = 125
# Share of the variance that the two central derivations have in common.
SHARED_POWER = 0.7
# Columns of the weights after the five stages: eyes-closed alpha, arousal, movement.
ALPHA, AROUSAL, MOVEMENT = 5, 6, 7


def slow_wave_amplitude(subject: Subject) -> float:
    """Relative amplitude of slow waves.

    It falls with age and is higher in women (Mourtazaev et al. 1995); the sizes are ours.
    """
    by_age = 1.2 * math.exp(-0.008 * (subject.age_years - 20))
    return by_age * (1.1 if subject.sex == "female" else 1.0) * subject.eeg_gain


def spindles_per_min(subject: Subject) -> float:
    """Spindles per minute of N2; they become fewer with age (Crowley et al. 2002), sizes ours."""
    return max(5.0 - 0.04 * (subject.age_years - 20), 1.5)


def k_complexes_per_min(subject: Subject) -> float:
    """K-complexes per minute of N2; they become fewer with age (Crowley et al. 2002)."""
    return max(2.0 - 0.018 * (subject.age_years - 20), 0.6)


def simulate_eeg(
    subject: Subject,
    plan: NightPlan,
    rng: np.random.Generator,
    spectra_rng: np.random.Generator | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two central derivations in uV at RATE_HZ.

    Args:
        subject: whose amplitudes and rhythms.
        plan: stages and events.
        rng: of the EEG.
        spectra_rng: of what makes spectra those of `measured_spectra`; None leaves them smooth.
    """
    frames = noise.num_frames(plan.num_seconds)
    weights = _frame_weights(plan, frames, rng)
    parts = _densities(subject)
    frequency_hz = noise.frame_frequencies(RATE_HZ)
    if spectra_rng is not None:
        parts[: Stage.REM + 1] *= measured_spectra.stage_gains(frequency_hz, spectra_rng)
    density = (weights @ parts).astype(np.float32)
    if spectra_rng is not None:
        centre_s = np.minimum(np.arange(frames) * noise.HOP_S, plan.num_seconds - 1)
        stage = plan.stages(1)[centre_s]
        density *= measured_spectra.frame_gains(stage, frequency_hz, spectra_rng)
    common = noise.white_spectra(frames, RATE_HZ, rng) * np.float32(math.sqrt(SHARED_POWER))
    own_part = np.float32(math.sqrt(1 - SHARED_POWER))
    waves = _graphoelements(subject, plan, rng)
    channels = []
    for gain in rng.normal(1.0, 0.05, 2).astype(np.float32):
        own = noise.white_spectra(frames, RATE_HZ, rng)
        own *= own_part
        own += common
        channels.append(noise.shaped_noise(own, density, RATE_HZ) + gain * waves)
    return channels[0], channels[1]


def _densities(subject: Subject) -> NDArray[np.float64]:
    """Power spectral densities in uV2/Hz, [columns, frequencies]; numbers are uV2 of each part."""
    f = noise.frame_frequencies(RATE_HZ)
    slow = slow_wave_amplitude(subject) ** 2
    spindle = noise.band(f, subject.spindle_hz, 0.8)
    theta = noise.band(f, 5.5, 1.2)
    delta = noise.band(f, 1.0, 0.5) * 0.75 + noise.band(f, 2.2, 0.9) * 0.25
    beta = noise.band(f, 22.0, 5.0)
    scaled = [
        noise.aperiodic(f, 1.2) * 45 + beta * 12 + theta * 6,  # wake
        noise.aperiodic(f, 1.5) * 55 + theta * 35 + beta * 4,  # N1
        noise.aperiodic(f, 2.0) * 85 + delta * 110 * slow + theta * 25 + spindle * 3,  # N2
        noise.aperiodic(f, 2.2) * 90 + delta * 850 * slow + theta * 20 + spindle * 2,  # N3
        noise.aperiodic(f, 1.6) * 50 + theta * 25 + beta * 5,  # REM
    ]
    alpha = noise.band(f, subject.alpha_hz, 0.6) * 110
    arousal = noise.band(f, subject.alpha_hz, 1.2) * 120 + beta * 60 + theta * 40
    movement = noise.band(f, 0.6, 0.4) * 6000 + noise.aperiodic(f, 0.3) * 900
    gain = subject.eeg_gain**2
    return np.stack([*(part * gain for part in scaled), alpha * gain, arousal * gain, movement])


def _frame_weights(plan: NightPlan, frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How much of each density is present in each frame, [frames, columns]."""
    centre_s = np.minimum(np.arange(frames) * noise.HOP_S, plan.num_seconds - 1)
    stage = plan.stages(1)[centre_s]
    present = np.eye(len(Stage) - 1)[stage]  # Stage.UNKNOWN never occurs here
    weights = np.zeros((frames, MOVEMENT + 1))
    weights[:, : Stage.REM + 1] = noise.smooth(present, 5)
    # Slow waves build up and fade over a minute or so, and swell with a period of about 30 s.
    weights[:, Stage.N3] = noise.smooth(present[:, Stage.N3], 25) * (stage != Stage.WAKE)
    swell = np.exp(0.45 * noise.slow_noise(frames, 1 / noise.HOP_S, 12.0, rng))
    weights[:, Stage.N2 : Stage.N3 + 1] *= swell[:, None]
    # Awake, the eyes are closed for part of the time, more so before sleep.
    closed = noise.slow_noise(frames, 1 / noise.HOP_S, 15.0, rng) > -0.3
    weights[:, ALPHA] = noise.smooth(closed * present[:, Stage.WAKE], 2)
    weights[:, AROUSAL] = noise.smooth(plan.during(1, EventKind.AROUSAL), 2)[centre_s]
    for start_s, end_s in plan.movements():
        weights[noise.frames_during(start_s, end_s), MOVEMENT] = rng.uniform(0.2, 1.0)
    return weights


def _graphoelements(
    subject: Subject, plan: NightPlan, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Spindles, K-complexes and sawtooth waves in uV, common to both derivations."""
    signal = np.zeros(plan.num_seconds * RATE_HZ, np.float32)
    stage = plan.stages(1)
    calm = 1.0 - plan.during(1, EventKind.AROUSAL)
    n2, n3, rem = (calm * (stage == s) for s in (Stage.N2, Stage.N3, Stage.REM))
    complexes = noise.spaced(
        noise.poisson_times((n2 + 0.3 * n3) * k_complexes_per_min(subject) / 60, rng), 4.0
    )
    shape = _k_complexes(complexes.size, rng) * np.float32(slow_wave_amplitude(subject))
    noise.add_waves(signal, (complexes * RATE_HZ).astype(np.int64), shape)
    # About a third of the spindles ride on a K-complex; the rest come by themselves.
    free = noise.poisson_times((n2 + 0.25 * n3) * spindles_per_min(subject) / 60, rng)
    riding = complexes[rng.random(complexes.size) < 0.4] + 0.6
    starts = noise.spaced(np.sort(np.concatenate([free, riding])), 2.0)
    bursts = _spindles(subject, starts.size, rng)
    noise.add_waves(signal, (starts * RATE_HZ).astype(np.int64), bursts)
    sawtooth = noise.spaced(noise.poisson_times(rem * 1.2 / 60, rng), 8.0)
    teeth = _sawtooth_waves(sawtooth.size, rng)
    noise.add_waves(signal, (sawtooth * RATE_HZ).astype(np.int64), teeth)
    return signal


def _spindles(subject: Subject, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Bursts of 0.5 to 1.6 s in uV, [count, 2 s], waxing and waning."""
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    length_s = rng.uniform(0.6, 1.6, (count, 1))
    frequency_hz = subject.spindle_hz + rng.normal(0, 0.25, (count, 1))
    gain = subject.eeg_gain * subject.effects.spindle_gain(subject.age_years, subject.sex)
    peak = 26 * gain * np.exp(0.25 * rng.standard_normal((count, 1)))
    envelope = np.where(t < length_s, np.sin(np.pi * t / length_s) ** 2, 0.0)
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    return (peak * envelope * np.sin(2 * np.pi * frequency_hz * t + phase)).astype(np.float32)


def _k_complexes(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A sharp negative wave, then a slower positive one, in uV, [count, 1.4 s]."""
    t = np.arange(int(1.4 * RATE_HZ)) / RATE_HZ
    peak = rng.uniform(70, 140, (count, 1))
    stretch = rng.uniform(0.9, 1.2, (count, 1))
    negative = np.exp(-0.5 * ((t - 0.35 * stretch) / 0.09) ** 2)
    positive = 0.6 * np.exp(-0.5 * ((t - 0.75 * stretch) / 0.17) ** 2)
    return (peak * (positive - negative)).astype(np.float32)


def _sawtooth_waves(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Trains of triangular 2.5 to 4 Hz waves in uV, [count, 4 s]."""
    t = np.arange(4 * RATE_HZ) / RATE_HZ
    frequency_hz = rng.uniform(2.5, 4.0, (count, 1))
    length_s = rng.uniform(2.0, 4.0, (count, 1))
    teeth = 2 * ((frequency_hz * t) % 1) - 1
    envelope = np.where(t < length_s, np.sin(np.pi * t / length_s), 0.0)
    return (rng.uniform(15, 30, (count, 1)) * teeth * envelope).astype(np.float32)
