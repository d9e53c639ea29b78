"""The three ways in which masks meet the merge: what each lets in, and where each token belongs."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sleepmami.config import MicroEncoderConfig
from sleepmami.models.masking import NUM_PATCHES, Masks
from sleepmami.models.micro_encoder import MicroEncoder, epoch_means
from tests.unit.models.micro_models import (
    ALL,
    BATCH,
    EVERY_STREAM,
    assert_same,
    make_model,
    masks_for,
    pick,
    signals,
    tokens,
    total_loss,
)

SCHEMES = ["grid", "packed", "dense"]
NUM_MERGED = {"grid": 24, "packed": 12, "dense": 24}
SLOW_STREAM = 4  # RESP, where masks and cells of five patches fit worst


@pytest.mark.parametrize("scheme", SCHEMES)
def test_hidden_samples_have_exactly_no_effect(scheme: str) -> None:
    model, signal, masks = make_model(merge_scheme=scheme), signals(), masks_for()
    patch = signal.unflatten(2, (NUM_PATCHES, -1))
    other = torch.where(masks.hidden_SBP[..., None], math.nan, patch).flatten(2)
    with torch.no_grad():
        before = model(signal, ALL, masks, EVERY_STREAM)
        after = model(other, ALL, masks, EVERY_STREAM)
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_hidden_samples_get_exactly_no_gradient_and_every_visible_patch_gets_one(
    scheme: str,
) -> None:
    model, masks = make_model(merge_scheme=scheme), masks_for()
    signal = signals().requires_grad_()
    reconstruction = model(signal, ALL, masks, EVERY_STREAM).reconstruction_SBPT
    (reconstruction * torch.randn_like(reconstruction)).sum().backward()
    assert signal.grad is not None
    felt = signal.grad.unflatten(2, (NUM_PATCHES, -1)).abs().sum(-1) > 0
    assert torch.equal(felt, ~masks.hidden_SBP)


def test_only_dense_puts_mask_tokens_before_the_encoder() -> None:
    assert not hasattr(make_model(merge_scheme="packed"), "lower_mask_token")
    model, signal, masks = make_model(merge_scheme="dense"), signals(), masks_for()
    with torch.no_grad():
        before = model(signal, ALL, masks, EVERY_STREAM).private_SBMD
        unmasked = model.embed(signal, ALL, EVERY_STREAM)
        model.lower_mask_token[1] += 1.0
        after = model(signal, ALL, masks, EVERY_STREAM).private_SBMD
        assert torch.equal(model.embed(signal, ALL, EVERY_STREAM), unmasked)
    changed = (before != after).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_number_of_merged_tokens(scheme: str) -> None:
    output = make_model(merge_scheme=scheme)(signals(), ALL, masks_for(), EVERY_STREAM)
    num_merged = NUM_MERGED[scheme]
    assert output.private_SBMD.shape == output.shared_SBMD.shape == (6, BATCH, num_merged, 64)
    assert output.expert_counts.sum(1).tolist() == [6 * BATCH * num_merged * 2] * 2
    assert output.reconstruction_SBPT.shape == (6, BATCH, 120, 50)


@pytest.mark.parametrize(("scheme", "expected"), [("packed", 56_530_860), ("dense", 56_531_628)])
def test_parameter_counts_of_the_paper_size(scheme: str, expected: int) -> None:
    with torch.device("meta"):
        model = MicroEncoder(MicroEncoderConfig(merge_scheme=scheme))
    assert sum(p.numel() for p in model.parameters()) == expected  # dense: 6 mask tokens of 128


def test_schemes_with_the_same_weights_embed_alike() -> None:
    grid, signal = make_model(), signals()
    for scheme in ("packed", "dense"):
        other = make_model(merge_scheme=scheme)
        other.load_state_dict(grid.state_dict(), strict=False)
        with torch.no_grad():
            embedded = other.embed(signal, ALL, EVERY_STREAM)
            assert torch.equal(embedded, grid.embed(signal, ALL, EVERY_STREAM))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_masks_that_hide_nothing_give_the_unmasked_tokens(scheme: str) -> None:
    model = make_model(merge_scheme=scheme)
    nothing = torch.zeros(6, BATCH, NUM_PATCHES, dtype=torch.bool)
    masks = Masks(nothing, torch.arange(NUM_PATCHES).expand(6, BATCH, -1))
    with torch.no_grad():
        output = model(signals(), ALL, masks, EVERY_STREAM)
        unmasked = model._encode(signals(), ALL, EVERY_STREAM, None)
    assert_same(output.private_SBMD, unmasked.private_SBMD)
    assert_same(output.shared_SBMD, unmasked.shared_SBMD)


def patches_felt(scheme: str, slot: int, masks: Masks) -> set[int]:
    """Patches that move the slot's mean of one stream when tokens do not attend to each other."""
    model = make_model(merge_scheme=scheme, lower_depth=0, higher_depth=0)
    signal = signals().requires_grad_()
    private = model(signal, ALL, masks, EVERY_STREAM).private_SBMD
    mean_D = epoch_means(private)[SLOW_STREAM, 0, slot]
    (mean_D * torch.linspace(-1, 1, len(mean_D))).sum().backward()
    assert signal.grad is not None
    felt = signal.grad[SLOW_STREAM, 0].unflatten(0, (NUM_PATCHES, -1)).abs().sum(-1)
    return set(felt.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("scheme", ["grid", "dense"])
def test_a_slot_is_its_own_30_s_and_the_reach_of_the_merge(scheme: str) -> None:
    masks = masks_for()
    visible = set(masks.visible_SBV[SLOW_STREAM, 0].tolist())
    assert patches_felt(scheme, 0, masks) == visible & set(range(63))
    assert patches_felt(scheme, 1, masks) == visible & set(range(58, 120))


def test_a_packed_slot_is_30_visible_patches_and_the_reach_of_the_merge() -> None:
    masks = masks_for()
    visible = masks.visible_SBV[SLOW_STREAM, 0].tolist()
    assert patches_felt("packed", 0, masks) == set(visible[:33])
    assert patches_felt("packed", 1, masks) == set(visible[28:])


def test_packed_slots_end_within_a_second_of_the_epoch() -> None:
    last_B = masks_for(64).visible_SBV[:, :, 29]  # of the first slot, which ends with patch 59
    first_B = masks_for(64).visible_SBV[:, :, 30]
    assert last_B.min() >= 57
    assert last_B.max() <= 61
    assert first_B.min() >= 58
    assert first_B.max() <= 64


def test_packed_tokens_keep_the_unit_of_time_of_the_merged_level() -> None:
    """Positions 0, 2, .., 22: a token of 5 s counts as two of 2.5 s."""
    model, signal, masks = make_model(merge_scheme="packed"), signals(), masks_for()
    with torch.no_grad():
        cos = []
        hook = model.higher[0].register_forward_pre_hook(lambda _, call: cos.append(call[2].cos))
        model(signal, ALL, masks, EVERY_STREAM)
        model.embed(signal, ALL, EVERY_STREAM)
        hook.remove()
    masked, unmasked = cos
    assert len(unmasked) == 24
    assert torch.equal(masked, unmasked[::2])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_decoder_puts_each_upsampled_token_at_its_patch(scheme: str) -> None:
    """Without attention in the decoder, a patch is decoded from its own token alone."""
    model, signal, masks = make_model(merge_scheme=scheme), signals(), masks_for()
    model.decoder.blocks = torch.nn.ModuleList()
    caught: list[Tensor] = []
    hook = model.upsample.register_forward_hook(lambda *call: caught.append(call[2]))
    with torch.no_grad():
        guess_SBPT = model(signal, ALL, masks, EVERY_STREAM).reconstruction_SBPT
        hook.remove()
        (fine_SBMD,) = caught
        for stream in range(6):
            hidden_BP, visible_BV = masks.hidden_SBP[stream], masks.visible_SBV[stream]
            for row in range(BATCH):
                # Five tokens of each merged one, in order; packed has them for visible patches.
                token_XD = fine_SBMD[stream, row].view(-1, model.config.upsample_dim)
                if scheme != "packed":
                    token_XD = token_XD[visible_BV[row]]
                expected_VT = decode_alone(model, token_XD, stream)
                assert_same(guess_SBPT[stream, row, visible_BV[row]], expected_VT)
            told = guess_SBPT[stream][hidden_BP]
            assert torch.equal(told, told[:1].expand_as(told))  # the mask token's answer


def decode_alone(model: MicroEncoder, token_VD: Tensor, stream: int) -> Tensor:
    """embed, norm and project of the decoder for one modality, by plain products."""
    decoder = model.decoder
    x = functional.linear(token_VD, decoder.embed.weight[stream], decoder.embed.bias[stream])
    x = functional.rms_norm(x, x.shape[-1:], decoder.norm.weight[stream], eps=1e-6)
    return functional.linear(x, decoder.project.weight[stream], decoder.project.bias[stream])


@pytest.mark.parametrize("scheme", ["packed", "dense"])
@pytest.mark.parametrize("kept", [[4], [0, 5], [1, 2, 3]])
def test_dropping_streams_equals_masking_them(scheme: str, kept: list[int]) -> None:
    model, signal, masks = make_model(merge_scheme=scheme), signals(), masks_for()
    keep = torch.tensor(kept)
    valid = torch.zeros(6, BATCH, dtype=torch.bool)
    valid[keep] = True
    junk = torch.where(valid[..., None], signal, math.nan)
    with torch.no_grad():
        masked = model(junk, ALL, masks, valid)
        dropped = model(signal[keep], keep, pick(masks, keep), EVERY_STREAM[keep])
    for one, two in zip(tokens(masked), tokens(dropped), strict=True):
        assert_same(one[keep], two)


@pytest.mark.parametrize("scheme", ["packed", "dense"])
def test_the_loss_reaches_every_parameter(scheme: str) -> None:
    model, signal, masks = make_model(merge_scheme=scheme), signals(), masks_for()
    total_loss(model(signal, ALL, masks, EVERY_STREAM), signal, masks, EVERY_STREAM).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        per_modality = parameter.grad if parameter.shape[0] == 6 else parameter.grad[None]
        assert per_modality.flatten(1).any(dim=1).all(), name
