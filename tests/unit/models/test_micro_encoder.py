"""The Micro-Encoder's promises: nothing leaks, nothing absent matters, nothing depends on order."""

import copy
import math

import pytest
import torch
from torch import Tensor

from sleepmami import presets
from sleepmami.config import MicroEncoderConfig
from sleepmami.models.masking import NUM_PATCHES, Masks
from sleepmami.models.micro_encoder import MicroEncoder, epoch_means
from sleepmami.psg import SEGMENT_SAMPLES
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

MODEL = make_model()

# ------------------------------------------------------------------------------ size and shape


def test_defaults_are_table_8() -> None:
    assert {name: getattr(MicroEncoderConfig(), name) for name in MicroEncoderConfig.__slots__} == {
        "patch_channels": (32, 64, 128), "patch_kernels": (10, 5, 1), "lower_dim": 128, "lower_depth": 2,
        "merge_kernel": 10, "merge_stride": 5, "higher_dim": 384, "higher_depth": 2, "num_heads": 8,
        "shared_depth": 4, "num_experts": 4, "num_active_experts": 2, "fusion_depth": 4, "upsample_dim": 128,
        "decoder_dim": 64, "decoder_depth": 2, "decoder_heads": 4, "shared_view": "joint", "balancing": "bias",
        "merge_scheme": "grid", "modality_embedding": False, "shared_input": "merged",
    }  # fmt: skip


def test_parameter_counts_of_the_paper_size() -> None:
    model = MicroEncoder(MicroEncoderConfig())
    block = 4 * 384 * 384 + 3 * 384 * 1024 + 2 * 384  # attention, SwiGLU, two norms
    lower = 4 * 128 * 128 + 3 * 128 * 384 + 2 * 128
    decoder = 4 * 64 * 64 + 3 * 64 * 192 + 2 * 64
    expected = {
        "patch_embed": 6 * ((10 * 32 + 2 * 32) + (5 * 32 * 64 + 2 * 64) + (64 * 128 + 2 * 128)),
        "lower": 6 * 2 * lower,
        "merge": 6 * (128 * 384 + 10 * 384 + 2 * 384 * 384 + 4 * 384),
        "higher": 6 * 2 * block,
        "higher_norm": 6 * 384,
        "shared": 4 * (block + 3 * (3 * 384 * 1024) + 4 * 384),  # three more experts, router
        "shared_norm": 384,
        "fusion": 4 * (block + 384),  # a third norm, of the memory
        "fusion_norm": 384,
        "upsample": 6 * (384 + 1) * 5 * 128,
        "decoder": 6 * (2 * decoder + (128 + 1) * 64 + 2 * 64 + (64 + 1) * 50),
    }
    counts = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    assert counts == expected
    assert sum(counts.values()) == 56_530_860
    in_millions = [0.115, 2.559, 2.097, 21.243, 0.002, 21.243, 0.0, 7.082, 0.0, 1.478, 0.71]
    assert [round(count / 1e6, 3) for count in counts.values()] == in_millions


def test_output_shapes() -> None:
    output = MODEL(signals(), ALL, masks_for(), EVERY_STREAM)
    assert output.reconstruction_SBPT.shape == (6, BATCH, 120, 50)
    assert output.shared_SBMD.shape == output.private_SBMD.shape == (6, BATCH, 24, 64)
    assert output.expert_counts.shape == (2, 4)
    assert output.expert_counts.sum(1).tolist() == [6 * BATCH * 24 * 2] * 2
    assert MODEL.embed(signals(), ALL, EVERY_STREAM).shape == (6, BATCH, 2, 64)


def test_epoch_means_by_hand() -> None:
    token_SBMD = torch.arange(24.0).view(1, 1, 24, 1)
    assert epoch_means(token_SBMD).flatten().tolist() == [5.5, 17.5]


# ---------------------------------------------------------------------------- masks and alignment


def test_hidden_patches_have_exactly_no_effect() -> None:
    signal, masks = signals(), masks_for()
    patch = signal.unflatten(2, (NUM_PATCHES, -1))
    other = torch.where(masks.hidden_SBP[..., None], torch.nan, patch).flatten(2)
    with torch.no_grad():
        before = MODEL(signal, ALL, masks, EVERY_STREAM)
        after = MODEL(other, ALL, masks, EVERY_STREAM)
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one, two)


