"""EOG and chin EMG: eye movements and muscle tone, each typical of its stage."""

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import Stage
from sleepmami.simulation import noise
from sleepmami.simulation.events import EventKind, NightPlan

RATE_HZ = 125
EEG_IN_EOG = 0.4  # frontal EEG that reaches both EOG electrodes, relative to the central EEG
# Root mean square of the chin EMG in uV, in the order W, N1, N2, N3, REM.
TONE_UV = np.array([12.0, 6.5, 4.5, 3.8, 1.5])
TONE_RATE_HZ = 5


def simulate_eog(
    plan: NightPlan,
    eeg: tuple[NDArray[np.float32], NDArray[np.float32]],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Left and right EOG in uV at RATE_HZ: eyes deflect them oppositely, the brain alike."""
    eyes = _drift(plan, rng)
    stage = plan.stages(1)
    _add_rapid_movements(eyes, plan, rng)
    # Slow rolling movements at sleep onset: N1, and the wake just before it.
    falling_asleep = (stage == Stage.N1) | ((stage == Stage.WAKE) & (np.roll(stage, -60) != stage))
    rolling = noise.spaced(noise.poisson_times(falling_asleep * 9 / 60, rng), 3.0)
    noise.add_waves(eyes, (rolling * RATE_HZ).astype(np.int64), _slow_rolls(rolling.size, rng))
    awake = (stage == Stage.WAKE) & ~falling_asleep
    eyes_open = noise.slow_noise(stage.size, 1.0, 15.0, rng) > 0.2
    blinks = noise.spaced(noise.poisson_times(awake * eyes_open * 0.3, rng), 0.7)
    noise.add_waves(eyes, (blinks * RATE_HZ).astype(np.int64), _blinks(blinks.size, rng))
    left = EEG_IN_EOG * eeg[1] + eyes
    right = EEG_IN_EOG * eeg[0] - np.float32(0.9) * eyes
    return left, right


def _drift(plan: NightPlan, rng: np.random.Generator) -> NDArray[np.float32]:
    """Small slow eye position noise in uV, larger awake and in movements."""
    frames = noise.num_frames(plan.num_seconds)
    centre_s = np.minimum(np.arange(frames) * noise.HOP_S, plan.num_seconds - 1)
    power = np.array([250.0, 80.0, 12.0, 12.0, 60.0])[plan.stages(1)[centre_s]]
    for start_s, end_s in plan.movements():
        power[noise.frames_during(start_s, end_s)] = 2500.0
    shape = noise.aperiodic(noise.frame_frequencies(RATE_HZ), 2.5)
    density = (power[:, None] * shape).astype(np.float32)
    return noise.shaped_noise(noise.white_spectra(frames, RATE_HZ, rng), density, RATE_HZ)


def _add_rapid_movements(
    eyes: NDArray[np.float32], plan: NightPlan, rng: np.random.Generator
) -> None:
    """Rapid eye movements, in bursts that grow denser over the night (REM) or scattered (wake)."""
    stage = plan.stages(1)
    later = 2.0 + 2.0 * np.arange(stage.size) / stage.size
    bursts = noise.poisson_times((stage == Stage.REM) * later / 60, rng)
    sizes = 2 + rng.poisson(4.0, bursts.size)
    gaps_s = rng.uniform(0.25, 0.9, int(sizes.sum()))
    first = np.cumsum(sizes) - sizes
    elapsed = np.cumsum(gaps_s)
    since_first = elapsed - np.repeat(elapsed[first], sizes)
    in_rem = np.repeat(bursts, sizes) + since_first
    inside = np.minimum(in_rem.astype(np.int64), stage.size - 1)
    in_rem = in_rem[stage[inside] == Stage.REM]
    in_wake = noise.poisson_times((stage == Stage.WAKE) * 12 / 60, rng)
    moments = np.concatenate([in_rem, in_wake])
    t = np.arange(int(1.2 * RATE_HZ)) / RATE_HZ
    # A saccade takes 40 to 80 ms; the amplifier's high-pass then brings the trace back.
    rise = 1 / (1 + np.exp(-(t - 0.1) / 0.015))
    shape = rise * np.exp(-np.maximum(t - 0.12, 0) / 0.3)
    sign = rng.choice([-1.0, 1.0], (moments.size, 1))
    peak = rng.gamma(4.0, 25.0, (moments.size, 1))
    waves = (sign * peak * shape).astype(np.float32)
    noise.add_waves(eyes, (moments * RATE_HZ).astype(np.int64), waves)


def _slow_rolls(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Pendular movements of 0.2 to 0.4 Hz in uV, [count, 6 s]."""
    t = np.arange(6 * RATE_HZ) / RATE_HZ
    frequency_hz = rng.uniform(0.2, 0.4, (count, 1))
    peak = rng.uniform(30, 90, (count, 1)) * rng.choice([-1.0, 1.0], (count, 1))
    envelope = np.sin(np.pi * t / 6)
    rolls: NDArray[np.float64] = peak * envelope * np.sin(2 * np.pi * frequency_hz * t)
    return rolls.astype(np.float32)


def _blinks(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Monophasic waves of about 0.3 s in uV, [count, 0.6 s]."""
    t = np.arange(int(0.6 * RATE_HZ)) / RATE_HZ
    shape = np.exp(-0.5 * ((t - 0.25) / 0.07) ** 2)
    return (rng.uniform(80, 180, (count, 1)) * shape).astype(np.float32)


def simulate_emg(plan: NightPlan, rng: np.random.Generator) -> NDArray[np.float32]:
    """Chin EMG in uV at RATE_HZ: tone by stage, atonia and twitches in REM, bursts in arousals."""
    size = plan.num_seconds * TONE_RATE_HZ
    stage = plan.stages(TONE_RATE_HZ)
    tone = noise.smooth(TONE_UV[stage], 3 * TONE_RATE_HZ)
    tone *= np.exp(0.15 * noise.slow_noise(size, TONE_RATE_HZ, 20.0, rng))
    tone *= 1 + 1.5 * plan.during(TONE_RATE_HZ, EventKind.AROUSAL)
    for start_s, end_s in plan.movements():
        burst = tone[int(start_s * TONE_RATE_HZ) : int(end_s * TONE_RATE_HZ)]
        burst += rng.uniform(20, 60) * np.sin(np.pi * (np.arange(burst.size) + 0.5) / burst.size)
    twitches = noise.poisson_times((plan.stages(1) == Stage.REM) * 4 / 60, rng)
    at = (twitches * TONE_RATE_HZ).astype(np.int64)
    tone[at] += rng.uniform(4, 20, at.size)
    # White noise less 0.6 of its previous sample: power rises towards the upper end of the band.
    white = rng.standard_normal(plan.num_seconds * RATE_HZ + 1, dtype=np.float32)
    high: NDArray[np.float32] = white[1:] - np.float32(0.6) * white[:-1]
    high *= np.repeat(tone / np.sqrt(1.36), RATE_HZ // TONE_RATE_HZ)
    return high
