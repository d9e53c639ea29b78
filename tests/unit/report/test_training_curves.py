"""Curves say what the log says, of training and of validation."""

from sleepmami.report.pictures import LIGHT
from sleepmami.report.training_curves import Curve, curve_pictures, loss_curve

HISTORY = [
    {"step": 1, "loss/total": 2.0},
    {"step": 2, "loss/total": 1.0, "validation/total": 1.5},
]


def test_training_and_validation_lie_in_one_panel() -> None:
    (axes,) = loss_curve("total", [(1, 2.0), (2, 1.0)], [(2, 1.5)], LIGHT).axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 2], [2, 1]], [[2, 1.5]]]
    training, validation = axes.lines
    assert training.get_linestyle() != validation.get_linestyle()  # not by colour alone


def test_metrics_that_were_never_reported_get_no_picture() -> None:
    curves = (
        Curve(title="total", training="loss/total", validation="validation/total"),
        Curve(title="other", training="loss/other"),
    )
    (only,) = curve_pictures(HISTORY, curves, "micro")
    assert only.name == "micro_loss_total"
    assert "training from 2 at step 1 to 1 at step 2" in only.alt
    assert "validation from 1.5 at step 2 to 1.5 at step 2" in only.alt
