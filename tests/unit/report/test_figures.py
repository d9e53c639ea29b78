"""Pictures show what the arrays say."""

import numpy as np
import pytest

from sleepmami.psg import Modality, Stage
from sleepmami.report import figures


def test_principal_components_recover_a_planted_direction() -> None:
    rng = np.random.default_rng(0)
    planted = np.zeros(16, np.float32)
    planted[3] = 1.0
    strength = rng.standard_normal(200).astype(np.float32) * 10
    vectors = strength[:, None] * planted + rng.standard_normal((200, 16)).astype(np.float32)
    scores, share = figures.principal_components(vectors, np.ones(200, bool), 3)
    assert abs(np.corrcoef(scores[:, 0], strength)[0, 1]) > 0.99
    assert share[0] > 0.8
    assert share[0] >= share[1] >= share[2]


def test_invalid_epochs_have_no_score_and_do_not_move_the_others() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    valid = np.arange(50) >= 10
    spoilt = vectors.copy()
    spoilt[:10] = 1e6
    scores, _ = figures.principal_components(vectors, valid, 2)
    again, _ = figures.principal_components(spoilt, valid, 2)
    assert np.isnan(scores[:10]).all()
    np.testing.assert_array_equal(scores[10:], again[10:])


@pytest.mark.parametrize("num_valid", [1, 2])
def test_two_epochs_are_enough_for_a_picture(num_valid: int) -> None:
    vectors = np.ones((2, 4), np.float32)
    valid = np.arange(2) < num_valid
    scores, share = figures.principal_components(vectors, valid, 3)
    assert np.isfinite(scores[valid]).all()
    assert share.sum() == 0  # nothing varies


def test_a_hypnogram_draws_each_stage_at_its_own_height() -> None:
    stages = np.array([Stage.WAKE, Stage.REM, Stage.N3, Stage.UNKNOWN], np.int8)
    (axes,) = figures.hypnogram(stages).axes
    values = axes.patches[0].get_data().values
    assert values[0] > values[1] > values[2]
    assert np.isnan(values[3])


def test_an_absent_modality_is_an_empty_row() -> None:
    figure = figures.usable_epochs({Modality.EEG: np.array([True, False])}, 2)
    grid = np.ma.getmaskarray(figure.axes[0].images[0].get_array())
    assert grid.tolist() == [[False, True]] + [[True, True]] * 5
