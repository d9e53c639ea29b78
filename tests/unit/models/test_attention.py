"""Rotary positions and attention, against formulas written out, and the choice of kernel."""

import math

import pytest
import torch

from sleepmami.models.attention import (
    CrossAttentionBlock,
    SelfAttentionBlock,
    attend,
    attend_by_products,
    rotary,
    rotate,
    use_flash,
)

ONE_STREAM = torch.tensor([0])


def test_a_pair_turns_by_its_position_in_radians() -> None:
    turned = rotate(torch.tensor([[[1.0, 0.0]]]), rotary(torch.tensor([3]), 2))
    assert turned.flatten().tolist() == pytest.approx([math.cos(3), math.sin(3)])


def test_second_frequency_is_base_to_the_minus_half() -> None:
    angles = rotary(torch.tensor([1]), 4)
    assert angles.sin.flatten().tolist() == pytest.approx([math.sin(1), math.sin(0.01)])


def test_scores_depend_on_distance_in_time_only() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 16), torch.randn(1, 1, 16)

    def score(query_at: int, key_at: int) -> float:
        turned_query = rotate(query, rotary(torch.tensor([query_at]), 16))
        turned_key = rotate(key, rotary(torch.tensor([key_at]), 16))
        return float((turned_query * turned_key).sum())

    assert score(7, 4) == pytest.approx(score(110, 107), abs=1e-4)
    assert score(7, 4) != pytest.approx(score(7, 5), abs=1e-2)


def test_attention_equals_the_formula() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 2, 4), torch.randn(2, 5, 2, 4), torch.randn(2, 5, 2, 4)
    key_mask_NK = torch.tensor([[True] * 5, [True, False, True, True, False]])
    out = attend(query, key, value, key_mask_NK)
    for row in range(2):
        seen = key_mask_NK[row]
        for head in range(2):
            score_TK = query[row, :, head] @ key[row, seen, head].T / 2.0  # sqrt(4)
            expected = score_TK.softmax(-1) @ value[row, seen, head]
            torch.testing.assert_close(out[row, :, head], expected)


def test_masked_keys_have_no_effect_at_all() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, 2, 4).unbind()
    mask = torch.tensor([[True, False, True, True]])
    before = attend(query, key, value, mask)
    key[:, 1], value[:, 1] = 1e4, -1e4
    assert torch.equal(attend(query, key, value, mask), before)


@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "masked", "installed", "flash"),
    [
        ("cuda", torch.bfloat16, 48, False, True, True),
        ("cuda", torch.float16, 16, False, True, True),
        ("cuda", torch.float32, 48, False, True, False),  # flash_attn takes half precision only
        ("cuda", torch.bfloat16, 48, True, True, False),  # ... and no mask
        ("cuda", torch.bfloat16, 12, False, True, False),  # ... and heads of whole 8s
        ("cuda", torch.bfloat16, 48, False, False, False),
        ("cpu", torch.bfloat16, 48, False, True, False),
    ],
)
def test_flash_is_chosen_only_where_it_works(
    device: str, dtype: torch.dtype, head_dim: int, masked: bool, installed: bool, flash: bool
) -> None:
    assert use_flash(device, dtype, head_dim, masked=masked, installed=installed) is flash


def test_self_attention_block_keeps_shape_for_private_and_shared_weights() -> None:
    angles = rotary(torch.arange(6), 4)
    private = SelfAttentionBlock(8, 2, num_modalities=3)
    assert private(torch.randn(2, 5, 6, 8), torch.tensor([2, 1]), angles).shape == (2, 5, 6, 8)
    shared = SelfAttentionBlock(8, 2, num_modalities=None)
    assert shared(torch.randn(5, 6, 8), torch.tensor([2, 1]), angles).shape == (5, 6, 8)


def test_self_attention_block_sees_the_order_of_time() -> None:
    torch.manual_seed(0)
    block = SelfAttentionBlock(16, 2, num_modalities=None)
    for weight in block.attention.parameters():
        torch.nn.init.normal_(weight)
    x = torch.randn(1, 1, 6, 16)
    angles = rotary(torch.arange(6), 8)
    backwards = block(x.flip(2), ONE_STREAM, angles).flip(2)
    assert (block(x, ONE_STREAM, angles) - backwards).abs().max() > 0.1


def test_cross_attention_reads_memory_and_keeps_x_as_the_residual() -> None:
    torch.manual_seed(0)
    block = CrossAttentionBlock(16, 2, num_modalities=None)
    x, memory = torch.randn(2, 1, 3, 6, 16).unbind()
    angles = rotary(torch.arange(6), 8)
    out = block(x, memory, ONE_STREAM, angles)
    assert not torch.equal(block(x, -memory, ONE_STREAM, angles), out)
    block.attention.out.weight.data.zero_()
    block.feed_forward.down.weight.data.zero_()
    assert torch.equal(block(x, memory, ONE_STREAM, angles), x)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_by_products_equals_the_kernel_in_values_and_gradients(masked: bool) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(3, length, 4, 16) for length in (5, 7, 7)]
    mask_NK = torch.rand(3, 7) < 0.6 if masked else None
    if mask_NK is not None:
        mask_NK[:, 2] = True
    with torch.no_grad():
        by_kernel = attend(*inputs, mask_NK)
    leaves = [x.requires_grad_() for x in inputs]
    by_products = attend_by_products(*leaves, mask_NK)
    torch.testing.assert_close(by_products.detach(), by_kernel)
    reference = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in leaves),
        attn_mask=None if mask_NK is None else mask_NK[:, None, None],
    ).transpose(1, 2)
    gradient = torch.randn_like(reference)
    found = torch.autograd.grad(by_products, leaves, gradient)
    expected = torch.autograd.grad(reference, leaves, gradient)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
