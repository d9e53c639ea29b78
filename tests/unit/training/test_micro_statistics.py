"""Mean and deviation of micro features: by hand, against numpy, and where little is known."""

import numpy as np
import pytest

from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.training.micro_statistics import LEAST_DEVIATION, micro_statistics


def night(micro: np.ndarray, valid: np.ndarray) -> MicroNight:
    return MicroNight(
        recording_id="n", subject_id="n", cohort="c", split="train", source_hash=None,
        modality_valid=valid, age_years=None, sex=None, bmi=None, hypnogram=None, model_id="m",
        micro=micro.astype(np.float16),
    )  # fmt: skip


def test_two_epochs_by_hand() -> None:
    micro = np.array([[[1.0, 10.0]], [[3.0, 30.0]], [[999.0, 999.0]]])
    mean, deviation = micro_statistics([night(micro, np.array([[True], [True], [False]]))])
    assert mean.tolist() == [[2.0, 20.0]]
    assert deviation.tolist() == [[1.0, 10.0]]


def test_all_nights_count_by_their_epochs() -> None:
    rng = np.random.default_rng(0)
    nights = []
    for length in (3, 50, 7):
        micro = (100 + rng.normal(size=(length, 2, 4))).astype(np.float16)
        nights.append(night(micro, rng.random((length, 2)) < 0.7))
    mean, deviation = micro_statistics(nights)
    for m in range(2):
        rows = np.concatenate([n.micro[n.modality_valid[:, m], m] for n in nights]).astype(float)
        assert mean[m] == pytest.approx(rows.mean(0), rel=1e-12)
        assert deviation[m] == pytest.approx(rows.std(0), rel=1e-9)


def test_a_modality_that_no_night_has_is_left_as_it_is() -> None:
    micro = np.random.default_rng(1).normal(size=(5, 2, 3))
    valid = np.tile([True, False], (5, 1))
    mean, deviation = micro_statistics([night(micro, valid)])
    assert mean[1].tolist() == [0.0] * 3
    assert deviation[1].tolist() == [1.0] * 3


def test_a_feature_that_never_varies_is_not_blown_up() -> None:
    micro = np.zeros((4, 1, 2))
    micro[:, 0, 0] = [1, -1, 1, -1]
    micro[:, 0, 1] = 5.0
    mean, deviation = micro_statistics([night(micro, np.ones((4, 1), bool))])
    assert mean[0].tolist() == [0.0, 5.0]
    assert deviation[0] == pytest.approx([1.0, LEAST_DEVIATION * 0.5])


def test_a_night_that_never_varies_at_all() -> None:
    _, deviation = micro_statistics([night(np.ones((4, 1, 2)), np.ones((4, 1), bool))])
    assert deviation.tolist() == [[1.0, 1.0]]
