"""Both signals that end `sleepmami serve` do it the same way, and are given back afterwards."""

import signal

import pytest

from serve_apps.embedding_app import _stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_and_is_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with _stop_signals() as stopped:
        assert not stopped.is_set()
        signal.raise_signal(number)
        assert stopped.is_set()
    assert signal.getsignal(number) == before
