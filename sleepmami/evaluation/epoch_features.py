"""What a textbook measures in 30 s of a signal: band powers, heart beats, breaths, oxygen.

Powers are Welch's: the mean over Hann windows of 4 s (EMG 1 s, RESP 15 s) that overlap by half,
summed over a band [low, high) and as natural logarithm. `sigma_floor` is the median over the
windows instead: spindles, which fill few of them, do not count. A sine of amplitude a inside a band
has the power a^2 / 2 there.

Shapes: L epochs, T samples of an epoch, F features, W windows of an epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, MODALITIES, Modality
from sleepmami.signals.heart_beats import find_r_peaks, keep_intervals

Floats = NDArray[np.float32]

EEG_BANDS_HZ = {
    "slow": (0.5, 1.0),
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 11.0),
    "sigma": (11.0, 16.0),
    "beta": (16.0, 30.0),
    "gamma": (30.0, 40.0),
}
EMG_BANDS_HZ = {"low": (10.0, 20.0), "middle": (20.0, 30.0), "high": (30.0, 45.0)}
RESP_BANDS_HZ = {"below": (0.05, 0.15), "breath": (0.15, 0.35), "above": (0.35, 1.0)}
BREATH_RANGE_HZ = (0.1, 0.6)  # 6 to 36 breaths per minute
BREATH_PEAK_HZ = 0.05  # to each side of the rate: what counts as its peak
WINDOW_S = {Modality.EEG: 4, Modality.EOG: 4, Modality.EMG: 1, Modality.RESP: 15}
AMPLITUDE_S = 5  # breathing amplitude is looked at in pieces of this length
MIN_INTERVALS = 5  # heart beats of an epoch that its rate may be had from
FLOOR = 1e-6  # added to a power in squared deviations: a flat line has a logarithm


def epoch_features(modality: Modality, signal_LT: Floats, rate_hz: int) -> Floats:
    """Features of one modality, [L, F], finite; their names are FEATURES[modality].

    Args:
        modality: of SleepMaMi's six.
        signal_LT: float32[L, 30 * rate_hz], in any unit.
        rate_hz: of the signal.
    """
    names, extract = _EXTRACTORS[modality]
    x_LF = extract(signal_LT, rate_hz)
    assert x_LF.shape == (len(signal_LT), len(names))
    return x_LF.astype(np.float32)


def band_powers(
    signal_LT: Floats, rate_hz: int, window_s: int, bands_hz: Mapping[str, tuple[float, float]]
) -> tuple[Floats, Floats]:
    """Power of each band, mean and median over the windows: [L, bands] each, not logarithms."""
    window = window_s * rate_hz
    hz, _, density_LHW = scipy.signal.spectrogram(
        signal_LT, rate_hz, window="hann", nperseg=window, noverlap=window // 2, detrend="constant"
    )
    step_hz = hz[1] - hz[0]
    powers_LBW = np.stack(
        [
            density_LHW[:, (hz >= low) & (hz < high)].sum(1) * step_hz
            for low, high in bands_hz.values()
        ],
        axis=1,
    )
    return powers_LBW.mean(-1), np.median(powers_LBW, axis=-1)


def _log(power: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.log(power + FLOOR))


def _brain(signal_LT: Floats, rate_hz: int) -> NDArray[np.floating]:
    """Of EEG and EOG: bands, then Hjorth's three (1970) and how peaked the wave is."""
    mean_LB, median_LB = band_powers(signal_LT, rate_hz, WINDOW_S[Modality.EEG], EEG_BANDS_HZ)
    sigma = list(EEG_BANDS_HZ).index("sigma")
    slope_LT = np.diff(signal_LT, axis=1) * rate_hz
    bend_LT = np.diff(slope_LT, axis=1) * rate_hz
    activity_L, slope_L, bend_L = (
        _log(part_LT.var(1, dtype=np.float64)) for part_LT in (signal_LT, slope_LT, bend_LT)
    )
    mobility_L = (slope_L - activity_L) / 2
    centred_LT = signal_LT - signal_LT.mean(1, keepdims=True)
    fourth_L = np.square(np.square(centred_LT)).mean(1, dtype=np.float64)
    columns = [
        *_log(mean_LB).T,
        _log(median_LB[:, sigma]),
        activity_L,
        mobility_L,
        (bend_L - slope_L) / 2 - mobility_L,
        _log(fourth_L) - 2 * activity_L,
    ]
    return np.stack(columns, axis=1)


def _chin(signal_LT: Floats, rate_hz: int) -> NDArray[np.floating]:
    """Bands, the tone of a typical second, and twitches: the strongest second against it."""
    mean_LB, _ = band_powers(signal_LT, rate_hz, WINDOW_S[Modality.EMG], EMG_BANDS_HZ)
    second_LS = _log(signal_LT.reshape(len(signal_LT), EPOCH_S, rate_hz).var(2))
    tone_L = np.median(second_LS, axis=1)
    columns = [*_log(mean_LB).T, tone_L, second_LS.max(1) - tone_L]
    return np.stack(columns, axis=1)


