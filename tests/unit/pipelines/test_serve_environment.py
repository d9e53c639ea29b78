"""What a service's processes find in their environment."""

import os

import pytest

from pipelines.serve_environment import VARIABLES, set_service_environment


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what was there, or nothing
        del os.environ[name]


def test_threads_share_two_heaps_and_a_window_goes_without_shared_memory() -> None:
    set_service_environment()
    assert os.environ["MALLOC_ARENA_MAX"] == "2"
    set_by_us = os.environ["RAY_max_direct_call_object_size"]  # noqa: SIM112  # as Ray reads it
    assert 140_000 < int(set_by_us) < 256_000


def test_what_the_operator_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    set_service_environment()
    assert os.environ["MALLOC_ARENA_MAX"] == "8"
