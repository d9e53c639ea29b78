"""Seconds from tokens: by hand, and what must hold of any."""

import numpy as np
import pytest

from sleepmami.errors import TableError
from sleepmami.tables.second_vectors import (
    second_mixture,
    second_row,
    seconds_from_tokens,
    seconds_of_row,
)


def test_a_second_lies_between_the_two_tokens_around_its_middle() -> None:
    """Tokens of 2.5 s have their middles at 1.25, 3.75, ... 28.75 s; seconds at 0.5, 1.5, ..."""
    mixture_ST = second_mixture(12)
    assert mixture_ST[0].tolist() == [1, *[0] * 11]  # before the first middle
    np.testing.assert_allclose(mixture_ST[2, :3], [0.5, 0.5, 0])  # 2.5 s
    np.testing.assert_allclose(mixture_ST[3, :3], [0.1, 0.9, 0], atol=1e-6)  # 3.5 s
    assert mixture_ST[29].tolist() == [*[0] * 11, 1]


@pytest.mark.parametrize("num_tokens", [1, 2, 5, 12, 15, 30, 60])
def test_a_steady_night_stays_steady_whatever_the_tokens_length(num_tokens: int) -> None:
    np.testing.assert_allclose(second_mixture(num_tokens).sum(1), 1, atol=1e-6)
    found = seconds_from_tokens(np.full((3, num_tokens, 2), 0.75, np.float32))
    assert found.shape == (90, 2)
    np.testing.assert_allclose(found, 0.75, atol=1e-6)


def test_tokens_that_rise_evenly_give_seconds_that_do() -> None:
    middles_s = 1.25 + 2.5 * np.arange(12)
    second = seconds_from_tokens(middles_s.reshape(1, 12, 1).astype(np.float32))[:, 0]
    np.testing.assert_allclose(second[1:29], np.arange(1, 29) + 0.5, atol=1e-5)


def test_nothing_passes_from_one_epoch_to_the_next() -> None:
    tokens = np.random.default_rng(0).normal(size=(200, 12, 3)).astype(np.float32)
    whole = seconds_from_tokens(tokens)
    for epoch in (0, 63, 64, 199):
        alone = seconds_from_tokens(tokens[epoch : epoch + 1])
        np.testing.assert_allclose(whole[30 * epoch : 30 * (epoch + 1)], alone, atol=1e-6)


def row(tokens: np.ndarray) -> dict:  # type: ignore[type-arg]
    return second_row(
        recording_id="r", source_hash=None, tokens=tokens, model_id="m", weights_sha256="w"
    )


def test_a_row_gives_back_its_seconds_in_half_precision() -> None:
    tokens = np.random.default_rng(0).normal(size=(5, 12, 3)).astype(np.float32)
    stored = row(tokens)
    assert stored["tokens"].dtype == np.float16
    found = seconds_of_row(stored, stored["tokens"])
    np.testing.assert_allclose(found, seconds_from_tokens(tokens), atol=2e-3)
    with pytest.raises(TableError, match=r"found 179 values; expected \[5, 12, 3\]"):
        seconds_of_row(stored, stored["tokens"][:-1])


def test_what_half_precision_cannot_hold_is_refused() -> None:
    with pytest.raises(TableError, match="found 1 of 36 numbers not finite as float16"):
        row(np.where(np.arange(36).reshape(1, 12, 3) == 7, 1e5, 1.0))
