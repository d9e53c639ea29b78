"""Eq. 5 over other factors and over what is known; what a pair without anything in common does."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from sleepmami.losses.dgcl import demographic_distance, dgcl

NAN, INF = math.nan, math.inf
AGE = torch.tensor([0.0, 1.0, -1.0, 0.5], dtype=torch.float64)
BMI = torch.tensor([0.5, 0.5, 2.5, -1.0], dtype=torch.float64)
FEMALE = torch.tensor([True, False, False, True])
UNITS = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EVERYONE = torch.ones(2, 4, dtype=torch.bool)


def distance(*factors: str, age: Tensor = AGE, bmi: Tensor = BMI, female: Tensor = FEMALE) -> list[list[float]]:  # fmt: skip
    rows: list[list[float]] = demographic_distance(
        age, bmi, female, lambda_sex=2.0, factors=factors
    ).tolist()
    return rows


def test_age_alone_is_its_difference_and_not_half_of_it() -> None:
    assert distance("age")[0] == [0, 1, 1, 0.5]


def test_bmi_alone_is_its_difference() -> None:
    assert distance("bmi")[0] == [0, 0, 2, 1.5]


def test_sex_alone_is_the_penalty() -> None:
    assert distance("sex")[0] == [0, 2, 2, 0]


def test_age_and_sex_add() -> None:
    assert distance("age", "sex")[0] == [0, 3, 3, 0.5]


def test_a_factor_that_is_not_compared_may_be_unknown() -> None:
    nobody = torch.full_like(BMI, NAN)
    assert distance("age", "sex", bmi=nobody) == distance("age", "sex")


def test_without_a_bmi_age_alone_is_compared() -> None:
    bmi = torch.tensor([NAN, 0.5, 2.5, -1.0], dtype=torch.float64)
    found = distance("age", "sex", "bmi", bmi=bmi)
    assert found[0] == [0, 1 + 2, 1 + 2, 0.5]
    assert found[1][2] == distance("age", "sex", "bmi")[1][2]


def test_an_unknown_sex_has_no_penalty() -> None:
    female = torch.tensor([NAN, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert distance("age", "sex", female=female)[0] == [0, 1, 1, 0.5]


def test_a_pair_with_nothing_in_common_is_infinitely_far() -> None:
    age = torch.tensor([NAN, 1.0, -1.0, 0.5], dtype=torch.float64)
    bmi = torch.tensor([0.5, NAN, 2.5, NAN], dtype=torch.float64)
    # The first knows its BMI alone, the second and the last their age alone; all know their sex,
    # which has no mean to add to.
    assert distance("age", "sex", "bmi", age=age, bmi=bmi)[0] == [0, INF, 2 + 2, INF]
    assert distance("sex", female=torch.tensor([NAN, 0.0, 0.0, 1.0]))[0] == [0, INF, INF, INF]


def test_distances_are_symmetric_whatever_is_unknown() -> None:
    for unknown in itertools.product([True, False], repeat=3):
        age, bmi, female = (
            value.double().masked_fill(torch.tensor([hide, False, False, hide]), NAN)
            for value, hide in zip((AGE, BMI, FEMALE), unknown, strict=True)
        )
        found = torch.tensor(distance("age", "sex", "bmi", age=age, bmi=bmi, female=female))
        assert torch.equal(found, found.T)
        assert found.diagonal().eq(0).all()


@pytest.mark.parametrize("include_self", [False, True])
def test_somebody_without_anything_in_common_is_as_if_absent(include_self: bool) -> None:
    apart = torch.tensor(distance("age", "sex", "bmi"), dtype=torch.float64)
    alone = apart.clone()
    alone[3, :3] = alone[:3, 3] = INF
    present = EVERYONE.clone()
    present[:, 3] = False
    losses = [
        dgcl(UNITS, d, p, rho=0.1, v=0.5, include_self=include_self, reduction="mean")
        for d, p in ((alone, EVERYONE), (apart, present))
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)


def test_nobody_comparable_costs_and_moves_nothing() -> None:
    far = torch.full((4, 4), INF, dtype=torch.float64).fill_diagonal_(0.0)
    z = UNITS.clone().requires_grad_()
    loss = dgcl(z, far, EVERYONE, rho=0.1, v=0.5, include_self=True, reduction="mean")
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert z.grad.eq(0).all()


def test_an_incomparable_pair_neither_pulls_nor_pushes() -> None:
    apart = torch.tensor(distance("age", "sex", "bmi"), dtype=torch.float64)
    apart[0, 3] = apart[3, 0] = INF
    present = torch.tensor([[True, False, False, True]] * 2)  # only the two of them
    z = UNITS.clone().requires_grad_()
    dgcl(z, apart, present, rho=0.1, v=0.5, include_self=False, reduction="sum").backward()
    assert z.grad is not None
    assert z.grad.eq(0).all()


def test_dot_products_see_the_length_of_z_and_of_unit_vectors_are_cosines() -> None:
    apart = torch.tensor(distance("age", "sex", "bmi"), dtype=torch.float64)
    unit = torch.nn.functional.normalize(UNITS, dim=2)

    def loss(z: Tensor, similarity: str) -> float:
        return dgcl(z, apart, EVERYONE, rho=0.1, v=0.5, include_self=False, reduction="sum", similarity=similarity).item()  # type: ignore[arg-type]  # fmt: skip

    assert loss(unit, "dot") == pytest.approx(loss(UNITS, "cosine"), rel=1e-12)
    assert loss(2 * unit, "cosine") == pytest.approx(loss(unit, "cosine"), rel=1e-12)
    # One anchor of two with equal distances by hand: z = 2 e1, 2 e1 and 2 e2 have products 4 and 0.
    z = torch.tensor([[[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    d, here = torch.zeros(3, 3), torch.ones(1, 3, dtype=torch.bool)
    total = dgcl(z, d, here, rho=1.0, v=1.0, include_self=False, reduction="sum", similarity="dot")
    anchor = math.log(1 + math.exp(4)) - 2  # -1/2 (log p + log (1 - p)), p = e^4 / (e^4 + 1)
    assert total.item() == pytest.approx(2 * anchor + math.log(2))