def test_every_visible_patch_has_an_effect() -> None:
    signal, masks = signals().requires_grad_(), masks_for()
    output = MODEL(signal, ALL, masks, EVERY_STREAM)
    (output.private_SBMD * torch.randn_like(output.private_SBMD)).sum().backward()
    assert signal.grad is not None
    felt = signal.grad.unflatten(2, (NUM_PATCHES, -1)).abs().sum(-1) > 0
    assert torch.equal(felt, ~masks.hidden_SBP)


def test_masks_that_hide_nothing_give_the_unmasked_tokens() -> None:
    nothing = torch.zeros(6, BATCH, NUM_PATCHES, dtype=torch.bool)
    masks = Masks(nothing, torch.arange(NUM_PATCHES).expand(6, BATCH, -1))
    with torch.no_grad():
        output = MODEL(signals(), ALL, masks, EVERY_STREAM)
        unmasked = MODEL._encode(signals(), ALL, EVERY_STREAM, None)
    assert_same(output.private_SBMD, unmasked.private_SBMD)
    assert_same(output.shared_SBMD, unmasked.shared_SBMD)


def test_visible_patches_keep_their_own_positions_in_time() -> None:
    half = torch.randn(6, 1, 60, 50)

    def lower_tokens(places: Tensor) -> Tensor:
        """The lower encoder's tokens of the same 60 patches, shown at other places."""
        caught: list[Tensor] = []
        hook = MODEL.lower[-1].register_forward_hook(lambda *call: caught.append(call[2]))
        visible_SBV = places.expand(6, 1, 60)
        patch = torch.zeros(6, 1, NUM_PATCHES, 50).scatter(
            2, visible_SBV[..., None].expand_as(half), half
        )
        hidden = torch.ones(6, 1, NUM_PATCHES, dtype=torch.bool)
        hidden = hidden.scatter(2, visible_SBV, torch.zeros_like(hidden[..., :60]))
        with torch.no_grad():
            MODEL(patch.flatten(2), ALL, Masks(hidden, visible_SBV), EVERY_STREAM[:, :1])
        hook.remove()
        return caught[0]

    together = lower_tokens(torch.arange(60))
    later = lower_tokens(torch.arange(60, 120))
    spread = lower_tokens(torch.arange(0, 120, 2))
    torch.testing.assert_close(later, together, rtol=0.0, atol=1e-4)  # only distances count
    assert (spread - together).abs().max() > 1e-2


def test_mask_token_replaces_what_the_decoder_must_guess() -> None:
    signal, masks, model = signals(), masks_for(), make_model(decoder_depth=1)
    model.decoder.blocks = torch.nn.ModuleList()  # without attention each patch stands alone
    with torch.no_grad():
        guess = model(signal, ALL, masks, EVERY_STREAM).reconstruction_SBPT
    for stream in range(6):
        hidden = guess[stream][masks.hidden_SBP[stream]]
        assert torch.equal(hidden, hidden[:1].expand_as(hidden))
        assert len(guess[stream][~masks.hidden_SBP[stream]].unique(dim=0)) == BATCH * 60


# ------------------------------------------------------------------------------ missing streams

MISSING = EVERY_STREAM.clone()
MISSING[2, 1] = MISSING[5] = False


@pytest.mark.parametrize("junk", [1e4, math.nan, math.inf])
def test_an_absent_stream_is_not_read(junk: float) -> None:
    signal, masks = signals(), masks_for()
    other = torch.where(MISSING[..., None], signal, junk)
    with torch.no_grad():
        before = MODEL(signal, ALL, masks, MISSING)
        after = MODEL(other, ALL, masks, MISSING)
        assert torch.equal(MODEL.embed(signal, ALL, MISSING), MODEL.embed(other, ALL, MISSING))
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("view", ["joint", "blocked"])
@pytest.mark.parametrize("kept", [[0, 1, 3, 4], [4], [0, 5], [1, 2, 3, 4, 5]])
def test_dropping_streams_equals_masking_them(kept: list[int], view: str) -> None:
    model, signal, masks = make_model(shared_view=view), signals(), masks_for()
    keep = torch.tensor(kept)
    valid = torch.zeros(6, BATCH, dtype=torch.bool)
    valid[keep] = True
    with torch.no_grad():
        masked = model(signal, ALL, masks, valid)
        dropped = model(signal[keep], keep, pick(masks, keep), EVERY_STREAM[keep])
        embedded = model.embed(signal, ALL, valid)
        embedded_dropped = model.embed(signal[keep], keep, EVERY_STREAM[keep])
    for one, two in zip(tokens(masked), tokens(dropped), strict=True):
        assert_same(one[keep], two)
    assert_same(embedded[keep], embedded_dropped)
    assert torch.equal(masked.expert_counts, dropped.expert_counts)


