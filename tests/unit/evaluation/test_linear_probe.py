"""A probe is at the minimum that scikit-learn finds, and its penalty is chosen on other people."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, QuantileRegressor

from sleepmami.errors import TableError, TrainingError
from sleepmami.evaluation.linear_probe import fit_probe, minimise, thinned
from sleepmami.evaluation.probe_losses import AbsoluteError, CrossEntropy, class_weights


def three_classes(num: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    target = rng.choice(3, num, p=[0.6, 0.3, 0.1])
    return rng.normal(size=(num, 4)) + np.eye(3, 4)[target], target


def test_class_weights_by_hand() -> None:
    target = np.array([0] * 20 + [2] * 5)
    np.testing.assert_allclose(
        class_weights(target, 3, "log_5"), [np.log(25 / 20) / np.log(5), 0, 1]
    )
    np.testing.assert_allclose(class_weights(target, 3, "inverse"), [1.25, 0, 5])
    np.testing.assert_allclose(class_weights(target, 3, "none"), [1, 0, 1])


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(TableError, match="found 1 class among 7 labels"):
        class_weights(np.full(7, 2), 5, "log_5")


@pytest.mark.parametrize("weighting", ["log_5", "inverse", "none"])
def test_weighted_logistic_regression_is_that_of_scikit_learn(weighting: str) -> None:
    x, target = three_classes()
    weight = class_weights(target, 3, weighting)  # type: ignore[arg-type]  # a parameter
    found, _ = minimise(x, np.arange(len(x)), CrossEntropy(target[:, None], weight), 0.05)
    sample_weight = weight[target]
    theirs = LogisticRegression(C=1 / (0.05 * sample_weight.sum()), tol=1e-10, max_iter=5000)
    theirs.fit(x, target, sample_weight=sample_weight)
    np.testing.assert_allclose(found, theirs.coef_.T, atol=2e-4)


def like_seconds(num: int, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Single precision, a thousandfold between the variances of directions, one class in ten."""
    rng = np.random.default_rng(7)
    turn, _ = np.linalg.qr(rng.normal(size=(width, width)))
    hidden = rng.normal(size=(num, width)) * np.arange(1, width + 1) ** -1.7
    shown = hidden[:, :8] @ np.array([1, 2, 4, 8, 8, 8, 8, 8]) + rng.logistic(size=num)
    return (hidden @ turn).astype(np.float32), (shown > np.quantile(shown, 0.9)).astype(np.int64)


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_vectors_much_alike_are_fitted_as_well_as_by_scikit_learn(penalty: float) -> None:
    x, target = like_seconds(5000)
    x = (x - x.mean(0)) / x.std(0)
    weight = class_weights(target, 2, "inverse")
    loss, rows = CrossEntropy(target[:, None], weight), np.arange(len(x))

    def value(weight_FO: np.ndarray, bias_O: np.ndarray) -> float:
        found, _ = loss.of(x.astype(np.float64) @ weight_FO + bias_O, rows)
        return found + penalty / 2 * float(np.square(weight_FO).sum())

    # the scores of two classes are +-w: their squares add up to twice w's, of half of its slope
    theirs = LogisticRegression(C=2 / (penalty * weight[target].sum()), tol=1e-9, max_iter=9999)
    theirs.fit(x.astype(np.float64), target, sample_weight=weight[target])
    half_FO = np.stack([-theirs.coef_[0], theirs.coef_[0]], axis=1) / 2
    half_O = np.stack([-theirs.intercept_, theirs.intercept_], axis=1)[0] / 2
    ours, best = value(*minimise(x, rows, loss, penalty)), value(half_FO, half_O)
    assert ours == pytest.approx(best, rel=1e-7)


