"""A night as it would be with fewer modalities, for all subsets at the price of few.

The private encoders of a modality know nothing of the others: they run once, and each subset costs
the shared encoder and fusion alone. With a shared encoder that does not attend across modalities
(`shared_view=blocked`, or none) a modality's vectors are the same in every subset, and all are
computed once. The private tokens of the whole night are in memory: 212 MB for 8 hours of Table 8's
widths, twice that with `both_halves`.

Shapes: as in embedder.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepmami.inference.embedder import Embedder, EpochEmbedding
from sleepmami.inference.hearing import usable_epochs
from sleepmami.inference.second_look import from_second_epoch
from sleepmami.models.micro_encoder import PrivateTokens
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, Modality, Night, segment_start_epochs
from sleepmami.training.batches import night_batch


class _Segments(NamedTuple):
    """Some segments of one look: where they start, and what the private encoders say."""

    start_B: NDArray[np.intp]
    tokens: PrivateTokens  # of all six streams
    valid_SB: Tensor


class SubsetNight:
    """A night of which any subset of modalities can be had.

    Args:
        embedder: whose Micro-Encoder, batches and halves are used.
        night: the recording.
    """

    def __init__(self, embedder: Embedder, night: Night) -> None:
        self._embedder = embedder
        self._usable_LM = usable_epochs(night)
        self._looks = [list(self._private(night))]
        if embedder.both_halves and night.num_epochs > SEGMENT_EPOCHS:
            self._looks.append(list(self._private(from_second_epoch(night))))
        config = embedder.bundle.micro.model
        apart = config.shared_view == "blocked" or not config.shared_depth
        self._whole_LMD = self._fused(range(len(MODALITIES))) if apart else None

    def epochs(self, subset: Collection[Modality]) -> EpochEmbedding:
        """What `Embedder.epochs` says of the night with these modalities alone.

        Where none of them is usable anywhere, nothing is valid and all is zero.
        """
        streams = [number for number, m in enumerate(MODALITIES) if m in subset]
        valid_LM = np.zeros_like(self._usable_LM)
        valid_LM[:, streams] = self._usable_LM[:, streams]
        whole_LMD = self._whole_LMD
        micro_LMD = self._fused(streams) if whole_LMD is None else whole_LMD.copy()
        micro_LMD[~valid_LM] = 0
        return EpochEmbedding(
            micro_LMD=micro_LMD,
            modality_valid_LM=valid_LM,
            epoch_valid_L=np.asarray(valid_LM.any(axis=1)),
        )

    def _private(self, night: Night) -> list[_Segments]:
        embedder = self._embedder
        starts = segment_start_epochs(night.num_epochs)
        found = []
        for first in range(0, len(starts), embedder.windows_per_batch):
            batch_starts = starts[first : first + embedder.windows_per_batch]
            batch = night_batch(night, first, first + len(batch_starts)).to(embedder.device)
            modality_S = torch.arange(len(MODALITIES), device=embedder.device)
            with torch.inference_mode():
                tokens = embedder.micro.private_tokens(batch.signal_SBT, modality_S, batch.valid_SB)
            found.append(_Segments(np.array(batch_starts, np.intp), tokens, batch.valid_SB))
        return found

    def _fused(self, streams: Sequence[int]) -> NDArray[np.float32]:
        """Fused vectors [L, 6, D] of some streams; those of an invalid epoch mean nothing."""
        micro_LMD = self._look(self._looks[0], streams, len(self._usable_LM))
        if len(self._looks) > 1:
            later_LMD = self._look(self._looks[1], streams, len(self._usable_LM) - 1)
            micro_LMD[1:] = (micro_LMD[1:] + later_LMD) / 2
        return micro_LMD

    def _look(
        self, look: list[_Segments], streams: Sequence[int], num_epochs: int
    ) -> NDArray[np.float32]:
        embedder = self._embedder
        micro_LMD = np.zeros((num_epochs, len(MODALITIES), embedder.dim), np.float32)
        own_S = torch.tensor(list(streams), device=embedder.device).long()
        for segments in look:
            valid_SB = segments.valid_SB[own_S]
            heard = torch.nonzero(valid_SB.any(0)).flatten()  # a silent segment has no vectors
            if not len(heard):
                continue
            tokens = PrivateTokens(*(part[own_S][:, heard] for part in segments.tokens))
            with torch.inference_mode():
                epoch_SBED = embedder.micro.embed_tokens(tokens, own_S, valid_SB[:, heard])
            epoch_BESD = epoch_SBED.float().cpu().numpy().transpose(1, 2, 0, 3)
            # the overlapping last segment of an odd night, which starts at an odd epoch, gives its
            # second epoch alone
            for start, found_ESD in zip(
                segments.start_B[heard.cpu().numpy()], epoch_BESD, strict=True
            ):
                first = start % SEGMENT_EPOCHS
                place = np.ix_(np.arange(start + first, start + SEGMENT_EPOCHS), np.array(streams))
                micro_LMD[place] = found_ESD[first:]
        return micro_LMD
