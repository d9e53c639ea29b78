"""What a service's processes find in their environment."""

import os

import pytest

from pipelines.serve_environment import set_service_environment


def test_threads_share_two_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    set_service_environment()
    found = os.environ.pop("MALLOC_ARENA_MAX")  # monkeypatch puts back what was there before
    assert found == "2"


def test_what_the_operator_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    set_service_environment()
    assert os.environ["MALLOC_ARENA_MAX"] == "8"
