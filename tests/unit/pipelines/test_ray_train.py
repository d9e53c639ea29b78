"""What a failed run says, and which failures are not worth a second try."""

import pickle
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import ray
import ray.train
from ray.exceptions import ActorDiedError

from pipelines.ray_train import StopAtOurErrors, _follow, require_resources, root_cause
from pipelines.run_folder import History
from pipelines.trackers import Trackers
from sleepmami.config import WorkersConfig
from sleepmami.errors import (
    CheckpointError,
    ConfigError,
    RecordingCode,
    RecordingError,
    TrainingError,
)


class HealthCheckFailed(Exception):
    """As Ray Train wraps the death of a worker's process."""

    def __init__(self) -> None:
        super().__init__("A worker health check failed.\nWorker info: Worker(pid=1)")
        self.health_check_failure = ActorDiedError()


def test_a_workers_own_error_reaches_the_user_as_it_was() -> None:
    ours = TrainingError("step 3: loss or gradients are not finite")
    assert root_cause(ray.train.ControllerError(ours), "run: micro", 3) is ours


def test_a_dead_process_is_named_before_those_that_lost_its_connection() -> None:
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection reset by peer")
    error = ray.train.WorkerGroupError("long", {0: lost, 1: HealthCheckFailed(), 2: lost})
    found = root_cause(error, "run: micro", 3)
    assert isinstance(found, TrainingError)
    assert str(found) == (
        "run: micro stopped: worker 1 died: killed, or out of memory; that was one failure more "
        "than workers.max_failures=3; the same command continues from the newest checkpoint"
    )


def test_an_error_of_other_code_is_told_in_one_line() -> None:
    error = ray.train.WorkerGroupError("long", {0: ValueError("first\n\n  second \n")})
    assert str(root_cause(error, "run: micro", 0)).startswith(
        "run: micro stopped: worker 0 raised ValueError: second; that was"
    )


def test_a_failure_of_ray_itself_is_told_in_one_line() -> None:
    error = ray.train.ControllerError(OSError("no space\nleft on device"))
    assert str(root_cause(error, "run: micro", 0)) == (
        "run: micro stopped: raised OSError: left on device"
    )


def test_a_run_ends_at_an_error_of_ours_but_not_at_a_death() -> None:
    callback = StopAtOurErrors()
    lost = RuntimeError("Connection reset by peer")
    callback.after_exception(None, {0: lost, 1: HealthCheckFailed()})
    with pytest.raises(CheckpointError, match="altered"):
        callback.after_exception(None, {0: lost, 1: CheckpointError("altered")})


@pytest.mark.parametrize(
    "error",
    [
        TrainingError("not finite"),
        RecordingError(RecordingCode.UNREADABLE, file="a.edf", found="nothing", expected="an EDF"),
    ],
)
def test_our_errors_travel_between_processes_inside_rays(error: Exception) -> None:
    back = pickle.loads(pickle.dumps(ray.train.ControllerError(error))).controller_failure
    assert (type(back), str(back)) == (type(error), str(error))


class Told:
    """A queue and a tracker in one: holds what workers sent, keeps what was logged."""

    def __init__(self, steps: list[int]) -> None:
        self.left = [({"step": float(step), "loss/total": step / 10}, False) for step in steps]
        self.logged: list[int] = []
        self.finished: bool | None = None

    def empty(self) -> bool:
        return not self.left

    def get(self, timeout: float) -> tuple[dict[str, float], bool]:
        return self.left.pop(0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append(step)

    def close(self, *, finished: bool) -> None:
        self.finished = finished


def test_trackers_get_each_step_once_though_a_worker_died_and_the_run_was_continued(
    tmp_path: Path,
) -> None:
    history = History(str(tmp_path / "metrics.jsonl"))
    history.add({"step": 2.0, "loss/total": 0.2})  # of the command before
    told = Told([2, 3, 4, 3, 4, 5])
    ended = threading.Thread()
    ended.start()
    ended.join()
    _follow(told, ended, "pretrain", 5, history, Trackers({"wandb": told}))
    assert told.logged == [3, 4, 5]
    assert told.finished
    assert history.last_step == 5


@pytest.mark.parametrize(("readers", "ok"), [(0, True), (1, False)])
def test_workers_of_a_part_of_a_cpu_are_counted_without_rounding_and_readers_beside_them(
    readers: int, ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"CPU": 0.3}  # 0.3 // 0.1 is 2, and 3 * 0.1 > 0.3
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": there}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    workers = WorkersConfig(num_workers=3, cpus_per_worker=0.1)
    if ok:
        require_resources(workers, readers=readers)
    else:
        with pytest.raises(ConfigError, match=r"found 0\.3 CPUs, expected 1\.3 for 3 workers"):
            require_resources(workers, readers=readers)
