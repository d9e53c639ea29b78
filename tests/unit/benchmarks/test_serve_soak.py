"""How serve_soak.py names processes and measures growth, by hand values."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
from serve_soak import CYCLE, growth, job, slope, title_of


def test_a_process_keeps_its_name_whatever_it_does() -> None:
    replica = "ray::ServeReplica:sleepmami-embedding:Encoder-default"
    assert title_of([replica], "python") == "Encoder-default"
    assert title_of([f"{replica}.handle_request", ""], "python") == "Encoder-default"
    proxy = "ray::ProxyActor"
    assert title_of([proxy], "python") == "ProxyActor"
    assert title_of([f"{proxy}.receive_asgi_messages"], "python") == "ProxyActor"


def test_other_processes_are_called_by_their_script_or_program() -> None:
    assert title_of(["python", "-u", "/lib/ray/log_monitor.py", "--x"], "python") == "log_monitor"
    assert title_of(["/lib/ray/raylet", "--raylet_socket_name=/s"], "raylet") == "raylet"


def test_slope_is_that_of_least_squares() -> None:
    # mean x 1, mean y 2; sum of products of deviations 2, of squares 2
    assert slope([0, 1, 2], [1, 2, 3]) == pytest.approx(1)
    assert slope([0, 1, 2], [0, 3, 0]) == pytest.approx(0)


def test_growth_leaves_the_warm_up_out() -> None:
    # 500 requests a round: the first two grow by 10 MB, the others by 0.5 MB
    memory = [100.0, 110.0, 120.0, 120.5, 121.0, 121.5]
    taken = [(500 * i, {"Ingress-7": (mb, 80 + i)}) for i, mb in enumerate(memory, 1)]
    found = growth(taken)
    assert found["fitted_from_request"] == 1500
    assert found["mb_per_1000_requests"] == {"Ingress-7": 1.0}
    assert found["worst"] == {"process": "Ingress-7", "mb_per_1000_requests": 1.0}
    assert found["descriptors_more"] == {"Ingress-7": 3}
    assert found["mb_from_a_third_to_the_end"] == {"Ingress-7": [120.0, 121.5]}


def test_a_process_that_was_replaced_has_no_slope_and_is_told() -> None:
    taken = [(i, {"a-1": (1.0, 1), f"b-{i > 2}": (1.0, 1)}) for i in range(6)]
    found = growth(taken)
    assert set(found["mb_per_1000_requests"]) == {"a-1"}
    assert found["replaced"] == ["b-False"]


def test_a_job_is_among_what_is_asked() -> None:
    assert CYCLE.count(job) == 1
    assert len(CYCLE) == 20
