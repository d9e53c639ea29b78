"""Stages by YASA (Vallat and Walker 2021) of nights in an .npz, in an environment that has it.

    python yasa_stages.py IN.npz OUT.npz

IN has an array float32[epochs, 30 * 128] of microvolts per night; OUT the same names with int8
stages 0 wake, 1 N1, 2 N2, 3 N3, 4 REM. Of UCDDB our files hold one EEG, so YASA gets neither EOG
nor chin, nor age and sex. Imports nothing of this project: it runs where only YASA is.
"""

import sys
import warnings

import mne
import numpy as np
import yasa

RATE_HZ = 128
MIN_EPOCHS = 10  # YASA refuses less than 5 minutes
CODES = {"WAKE": 0, "W": 0, "N1": 1, "N2": 2, "N3": 3, "REM": 4, "R": 4}


def stages(eeg_LT: np.ndarray) -> np.ndarray:
    """Codes [epochs] of one night, whose epochs are put one after the other."""
    info = mne.create_info(["EEG"], RATE_HZ, "eeg")
    raw = mne.io.RawArray(eeg_LT.reshape(1, -1) * 1e-6, info, verbose="error")
    hypnogram = yasa.SleepStaging(raw, eeg_name="EEG").predict()
    labels = hypnogram.hypno if hasattr(hypnogram, "hypno") else hypnogram
    return np.array([CODES[str(label)] for label in labels], np.int8)


def main() -> None:
    warnings.simplefilter("ignore")  # scikit-learn on the age of YASA's label encoder
    with np.load(sys.argv[1]) as nights:
        found = {
            name: stages(nights[name]) for name in nights.files if len(nights[name]) >= MIN_EPOCHS
        }
    np.savez(sys.argv[2], **found)
    print(yasa.__version__)


if __name__ == "__main__":
    main()
