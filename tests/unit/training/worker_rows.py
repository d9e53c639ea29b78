"""Rows of a global batch, of which each worker takes its share."""

import torch
from torch import Tensor

from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch, SegmentBatch

ROWS = 4  # of the global batch


def share(rows: Tensor, dim: int = 0) -> Tensor:
    """This worker's part of the global rows."""
    return rows.chunk(collectives.num_workers(), dim)[collectives.rank()]


def segment_rows(seed: int) -> SegmentBatch:
    """Four segments; most of what is missing is missing in the first two."""
    generator = torch.Generator().manual_seed(seed)
    valid_SBE = torch.ones(6, ROWS, 2, dtype=torch.bool)
    valid_SBE[4:, 0] = False
    valid_SBE[2:, 1] = False
    valid_SBE[0, :3, 1] = False  # half of a segment
    valid_SBE[5, 3] = False
    signal_SBT = torch.randn(6, ROWS, 6000, generator=generator)
    signal_SBT *= valid_SBE.repeat_interleave(3000, dim=-1)
    return SegmentBatch(share(signal_SBT, 1), share(valid_SBE, 1))


def night_rows(seed: int) -> MacroBatch:
    """Four nights of one to three cycles of four epochs, the longer ones last."""
    generator = torch.Generator().manual_seed(seed)
    length_B = torch.tensor([5, 8, 9, 12])
    return MacroBatch(
        micro_BLMD=share(torch.randn(ROWS, 12, 6, 8, generator=generator)),
        modality_valid_BLM=share(torch.rand(ROWS, 12, 6, generator=generator) < 0.8),
        length_B=share(length_B),
        age_B=share(torch.randn(ROWS, generator=generator)),
        bmi_B=share(torch.randn(ROWS, generator=generator)),
        female_B=share(torch.tensor([True, False, True, True])),
    )


def strange_night_rows(seed: int) -> MacroBatch:
    """Nights of which little is known, longer than `max_epochs` on one worker, padded on each."""
    batch = night_rows(seed)
    length_B = share(torch.tensor([3, 5, 12, 20]))
    generator = torch.Generator().manual_seed(seed + 100)
    micro_BLMD = share(torch.randn(ROWS, 20, 6, 8, generator=generator))
    longest = int(length_B.max())
    return batch._replace(
        micro_BLMD=micro_BLMD[:, :longest],
        modality_valid_BLM=torch.ones(len(length_B), longest, 6, dtype=torch.bool),
        length_B=length_B,
        age_B=share(torch.tensor([torch.nan, 0.5, -1.0, 2.0])),
        bmi_B=share(torch.tensor([0.3, torch.nan, -0.4, 1.0])),
        female_B=share(torch.tensor([1.0, 0.0, torch.nan, 1.0])),
    )
