"""Any montage: several channels of one modality, any subset, streams that come and go."""

import math

import pytest
import torch
from torch import Tensor

from sleepmami.config import MaskingConfig
from sleepmami.models.masking import Masks, draw_masks
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import MODALITIES, SEGMENT_SAMPLES, Modality
from tests.unit.models.micro_models import (
    assert_same,
    make_model,
    pick,
    tokens,
    total_loss,
)

EEG, EOG, EMG, ECG, RESP, SPO2 = range(6)
MONTAGES = {
    "two EEG": [EEG, EEG, EOG, EMG, ECG, RESP, SPO2],
    "two EEG alone": [EEG, EEG],
    "two RESP before one EEG": [RESP, RESP, EEG],
}
BATCH = 2
MODEL = make_model()


def recording(montage: list[int]) -> tuple[Tensor, Tensor, Masks]:
    generator = torch.Generator().manual_seed(4)
    signal_SBT = torch.randn(len(montage), BATCH, SEGMENT_SAMPLES, generator=generator)
    modalities: list[Modality] = [MODALITIES[index] for index in montage]
    masks = draw_masks(MaskingConfig(), modalities, BATCH, generator)
    return signal_SBT, torch.tensor(montage), masks


def gradients(loss: Tensor, model: MicroEncoder) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("montage", MONTAGES.values(), ids=MONTAGES)
def test_a_missing_channel_of_several_is_as_good_as_dropped(montage: list[int]) -> None:
    """Tokens, eq. 3 and its gradients; what the missing channel holds is not even a number."""
    signal, modality_S, masks = recording(montage)
    valid = torch.ones(len(montage), BATCH, dtype=torch.bool)
    valid[1] = False
    signal[1] = math.nan
    keep = torch.tensor([index for index in range(len(montage)) if index != 1])
    masked = MODEL(signal, modality_S, masks, valid)
    dropped = MODEL(signal[keep], modality_S[keep], pick(masks, keep), valid[keep])
    for one, two in zip(tokens(masked), tokens(dropped), strict=True):
        assert_same(one[keep], two)
    embedded = MODEL.embed(signal, modality_S, valid)
    assert not embedded[1].any()
    assert_same(embedded[keep], MODEL.embed(signal[keep], modality_S[keep], valid[keep]))

    loss = total_loss(masked, signal, masks, valid)
    other = total_loss(dropped, signal[keep], pick(masks, keep), valid[keep])
    torch.testing.assert_close(loss, other, rtol=1e-6, atol=0)
    expected = gradients(other, MODEL)
    for name, gradient in gradients(loss, MODEL).items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-5 * scale + 1e-8)


@pytest.mark.parametrize("montage", MONTAGES.values(), ids=MONTAGES)
def test_the_order_of_channels_does_not_matter(montage: list[int]) -> None:
    signal, modality_S, masks = recording(montage)
    valid = torch.ones(len(montage), BATCH, dtype=torch.bool)
    valid[-1, 0] = False
    order = torch.randperm(len(montage), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        straight = MODEL(signal, modality_S, masks, valid)
        permuted = MODEL(signal[order], modality_S[order], pick(masks, order), valid[order])
    for one, two in zip(tokens(straight), tokens(permuted), strict=True):
        assert_same(one[order], two)


def test_channels_of_one_modality_are_told_apart_by_their_signal_alone() -> None:
    signal, modality_S, masks = recording(MONTAGES["two EEG"])
    signal[1] = signal[0]
    same = Masks(masks.hidden_SBP.clone(), masks.visible_SBV.clone())
    for mask in same:
        mask[1] = mask[0]
    with torch.no_grad():
        output = MODEL(signal, modality_S, same, torch.ones(7, BATCH, dtype=torch.bool))
    for part in tokens(output):
        assert_same(part[0], part[1])
        assert (part[0] - part[2]).abs().max() > 0.1


def test_a_second_channel_is_heard_by_the_others() -> None:
    signal, modality_S, _ = recording(MONTAGES["two EEG"])
    valid = torch.ones(7, BATCH, dtype=torch.bool)
    without = valid.clone()
    without[1] = False
    with torch.no_grad():
        both = MODEL.embed(signal, modality_S, valid)
        one = MODEL.embed(signal, modality_S, without)
    assert (both[0] - one[0]).abs().max() > 1e-3
