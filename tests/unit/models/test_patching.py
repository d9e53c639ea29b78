"""Patch embedding and merging against real convolutions, and what each token can see."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sleepmami.config import MaskingConfig
from sleepmami.models.masking import NUM_PATCHES, draw_masks
from sleepmami.models.patching import PatchEmbed, PatchMerge
from sleepmami.models.tap_merge import put_on_grid
from sleepmami.psg import Modality

CHANNELS, KERNELS = (4, 6, 8), (10, 5, 1)
TWO_STREAMS = torch.tensor([1, 0])


def make_merge() -> PatchMerge:
    torch.manual_seed(0)
    return PatchMerge(8, 12, 5, num_modalities=2)


def test_patch_embedding_equals_strided_convolutions() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(CHANNELS, KERNELS, num_modalities=2)
    patch_SBVW = torch.randn(2, 3, 7, 50)
    out = embed(patch_SBVW, TWO_STREAMS)
    for stream, modality in enumerate(TWO_STREAMS.tolist()):
        x_NCT = patch_SBVW[stream].reshape(3, 1, 350)
        for kernel, conv in zip(KERNELS, embed.convs, strict=True):
            weight_OKC = conv.get_parameter("weight")[modality].unflatten(1, (kernel, -1))
            bias_O = conv.get_parameter("bias")[modality]
            x_NCT = functional.conv1d(x_NCT, weight_OKC.mT, bias_O, stride=kernel)
            x_NCT = functional.rms_norm(x_NCT.mT, (len(bias_O),), eps=1e-6).mT
            x_NCT = functional.gelu(x_NCT)
        torch.testing.assert_close(out[stream], x_NCT.mT)


@pytest.mark.parametrize("num_tokens", [NUM_PATCHES, NUM_PATCHES // 2])  # all, or those visible
def test_merging_side_by_side_equals_a_strided_depthwise_convolution(num_tokens: int) -> None:
    merge = make_merge()
    x_SBPD = torch.randn(2, 3, num_tokens, 8)
    out = merge(x_SBPD, TWO_STREAMS, None, NUM_PATCHES)
    assert out.shape == (2, 3, num_tokens // 5, 12)
    for stream, modality in enumerate(TWO_STREAMS.tolist()):
        x_BPD = x_SBPD[stream] @ merge.expand.weight[modality].T
        weight_D1K = merge.depthwise[modality].T.unsqueeze(1)
        padded_BDP = functional.pad(x_BPD.mT, (2, 3))
        x_BMD = functional.conv1d(padded_BDP, weight_D1K, stride=5, groups=12).mT
        x_BMD = functional.rms_norm(x_BMD, (12,), eps=1e-6)
        x_BMD = functional.gelu(x_BMD @ merge.pointwise_in.weight[modality].T)
        torch.testing.assert_close(out[stream], x_BMD @ merge.pointwise_out.weight[modality].T)


def patches_seen(merge: PatchMerge, token: int, visible_SBV: Tensor | None) -> set[int]:
    """Patch indices whose content moves one merged token."""
    length = NUM_PATCHES if visible_SBV is None else visible_SBV.shape[-1]
    x_SBVD = torch.randn(1, 1, length, 8, requires_grad=True)
    merge(x_SBVD, torch.tensor([0]), visible_SBV, NUM_PATCHES)[0, 0, token].sum().backward()
    assert x_SBVD.grad is not None
    moving = x_SBVD.grad[0, 0].abs().sum(-1).nonzero()[:, 0]
    return set((moving if visible_SBV is None else visible_SBV[0, 0, moving]).tolist())


@pytest.mark.parametrize("modality", [Modality.EEG, Modality.RESP])
@pytest.mark.parametrize("token", [0, 1, 11, 12, 23])
def test_a_merged_token_covers_the_same_time_in_training_and_inference(
    token: int, modality: Modality
) -> None:
    merge = make_merge()
    masks = draw_masks(MaskingConfig(), [modality], 1, torch.Generator().manual_seed(1))
    window = set(range(max(0, 5 * token - 2), min(NUM_PATCHES, 5 * token + 8)))
    assert patches_seen(merge, token, None) == window
    visible = set(masks.visible_SBV[0, 0].tolist())
    assert patches_seen(merge, token, masks.visible_SBV) == window & visible


def test_a_grid_of_all_patches_merges_as_no_grid() -> None:
    merge = make_merge()
    x_SBPD = torch.randn(2, 3, NUM_PATCHES, 8)
    everything = torch.arange(NUM_PATCHES).expand(2, 3, -1)
    on_grid = merge(x_SBPD, TWO_STREAMS, everything, NUM_PATCHES)
    assert torch.equal(on_grid, merge(x_SBPD, TWO_STREAMS, None, NUM_PATCHES))


def test_grid_holds_tokens_at_their_index_and_zeros_elsewhere() -> None:
    x_SBVD = torch.tensor([5.0, 7.0]).view(1, 1, 2, 1)
    grid = put_on_grid(x_SBVD, torch.tensor([[[1, 3]]]), 5)
    assert grid.flatten().tolist() == [0, 5, 0, 7, 0]


def test_grid_holds_each_streams_fill_where_no_token_is_given() -> None:
    x_SBVD = torch.tensor([5.0, 7.0]).view(2, 1, 1, 1)
    grid = put_on_grid(x_SBVD, torch.tensor([[[1]], [[2]]]), 3, torch.tensor([[-1.0], [-2.0]]))
    assert grid.flatten().tolist() == [-1, 5, -1, -2, -2, 7]


def test_a_flat_signal_does_not_blow_up_the_gradient() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed((32, 64, 128), KERNELS, num_modalities=1)

    def gradient_norm(patch_SBVW: Tensor) -> float:
        embed.zero_grad()
        token = embed(patch_SBVW, torch.tensor([0]))
        (token * torch.linspace(-1, 1, 128)).mean().backward()
        return float(torch.nn.utils.get_total_norm([p.grad for p in embed.parameters()]))

    lively = gradient_norm(torch.randn(1, 2, 60, 50))
    assert gradient_norm(torch.zeros(1, 2, 60, 50)) < 10 * lively
