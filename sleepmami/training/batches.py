"""Rows and nights -> tensors on the model's 100 Hz grid, or padded nights of micro embeddings.

From Arrow's memory to a tensor it is one copy: rows are gathered as they are stored, in a third of
the bytes that the model reads, and take that form on the device that computes.

Shapes: S streams (the six MODALITIES in order), B batch, T samples of 60 s at 100 Hz (6000),
E epochs of a segment (2);
L epochs of the longest night, M modalities, D features of one modality's epoch.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepmami.config import Crop, Factor
from sleepmami.errors import TrainingError
from sleepmami.psg import (
    MODALITIES,
    MODEL_RATE_HZ,
    SEGMENT_EPOCHS,
    SEGMENT_S,
    SEGMENT_SAMPLES,
    STORED_RATE_HZ,
    STORED_SCALE,
    Night,
    segment_start_epochs,
)
from sleepmami.tables.arrays import fixed_size_memory
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


class StoredSegments(NamedTuple):
    """Segments as segments.lance holds them; a stream without a usable epoch is zeros."""

    stored_S: tuple[Tensor, ...]  # int16 [B, SEGMENT_S * rate] of each stream
    valid_BSE: Tensor  # bool, the epoch is usable

    @property
    def num_rows(self) -> int:
        """Segments."""
        return len(self.valid_BSE)

    def to_batch(self, device: torch.device) -> SegmentBatch:
        """What the model reads, made on `device`; memory that is pinned is sent without waiting."""
        signal_SBT = torch.empty(len(MODALITIES), self.num_rows, SEGMENT_SAMPLES, device=device)
        for stream, modality in enumerate(MODALITIES):
            stored_BT = self.stored_S[stream].to(device, non_blocking=True)
            to_model_rate(stored_BT, STORED_RATE_HZ[modality], out=signal_SBT[stream])
        valid_BSE = self.valid_BSE.to(device, non_blocking=True, copy=True)
        return SegmentBatch(signal_SBT, valid_BSE.transpose(0, 1).contiguous())


class MacroBatch(NamedTuple):
    """Nights of micro embeddings, padded with zeros after each night's own length."""

    micro_BLMD: Tensor  # float32
    modality_valid_BLM: Tensor  # bool
    length_B: Tensor  # int64, epochs
    age_B: Tensor  # float32, z-scored over the training set; NaN where unknown
    bmi_B: Tensor  # float32, z-scored over the training set; NaN where unknown
    female_B: Tensor  # float32, 1 or 0; NaN where unknown

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


class SegmentBuffer:
    """Memory for some segments as they are stored, filled in any order and read in its own.

    Args:
        num_rows: segments.
        pinned: in memory from which a GPU fetches while the CPU goes on.
    """

    def __init__(self, num_rows: int, *, pinned: bool = False) -> None:
        self.num_rows = num_rows
        shapes = [(num_rows, SEGMENT_S * STORED_RATE_HZ[modality]) for modality in MODALITIES]
        self._stored_S = [torch.empty(s, dtype=torch.int16, pin_memory=pinned) for s in shapes]
        shape = (num_rows, len(MODALITIES), SEGMENT_EPOCHS)
        self._valid_BSE = torch.empty(shape, dtype=torch.bool, pin_memory=pinned)

    def put(self, table: pa.Table, places: NDArray[np.int64]) -> None:
        """Rows of segments.lance, each to a place of its own; a null cell is a stream not there.

        Args:
            table: at least SEGMENT_BATCH_COLUMNS.
            places: one of each row.
        """
        begin = 0
        for part in table.to_batches():
            to = places[begin : begin + part.num_rows]
            begin += part.num_rows
            flags = pc.list_flatten(part.column("usable")).to_numpy(zero_copy_only=False)
            usable_BSE = flags.reshape(-1, len(MODALITIES), SEGMENT_EPOCHS)
            for stream, modality in enumerate(MODALITIES):
                stored_BT, there_B = fixed_size_memory(part.column(segment_column(modality)))
                self.put_stream(stream, stored_BT, usable_BSE[:, stream] & there_B[:, None], to)

    def put_stream(
        self,
        stream: int,
        stored_BT: NDArray[np.int16],
        usable_BE: NDArray[np.bool_],
        places: NDArray[np.int64],
    ) -> None:
        """One stream of some rows; of rows without a usable epoch, nothing is read."""
        there_B = usable_BE.any(axis=1)
        memory_BT = self._stored_S[stream].numpy()
        if there_B.all():
            memory_BT[places] = stored_BT
        else:
            memory_BT[places[there_B]] = stored_BT[there_B]
            memory_BT[places[~there_B]] = 0
        self._valid_BSE.numpy()[places, stream] = usable_BE

    def segments(self, start: int, stop: int) -> StoredSegments:
        """Those at places `start:stop`, in this memory, not copied."""
        stored_S = tuple(stored_BT[start:stop] for stored_BT in self._stored_S)
        return StoredSegments(stored_S, self._valid_BSE[start:stop])


def segment_batch(table: pa.Table) -> SegmentBatch:
    """Rows of segments.lance -> one batch, in row order, on the CPU.

    Args:
        table: as for `SegmentBuffer.put`.
    """
    buffer = SegmentBuffer(table.num_rows)
    buffer.put(table, np.arange(table.num_rows))
    return buffer.segments(0, table.num_rows).to_batch(torch.device("cpu"))


