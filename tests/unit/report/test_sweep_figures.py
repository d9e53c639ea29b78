import pytest

from sleepmami.report.sweep_figures import SweptAxis, SweptTrial, parallel_coordinates, slices

AXES = (
    SweptAxis(name="dgcl.rho", low=0.01, high=1.0, log=True),
    SweptAxis(name="masking.fast_run", options=(1, 2, 4)),
)


def trial(
    rho: float, run: int, score: float, *, whole: bool = True, default: bool = False
) -> SweptTrial:
    settings = {"dgcl.rho": rho, "masking.fast_run": run}
    return SweptTrial(settings=settings, score=score, whole=whole, is_default=default)


TRIALS = [trial(0.1, 1, 0.2, default=True), trial(0.01, 4, 0.6), trial(1.0, 2, 0.4, whole=False)]


def test_a_line_goes_through_each_setting_to_its_score() -> None:
    plot = parallel_coordinates(AXES, TRIALS, "score").axes[0]
    lines = [line.get_ydata() for line in plot.lines[:3]]
    found = sorted([float(height) for height in line] for line in lines)
    expected = [[0.0, 1.0, 1.0], [0.5, 0.0, 0.0], [1.0, 0.5, 0.5]]
    assert found == [pytest.approx(row, abs=1e-6) for row in expected]


def test_a_slice_holds_each_trial_at_its_value_and_score() -> None:
    figure = slices(AXES, TRIALS, "score")
    for panel, expected in zip(figure.axes, ([0.1, 0.01, 1.0], [0, 2, 1]), strict=True):
        places = [line.get_xdata()[0] for line in panel.lines[:3]]
        assert places == expected
        assert [line.get_ydata()[0] for line in panel.lines[:3]] == [0.2, 0.6, 0.4]


def test_scores_that_are_all_the_same_can_be_drawn() -> None:
    plot = parallel_coordinates(AXES, [trial(0.1, 1, 0.3), trial(0.2, 2, 0.3)], "score").axes[0]
    assert [line.get_ydata()[2] for line in plot.lines[:2]] == [0.5, 0.5]
