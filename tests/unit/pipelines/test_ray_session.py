"""What is asked of a cluster is compared with what it has, before Ray waits for it."""

import pytest
import ray

from pipelines.ray_session import require_cluster
from sleepmami.errors import ConfigError


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two live nodes of 2 and 3 CPUs, the second with a GPU; a dead one of 64 CPUs."""
    resources = [
        (True, {"CPU": 2.0}),
        (True, {"CPU": 3.0, "GPU": 1.0}),
        (False, {"CPU": 64.0, "GPU": 8.0}),
    ]
    answer = [{"Alive": alive, "Resources": there} for alive, there in resources]
    monkeypatch.setattr(ray, "nodes", lambda: answer)


@pytest.mark.parametrize(
    ("cpus", "gpus", "count"), [(1, 0, 5), (2, 0, 2), (3, 1, 1), (0.1, 0, 50), (64, 0, 0)]
)
def test_what_fits_passes(cpus: float, gpus: float, count: int) -> None:
    require_cluster(cpus, gpus, "embed", count=count, settings="num_actors")


@pytest.mark.parametrize(
    ("cpus", "gpus", "count"),
    [(1, 0, 6), (2, 0, 3), (4, 0, 1), (1, 1, 2), (64, 0, 1)],
    ids=["too many", "rests of nodes", "two nodes are not one", "one GPU", "dead node"],
)
def test_what_would_wait_for_ever_is_refused(cpus: float, gpus: float, count: int) -> None:
    with pytest.raises(ConfigError, match=r"embed: found room for \d processes .* lower num_act"):
        require_cluster(cpus, gpus, "embed", count=count, settings="num_actors")


def test_the_message_says_what_is_needed_what_there_is_and_what_to_lower() -> None:
    with pytest.raises(ConfigError) as caught:
        require_cluster(2, 1, "embed night", count=2, settings="num_actors or use_gpu=false")
    assert str(caught.value) == (
        "embed night: found room for 1 processes of 2 CPU and 1 GPU on 2 nodes "
        "(2 CPU, 0 GPU; 3 CPU, 1 GPU); expected room for 2: lower num_actors or use_gpu=false, "
        "or join a larger cluster"
    )
