"""A batch has one gradient, however many workers and micro batches take it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sleepmami.losses.cross_modal import contrastive_loss
from sleepmami.training.cached_contrast import cached_contrast
from tests.unit.training import two_workers

Step = dict[str, Any]


def slots(num: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    valid_SN = torch.rand(3, num, generator=generator) < 0.8
    return torch.randn(3, num, 8, generator=generator), valid_SN


def eq_2(both_SND: Tensor, valid_SN: Tensor) -> Tensor:
    return contrastive_loss(*both_SND.chunk(2, dim=-1), valid_SN, tau=0.07)


def test_the_cached_loss_and_its_gradients_are_those_of_all_slots_at_once() -> None:
    parts = [slots(4, seed) for seed in range(3)]
    whole_SAD = torch.cat([features for features, _ in parts], dim=1).requires_grad_()
    valid_SA = torch.cat([valid for _, valid in parts], dim=1)
    loss = eq_2(whole_SAD, valid_SA)
    loss.backward()
    cached = cached_contrast(parts, eq_2)
    assert cached.loss == loss
    for index, (features_SND, _) in enumerate(parts):
        features_SND.requires_grad_()
        part = cached.loss_of(index, features_SND)
        assert part.item() == pytest.approx(loss.item(), rel=1e-6)
        (part / len(parts)).backward()  # the mean over micro batches is what a step descends
    together_SAD = torch.cat([features.grad for features, _ in parts], dim=1)
    torch.testing.assert_close(together_SAD, whole_SAD.grad, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def whole() -> Step:
    return two_workers.accumulated(two_workers.micro_objective(), 1)


def distance(left: Step, right: Step) -> float:
    """Of two gradients, relative to their length."""
    assert left["gradients"].keys() == right["gradients"].keys()
    pairs = [(left["gradients"][name], right["gradients"][name]) for name in left["gradients"]]
    apart = sum((a.double() - b.double()).square().sum().item() for a, b in pairs)
    length = sum(b.double().square().sum().item() for _, b in pairs)
    return math.sqrt(apart / length)


def require_equal(
    step: Step, expected: Step, *, steps: tuple[str, ...] = ("first", "second")
) -> None:
    assert distance(step, expected) < 1e-6
    for which in steps:
        for name in ("loss/total", "loss/reconstruction", "loss/contrastive", "contrast/accuracy",
                     "optim/grad_norm"):  # fmt: skip
            assert step[which][name] == pytest.approx(expected[which][name], rel=2e-6), name


@pytest.mark.parametrize("accumulation", [2, 4])
def test_micro_batches_have_the_gradient_of_the_whole_batch(whole: Step, accumulation: int) -> None:
    require_equal(two_workers.accumulated(two_workers.micro_objective(), accumulation), whole)


def test_so_have_those_of_which_eq_2_reads_what_fusion_reads(whole: Step) -> None:
    same = {"loss.contrastive_view": "same"}
    at_once = two_workers.accumulated(two_workers.micro_objective(**same), 1)
    in_two = two_workers.accumulated(two_workers.micro_objective(**same), 2)
    require_equal(in_two, at_once)
    assert distance(at_once, whole) > 1e-2


def test_experts_are_balanced_by_the_tokens_of_both_passes_however_they_are_dealt_out(
    whole: Step,
) -> None:
    in_two = two_workers.accumulated(two_workers.micro_objective(), 2)
    bias = "model.shared.0.experts.balance_bias"
    assert whole["weights"][bias].any()
    assert torch.equal(in_two["weights"][bias], whole["weights"][bias])


def test_looking_ahead_runs_the_pass_that_eq_2_reads_and_no_other() -> None:
    objective = two_workers.micro_objective(**{"loss.contrastive_view": "blocked"})
    tokens_in_a_row: list[int] = []
    objective.model.shared[0].register_forward_pre_hook(
        lambda _, call: tokens_in_a_row.append(call[0].shape[-2])
    )
    batches = two_workers.lanes(two_workers.segment_rows(0), 2)
    objective.before_step(batches, 0)
    assert tokens_in_a_row == [24, 24]  # not 6 x 24, modalities side by side
    objective(batches[0], 0, 0)
    assert sorted(tokens_in_a_row[2:]) == [24, 6 * 24]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_workers_have_the_gradient_of_the_whole_batch(
    whole: Step, seen: list[dict[str, Any]], accumulation: int
) -> None:
    for worker in seen:
        require_equal(worker["accumulated"][accumulation], whole)


def test_the_masks_of_two_micro_batches_are_those_of_two_workers(
    seen: list[dict[str, Any]],
) -> None:
    alone = two_workers.accumulated(two_workers.drawn_masks_objective(), 2)
    require_equal(seen[0]["drawn_masks"], alone)


def test_over_micro_batches_the_contrast_is_the_mean_of_theirs(whole: Step) -> None:
    changes = {"loss.contrast_over": "micro_batch", "engine.micro_batch": 8}
    apart = two_workers.accumulated(two_workers.micro_objective(**changes), 2)
    objective = two_workers.micro_objective()
    halves = two_workers.lanes(two_workers.segment_rows(0), 2)
    each = [objective(half, 0, lane)[1]["loss/contrastive"] for lane, half in enumerate(halves)]
    expected = torch.stack(each).mean().item()
    assert apart["first"]["loss/contrastive"] == pytest.approx(expected, rel=1e-6)
    assert distance(apart, whole) > 1e-2


def test_the_pass_without_gradients_has_the_bits_of_the_one_with() -> None:
    model = two_workers.micro_objective().model
    batch = two_workers.segment_rows(0)
    masks = two_workers.micro_objective().draw_masks(batch.num_rows, 0, 0)
    inputs = (batch.signal_SBT, torch.arange(6), masks, batch.valid_SB)
    with torch.no_grad():
        first = model.contrast_tokens(*inputs)
    second = model(*inputs)
    there_SB = batch.valid_SB
    assert torch.equal(first.shared_SBMD[there_SB], second.shared_SBMD[there_SB])
    assert torch.equal(first.private_SBMD[there_SB], second.private_SBMD[there_SB])
