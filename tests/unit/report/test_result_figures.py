"""Pictures of results show the numbers that they were given."""

import math

import numpy as np
import pytest

from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.results import Confusion
from sleepmami.report.pictures import LIGHT
from sleepmami.report.result_figures import (
    Series,
    confusion_matrix,
    dots,
    few_shot_curve,
    heat_map,
)


def estimate(value: float, half: float = 0.1) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def test_a_confusion_matrix_writes_shares_of_rows_over_counts() -> None:
    confusion = Confusion(classes=("a", "b"), counts=((3, 1), (0, 0)))
    (axes,) = confusion_matrix(confusion, LIGHT).axes
    assert [text.get_text() for text in axes.texts] == ["75%\n3", "25%\n1", "\u2013", "\u2013"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a\n(4)", "b\n(0)"]


def test_a_rare_mistake_is_not_written_as_none() -> None:
    confusion = Confusion(classes=("a", "b"), counts=((999, 1), (0, 5)))
    (axes,) = confusion_matrix(confusion, LIGHT).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == [">99%\n999", "<1%\n1", "0%\n0", "100%\n5"]


def test_text_can_be_read_on_its_cell() -> None:
    confusion = Confusion(classes=("a", "b"), counts=((9, 1), (1, 9)))
    (axes,) = confusion_matrix(confusion, LIGHT).axes
    assert [text.get_color() for text in axes.texts] == ["black", "white", "white", "black"]


def test_dots_lie_at_their_values_and_models_keep_their_marker() -> None:
    series = [
        Series(name="A", number=0, values={"x": estimate(0.5), "y": estimate(0.7)}),
        Series(name="C", number=2, values={"y": estimate(0.6)}),
    ]
    axes = dots(["x", "y"], series, "score", LIGHT, (0.3, "guess")).axes[0]
    first, second = axes.containers
    assert first.lines[0].get_xdata().tolist() == [0.5, 0.7]
    assert second.lines[0].get_xdata().tolist() == [0.6]
    assert first.lines[0].get_marker() != second.lines[0].get_marker()
    low, high = second.lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((0.5, 0.7))


def test_a_value_without_interval_is_a_dot_alone() -> None:
    bare = Series(name="A", number=0, values={"x": Estimate(value=1, low=math.nan, high=math.nan)})
    (whisker,) = dots(["x"], [bare], "score", LIGHT).axes[0].containers[0].lines[2]
    assert np.ptp(whisker.get_segments()[0][:, 0]) == 0


def test_an_interval_beside_its_value_is_drawn_to_the_value() -> None:
    beside = Series(name="A", number=0, values={"x": Estimate(value=0.5, low=0.6, high=0.8)})
    (whisker,) = dots(["x"], [beside], "score", LIGHT).axes[0].containers[0].lines[2]
    assert whisker.get_segments()[0][:, 0].tolist() == pytest.approx([0.5, 0.8])


def test_a_few_shot_curve_goes_by_the_number_of_subjects() -> None:
    values = {"10": estimate(0.7), "1": estimate(0.4), "all 12": estimate(0.8)}
    (axes,) = few_shot_curve([Series(name="A", number=0, values=values)], "F1", LIGHT).axes
    line = axes.containers[0].lines[0]
    assert line.get_xdata().tolist() == pytest.approx([1, 10, 12])
    assert line.get_ydata().tolist() == [0.4, 0.7, 0.8]
    hollow = axes.lines[-1]
    assert (hollow.get_xdata()[0], hollow.get_markerfacecolor()) == (12, LIGHT.page)


def test_cells_of_a_matrix_hold_value_and_interval_and_absent_ones_a_dash() -> None:
    cells = {("a", "a"): estimate(0.5), ("a", "b"): estimate(0.25, 0.05)}
    (axes,) = heat_map(["a", "b"], ["a", "b"], cells, ("train", "test"), LIGHT).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["0.50\n0.40\u20130.60", "0.25\n0.20\u20130.30", "\u2013", "\u2013"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("train", "test")
