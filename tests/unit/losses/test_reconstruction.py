"""Eq. 1 by hand, by a slow loop, and by the sign of its gradient."""

import math

import pytest
import torch

from sleepmami.losses.reconstruction import reconstruction_loss, smooth_target


def test_moving_average_by_hand() -> None:
    signal = torch.tensor([[[3.0, 0.0, 6.0, 0.0]]])
    assert smooth_target(signal, 3).flatten().tolist() == [1.5, 3.0, 2.0, 3.0]


def test_moving_average_of_eleven_equals_a_slow_loop() -> None:
    torch.manual_seed(0)
    signal = torch.randn(2, 3, 100)
    smooth = smooth_target(signal, 11)
    for t in (0, 4, 5, 50, 94, 95, 99):
        expected = signal[..., max(0, t - 5) : t + 6].mean(-1)
        torch.testing.assert_close(smooth[..., t], expected)


def test_one_point_is_no_smoothing() -> None:
    signal = torch.randn(1, 2, 30)
    assert torch.equal(smooth_target(signal, 1), signal)


# One stream, one segment, four patches of two samples; patches 0 and 3 hidden, errors 1 and 3.
HIDDEN = torch.tensor([[[True, False, False, True]]])
TARGET = torch.zeros(1, 1, 4, 2)
PREDICTED = torch.tensor([1.0, 5.0, 5.0, 3.0]).view(1, 1, 4, 1).expand(1, 1, 4, 2)
VALID = torch.ones(1, 1, 4, dtype=torch.bool)


@pytest.mark.parametrize(("over", "value"), [("masked", (1 + 9) / 2), ("all", (1 + 9) / 4)])
def test_mean_runs_over_hidden_patches_or_over_all(over: str, value: float) -> None:
    loss = reconstruction_loss(PREDICTED, TARGET, HIDDEN, VALID, over=over)
    assert loss.item() == pytest.approx(value)


@pytest.mark.parametrize("over", ["masked", "all"])
def test_equals_a_slow_loop(over: str) -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 3, 2, 8, 5).unbind()
    hidden = torch.rand(3, 2, 8) < 0.5
    valid = torch.tensor([[True, True], [False, True], [True, False]])[..., None].repeat(1, 1, 8)
    valid[0, 1, 4:] = False
    losses = []
    for s, b in valid.any(-1).nonzero().tolist():
        error = sum(
            float((predicted[s, b, p, t] - target[s, b, p, t]) ** 2)
            for p in range(8)
            for t in range(5)
            if hidden[s, b, p] and valid[s, b, p]
        )
        patches = [
            bool(v) and (bool(h) or over == "all")
            for h, v in zip(hidden[s, b], valid[s, b], strict=True)
        ]
        losses.append(error / 5 / sum(patches))
    loss = reconstruction_loss(predicted, target, hidden, valid, over=over)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_gradient_pulls_hidden_patches_down_and_leaves_visible_ones() -> None:
    predicted = PREDICTED.clone().requires_grad_()
    reconstruction_loss(predicted, TARGET, HIDDEN, VALID, over="masked").backward()
    assert (predicted.grad[HIDDEN] > 0).all()
    assert not predicted.grad[~HIDDEN].any()


def test_absent_streams_have_no_effect_even_as_nan() -> None:
    predicted = PREDICTED.repeat(2, 1, 1, 1).requires_grad_()
    target = TARGET.repeat(2, 1, 1, 1)
    target[1] = math.nan
    valid = torch.tensor([[True], [False]])[..., None].expand(2, 1, 4)
    loss = reconstruction_loss(predicted, target, HIDDEN.repeat(2, 1, 1), valid, over="masked")
    loss.backward()
    assert loss.item() == pytest.approx(5.0)
    assert not predicted.grad[1].any()
    assert predicted.grad[0].any()


@pytest.mark.parametrize(("over", "value"), [("masked", 9.0), ("all", 9 / 2)])
def test_patches_of_an_unusable_epoch_are_left_out(over: str, value: float) -> None:
    predicted = PREDICTED.clone().requires_grad_()
    valid = torch.tensor([[[False, False, True, True]]])
    loss = reconstruction_loss(predicted, TARGET, HIDDEN, valid, over=over)
    loss.backward()
    assert loss.item() == pytest.approx(value)
    assert predicted.grad.any(-1).flatten().tolist() == [False, False, False, True]


def test_nothing_valid_costs_nothing() -> None:
    predicted = PREDICTED.clone().requires_grad_()
    loss = reconstruction_loss(predicted, TARGET, HIDDEN, ~VALID, over="masked")
    loss.backward()
    assert loss.item() == 0
    assert not predicted.grad.any()
