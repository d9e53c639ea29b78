"""Rows and nights -> tensors on the model's 100 Hz grid, or padded nights of micro embeddings.

Shapes: S streams (the six MODALITIES in order), B batch, T samples of 60 s at 100 Hz (6000),
E epochs of a segment (2);
L epochs of the longest night, M modalities, D features of one modality's epoch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepmami.errors import TrainingError
from sleepmami.psg import (
    MODALITIES,
    MODEL_RATE_HZ,
    SEGMENT_EPOCHS,
    SEGMENT_S,
    SEGMENT_SAMPLES,
    STORED_RATE_HZ,
    STORED_SCALE,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.tables.arrays import fixed_size_values
from sleepmami.tables.demographics import DemographicStatistics
from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.tables.rows import segment_usable
from sleepmami.tables.schemas import segment_column

SEGMENT_BATCH_COLUMNS = (*(segment_column(m) for m in MODALITIES), "usable")


class SegmentBatch(NamedTuple):
    """60-s segments of all modalities; rows of absent streams are zero and not valid.

    Of a stream with one usable epoch, the other epoch's 30 s are zeros as well. The encoder reads
    them as a part of a valid stream; no loss counts them as signal.
    """

    signal_SBT: Tensor  # float32, z-scores at 100 Hz
    valid_SBE: Tensor  # bool, the epoch is usable

    @property
    def valid_SB(self) -> Tensor:
        """Streams with a usable epoch: what the encoder takes as there."""
        return self.valid_SBE.any(dim=-1)

    @property
    def num_rows(self) -> int:
        """Segments."""
        return self.signal_SBT.shape[1]

    @property
    def row_name(self) -> str:
        """What a row is, for metric names."""
        return "segments"

    def to(self, device: torch.device) -> "SegmentBatch":
        """The same batch on `device`."""
        return SegmentBatch(*(part.to(device, non_blocking=True) for part in self))


class MacroBatch(NamedTuple):
    """Nights of micro embeddings, padded with zeros after each night's own length."""

    micro_BLMD: Tensor  # float32
    modality_valid_BLM: Tensor  # bool
    length_B: Tensor  # int64, epochs
    age_B: Tensor  # float32, z-scored over the training set
    bmi_B: Tensor  # float32, z-scored over the training set
    female_B: Tensor  # bool

    @property
    def num_rows(self) -> int:
        """Nights."""
        return self.micro_BLMD.shape[0]

    @property
    def row_name(self) -> str:
        """What a row is, for metric names."""
        return "nights"

    def to(self, device: torch.device) -> "MacroBatch":
        """The same batch on `device`."""
        return MacroBatch(*(part.to(device, non_blocking=True) for part in self))


def segment_batch(table: pa.Table | pa.RecordBatch) -> SegmentBatch:
    """Rows of segments.lance -> one batch, in row order; a null cell is a stream not there.

    Args:
        table: at least SEGMENT_BATCH_COLUMNS.
    """
    usable = pc.list_flatten(table.column("usable")).to_numpy(zero_copy_only=False)
    usable_BSE = usable.reshape(table.num_rows, len(MODALITIES), SEGMENT_EPOCHS)
    batch = _empty_batch(table.num_rows)
    for stream, modality in enumerate(MODALITIES):
        stored, there = fixed_size_values(table.column(segment_column(modality)))
        _fill(batch, stream, modality, stored, usable_BSE[:, stream] & there[:, None])
    return batch


def night_batch(night: Night, start: int, stop: int) -> SegmentBatch:
    """Segments `start:stop` of a night: the numbers its rows in segments.lance would give."""
    usable_BSE = segment_usable(night, segment_start_epochs(night.num_epochs)[start:stop])
    batch = _empty_batch(len(usable_BSE))
    for stream, modality in enumerate(MODALITIES):
        if modality in night.signals:
            stored = night.signals[modality][start:stop]
            _fill(batch, stream, modality, stored, usable_BSE[:, stream])
    return batch


