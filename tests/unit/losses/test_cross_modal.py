"""Eq. 2 by hand, by a slow loop, and by the sign of its gradient."""

import math

import pytest
import torch
from torch import Tensor

from sleepmami.losses.cross_modal import contrastive_loss

TAU = 0.07


def everyone(x_SND: Tensor) -> Tensor:
    return torch.ones(x_SND.shape[:2], dtype=torch.bool)


def slow_loss(
    shared: Tensor, private: Tensor, valid: Tensor, tau: float, negatives: str, slots: str = "all"
) -> float:
    """Eq. 2 as written, over the streams and slots that are there."""
    z, z_private = (x / x.norm(dim=-1, keepdim=True) for x in (shared, private))
    num_streams, num_slots, _ = z.shape

    def others(i: int, s: int) -> list[Tensor]:
        return [z[j, s] for j in range(num_streams) if j != i and valid[j, s]]

    losses = []
    for i in range(num_streams):
        for t in range(num_slots):
            if not valid[i, t] or not others(i, t):
                continue
            positive = math.exp(z[i, t] @ (sum(others(i, t)) / len(others(i, t))) / tau)
            total = positive + math.exp(z[i, t] @ z_private[i, t] / tau)
            for s in range(num_slots):
                own_segment, same_place = s // 2 == t // 2, s % 2 == t % 2
                if s == t or (slots == "other_segments" and own_segment):
                    continue
                if slots == "same_place" and not same_place:
                    continue
                if negatives == "text" and valid[i, s]:
                    total += math.exp(z[i, t] @ z[i, s] / tau)
                if negatives == "equation" and others(i, s):
                    total += math.exp(z[i, t] @ (sum(others(i, s)) / len(others(i, s))) / tau)
            losses.append(-math.log(positive / total))
    return sum(losses) / len(losses)


def test_agreeing_modalities_apart_from_their_private_part_cost_almost_nothing() -> None:
    shared = torch.tensor([3.0, 0.0]).expand(2, 1, 2)  # any length: normalised inside
    private = torch.tensor([0.0, 0.5]).expand(2, 1, 2)
    loss = contrastive_loss(shared, private, everyone(shared), tau=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1 / 0.5)))


def test_a_private_part_like_the_shared_one_costs_log_two() -> None:
    shared = torch.tensor([1.0, 0.0]).expand(2, 1, 2)
    loss = contrastive_loss(shared, shared, everyone(shared), tau=TAU)
    assert loss.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("negatives", ["equation", "text"])
def test_alike_slots_cost_log_of_their_number_and_the_private_part(negatives: str) -> None:
    shared = torch.ones(3, 4, 5)
    loss = contrastive_loss(shared, shared, everyone(shared), tau=TAU, temporal_negatives=negatives)
    assert loss.item() == pytest.approx(math.log(4 + 1), rel=1e-5)


def test_the_mean_of_the_others_is_not_normalised_again() -> None:
    shared = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    private = torch.tensor([[-1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]).unsqueeze(1)
    half, minus_one = math.exp(0.5 / 0.5), math.exp(-1 / 0.5)
    nothing = math.exp(0.0)  # the third stream is orthogonal to both others
    expected = (2 * math.log(1 + minus_one / half) + math.log(1 + minus_one / nothing)) / 3
    loss = contrastive_loss(shared, private, everyone(shared), tau=0.5)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("negatives", ["equation", "text"])
@pytest.mark.parametrize("missing", [False, True])
def test_equals_a_slow_loop_over_the_equation(negatives: str, missing: bool) -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 4, 6, 8).unbind()
    valid = everyone(shared)
    if missing:
        valid[1, :3] = valid[2, 0] = valid[0, 5] = False
        valid[1:, 4] = False  # slot 4 has one stream only
    expected = slow_loss(shared, private, valid, 0.3, negatives)
    loss = contrastive_loss(shared, private, valid, tau=0.3, temporal_negatives=negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("negatives", ["equation", "text"])
@pytest.mark.parametrize("slots", ["other_segments", "same_place"])
def test_slots_of_the_own_segment_or_of_another_place_can_be_left_out(
    negatives: str, slots: str
) -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 3, 6, 8).unbind()
    valid = everyone(shared)
    valid[1, :3] = False
    expected = slow_loss(shared, private, valid, 0.3, negatives, slots)
    loss = contrastive_loss(
        shared, private, valid, tau=0.3, temporal_negatives=negatives, slot_negatives=slots
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert expected < slow_loss(shared, private, valid, 0.3, negatives) - 0.01


def test_only_negatives_at_the_same_place_make_the_place_worth_nothing() -> None:
    # two segments whose slots say nothing but their place, and alike in all modalities
    shared = torch.eye(2).repeat(2, 1).expand(3, 4, 2)
    private = torch.full((3, 4, 2), -1.0)
    silent = torch.ones(3, 4, 2)
    gains = {
        slots: contrastive_loss(silent, private, everyone(silent), tau=0.1, slot_negatives=slots)
        - contrastive_loss(shared, private, everyone(shared), tau=0.1, slot_negatives=slots)
        for slots in ("all", "other_segments", "same_place")
    }
    # of three negatives two are told apart, of two one, of one none
    assert gains["all"].item() == pytest.approx(math.log(4 / 2), abs=1e-3)
    assert gains["other_segments"].item() == pytest.approx(math.log(3 / 2), abs=1e-3)
    assert gains["same_place"].item() == pytest.approx(0.0, abs=1e-3)


def test_temporal_negatives_differ_between_equation_and_text() -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 3, 6, 8).unbind()
    values = [
        contrastive_loss(
            shared, private, everyone(shared), tau=TAU, temporal_negatives=negatives
        ).item()
        for negatives in ("equation", "text")
    ]
    assert values[0] != pytest.approx(values[1], rel=1e-2)