def night_batch(night: Night, start: int, stop: int) -> SegmentBatch:
    """Segments `start:stop` of a night: the numbers its rows in segments.lance would give."""
    usable_BSE = segment_usable(night, segment_start_epochs(night.num_epochs)[start:stop])
    buffer, places = SegmentBuffer(len(usable_BSE)), np.arange(len(usable_BSE))
    for stream, modality in enumerate(MODALITIES):
        if modality in night.signals:
            stored_BT = night.signals[modality][start:stop]
        else:
            stored_BT = np.zeros((len(places), SEGMENT_S * STORED_RATE_HZ[modality]), np.int16)
        buffer.put_stream(stream, stored_BT, usable_BSE[:, stream], places)
    return buffer.segments(0, len(places)).to_batch(torch.device("cpu"))


def to_model_rate(stored_BT: Tensor, rate_hz: int, out: Tensor) -> Tensor:
    """Stored integers -> z-scores at 100 Hz, written into `out`.

    Sample k of `rate_hz` lies at k / rate_hz seconds, so the sample at any 100-Hz instant between
    two stored ones is their time-weighted mean; after the last stored sample its value is held,
    because what follows belongs to the next segment.

    Args:
        stored_BT: int16 [B, SEGMENT_S * rate_hz].
        rate_hz: a divisor of 100.
        out: float32 [B, 6000], contiguous, on the same device; overwritten and returned.
    """
    if rate_hz == MODEL_RATE_HZ:
        return out.copy_(stored_BT).mul_(1.0 / STORED_SCALE)
    factor = MODEL_RATE_HZ // rate_hz
    left_BT = stored_BT.to(torch.float32).mul_(1.0 / STORED_SCALE)
    step_BT = torch.diff(left_BT, dim=1, append=left_BT[:, -1:])
    grid_BTF = out.view(len(stored_BT), -1, factor)
    if factor > left_BT.shape[1]:
        place_F = torch.arange(factor, device=out.device) / factor
        torch.mul(step_BT[..., None], place_F, out=grid_BTF)
        grid_BTF += left_BT[..., None]
        return out
    grid_BTF[..., 0] = left_BT
    for place in range(1, factor):  # rows of `factor` would be too short for the CPU's vectors
        grid_BTF[..., place] = torch.add(left_BT, step_BT, alpha=place / factor)
    return out


def macro_batch(
    rows: Sequence[MicroNight],
    statistics: DemographicStatistics,
    max_epochs: int,
    *,
    crop: Crop = "ends",
    needed: Collection[Factor] = (),
) -> MacroBatch:
    """Nights -> one padded batch.

    Args:
        rows: the nights.
        statistics: of the training set, for z-scores.
        max_epochs: what one direction of the encoder reads at most.
        crop: of a longer night, "start" keeps the first `max_epochs` epochs; "ends" all that is
            within `max_epochs` of its start or of its end, for an encoder that is told
            `max_epochs`.
        needed: what must be known of each night; what is not is NaN.

    Raises:
        TrainingError: a night without something needed (Appendix C leaves such records out before
            batches are made), or an empty batch.
    """
    if not rows:
        raise TrainingError("a batch of nights is empty; expected at least one night")
    for row in rows:
        _require_demographics(row, needed)
    kept = [_kept_epochs(len(row.micro), max_epochs, crop) for row in rows]
    num_modalities, dim = rows[0].micro.shape[1:]
    longest = max(map(len, kept))
    micro = torch.zeros(len(rows), longest, num_modalities, dim)
    modality_valid = torch.zeros(len(rows), longest, num_modalities, dtype=torch.bool)
    for index, (row, epochs) in enumerate(zip(rows, kept, strict=True)):
        # the row's arrays are read-only views of Arrow memory, which torch.from_numpy warns about
        micro[index, : len(epochs)].numpy()[...] = row.micro[epochs]
        modality_valid[index, : len(epochs)].numpy()[...] = row.modality_valid[epochs]
    age, bmi = statistics.z_scores([row.age_years for row in rows], [row.bmi for row in rows])
    female = [math.nan if row.sex is None else float(row.sex == "female") for row in rows]
    return MacroBatch(
        micro_BLMD=micro,
        modality_valid_BLM=modality_valid,
        length_B=torch.tensor([len(epochs) for epochs in kept]),
        age_B=torch.tensor(age, dtype=torch.float32),
        bmi_B=torch.tensor(bmi, dtype=torch.float32),
        female_B=torch.tensor(female, dtype=torch.float32),
    )


def _kept_epochs(length: int, max_epochs: int, crop: Crop) -> NDArray[np.int64]:
    first, last = np.arange(min(length, max_epochs)), np.arange(max(length - max_epochs, 0), length)
    return first if crop == "start" else np.union1d(first, last)


def _require_demographics(row: MicroNight, needed: Collection[Factor]) -> None:
    found = {"age": row.age_years, "sex": row.sex, "bmi": row.bmi}
    missing = [name for name in needed if found[name] is None]
    if missing:
        raise TrainingError(
            f"{row.recording_id}: found no {', '.join(missing)}; expected what dgcl.factors "
            f"compares: {', '.join(needed)}"
        )
