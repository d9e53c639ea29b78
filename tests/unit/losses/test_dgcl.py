"""DGCL: values by hand, the loops of eq. 4, presence, gradient signs, and known facts."""

import math
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sleepmami.losses.dgcl import demographic_distance, dgcl

Reduction = Literal["mean", "sum"]
DEFAULTS: dict[str, Any] = {"rho": 0.1, "v": 0.5, "include_self": False, "reduction": "mean"}


def everyone(z_CKD: Tensor) -> Tensor:
    return torch.ones(z_CKD.shape[:2], dtype=torch.bool)


def demographics(subjects: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    age, bmi = torch.randn(2, subjects, generator=generator, dtype=torch.float64)
    female = torch.rand(subjects, generator=generator) < 0.5
    return demographic_distance(age, bmi, female, lambda_sex=1.0)


def batch(cycles: int, subjects: int, features: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(subjects)
    z = torch.randn(cycles, subjects, features, generator=generator, dtype=torch.float64)
    present = torch.rand(cycles, subjects, generator=generator) < 0.7
    return z, demographics(subjects), present


def test_distance_by_hand() -> None:
    age, bmi = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([0.5, 0.5, 2.5])
    female = torch.tensor([True, False, False])
    distance = demographic_distance(age, bmi, female, lambda_sex=1.0)
    assert distance.tolist() == [[0, 1.5, 2.5], [1.5, 0, 2], [2.5, 2, 0]]


def test_two_subjects_alike_cost_log_two_with_self() -> None:
    # One cycle, two identical unit nights, same age, BMI and sex: weight and p are 1/2 each, so
    # each of the two anchors costs 1/2 log 2.
    z = torch.full((1, 2, 4), 0.5)
    loss = dgcl(
        z, torch.zeros(2, 2), everyone(z), rho=0.1, v=0.5, include_self=True, reduction="sum"
    )
    assert loss.item() == pytest.approx(math.log(2))


def test_two_subjects_cost_nothing_without_self() -> None:
    z = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # the only candidate is always right
    assert dgcl(z, torch.ones(2, 2), everyone(z), **DEFAULTS).item() == 0


def test_three_subjects_alike_cost_log_two_per_anchor() -> None:
    z = torch.full((2, 3, 4), 0.5)
    assert dgcl(z, torch.zeros(3, 3), everyone(z), **DEFAULTS).item() == pytest.approx(math.log(2))
    total = dgcl(z, torch.zeros(3, 3), everyone(z), **DEFAULTS | {"reduction": "sum"})
    assert total.item() == pytest.approx(6 * math.log(2))  # 2 cycles x 3 anchors


def test_one_anchor_by_hand() -> None:
    # Anchor 0 has cosines 1 and 0 to the others, distances log 2 and log 4 at v = 1: weights 2/3
    # and 1/3. rho = 1: p = e / (e + 1) and 1 / (e + 1).
    z = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    d = torch.tensor([[0.0, math.log(2), math.log(4)], [math.log(2), 0, 0], [math.log(4), 0, 0]])
    first = 2 / 3 * math.log((math.e + 1) / math.e) + 1 / 3 * math.log(math.e + 1)
    # Anchor 1: the same cosines, weights 1/3 (to 0) and 2/3. Anchor 2: cosines 0, 0: log 2.
    second = 1 / 3 * math.log((math.e + 1) / math.e) + 2 / 3 * math.log(math.e + 1)
    loss = dgcl(z, d, everyone(z), rho=1.0, v=1.0, include_self=False, reduction="sum")
    assert loss.item() == pytest.approx(first + second + math.log(2))


def literal_dgcl(z: Tensor, distance: Tensor, present: Tensor, rho: float, v: float, include_self: bool) -> tuple[float, int]:  # fmt: skip
    """Eqs. 4 and 6 as loops; also the number of anchors."""
    total, anchors = 0.0, set()
    for c in range(len(z)):
        here = [k for k in range(z.shape[1]) if present[c, k]]
        unit = {k: (z[c, k] / z[c, k].norm()) for k in here}
        for i in here:
            ks = [k for k in here if include_self or k != i]
            for j in here:
                if i == j:
                    continue
                anchors.add((c, i))
                w = math.exp(-distance[i, j] / v) / sum(math.exp(-distance[i, k] / v) for k in ks)
                p = math.exp(unit[i] @ unit[j] / rho) / sum(math.exp(unit[i] @ unit[k] / rho) for k in ks)  # fmt: skip
                total -= w * math.log(p)
    return total, len(anchors)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_is_the_loops_of_the_equation(include_self: bool, reduction: Reduction) -> None:
    z, distance, present = batch(cycles=4, subjects=7)
    total, anchors = literal_dgcl(z, distance, present, 0.1, 0.5, include_self)
    loss = dgcl(
        z, distance, present, rho=0.1, v=0.5, include_self=include_self, reduction=reduction
    )
    expected = total if reduction == "sum" else total / anchors
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_length_of_z_does_not_matter() -> None:
    z, distance, present = batch(cycles=2, subjects=5)
    scale = torch.linspace(0.1, 50, 10).view(2, 5, 1)
    loss, scaled = (dgcl(t, distance, present, **DEFAULTS) for t in (z, z * scale))
    assert scaled.item() == pytest.approx(loss.item())


def test_what_an_absent_subject_holds_never_enters() -> None:
    z, distance, present = batch(cycles=3, subjects=6)
    expected = dgcl(z, distance, present, **DEFAULTS).item()
    z = z.masked_fill(~present.unsqueeze(2), torch.nan).requires_grad_()
    loss = dgcl(z, distance, present, **DEFAULTS)
    loss.backward()
    assert loss.item() == expected
    assert z.grad is not None
    assert z.grad[present].isfinite().all()
    assert z.grad[~present].eq(0).all()


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("subjects_there", [0, 1])
def test_a_cycle_with_less_than_two_subjects_costs_and_moves_nothing(
    subjects_there: int, include_self: bool
) -> None:
    z, distance, present = batch(cycles=2, subjects=5)
    present[:] = False
    present[1, :subjects_there] = True
    z.requires_grad_()
    loss = dgcl(z, distance, present, **DEFAULTS | {"include_self": include_self})
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert z.grad.eq(0).all()


def test_mean_does_not_count_cycles_without_pairs() -> None:
    z, distance, _ = batch(cycles=1, subjects=5)
    expected = dgcl(z, distance, everyone(z), **DEFAULTS).item()
    more = torch.cat([z, z])
    present = torch.tensor([[True] * 5, [True] + [False] * 4])
    assert dgcl(more, distance, present, **DEFAULTS).item() == pytest.approx(expected)


def test_alike_subjects_are_pulled_together_and_unlike_pushed_apart() -> None:
    angles = torch.tensor([0.0, 1.0, -1.0])  # the anchor between an alike and an unlike subject
    z = torch.stack([angles.cos(), angles.sin()], 1).unsqueeze(0).requires_grad_()
    d = torch.tensor([[0.0, 0.1, 2.0], [0.1, 0.0, 2.0], [2.0, 2.0, 0.0]])
    dgcl(z, d, everyone(z), **DEFAULTS).backward()
    assert z.grad is not None
    step = z.detach() - 1e-3 * z.grad
    before, after = (F.cosine_similarity(t[0, :1], t[0, 1:]) for t in (z.detach(), step))
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_each_pair_is_pulled_as_its_weight_exceeds_its_probability() -> None:
    # d loss / d similarity_ij = p_ij - w_ij for every anchor: the sign says together or apart.
    z, distance, _ = batch(cycles=1, subjects=6)
    unit = F.normalize(z, dim=2)
    cosine = (unit @ unit.mT)[0]
    weight = (-distance / 0.5).fill_diagonal_(-math.inf).softmax(1)
    p = (cosine / 0.1).fill_diagonal_(-math.inf).softmax(1)
    expected = ((p - weight) @ unit[0] + (p - weight).T @ unit[0]) / 0.1  # d loss / d unit vectors
    tangent = expected - (expected * unit[0]).sum(1, keepdim=True) * unit[0]
    z.requires_grad_()
    dgcl(z, distance, everyone(z), **DEFAULTS | {"reduction": "sum"}).backward()
    assert z.grad is not None
    found = z.grad[0] * z.detach()[0].norm(dim=1, keepdim=True)  # undo what normalising divides by
    torch.testing.assert_close(found, tangent, rtol=1e-10, atol=1e-10)


def test_huge_similarities_do_not_overflow() -> None:
    z, distance, present = batch(cycles=2, subjects=6)
    z = z.float().requires_grad_()
    loss = dgcl(z, distance * 1e4, present, rho=1e-4, v=1e-3, include_self=False, reduction="mean")
    loss.backward()
    assert z.grad is not None
    assert torch.isfinite(loss)
    assert z.grad.isfinite().all()


def test_similarities_stay_in_float32_under_bfloat16_autocast() -> None:
    z, distance, present = batch(cycles=3, subjects=8)
    expected = dgcl(z.float(), distance, present, **DEFAULTS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dgcl(z.float(), distance, present, **DEFAULTS), expected)


def weight_entropy(distance: Tensor, v: float) -> Tensor:
    logits = (-distance / v).masked_fill(torch.eye(len(distance)) > 0, -math.inf)
    return torch.special.entr(logits.softmax(1)).sum(1).mean()


def test_loss_is_never_below_the_entropy_of_its_weights() -> None:
    distance = demographics(12)
    for seed in range(20):
        z = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(seed)).double()
        loss = dgcl(z, distance, everyone(z), **DEFAULTS)
        assert loss > weight_entropy(distance, 0.5)


def test_entropy_floor_of_the_papers_batch_is_about_2_97() -> None:
    floors = [weight_entropy(demographics(40, seed), v=0.5) for seed in range(50)]
    assert torch.stack(floors).mean().item() == pytest.approx(2.97, abs=0.1)


def free_optimum(distance: Tensor, include_self: bool) -> tuple[float, float]:
    """Loss and smallest cosine once unit vectors have followed their gradient freely."""
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(1, len(distance), 16, generator=generator), dim=2)
    for _ in range(200):
        z.requires_grad_()
        loss = dgcl(z, distance, everyone(z), **DEFAULTS | {"include_self": include_self})
        (gradient,) = torch.autograd.grad(loss, z)
        z = F.normalize(z.detach() - 0.1 * gradient, dim=2)
    return loss.item(), (z[0] @ z[0].T).min().item()


def test_without_self_the_floor_is_reached_by_pushing_unlike_subjects_apart() -> None:
    distance = demographics(8).float()
    loss, smallest_cosine = free_optimum(distance, include_self=False)
    assert loss == pytest.approx(weight_entropy(distance, v=0.5).item(), abs=1e-3)
    assert smallest_cosine < 0


def test_with_self_even_unlike_subjects_are_drawn_together() -> None:
    _, smallest_cosine = free_optimum(demographics(8).float(), include_self=True)
    assert smallest_cosine > 0


def test_self_pair_weighs_22026_at_the_papers_temperature() -> None:
    # Two orthogonal nights: with self, p of the other is 1 / (1 + exp(1 / rho)).
    z = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    loss = dgcl(
        z, torch.zeros(2, 2), everyone(z), rho=0.1, v=0.5, include_self=True, reduction="sum"
    )
    assert loss.item() == pytest.approx(math.log(1 + 22_026.466))
