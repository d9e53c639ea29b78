"""What others would write for section 3.3: MNE as it comes, MNE tuned, and textbook scipy.

Each takes an EDF and the channels to use, filters, removes the mains, resamples to the paper's
100 Hz, z-scores and saves float32 with np.save. None looks at the quality of a signal, hashes the
file, or keeps checksums and tables: that work is only in ours, and counts against us.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import MODEL_RATE_HZ, Modality

MAINS_HZ, NOTCH_QUALITY = 60.0, 30.0
BANDS_HZ: Mapping[Modality, tuple[float | None, float | None]] = {
    Modality.EEG: (0.3, 40.0),
    Modality.EOG: (0.3, 40.0),
    Modality.EMG: (10.0, None),
    Modality.ECG: (0.3, 60.0),
    Modality.RESP: (None, 15.0),
    Modality.SPO2: (None, None),
}
ELECTRODES = (Modality.EEG, Modality.EOG, Modality.EMG, Modality.ECG)

Channels = Mapping[str, Modality]  # by label


def mne_default(path: Path, channels: Channels, out: Path) -> None:
    """FIR filters and FFT resampling, as `raw.filter` and `raw.resample` do unless told."""
    _mne(path, channels, out, filter_options={}, notch_options={}, resample_options={})


def mne_tuned(path: Path, channels: Channels, out: Path) -> None:
    """The quick options: zero-phase Butterworth of order 2 and polyphase resampling."""
    iir = {"order": 2, "ftype": "butter", "output": "sos"}
    options = {"method": "iir", "iir_params": iir}
    _mne(
        path,
        channels,
        out,
        filter_options=options,
        notch_options=options,
        resample_options={"method": "polyphase"},
    )


def _mne(
    path: Path,
    channels: Channels,
    out: Path,
    *,
    filter_options: dict[str, Any],  # Any: MNE's keyword arguments
    notch_options: dict[str, Any],
    resample_options: dict[str, Any],
) -> None:
    import mne

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # limits of 8 characters, band edges at Nyquist
        raw = mne.io.read_raw_edf(path, include=list(channels), preload=True, verbose="ERROR")
        for modality, (low_hz, high_hz) in BANDS_HZ.items():
            picks = [label for label, kind in channels.items() if kind is modality]
            if picks and (low_hz or high_hz):
                raw.filter(low_hz, high_hz, picks=picks, verbose="ERROR", **filter_options)
        picks = [label for label, kind in channels.items() if kind in ELECTRODES]
        raw.notch_filter(MAINS_HZ, picks=picks, verbose="ERROR", **notch_options)
        raw.resample(MODEL_RATE_HZ, verbose="ERROR", **resample_options)
        np.save(out, _z_scores(raw.get_data()))


def scipy_textbook(path: Path, channels: Channels, out: Path) -> None:
    """Per channel at its own rate, in float64: sosfiltfilt, filtfilt(iirnotch), resample_poly."""
    import pyedflib
    from scipy import signal

    outputs = []
    with pyedflib.EdfReader(str(path)) as reader:
        labels = reader.getSignalLabels()
        for label, modality in channels.items():
            index = labels.index(label)
            rate_hz = round(reader.getSampleFrequency(index))
            samples = reader.readSignal(index)
            low_hz, high_hz = BANDS_HZ[modality]
            if high_hz and high_hz >= rate_hz / 2:
                high_hz = None  # nothing is there to cut
            kind = "bandpass" if low_hz and high_hz else "highpass" if low_hz else "lowpass"
            edges = [edge for edge in (low_hz, high_hz) if edge]
            if edges:
                band = signal.butter(
                    2, edges if edges[1:] else edges[0], kind, False, "sos", rate_hz
                )
                samples = signal.sosfiltfilt(band, samples)
            if modality in ELECTRODES and rate_hz / 2 > MAINS_HZ:
                notch = signal.iirnotch(MAINS_HZ, NOTCH_QUALITY, rate_hz)
                samples = signal.filtfilt(*notch, samples)
            resampled = signal.resample_poly(samples, MODEL_RATE_HZ, rate_hz)
            outputs.append(_z_scores(resampled[None]))
    np.save(out, np.concatenate(outputs))


def _z_scores(signals_CT: NDArray[np.float64]) -> NDArray[np.float32]:
    """Per channel C over the night's samples T."""
    signals_CT -= signals_CT.mean(axis=1, keepdims=True)
    signals_CT /= signals_CT.std(axis=1, keepdims=True)
    return signals_CT.astype(np.float32)


PEERS: Mapping[str, Callable[[Path, Channels, Path], None]] = {
    "mne": mne_default,
    "mne_tuned": mne_tuned,
    "scipy": scipy_textbook,
}
