"""KoLeo by hand, by a slow loop, and by the sign of its gradient."""

import math

import pytest
import torch

from sleepmami.losses.koleo import koleo_loss


def everyone(z_SND: torch.Tensor) -> torch.Tensor:
    return torch.ones(z_SND.shape[:2], dtype=torch.bool)


def test_two_orthogonal_slots_are_root_two_apart() -> None:
    z = torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])  # any length: normalised inside
    assert koleo_loss(z, everyone(z)).item() == pytest.approx(-math.log(math.sqrt(2)))


def test_two_opposite_slots_are_two_apart() -> None:
    z = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert koleo_loss(z, everyone(z)).item() == pytest.approx(-math.log(2))


@pytest.mark.parametrize("slots", [1, 2])
def test_equals_a_slow_loop(slots: int) -> None:
    torch.manual_seed(0)
    z = torch.randn(3, 8, 4)
    valid = torch.rand(3, 8) < 0.7
    valid[2] = torch.arange(8) == 3  # a single slot has no neighbour
    unit = z / z.norm(dim=-1, keepdim=True)
    losses = []
    for s in range(3):
        present = valid[s].nonzero()[:, 0].tolist()
        for n in present:
            others = [m for m in present if m // slots != n // slots]
            distances = [float((unit[s, n] - unit[s, m]).norm()) for m in others]
            if distances:
                losses.append(-math.log(min(distances)))
    expected = sum(losses) / len(losses)
    loss = koleo_loss(z, valid, slots_per_segment=slots)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_other_slot_of_a_segment_can_be_no_neighbour() -> None:
    z = torch.tensor([[[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.0]]])  # two alike twice
    assert koleo_loss(z, everyone(z)).item() > 4
    apart = koleo_loss(z, everyone(z), slots_per_segment=2).item()
    assert apart == pytest.approx(-math.log(2), abs=1e-4)  # the nearest are now opposite
    only = torch.tensor([[True, True, False, False]])  # one segment alone has no neighbours
    assert koleo_loss(z, only, slots_per_segment=2) == 0


def test_descent_pushes_nearest_neighbours_apart() -> None:
    z = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]]], requires_grad=True)
    koleo_loss(z, everyone(z)).backward()
    moved = torch.nn.functional.normalize(z - 1e-3 * z.grad, dim=-1)
    before = torch.nn.functional.normalize(z, dim=-1)
    assert (moved[0, 0] - moved[0, 1]).norm() > (before[0, 0] - before[0, 1]).norm()


def test_equal_slots_give_a_finite_loss_and_gradient() -> None:
    z = torch.ones(2, 4, 8, requires_grad=True)
    loss = koleo_loss(z, everyone(z))
    loss.backward()
    assert 10 < loss.item() < 20
    assert torch.isfinite(z.grad).all()


def test_neighbours_are_sought_within_the_stream() -> None:
    torch.manual_seed(0)
    z = torch.randn(2, 5, 4)
    apart = [koleo_loss(z[s : s + 1], everyone(z[:1])).item() for s in range(2)]
    assert koleo_loss(z, everyone(z)).item() == pytest.approx(sum(apart) / 2)


def test_absent_slots_have_no_effect_even_as_nan() -> None:
    torch.manual_seed(0)
    z = torch.randn(2, 5, 4)
    valid = everyone(z)
    valid[0, 2:] = False
    values = []
    for junk in (0.0, math.nan, 1e9):
        junked = torch.where(valid[..., None], z, junk).requires_grad_()
        loss = koleo_loss(junked, valid)
        loss.backward()
        assert torch.isfinite(junked.grad).all()
        assert not junked.grad[~valid].any()
        values.append(loss.item())
    assert len(set(values)) == 1


@pytest.mark.parametrize("num_slots", [1, 4])
def test_no_neighbour_costs_nothing(num_slots: int) -> None:
    z = torch.randn(2, num_slots, 4, requires_grad=True)
    valid = torch.zeros(2, num_slots, dtype=torch.bool)
    valid[0, 0] = True
    loss = koleo_loss(z, valid)
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


def test_autocast_does_not_change_the_value() -> None:
    torch.manual_seed(0)
    z = torch.randn(3, 16, 8)
    plain = koleo_loss(z, everyone(z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(koleo_loss(z, everyone(z)), plain)