def _heart(signal_LT: Floats, rate_hz: int) -> NDArray[np.floating]:
    """Rate per minute, logarithms of RMSSD and SDNN in s, of the intervals that end inside; 1.

    Epochs with fewer than MIN_INTERVALS have what lies between their neighbours', and 0 at the end.
    """
    num_epochs = len(signal_LT)
    beat_s = find_r_peaks(signal_LT.reshape(-1), rate_hz)
    x_LF, found_L = np.zeros((num_epochs, 4)), np.zeros(num_epochs, np.bool_)
    if len(beat_s) < 2:
        return x_LF
    kept, interval_s = keep_intervals(beat_s), np.diff(beat_s)
    epoch = np.minimum(beat_s[1:] // EPOCH_S, num_epochs - 1).astype(int)
    cuts = np.searchsorted(epoch, np.arange(num_epochs + 1))
    for number, (first, stop) in enumerate(itertools.pairwise(cuts)):
        own = interval_s[first:stop][kept[first:stop]]
        # successive only where neither interval was dropped
        pairs = kept[first:stop][1:] & kept[first:stop][:-1]
        step = np.diff(interval_s[first:stop])[pairs]
        if len(own) >= MIN_INTERVALS and len(step):
            rmssd_s, sdnn_s = np.sqrt(np.square(step).mean()), own.std()
            x_LF[number, :3] = 60 / own.mean(), np.log(rmssd_s + 1e-3), np.log(sdnn_s + 1e-3)
            found_L[number] = True
    if found_L.any():
        places, there = np.arange(num_epochs), np.flatnonzero(found_L)
        x_LF = np.stack([np.interp(places, there, column[there]) for column in x_LF.T], axis=1)
    x_LF[:, 3] = found_L
    return x_LF


def _breath(signal_LT: Floats, rate_hz: int) -> NDArray[np.floating]:
    """Bands; breaths per minute, how much of the power they are; amplitude and its variation."""
    num_epochs, num_samples = signal_LT.shape
    mean_LB, _ = band_powers(signal_LT, rate_hz, WINDOW_S[Modality.RESP], RESP_BANDS_HZ)
    hann = scipy.signal.get_window("hann", num_samples).astype(np.float32)
    centred_LT = (signal_LT - signal_LT.mean(1, keepdims=True)) * hann
    num_points = 4 * num_samples  # finer than the 2 per minute that 30 s would give
    hz = np.fft.rfftfreq(num_points, 1 / rate_hz)
    low, high = BREATH_RANGE_HZ
    power_LH = np.abs(np.fft.rfft(centred_LT, num_points)[:, hz < 1]) ** 2
    hz = hz[hz < 1]
    inside = np.flatnonzero((hz >= low) & (hz <= high))
    rate_L = hz[inside[power_LH[:, inside].argmax(1)]]
    near_LH = np.abs(hz - rate_L[:, None]) <= BREATH_PEAK_HZ
    share_L = (power_LH * near_LH).sum(1) / np.maximum(power_LH.sum(1), 1e-12)
    piece_LP = _log(signal_LT.reshape(num_epochs, -1, AMPLITUDE_S * rate_hz).var(2)) / 2
    columns = [
        *_log(mean_LB).T,
        60 * rate_L,
        share_L,
        piece_LP.mean(1),
        piece_LP.min(1),
        piece_LP.max(1),
        piece_LP.std(1),
    ]
    return np.stack(columns, axis=1)


def _oxygen(signal_LT: Floats, rate_hz: int) -> NDArray[np.floating]:
    """In the unit of the signal: mean, least, greatest, deepest drop, rise over the epoch."""
    falls_LT = np.maximum.accumulate(signal_LT, axis=1) - signal_LT
    third = signal_LT.shape[1] // 3
    columns = [
        signal_LT.mean(1),
        signal_LT.min(1),
        signal_LT.max(1),
        falls_LT.max(1),
        signal_LT[:, -third:].mean(1) - signal_LT[:, :third].mean(1),
    ]
    return np.stack(columns, axis=1)


_BRAIN = (*EEG_BANDS_HZ, "sigma_floor", "activity", "mobility", "complexity", "kurtosis")
_Extract = Callable[[Floats, int], NDArray[np.floating]]
_EXTRACTORS: Mapping[Modality, tuple[tuple[str, ...], _Extract]] = {
    Modality.EEG: (_BRAIN, _brain),
    Modality.EOG: (_BRAIN, _brain),
    Modality.EMG: ((*EMG_BANDS_HZ, "tone", "twitch"), _chin),
    Modality.ECG: (("rate_per_min", "log_rmssd", "log_sdnn", "beats"), _heart),
    Modality.RESP: (
        (*RESP_BANDS_HZ, "rate_per_min", "regularity", "amplitude", "least", "greatest", "uneven"),
        _breath,
    ),
    Modality.SPO2: (("mean", "least", "greatest", "drop", "rise"), _oxygen),
}
FEATURES: Mapping[Modality, tuple[str, ...]] = {m: _EXTRACTORS[m][0] for m in MODALITIES}
LOG_POWERS: Mapping[Modality, frozenset[str]] = {  # twice a gain's logarithm is added to these
    Modality.EEG: frozenset({*EEG_BANDS_HZ, "sigma_floor", "activity"}),
    Modality.EOG: frozenset({*EEG_BANDS_HZ, "sigma_floor", "activity"}),
    Modality.EMG: frozenset({*EMG_BANDS_HZ, "tone"}),
}
