"""Structured masking of patches, section 3.1 and Table 9 (mask ratio 50 %).

Shapes: S streams, B segments, P patches of a segment (120), V visible patches (60).

A window is cut into intervals of 2 * run patches, and in each `run` consecutive patches are
hidden: one of two in the fast modalities, four of eight in RESP and SPO2. `periodic` draws the
phase once per (segment, stream), which alone satisfies "single patch", "four consecutive", "fixed
intervals" and "consistent temporal span" together; `jitter` draws it for each interval.

With run 4 the hidden block stays whole inside its interval, so the middle of an interval is
hidden more often (4/5) than its edges (1/5); segments start anywhere in the signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sleepmami.config import MaskingConfig
from sleepmami.psg import PATCH_SAMPLES, SEGMENT_SAMPLES, Modality

NUM_PATCHES = SEGMENT_SAMPLES // PATCH_SAMPLES
NUM_VISIBLE = NUM_PATCHES // 2
SLOW_MODALITIES = frozenset({Modality.RESP, Modality.SPO2})


class Masks(NamedTuple):
    """Which patches are hidden, and the indices of the others in time order.

    Attributes:
        hidden_SBP: bool, True where the encoder must not look.
        visible_SBV: int64 patch indices.
    """

    hidden_SBP: Tensor
    visible_SBV: Tensor

    def to(self, device: torch.device | str) -> Masks:
        """The same masks on another device."""
        return Masks(self.hidden_SBP.to(device), self.visible_SBV.to(device))


def draw_masks(
    config: MaskingConfig, modality_S: Sequence[Modality], batch: int, generator: torch.Generator
) -> Masks:
    """Random masks for `batch` segments, on the generator's device."""
    hidden_SBP = torch.stack(
        [_draw_hidden(config, modality, batch, generator) for modality in modality_S]
    )
    # Both runs leave half of every interval visible, so every row has NUM_VISIBLE of them.
    time_order = hidden_SBP.to(torch.uint8).argsort(dim=-1, stable=True)
    return Masks(hidden_SBP, time_order[..., :NUM_VISIBLE])


def _draw_hidden(
    config: MaskingConfig, modality: Modality, batch: int, generator: torch.Generator
) -> Tensor:
    run = config.slow_run if modality in SLOW_MODALITIES else config.fast_run
    num_intervals = NUM_PATCHES // (2 * run)
    num_phases = num_intervals if config.placement == "jitter" else 1
    device = generator.device
    phase = torch.randint(0, run + 1, (batch, num_phases, 1), generator=generator, device=device)
    place = torch.arange(2 * run, device=device)
    hidden_BIR = (place >= phase) & (place < phase + run)
    return hidden_BIR.expand(batch, num_intervals, 2 * run).flatten(1)
