"""Tiny Micro-Encoders and random segments that the tests of the model share."""

import torch
from torch import Tensor

from sleepmami import presets
from sleepmami.config import MaskingConfig, MicroEncoderConfig
from sleepmami.losses.cross_modal import contrastive_loss
from sleepmami.losses.koleo import koleo_loss
from sleepmami.losses.reconstruction import reconstruction_loss, smooth_target
from sleepmami.models.masking import NUM_PATCHES, Masks, draw_masks
from sleepmami.models.micro_encoder import MicroEncoder, MicroOutput, epoch_means
from sleepmami.psg import MODALITIES, SEGMENT_SAMPLES

BATCH = 3
ALL = torch.arange(6)
EVERY_STREAM = torch.ones(6, BATCH, dtype=torch.bool)


def make_model(**changes: object) -> MicroEncoder:
    """The tiny preset, with weights large enough that every path counts."""
    config = presets.tiny().micro.model
    values = {name: getattr(config, name) for name in config.__slots__} | changes
    torch.manual_seed(0)
    model = MicroEncoder(MicroEncoderConfig(**values))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name and "patch_embed" not in name and weight.ndim > 1:
                weight.mul_(5.0)
    return model


def assert_same(one: Tensor, two: Tensor) -> None:
    """Equal up to float32 rounding: 1e-6 of the largest value."""
    assert (one - two).abs().max() <= 1e-6 * one.abs().max()


def signals(batch: int = BATCH, seed: int = 1) -> Tensor:
    return torch.randn(6, batch, SEGMENT_SAMPLES, generator=torch.Generator().manual_seed(seed))


def masks_for(batch: int = BATCH) -> Masks:
    return draw_masks(MaskingConfig(), MODALITIES, batch, torch.Generator().manual_seed(2))


def pick(masks: Masks, streams: Tensor | slice, rows: Tensor | slice = slice(None)) -> Masks:
    return Masks(*(mask[streams][:, rows] for mask in masks))


def total_loss(output: MicroOutput, signal_SBT: Tensor, masks: Masks, valid_SB: Tensor) -> Tensor:
    """Eq. 3 with Table 9's weights."""
    shared, private = (
        epoch_means(token).flatten(1, 2) for token in (output.shared_SBMD, output.private_SBMD)
    )
    valid_SN = valid_SB.repeat_interleave(2, dim=1)
    target = smooth_target(signal_SBT, 11).unflatten(2, (NUM_PATCHES, -1))
    hidden = masks.hidden_SBP
    valid_SBP = valid_SB[..., None].expand_as(hidden)
    return (
        reconstruction_loss(output.reconstruction_SBPT, target, hidden, valid_SBP, over="masked")
        + 0.1 * contrastive_loss(shared, private, valid_SN, tau=0.07)
        + 0.01 * koleo_loss(shared, valid_SN)
    )


def tokens(output: MicroOutput) -> list[Tensor]:
    return [output.reconstruction_SBPT, output.shared_SBMD, output.private_SBMD]