def test_few_passes_find_the_minimum_of_vectors_much_alike() -> None:
    x, target = like_seconds(5000)
    x = (x - x.mean(0)) / x.std(0)
    loss = CrossEntropy(target[:, None], class_weights(target, 2, "inverse"))
    passes, of = [], loss.of
    loss.of = lambda *values: passes.append(1) or of(*values)  # type: ignore[method-assign]
    minimise(x, np.arange(len(x)), loss, 1e-3)
    assert len(passes) < 20  # 197 where L-BFGS has to learn how directions differ


@pytest.mark.parametrize("rows", [300, 3])
def test_features_that_are_not_finite_are_refused(rows: int) -> None:
    x, _ = three_classes(rows)
    x[1, 2] = np.nan
    loss = CrossEntropy(np.arange(rows)[:, None] % 2, np.ones(2))
    with pytest.raises(TrainingError, match="finite"):
        minimise(x, np.arange(rows), loss, 0.1)


def test_fewer_rows_than_features_are_the_same_probe() -> None:
    x, target = like_seconds(50)
    loss, rows = CrossEntropy(target[:, None], np.ones(2)), np.arange(50)
    narrow, narrow_bias = minimise(x[:, :49], rows, loss, 0.1)
    wide = np.concatenate([x[:, :49], np.zeros((50, 11), np.float32)], axis=1)
    found, bias = minimise(wide, rows, loss, 0.1)
    np.testing.assert_allclose(found[:49], narrow, atol=1e-4)
    np.testing.assert_allclose(found[49:], 0, atol=1e-6)
    np.testing.assert_allclose(bias, narrow_bias, atol=1e-4)


def test_each_subject_gives_the_same_share_of_rows_to_choose_on() -> None:
    subject = np.random.default_rng(8).permutation(np.repeat([0, 1, 2], [100, 60, 3]))
    rows = thinned(subject, 40, seed=1)
    assert np.bincount(subject[rows]).tolist() == [25, 15, 1]  # 40 of 163, rounded up
    assert np.array_equal(rows, np.unique(rows))
    assert not np.array_equal(rows, thinned(subject, 40, seed=2))
    for enough in (163, None):
        assert np.array_equal(thinned(subject, enough, seed=1), np.arange(163))


def test_the_penalty_is_chosen_on_some_rows_and_all_are_fitted() -> None:
    x, target = like_seconds(2000)
    loss = CrossEntropy(target[:, None], class_weights(target, 2, "inverse"))
    options = {"penalties": (0.03, 100.0), "inner_folds": 3, "seed": 0}
    every = fit_probe(x, np.arange(2000) // 50, loss, **options)
    asked: list[int] = []
    of = loss.of
    loss.of = lambda scores, rows: asked.append(len(rows)) or of(scores, rows)  # type: ignore
    some = fit_probe(x, np.arange(2000) // 50, loss, **options, max_choice_rows=1000)
    assert sorted(set(asked))[-2:] == [27 * 25, 2000]  # 27 of 40 subjects, half of each; all
    assert some.penalty == every.penalty
    np.testing.assert_array_equal(some.probe.weight_FO, every.probe.weight_FO)


def test_the_seconds_of_an_epoch_are_separate_regressions() -> None:
    x, target = three_classes()
    both = np.stack([target == 1, target == 2], axis=1).astype(np.int64)
    even = np.ones(2)
    joint, _ = minimise(x, np.arange(len(x)), CrossEntropy(both, even), 0.01)
    for part in range(2):
        # the loss is a mean over both parts, so the same penalty weighs twice in one alone
        alone, _ = minimise(x, np.arange(len(x)), CrossEntropy(both[:, [part]], even), 0.02)
        np.testing.assert_allclose(joint[:, 2 * part : 2 * part + 2], alone, atol=1e-4)


def test_a_class_without_rows_is_never_guessed() -> None:
    x, target = three_classes()
    loss = CrossEntropy((2 * (target > 0))[:, None], class_weights(2 * (target > 0), 5, "log_5"))
    fitted = fit_probe(x, np.arange(300) % 7, loss, penalties=(0.1,), inner_folds=2, seed=0)
    assert set(np.unique(loss.classes(fitted.probe.scores(100 * x)))) == {0, 2}


def test_absolute_errors_are_as_small_as_quantile_regression_makes_them() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 3))
    age = 50 + x @ np.array([8.0, -3.0, 0.0]) + rng.standard_t(2, 200) * 4
    loss = AbsoluteError(age)
    fitted = fit_probe(x, np.arange(200), loss, penalties=(1e-9,), inner_folds=2, seed=0)
    ours = np.abs(loss.quantity(fitted.probe.scores(x)) - age).mean()
    best = np.abs(QuantileRegressor(alpha=0).fit(x, age).predict(x) - age).mean()
    assert best <= ours < best * 1.002


