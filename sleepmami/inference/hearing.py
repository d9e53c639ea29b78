"""Windows on their way through the Micro-Encoder, of one night or of many at once.

A Hearing is one night cut into 60-s windows, and what the Micro-Encoder has said of them so far.
Its windows are taken a few at a time, in order; pieces of several hearings make one batch, in which
each window gets the numbers it would get alone: a stream that only others in the batch have is
masked, which gives what leaving it out gives.

Shapes: S streams of a batch, B windows of a batch, E epochs per window (2), L epochs of the night,
M modalities (6, in the order of MODALITIES), D width of the Micro-Encoder, R rows of an epoch: its
vector, and behind it its tokens where those are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepmami.psg import (
    MODALITIES,
    SEGMENT_EPOCHS,
    SEGMENT_S,
    STORED_RATE_HZ,
    STORED_SCALE,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.training.batches import SegmentBatch, StoredSegments, night_batch

# signal_SBT, streams_S, valid_SB, whether tokens are wanted -> found_SBERD
Encode = Callable[[Tensor, Tensor, Tensor, bool], NDArray[np.float32]]


class Piece(NamedTuple):
    """Windows `first:stop` of a hearing."""

    hearing: Hearing
    first: int
    stop: int

    @property
    def num_windows(self) -> int:
        """How many."""
        return self.stop - self.first


class HeardRows(NamedTuple):
    """What is known of some epochs of a hearing, for another hearing of the same source.

    Attributes:
        first_epoch: of the source; the others follow it.
        num_windows: that were heard for them.
        found_LMRD: float32, rows of these epochs.
    """

    first_epoch: int
    num_windows: int
    found_LMRD: NDArray[np.float32]


class Hearing:
    """Windows of one source, and what is known of their epochs.

    Args:
        num_epochs: of the source.
        usable_LM: bool[L, 6]; where it is False the answer is 0.
        starts: first epoch of each window; an overlapping one gives its second epoch alone.
        segments: windows `first:stop` as the model reads them.
        dim: D.
        num_tokens: of an epoch; 0 where they are not wanted.

    Attributes:
        streams: indices into MODALITIES of what is usable anywhere; the others cost nothing.
        num_tokens: the same.
        found_LMRD: float32, what is known so far.
        valid_LM: bool, of the epochs heard so far.
    """

    def __init__(
        self,
        num_epochs: int,
        usable_LM: NDArray[np.bool_],
        starts: Sequence[int],
        segments: Callable[[int, int], SegmentBatch],
        dim: int,
        num_tokens: int = 0,
    ) -> None:
        self.streams = tuple(int(i) for i in np.flatnonzero(usable_LM.any(axis=0)))
        self.num_tokens = num_tokens
        shape = (num_epochs, len(MODALITIES), 1 + num_tokens, dim)
        self.found_LMRD = np.zeros(shape, np.float32)
        self.valid_LM = np.zeros((num_epochs, len(MODALITIES)), np.bool_)
        self._usable_LM = usable_LM
        self._starts = starts
        self._segments = segments
        self._first, self._stop = 0, len(starts)
        self._taken = 0
        self._heard = 0

    @property
    def num_windows(self) -> int:
        """Windows that are to be heard."""
        return self._stop - self._first

    @property
    def waiting(self) -> int:
        """Windows that nobody has taken."""
        return self._stop - self._taken

    @property
    def done(self) -> bool:
        """Whether every window is heard."""
        return self._heard == self.num_windows

    @property
    def num_heard(self) -> int:
        """Windows that are heard."""
        return self._heard

    def only_share(self, index: int, num_shares: int) -> None:
        """Hear no more than one of `num_shares` equal shares; before the first `take`."""
        count = len(self._starts)
        self._first, self._stop = (count * i // num_shares for i in (index, index + 1))
        self._taken = self._first

    def take(self, limit: int) -> Piece:
        """The next windows, at most `limit` of them."""
        first = self._taken
        self._taken = min(self._stop, first + limit)
        return Piece(self, first, self._taken)

    def batch(self, piece: Piece) -> SegmentBatch:
        """The piece's windows as the model reads them, all six streams."""
        return self._segments(piece.first, piece.stop)

    def put(
        self, piece: Piece, streams: NDArray[np.intp], found_SBERD: NDArray[np.float32]
    ) -> None:
        """What the model says of a piece; vectors of streams that are not there do not matter."""
        starts = self._starts[piece.first : piece.stop]
        for slot in range(SEGMENT_EPOCHS):
            # The overlapping last window of an odd night gives its second epoch alone: the first
            # was heard by the window before it.
            rows = [r for r, start in enumerate(starts) if slot or start % SEGMENT_EPOCHS == 0]
            epochs = np.array([starts[row] + slot for row in rows], np.intp)
            wanted_SBRD = found_SBERD[:, rows, slot, : 1 + self.num_tokens]
            self.found_LMRD[np.ix_(epochs, streams)] = wanted_SBRD.swapaxes(0, 1)
            self.valid_LM[epochs] = self._usable_LM[epochs]
        self._count(piece.num_windows)

    def heard_rows(self) -> HeardRows:
        """All that a share has heard, when it is done."""
        first = self._epochs_before(self._first)
        stop = self._epochs_before(self._stop)
        return HeardRows(first, self.num_windows, self.found_LMRD[first:stop])

    def adopt(self, rows: HeardRows) -> None:
        """Take over the next windows from another hearing of the same source; shares in order."""
        if rows.first_epoch != self._epochs_before(self._taken):
            raise ValueError(
                f"found a share from epoch {rows.first_epoch}; "
                f"expected the next, from {self._epochs_before(self._taken)}"
            )
        epochs = slice(rows.first_epoch, rows.first_epoch + len(rows.found_LMRD))
        self.found_LMRD[epochs] = rows.found_LMRD
        self.valid_LM[epochs] = self._usable_LM[epochs]
        self._taken += rows.num_windows
        self._count(rows.num_windows)

    def _count(self, num_windows: int) -> None:
        self._heard += num_windows
        if self.done:
            self.found_LMRD[~self.valid_LM] = 0

    def _epochs_before(self, window: int) -> int:
        """Epochs that the windows before this one answer for; the last window may overlap."""
        return self._starts[window - 1] + SEGMENT_EPOCHS if window else 0


