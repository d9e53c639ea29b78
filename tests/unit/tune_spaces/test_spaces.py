import numpy as np
import pytest

from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig
from sleepmami.config_edit import flatten, replace_at, to_dict
from sleepmami.errors import ConfigError
from tune_spaces.spaces import (
    DGCL,
    LEARNING_RATE,
    MICRO,
    READS,
    Choice,
    Range,
    default_point,
    grid_points,
    random_points,
    require_objective,
    without,
)


def test_ranges_and_their_scales() -> None:
    assert [(item.name, item.low, item.high, item.log) for item in (*DGCL, LEARNING_RATE)] == [
        ("dgcl.rho", 0.02, 0.5, True),
        ("dgcl.v", 0.1, 2.5, True),
        ("dgcl.lambda_sex", 0.0, 3.0, False),
        ("optimizer.learning_rate", 1e-5, 5e-3, True),
    ]


def test_half_way_is_the_geometric_mean_of_a_temperature_and_the_mean_of_a_sum() -> None:
    low_high = {"low": 1.0, "high": 100.0, "why": ""}
    assert Range(name="t", log=True, **low_high).at(0.5) == pytest.approx(10)
    assert Range(name="s", log=False, **low_high).at(0.5) == pytest.approx(50.5)
    assert Range(name="t", log=True, **low_high).grid(3) == pytest.approx([1, 10, 100])


def test_the_papers_settings_lie_in_the_spaces() -> None:
    values = dict(flatten(to_dict(MacroPretrainConfig())))
    expected = {"dgcl.rho": 0.1, "dgcl.v": 0.5, "dgcl.lambda_sex": 1.0}
    assert default_point(DGCL, values) == expected
    values = dict(flatten(to_dict(MicroPretrainConfig())))
    assert default_point(MICRO, values)["loss.tau"] == 0.07


def test_every_corner_of_a_space_is_a_valid_config() -> None:
    for point in grid_points((*DGCL, LEARNING_RATE, READS), 2):
        replace_at(MacroPretrainConfig(), point)
        assert all(item.holds(point[item.name]) for item in (*DGCL, LEARNING_RATE, READS))
    for point in grid_points(MICRO, 2):
        replace_at(MicroPretrainConfig(), point)


def test_a_start_outside_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dgcl\.rho=3\.0 found .* 0\.02\.\.0\.5"):
        default_point(DGCL, {"dgcl.rho": 3.0, "dgcl.v": 0.5, "dgcl.lambda_sex": 1.0})


@pytest.mark.parametrize("loss", ["loss/total", "loss/dgcl", "validation/dgcl_excess", "excess"])
def test_no_loss_is_an_objective_because_its_floor_moves(loss: str) -> None:
    with pytest.raises(ConfigError, match=r"moves with dgcl\.v and dgcl\.lambda_sex"):
        require_objective("dgcl", loss)


@pytest.mark.parametrize("loss", ["validation/total", "contrastive", "loss/koleo"])
def test_no_loss_of_the_micro_encoder_is_one(loss: str) -> None:
    with pytest.raises(ConfigError, match=r"moves with loss\.tau"):
        require_objective("micro", loss)


def test_an_unknown_objective_is_refused_and_a_short_name_completed() -> None:
    assert require_objective("dgcl", "age_r2") == "validation/age_r2"
    with pytest.raises(ConfigError, match=r"'bmi' found, expected one of \('validation/probe'"):
        require_objective("dgcl", "bmi")


def test_a_grid_has_every_combination_once() -> None:
    space = (DGCL[0], Choice(name="masking.fast_run", options=(1, 2), why=""))
    points = grid_points(space, 3)
    assert len(points) == 6
    assert without(points, points[:1]) == points[1:]
    assert without([*points, points[2]], points[:1]) == points[1:]


def test_random_points_are_those_of_their_seed_and_fill_the_space() -> None:
    points = random_points(DGCL, 400, seed=3)
    assert points == random_points(DGCL, 400, seed=3)
    assert points != random_points(DGCL, 400, seed=4)
    assert all(item.holds(point[item.name]) for point in points for item in DGCL)
    below = np.mean([point["dgcl.rho"] < 0.1 for point in points])  # half of the way in logarithms
    assert below == pytest.approx(0.5, abs=0.08)