def test_rows_of_absent_streams_are_exactly_zero() -> None:
    epoch_SBED = MODEL.embed(signals(), ALL, MISSING)
    assert not epoch_SBED[~MISSING].any()
    assert epoch_SBED[MISSING].abs().sum(-1).min() > 0


def test_a_segment_without_any_stream_is_harmless() -> None:
    model, signal, masks = make_model(), signals(), masks_for()
    valid = EVERY_STREAM.clone()
    valid[:, 1] = False
    total_loss(model(signal, ALL, masks, valid), signal, masks, valid).backward()
    with_empty = {name: p.grad.clone() for name, p in model.named_parameters()}
    rest = torch.tensor([0, 2])
    model.zero_grad()
    output = model(signal[:, rest], ALL, pick(masks, slice(None), rest), EVERY_STREAM[:, rest])
    loss = total_loss(
        output, signal[:, rest], pick(masks, slice(None), rest), EVERY_STREAM[:, rest]
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(with_empty[name], parameter.grad, rtol=1e-3, atol=1e-5)
    assert not model.embed(signal, ALL, valid)[:, 1].any()


def test_a_batch_without_any_stream_costs_nothing_and_has_zero_gradients() -> None:
    model, signal, masks = make_model(), signals(), masks_for()
    nothing = torch.zeros_like(EVERY_STREAM)
    output = model(torch.full_like(signal, math.nan), ALL, masks, nothing)
    loss = total_loss(output, signal, masks, nothing)
    loss.backward()
    assert loss.item() == 0
    assert not output.expert_counts.any()
    assert all(not parameter.grad.any() for parameter in model.parameters())


# ----------------------------------------------------------------------- order, batch, precision


@pytest.mark.parametrize("view", ["joint", "blocked"])
def test_permuting_streams_permutes_outputs(view: str) -> None:
    model, signal, masks = make_model(shared_view=view), signals(), masks_for()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        straight = model(signal, ALL, masks, MISSING)
        permuted = model(signal[order], order, pick(masks, order), MISSING[order])
    for one, two in zip(tokens(straight), tokens(permuted), strict=True):
        assert_same(one[order], two)


def test_several_streams_of_one_modality_are_embedded_alike() -> None:
    signal = signals()
    twice = torch.stack([signal[0], signal[4], signal[0]])
    with torch.no_grad():
        epoch_SBED = MODEL.embed(twice, torch.tensor([0, 4, 0]), EVERY_STREAM[:3])
    assert_same(epoch_SBED[0], epoch_SBED[2])


def test_a_segment_does_not_depend_on_its_batch() -> None:
    signal, masks = signals(), masks_for()
    with torch.no_grad():
        together = MODEL(signal, ALL, masks, MISSING)
        embedded = MODEL.embed(signal, ALL, MISSING)
        for row in range(BATCH):
            one = torch.tensor([row])
            alone = MODEL(signal[:, one], ALL, pick(masks, slice(None), one), MISSING[:, one])
            for a, b in zip(tokens(together), tokens(alone), strict=True):
                assert_same(a[:, one], b)
            alone_embedded = MODEL.embed(signal[:, one], ALL, MISSING[:, one])
            assert_same(embedded[:, one], alone_embedded)


def test_joint_view_mixes_modalities_and_blocked_does_not() -> None:
    signal, masks = signals(), masks_for()
    other = signal.clone()
    other[0] = -other[0]
    for view, mixes in (("joint", True), ("blocked", False)):
        model = make_model(shared_view=view)
        with torch.no_grad():
            before = model(signal, ALL, masks, EVERY_STREAM).shared_SBMD[1:]
            after = model(other, ALL, masks, EVERY_STREAM).shared_SBMD[1:]
        assert (not torch.equal(before, after)) is mixes


@pytest.mark.parametrize("shared_input", ["private", "merged"])
def test_the_shared_encoder_hears_tokens_before_or_after_the_higher_blocks(
    shared_input: str,
) -> None:
    model = make_model(shared_input=shared_input)
    merged: list[Tensor] = []
    heard: list[Tensor] = []
    model.merge.register_forward_hook(lambda *call: merged.append(call[2]))
    model.shared[0].register_forward_pre_hook(lambda _, call: heard.append(call[0]))
    with torch.no_grad():
        output = model(signals(), ALL, masks_for(), EVERY_STREAM)
    expected = merged[0] if shared_input == "merged" else output.private_SBMD
    assert torch.equal(heard[0].unflatten(1, (6, -1)).transpose(0, 1), expected)
    assert (merged[0] - output.private_SBMD).abs().max() > 0.1


def test_a_modality_embedding_is_added_to_what_enters_the_shared_encoder() -> None:
    model = make_model(modality_embedding=True, shared_input="private")
    with torch.no_grad():
        before = model._encode(signals(), ALL, EVERY_STREAM, None)
        caught: list[Tensor] = []
        model.shared[0].register_forward_pre_hook(lambda _, call: caught.append(call[0]))
        model.modality_embedding[2] += 1.0
        after = model._encode(signals(), ALL, EVERY_STREAM, None)
    assert torch.equal(before.private_SBMD, after.private_SBMD)
    entering_SBMD = caught[0].unflatten(1, (6, -1)).transpose(0, 1)
    name_SD = model.modality_embedding.detach()
    assert_same(entering_SBMD, after.private_SBMD + name_SD[:, None, None])
    assert (before.shared_SBMD - after.shared_SBMD).abs().max() > 1e-3


@pytest.mark.parametrize("named", [False, True])
def test_the_loss_reaches_every_parameter(named: bool) -> None:
    model, signal, masks = make_model(modality_embedding=named), signals(), masks_for()
    total_loss(model(signal, ALL, masks, EVERY_STREAM), signal, masks, EVERY_STREAM).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        per_modality = parameter.grad if parameter.shape[0] == 6 else parameter.grad[None]
        assert per_modality.flatten(1).any(dim=1).all(), name


def test_absent_modalities_get_zero_gradients_not_none() -> None:
    model, keep = make_model(), torch.tensor([0, 3])
    signal, masks = signals()[keep], pick(masks_for(), keep)
    valid = EVERY_STREAM[keep]
    total_loss(model(signal, keep, masks, valid), signal, masks, valid).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.upsample.weight.grad[5].any()
    assert model.upsample.weight.grad[3].any()


def test_pretraining_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    model, masks = MicroEncoder(presets.tiny().micro.model), masks_for()
    second = torch.arange(SEGMENT_SAMPLES) / 100
    signal = torch.sin(2 * math.pi * second * torch.rand(6, BATCH, 1).add(0.2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = total_loss(model(signal, ALL, masks, MISSING), signal, masks, MISSING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_bfloat16_autocast_is_finite_and_close() -> None:
    torch.manual_seed(0)
    model, signal, masks = MicroEncoder(presets.tiny().micro.model), signals(), masks_for()
    exact = model(signal, ALL, masks, MISSING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(signal, ALL, masks, MISSING)
        embedded = model.embed(signal, ALL, MISSING)
    total_loss(half, signal, masks, MISSING).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    for one, two in zip(tokens(exact), tokens(half), strict=True):
        assert two.dtype == torch.float32
        assert (one - two).norm() / one.norm() < 0.02
    expected = model.embed(signal, ALL, MISSING)
    assert (embedded - expected).norm() / expected.norm() < 0.02


def test_forward_leaves_the_model_as_it_was_and_balancing_moves_it() -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    output = model(signals(), ALL, masks_for(), EVERY_STREAM)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.balance_experts(output.expert_counts)
    for layer, block in enumerate(model.shared):
        counts = output.expert_counts[layer].float()
        expected = 1e-3 * torch.sign(counts.mean() - counts)
        torch.testing.assert_close(block.experts.balance_bias, expected)
