"""What the driver does with the metrics that workers send, in which order."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.ray_train import _follow
from pipelines.run_folder import History
from pipelines.trackers import Trackers


class Sent:
    """As Ray's queue, with all that workers will ever send in it."""

    def __init__(self, *steps: int) -> None:
        self._items = [({"step": float(step)}, True) for step in steps]

    def empty(self) -> bool:
        return not self._items

    def get(self, timeout: float) -> tuple[dict[str, float], bool]:
        return self._items.pop(0)


class SlowTracker:
    """Notes what metrics.jsonl held when it was told of a step."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.saw: dict[int, list[int]] = {}
        self.finished: bool | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.saw[step] = [json.loads(row)["step"] for row in self._file.read_text().splitlines()]

    def close(self, *, finished: bool) -> None:
        self.finished = finished


def follow(sent: Any, file: Path, total_steps: int) -> SlowTracker:
    tracker = SlowTracker(file)
    ended = threading.Thread()
    ended.start()
    ended.join()
    _follow(sent, ended, "train", total_steps, History(str(file)), Trackers({"mlflow": tracker}))
    return tracker


def test_a_step_is_on_disk_before_a_tracker_that_may_hang_hears_of_it(tmp_path: Path) -> None:
    assert follow(Sent(1, 2), tmp_path / "metrics.jsonl", 3).saw == {1: [1], 2: [1, 2]}


def test_a_run_that_had_only_its_bundle_left_to_write_is_finished(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert follow(Sent(1, 2), file, 3).finished is False
    assert follow(Sent(3), file, 3).finished is True
    assert follow(Sent(), file, 3).finished is True