def test_the_same_age_for_everybody_is_refused() -> None:
    with pytest.raises(TableError, match="same value 40"):
        AbsoluteError(np.full(9, 40.0))


def test_units_do_not_change_a_probe() -> None:
    x, target = three_classes()
    loss = CrossEntropy(target[:, None], class_weights(target, 3, "log_5"))

    def scores(features: np.ndarray) -> np.ndarray:
        fitted = fit_probe(
            features, np.arange(300) % 20, loss, penalties=(0.1, 1.0), inner_folds=3, seed=0
        )
        return fitted.probe.scores(features)

    # the last feature never varies
    padded = np.concatenate([x, np.full((300, 1), 7.0)], axis=1)
    np.testing.assert_allclose(scores(padded * 1000 - 5), scores(padded), atol=1e-5)


def test_noise_is_penalised_and_signal_is_not() -> None:
    rng = np.random.default_rng(6)
    person = np.repeat(np.arange(30), 5)
    signal, noise = rng.normal(size=150), rng.normal(size=(150, 100))
    quiet = signal + 0.01 * rng.normal(size=150)
    weak = rng.normal(size=150)
    options = {"penalties": (1e-4, 1.0), "inner_folds": 3, "seed": 0}
    clear = fit_probe(signal[:, None], person, AbsoluteError(quiet), **options)
    lost = fit_probe(noise, person, AbsoluteError(weak), **options)
    assert (clear.penalty, lost.penalty) == (1e-4, 1.0)
    assert clear.chosen
    assert lost.chosen


def test_one_person_alone_gets_the_middle_penalty() -> None:
    x, target = three_classes()
    loss = CrossEntropy(target[:, None], class_weights(target, 3, "log_5"))
    fitted = fit_probe(x, ["a"] * 300, loss, penalties=(1.0, 0.1, 0.01), inner_folds=3, seed=0)
    assert (fitted.penalty, fitted.chosen) == (0.1, False)


def test_a_class_that_a_fold_does_not_fit_says_nothing_about_penalties() -> None:
    """One person alone has the rare class: it has an answer only where that person is fitted."""
    x, target = three_classes()
    person = np.arange(300) % 6
    common, rare = target.copy(), target.copy()
    common[common == 2] = 1
    rare[(rare == 2) & (person > 0)] = 1
    weight = np.ones(3)
    fit, held = np.flatnonzero(person > 0), np.flatnonzero(person == 0)
    of_rare = np.flatnonzero(rare[held] == 2)
    assert len(of_rare) > 0
    loss = CrossEntropy(rare[:, None], weight)
    weight_FO, bias_O = minimise(x[fit], fit, loss, 0.1)
    assert np.all(weight_FO[:, 2] == 0)
    assert bias_O[2] == 0  # it went as far to minus infinity as the solver took it
    scores = x @ weight_FO + bias_O
    known = np.delete(held, of_rare)
    two = CrossEntropy(common[:, None], weight)
    assert loss.held_out(scores, fit, held) == pytest.approx(two.held_out(scores, fit, known))
    assert loss.held_out(scores, fit, held[of_rare]) == 0