def hear(pieces: Sequence[Piece], encode: Encode) -> None:
    """Encode the windows of all pieces in one batch, and put each where it belongs."""
    union = sorted(set().union(*(piece.hearing.streams for piece in pieces)))
    streams = torch.tensor(union, dtype=torch.long)
    batches = [piece.hearing.batch(piece) for piece in pieces]
    signal_SBT = _joined([batch.signal_SBT[streams] for batch in batches])
    valid_SB = _joined([batch.valid_SB[streams] for batch in batches])
    heard = torch.nonzero(valid_SB.any(0)).flatten()  # a silent window has no vectors
    tokens = any(piece.hearing.num_tokens for piece in pieces)
    if len(heard) == valid_SB.shape[1]:
        found_SBERD = encode(signal_SBT, streams, valid_SB, tokens)
    else:
        rows_and_dim = max(piece.hearing.found_LMRD.shape[2:] for piece in pieces)
        shape = (*valid_SB.shape, SEGMENT_EPOCHS, *rows_and_dim)
        found_SBERD = np.zeros(shape, np.float32)
        if len(heard):
            some_SBERD = encode(signal_SBT[:, heard], streams, valid_SB[:, heard], tokens)
            found_SBERD[:, heard.numpy()] = some_SBERD
    first = 0
    for piece in pieces:
        stop = first + piece.num_windows
        piece.hearing.put(piece, np.array(union, np.intp), found_SBERD[:, first:stop])
        first = stop


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def hearing_of(night: Night, dim: int, num_tokens: int = 0) -> Hearing:
    """A night, heard in the segments that it is cut into."""
    starts = segment_start_epochs(night.num_epochs)
    return Hearing(
        night.num_epochs,
        usable_epochs(night),
        starts,
        lambda first, stop: night_batch(night, first, stop),
        dim,
        num_tokens,
    )


def hearing_of_windows(
    signals: Mapping[Modality, NDArray[np.float32]], valid_BM: NDArray[np.bool_], dim: int
) -> Hearing:
    """B windows that are preprocessed already, as 2 B epochs.

    Args:
        signals: per present modality float32[B, SEGMENT_S * STORED_RATE_HZ[modality]], z-scores.
        valid_BM: the window has a usable signal.
        dim: D.
    """
    there_M = np.array([modality in signals for modality in MODALITIES])
    usable_LM = np.repeat(valid_BM & there_M, SEGMENT_EPOCHS, axis=0)

    def segments(first: int, stop: int) -> SegmentBatch:
        stored_S = []
        for stream, modality in enumerate(MODALITIES):
            stored_BT = np.zeros((stop - first, SEGMENT_S * STORED_RATE_HZ[modality]), np.float32)
            if modality in signals:
                # as stored, but not rounded; what is not valid may hold anything
                valid_B1 = valid_BM[first:stop, stream, None]
                np.multiply(
                    signals[modality][first:stop], STORED_SCALE, out=stored_BT, where=valid_B1
                )
            stored_S.append(torch.from_numpy(stored_BT))
        usable_BEM = usable_LM[2 * first : 2 * stop].reshape(-1, SEGMENT_EPOCHS, len(MODALITIES))
        valid_BSE = torch.from_numpy(np.ascontiguousarray(usable_BEM.transpose(0, 2, 1)))
        return StoredSegments(tuple(stored_S), valid_BSE).to_batch(torch.device("cpu"))

    starts = list(range(0, len(usable_LM), SEGMENT_EPOCHS))
    return Hearing(len(usable_LM), usable_LM, starts, segments, dim)


def usable_epochs(night: Night) -> NDArray[np.bool_]:
    """bool[L, 6] of the quality checks; an absent modality is never usable."""
    never = np.zeros(night.num_epochs, np.bool_)
    columns = [night.usable[m] if m in night.signals else never for m in MODALITIES]
    return np.stack(columns, axis=1)


def pieces_of(hearing: Hearing, limit: int) -> Iterator[Piece]:
    """All windows of a hearing, at most `limit` at a time."""
    while hearing.waiting:
        yield hearing.take(limit)
