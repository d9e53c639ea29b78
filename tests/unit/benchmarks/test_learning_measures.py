"""The measures of benchmarks/learning.py by hand values and by properties."""

import math

import numpy as np
import pytest
import torch

from benchmarks.learning_measures import (
    average_precision,
    effective_rank,
    explained_by,
    half_of_window,
    heard_from_others,
    linear_probe,
    modality_cosine,
    retrieval,
    staging_scores,
)
from sleepmami.training.probes import auroc


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_staging_scores_of_a_hand_counted_table() -> None:
    # confusion [[2, 1], [1, 4]]: accuracy 6/8, chance (3 * 3 + 5 * 5) / 64
    label = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    guess = np.array([0, 0, 1, 0, 1, 1, 1, 1])
    chance = (3 * 3 + 5 * 5) / 64
    scores = staging_scores(label, guess, 5)
    assert scores["accuracy"] == pytest.approx(0.75)
    assert scores["kappa"] == pytest.approx((0.75 - chance) / (1 - chance))
    assert scores["macro_f1"] == pytest.approx((2 * 2 / 6 + 2 * 4 / 10) / 2)  # classes that occur


def test_guessing_the_commonest_stage_has_no_kappa() -> None:
    label = np.array([0, 1, 1, 1])
    assert staging_scores(label, np.ones(4, np.int64), 2)["kappa"] == pytest.approx(0.0)


def test_auroc_counts_pairs_and_half_of_the_ties() -> None:
    label = np.array([True, False, True, False])
    score = np.array([3.0, 1.0, 1.0, 0.0])  # pairs: 1, 1, half, 1
    assert auroc(label, score) == pytest.approx(3.5 / 4)


def test_average_precision_by_hand_and_of_a_constant() -> None:
    label = np.array([True, False, True, False])
    assert average_precision(label, np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert average_precision(label, np.ones(4)) == pytest.approx(0.5)  # the share of positives


def test_a_probe_finds_a_linear_rule_in_other_groups_and_none_in_noise() -> None:
    x_NF = rng().normal(size=(600, 5))
    label_N = (x_NF[:, 0] > 0).astype(np.int64)
    group_N = np.repeat([0, 1, 2], 100)
    score_NC = linear_probe(x_NF[:300], label_N[:300], group_N, x_NF[300:], 2)
    assert (score_NC.argmax(1) == label_N[300:]).mean() > 0.95
    noise_NF = rng().normal(size=(600, 5))
    shuffled_N = rng().permutation(label_N)
    score_NC = linear_probe(noise_NF[:300], shuffled_N[:300], group_N, noise_NF[300:], 2)
    assert abs((score_NC.argmax(1) == shuffled_N[300:]).mean() - 0.5) < 0.1


def test_a_probe_does_not_depend_on_the_scale_of_a_feature() -> None:
    x_NF = rng().normal(size=(200, 3))
    label_N = (x_NF[:, 0] + 0.5 * rng().normal(size=200) > 0).astype(np.int64)
    group_N = np.repeat([0, 1], 50)
    scores = [
        linear_probe(x[:100], label_N[:100], group_N, x[100:], 2)
        for x in (x_NF, x_NF * [1000.0, 1.0, 0.01] + 7.0)
    ]
    np.testing.assert_allclose(*scores, atol=0.01)


def test_explained_variance_of_a_group_that_is_all_and_of_one_that_is_nothing() -> None:
    group = np.array([0, 0, 1, 1])
    assert explained_by(group, np.array([[1.0], [1.0], [3.0], [3.0]])) == pytest.approx(1.0)
    assert explained_by(group, np.array([[1.0], [3.0], [1.0], [3.0]])) == pytest.approx(0.0)
    # within each group +-1, between them +-2: 4 / (4 + 1)
    assert explained_by(group, np.array([[1.0], [3.0], [5.0], [7.0]])) == pytest.approx(0.8)


def test_effective_rank_of_a_line_and_of_a_sphere() -> None:
    line = np.outer(np.arange(10.0), np.ones(4))
    assert effective_rank(line) == pytest.approx(1.0)
    axes = np.concatenate([np.eye(4), -np.eye(4)])
    assert effective_rank(axes) == pytest.approx(4.0)


def test_a_constant_per_half_is_a_leak_that_its_own_mean_removes() -> None:
    epoch = rng().normal(size=(500, 8))
    shift = np.full(8, 3.0)
    found = half_of_window(epoch + shift, epoch - shift)
    assert found["cosine_own_mean"] == pytest.approx(1.0)
    assert found["cosine"] < -0.5
    assert found["half_explains"] == pytest.approx(9 / 10, abs=0.02)  # shift 3^2 against variance 1


def test_unrelated_halves_of_equal_mean_have_no_cosine_and_nothing_explained() -> None:
    first, second = rng().normal(size=(2, 2000, 8))
    found = half_of_window(first, second)
    assert abs(found["cosine"]) < 0.05
    assert found["half_explains"] < 0.01


def test_modality_cosine_of_copies_and_of_opposites() -> None:
    z_ND = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([5.0, -5.0])[:, None, None]  # a constant per modality does not count
    assert modality_cosine(torch.stack([z_ND, z_ND]) + offset) == pytest.approx(1.0, abs=1e-4)
    assert modality_cosine(torch.stack([z_ND, -z_ND])) == pytest.approx(-1.0, abs=1e-4)


def test_retrieval_of_a_shifted_copy() -> None:
    key_ND = torch.eye(6)
    target_N = torch.arange(6).roll(-2)
    assert retrieval(key_ND[target_N], key_ND, target_N) == 1.0
    assert retrieval(key_ND[target_N], key_ND, torch.arange(6)) == 0.0
    assert math.isclose(retrieval(key_ND, key_ND[[0, 1, 2, 4, 5, 3]], range(6)), 0.5)


def test_a_stream_hears_others_by_how_far_they_move_its_vectors() -> None:
    signal_SBT = torch.tensor([[[1.0], [3.0]], [[2.0], [8.0]]])  # steps of 2 and 6
    valid_SB = torch.ones(2, 2, dtype=torch.bool)

    def heard(share: float) -> float:
        """Of vectors that add so much of the other stream to their own."""
        return heard_from_others(lambda x, _: x + share * x.flip(0), signal_SBT, valid_SB)

    assert heard(0.0) == 0.0
    assert heard(0.5) == pytest.approx(((3 / 5) ** 2 + (1 / 7) ** 2) / 2)
    assert heard(1.0) == pytest.approx(((6 / 8) ** 2 + (2 / 8) ** 2) / 2)


def test_a_stream_that_is_missing_in_one_window_takes_its_absence_along() -> None:
    seen: list[list[bool]] = []

    def embed(x: torch.Tensor, valid_SB: torch.Tensor) -> torch.Tensor:
        seen.extend(valid_SB.tolist())
        return x

    one, two = [True, False], [False, True]
    heard_from_others(embed, torch.tensor([[[1.0], [2.0]]] * 2), torch.tensor([one, one]))
    assert seen == [one, one, one, two, two, one]  # clean, the first kept, the second kept
