"""TensorBoard read back, and what is refused or survived of all trackers."""

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from pipelines import trackers
from pipelines.trackers import Trackers, open_trackers, require_trackers
from sleepmami.errors import ConfigError

SETTINGS = {"dgcl": {"rho": 0.1}, "seed": 1}
ROWS = {10: {"loss/total": 2.5, "step": 10.0}, 20: {"loss/total": 1.5, "step": 20.0}}


def track(names: tuple[str, ...], run: Path, rows: Mapping[int, Mapping[str, float]]) -> None:
    require_trackers(names, str(run))
    opened = open_trackers(names, str(run), "micro", SETTINGS)
    for step, metrics in rows.items():
        opened.log(step, metrics)
    opened.close(finished=True)


def test_tensorboard_reads_back_what_was_logged_before_and_after_a_restart(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step, metrics in ROWS.items():
        track(("tensorboard",), tmp_path, {step: metrics})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "micro")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert found == [(10, 2.5), (20, 1.5)]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_with_the_way_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"pip install 'sleepmami\[{name}\]'"):
        require_trackers((name,), str(tmp_path))


def test_mlflow_without_an_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda package: object())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="found no MLFLOW_TRACKING_URI"):
        require_trackers(("mlflow",), str(tmp_path))


def test_tensorboard_beside_a_bucket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda package: object())
    with pytest.raises(ConfigError, match="s3://bucket/run, expected a local folder"):
        require_trackers(("tensorboard",), "s3://bucket/run")


def test_a_tracker_that_cannot_be_opened_is_refused_and_the_others_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = Working()

    def refuse(*_: object) -> None:
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(trackers, "TensorBoard", lambda *_: working)
    monkeypatch.setattr(trackers, "MLflow", refuse)
    with pytest.raises(ConfigError, match=r"'mlflow' .*ConnectionError: no route to host; mend it"):
        open_trackers(("tensorboard", "mlflow"), str(tmp_path), "micro", SETTINGS)
    assert working.finished is False


class Broken:
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        raise ConnectionError("no route to host")

    def close(self, *, finished: bool) -> None:
        raise AssertionError("was given up")


class Working(Broken):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.finished: bool | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append(step)

    def close(self, *, finished: bool) -> None:
        self.finished = finished


def test_a_tracker_that_fails_is_given_up_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(trackers, "console", Console(file=said, width=200))
    working = Working()
    both = Trackers({"mlflow": Broken(), "wandb": working})
    both.log(1, {})
    both.log(2, {})
    both.close(finished=False)
    assert (working.steps, working.finished) == ([1, 2], False)
    assert said.getvalue().count("mlflow: gave up, ConnectionError: no route to host") == 1
