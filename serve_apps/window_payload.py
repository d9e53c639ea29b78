"""Windows that a client has preprocessed itself: from the bytes of a request to a WindowBatch.

The arrays have the same names in every format. For B windows of 60 s:

    EEG EOG EMG ECG   float32[B, 6000]   z-scores at 100 Hz
    RESP              float32[B, 3000]   z-scores at 50 Hz
    SPO2              float32[B, 60]     z-scores at 1 Hz
    valid             bool[B, 6, 2]      the 30-s epoch has a usable signal, in the order above;
                                         or bool[B, 6]; without it all that is sent is usable

`sleepmami.inference.windows.night_windows` makes them from a night.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_apps.arrow_guard import arrow_arrays
from serve_apps.backend import WindowBatch
from serve_apps.http_errors import HttpError
from serve_apps.payload_guard import Arrays, npz_arrays, safetensors_arrays
from serve_apps.wire import ARROW, NPZ, SAFETENSORS
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, SEGMENT_S, STORED_RATE_HZ, STORED_SCALE

WINDOW_TYPES = (NPZ, ARROW, SAFETENSORS)
VALID = "valid"
LARGEST = 2**15 / STORED_SCALE  # stored numbers are int16; what is larger is no z-score
SAMPLES = {modality.value: SEGMENT_S * STORED_RATE_HZ[modality] for modality in MODALITIES}
DTYPES: dict[str, np.dtype[Any]] = {  # Any: float32 or bool
    **dict.fromkeys(SAMPLES, np.dtype(np.float32)),
    VALID: np.dtype(np.bool_),
}


class SentWindows(NamedTuple):
    """What was sent."""

    batch: WindowBatch
    valid_BSE: NDArray[np.bool_]  # each epoch of a window for itself


def windows_of(body: bytes, content_type: str, max_bytes: int) -> SentWindows:
    """The windows in a body of one of WINDOW_TYPES.

    Raises:
        HttpError: pickle_forbidden, extension_type_forbidden, payload_too_large, payload_invalid,
            windows_invalid.
    """
    if content_type == NPZ:
        return checked_windows(npz_arrays(body, DTYPES, max_bytes))
    if content_type == SAFETENSORS:
        return checked_windows(safetensors_arrays(body, DTYPES))
    arrays = arrow_arrays(body, arrow_types())
    if VALID in arrays and arrays[VALID].shape[1] != len(MODALITIES):
        arrays[VALID] = arrays[VALID].reshape(-1, len(MODALITIES), SEGMENT_EPOCHS)
    return checked_windows(arrays)


def arrow_types() -> dict[str, list[pa.DataType]]:
    """The columns of a table of windows; `valid` is flat, 6 or 12 wide."""
    signals = {name: [pa.list_(pa.float32(), width)] for name, width in SAMPLES.items()}
    widths = (len(MODALITIES), len(MODALITIES) * SEGMENT_EPOCHS)
    return {**signals, VALID: [pa.list_(pa.bool_(), width) for width in widths]}


def checked_windows(arrays: Arrays) -> SentWindows:
    """Arrays of the right names and dtypes as windows; HttpError("windows_invalid") otherwise."""
    signals = {m: arrays[m.value] for m in MODALITIES if m.value in arrays}
    num_windows = {len(signal) for signal in signals.values() if signal.ndim == 2}
    if len(num_windows) != 1:
        raise HttpError("windows_invalid")
    (rows,) = num_windows
    for modality, signal_BT in signals.items():
        if not rows or signal_BT.shape != (rows, SAMPLES[modality.value]):
            raise HttpError("windows_invalid")
        # One comparison for NaN, infinity and volts: each of them is not below the bound.
        if not (np.abs(signal_BT) <= LARGEST).all():
            raise HttpError("windows_invalid")
    valid_BSE = _valid(arrays.get(VALID), rows, [m in signals for m in MODALITIES])
    return SentWindows(WindowBatch(signals, np.asarray(valid_BSE.any(axis=2))), valid_BSE)


def _valid(sent: NDArray[np.bool_] | None, rows: int, there_S: list[bool]) -> NDArray[np.bool_]:
    shape = (rows, len(MODALITIES), SEGMENT_EPOCHS)
    there_BSE = np.broadcast_to(np.array(there_S)[None, :, None], shape)
    if sent is None:
        return there_BSE.copy()
    if sent.shape == shape[:2]:
        sent = np.broadcast_to(sent[..., None], shape)
    if sent.shape != shape or (sent & ~there_BSE).any():
        raise HttpError("windows_invalid")
    return np.array(sent)
