"""How many whole epochs a recording holds, and whether that is too few or too many."""

from __future__ import annotations

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import EPOCH_S, SEGMENT_EPOCHS
from sleepmami.signals.edf import EdfFile


def num_epochs(edf: EdfFile, config: PreprocessConfig) -> int:
    """Whole 30-s epochs from the first sample to the last, gaps counted in.

    Raises:
        RecordingError: recording_too_short, recording_too_large, or channels_missing when the file
            holds annotations alone, as scorings do.
    """
    if not edf.channels:
        raise RecordingError(
            RecordingCode.CHANNELS_MISSING,
            file=edf.name,
            found="annotations and no signal",
            expected="a recording; a scoring is taken with the recording that it is named after",
        )
    if edf.duration_s > config.max_duration_h * 3600:
        raise RecordingError(
            RecordingCode.RECORDING_TOO_LARGE,
            file=edf.name,
            found=f"{edf.duration_s / 3600:.1f} h of signal",
            expected=f"at most {config.max_duration_h:g} h (preprocess.max_duration_h)",
        )
    count = int((edf.duration_s + 1e-6) // EPOCH_S)
    if edf.duration_s < config.min_duration_s or count < SEGMENT_EPOCHS:
        raise RecordingError(
            RecordingCode.RECORDING_TOO_SHORT,
            file=edf.name,
            found=f"{edf.duration_s:g} s of signal",
            expected=f"at least {config.min_duration_s:g} s (preprocess.min_duration_s)",
        )
    return count
