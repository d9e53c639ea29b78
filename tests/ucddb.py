"""St. Vincent's nights (UCDDB) as files that an ingest reads.

The recordings of the data folder are arrays of 30-s epochs with holes. They become what a device
would have written: discontinuous EDF+ files whose gaps are the holes, a scoring per night in the
cohort's own columns, and one table of people.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "ucddb"
DIGITAL_LIMIT = 32767
EPOCH_S = 30


@dataclass(frozen=True)
class UcddbNight:
    """One person's arrays.

    Attributes:
        eeg: float32[epochs, 3840] at 128 Hz, of unknown unit.
        have: bool[epochs], whether the epoch was recorded.
        stage: int8[epochs], 0 W, 1 REM, 2..5 S1..S4.
        apnea: bool[epochs], whether an apnea or hypopnea touches the epoch.
    """

    name: str
    eeg: NDArray[np.float32]
    have: NDArray[np.bool_]
    stage: NDArray[np.int8]
    apnea: NDArray[np.bool_]


def ucddb_nights() -> list[UcddbNight]:
    """All people, by name."""
    nights = []
    for path in sorted(FOLDER.glob("ucddb*.npz")):
        with np.load(path) as arrays:
            nights.append(
                UcddbNight(
                    name=path.stem,
                    eeg=arrays["eeg"],
                    have=arrays["have"],
                    stage=arrays["stage"],
                    apnea=arrays["apnea"].astype(bool),
                )
            )
    return nights


def write_cohort(folder: Path) -> None:
    """One EDF+D and one scoring per night."""
    scored: dict[str, list[list[str]]] = {}
    with open(FOLDER / "epochs_dev.csv", newline="") as file:
        header, *rows = csv.reader(file)
    for row in rows:
        scored.setdefault(row[0], []).append(row[1:])
    folder.mkdir(parents=True)
    for night in ucddb_nights():
        (folder / f"{night.name}.edf").write_bytes(to_edf(night))
        with open(folder / f"{night.name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([header[1:], *scored[night.name]])


def to_edf(night: UcddbNight) -> bytes:
    """The recorded epochs as 30-s data records that say when they begin."""
    limit = float(np.abs(night.eeg[night.have]).max())
    digital_EN = np.rint(night.eeg / limit * DIGITAL_LIMIT).astype("<i2")
    recorded = np.flatnonzero(night.have)
    times = [f"+{(epoch - recorded[0]) * EPOCH_S}\x14\x14\0".encode() for epoch in recorded]
    signal = RawSignal(
        [digital_EN[epoch].tobytes() for epoch in recorded],
        label="EEG C3-A2",
        unit="",
        physical_min=f"{-limit:.6f}"[:8],
        physical_max=f"{limit:.6f}"[:8],
        digital_min=str(-DIGITAL_LIMIT),
        digital_max=str(DIGITAL_LIMIT),
    )
    edf = RawEdf([signal, annotation_signal(*times)], reserved="EDF+D", record_duration="30")
    return edf.to_bytes()
