"""What a failed run says, and which failures are not worth a second try."""

import pickle

import pytest
import ray.train
from ray.exceptions import ActorDiedError

from pipelines.ray_train import StopAtOurErrors, root_cause
from sleepmami.errors import CheckpointError, RecordingCode, RecordingError, TrainingError


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