def test_descent_pulls_modalities_together_and_pushes_the_private_part_away() -> None:
    torch.manual_seed(0)
    shared = torch.randn(2, 3, 8, requires_grad=True)
    private = torch.randn(2, 3, 8, requires_grad=True)
    contrastive_loss(shared, private, everyone(shared), tau=0.5).backward()

    def cosine(x: Tensor, y: Tensor) -> float:
        return torch.cosine_similarity(x, y, dim=-1).mean().item()

    moved = (shared - 0.1 * shared.grad).detach()
    assert cosine(moved[0], moved[1]) > cosine(shared[0], shared[1])
    assert cosine(private - 0.1 * private.grad, shared) < cosine(private, shared)


@pytest.mark.parametrize("negatives", ["equation", "text"])
def test_a_slot_with_one_stream_is_left_out(negatives: str) -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 3, 5, 8).unbind()
    valid = everyone(shared)
    valid[1:, 4] = False
    shared = shared.requires_grad_()
    contrastive_loss(shared, private, valid, tau=TAU, temporal_negatives=negatives).backward()
    assert torch.isfinite(shared.grad).all()
    assert not shared.grad[1:, 4].any()
    if negatives == "equation":  # stream 0 alone still makes slot 4 a negative of the others
        assert shared.grad[0, 4].any()
    changed = private.clone()
    changed[0, 4] *= -1  # only the row of (0, 4) would read it
    before, after = (
        contrastive_loss(shared, x, valid, tau=TAU, temporal_negatives=negatives)
        for x in (private, changed)
    )
    assert before.item() == after.item()


@pytest.mark.parametrize("negatives", ["equation", "text"])
def test_absent_streams_have_no_effect_even_as_nan(negatives: str) -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 3, 5, 8).unbind()
    valid = everyone(shared)
    valid[1, 2:] = False
    values = []
    for junk in (0.0, math.nan, 1e9):
        z, z_private = (
            torch.where(valid[..., None], x, junk).requires_grad_() for x in (shared, private)
        )
        loss = contrastive_loss(z, z_private, valid, tau=TAU, temporal_negatives=negatives)
        loss.backward()
        assert torch.isfinite(z.grad).all()
        assert not z.grad[~valid].any()
        values.append(loss.item())
    assert len(set(values)) == 1


def test_a_masked_stream_costs_what_a_dropped_one_costs() -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 4, 5, 8).unbind()
    valid = everyone(shared)
    valid[2] = False
    keep = [0, 1, 3]
    masked = contrastive_loss(shared, private, valid, tau=TAU)
    dropped = contrastive_loss(shared[keep], private[keep], valid[keep], tau=TAU)
    torch.testing.assert_close(masked, dropped)


def test_no_pair_of_streams_costs_nothing() -> None:
    shared = torch.randn(1, 4, 8, requires_grad=True)
    loss = contrastive_loss(shared, shared, everyone(shared), tau=TAU)
    loss.backward()
    assert loss.item() == 0
    assert not shared.grad.any()


def test_autocast_does_not_change_the_value() -> None:
    torch.manual_seed(0)
    shared, private = torch.randn(2, 3, 16, 8).unbind()
    plain = contrastive_loss(shared, private, everyone(shared), tau=TAU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(shared, private, everyone(shared), tau=TAU), plain)