def _empty_batch(num_segments: int) -> SegmentBatch:
    streams = len(MODALITIES)
    return SegmentBatch(
        signal_SBT=torch.zeros(streams, num_segments, SEGMENT_SAMPLES),
        valid_SBE=torch.zeros(streams, num_segments, SEGMENT_EPOCHS, dtype=torch.bool),
    )


def _fill(
    batch: SegmentBatch,
    stream: int,
    modality: Modality,
    stored: NDArray[np.int16],
    usable_BE: NDArray[np.bool_],
) -> None:
    signal = batch.signal_SBT[stream].numpy()
    to_model_rate(stored, STORED_RATE_HZ[modality], out=signal)
    signal[~usable_BE.any(axis=1)] = 0.0
    batch.valid_SBE[stream].numpy()[...] = usable_BE


def to_model_rate(
    stored: NDArray[np.int16], rate_hz: int, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Stored integers -> z-scores at 100 Hz, written into `out`.

    Sample k of `rate_hz` lies at k / rate_hz seconds, so the sample at any 100-Hz instant between
    two stored ones is their time-weighted mean; after the last stored sample its value is held,
    because what follows belongs to the next segment.

    Args:
        stored: [B, SEGMENT_S * rate_hz].
        rate_hz: a divisor of 100.
        out: [B, 6000], overwritten and returned.
    """
    scale = np.float32(1.0 / STORED_SCALE)
    if rate_hz == MODEL_RATE_HZ:
        return np.multiply(stored, scale, out=out)
    factor = MODEL_RATE_HZ // rate_hz
    left = stored.astype(np.float32) * scale
    step = np.diff(left, axis=1, append=left[:, -1:])
    grid = out.reshape(len(stored), SEGMENT_S * rate_hz, factor)
    for place in range(factor):  # long rows, not short ones of `factor`: twice as fast at 50 Hz
        np.multiply(step, np.float32(place / factor), out=grid[:, :, place])
        grid[:, :, place] += left
    return out


def macro_batch(
    rows: Sequence[MicroNight], statistics: DemographicStatistics, max_epochs: int
) -> MacroBatch:
    """Nights -> one padded batch; a longer night keeps its first `max_epochs` epochs.

    Raises:
        TrainingError: a night without age, sex or BMI (Appendix C leaves such records out before
            batches are made), or an empty batch.
    """
    if not rows:
        raise TrainingError("a batch of nights is empty; expected at least one night")
    for row in rows:
        _require_demographics(row)
    lengths = [min(len(row.micro), max_epochs) for row in rows]
    num_modalities, dim = rows[0].micro.shape[1:]
    micro = torch.zeros(len(rows), max(lengths), num_modalities, dim)
    modality_valid = torch.zeros(len(rows), max(lengths), num_modalities, dtype=torch.bool)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        # the row's arrays are read-only views of Arrow memory, which torch.from_numpy warns about
        micro[index, :length].numpy()[...] = row.micro[:length]
        modality_valid[index, :length].numpy()[...] = row.modality_valid[:length]
    age = torch.tensor([row.age_years for row in rows], dtype=torch.float32)
    bmi = torch.tensor([row.bmi for row in rows], dtype=torch.float32)
    return MacroBatch(
        micro_BLMD=micro,
        modality_valid_BLM=modality_valid,
        length_B=torch.tensor(lengths),
        age_B=(age - statistics.age_mean) / statistics.age_std,
        bmi_B=(bmi - statistics.bmi_mean) / statistics.bmi_std,
        female_B=torch.tensor([row.sex == "female" for row in rows]),
    )


def _require_demographics(row: MicroNight) -> None:
    found = {"age_years": row.age_years, "sex": row.sex, "bmi": row.bmi}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise TrainingError(
            f"{row.recording_id}: found no {', '.join(missing)}; the Macro-Encoder trains on "
            "recordings with age_years, sex and bmi"
        )
