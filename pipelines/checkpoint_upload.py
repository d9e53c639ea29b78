"""How a checkpoint travels to storage and comes to count while training goes on.

Ray Train's own asynchronous mode does the same in a thread that Python waits for at its end, and so
keeps workers alive after their controller is gone.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import ray.train

from sleepmami.training.loop import Save


class CheckpointUpload:
    """Inside a worker: reports checkpoints to Ray Train, one at a time.

    A checkpoint counts when the parts of all workers have arrived and the controller has taken
    them in; a restart takes up the newest that counts.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, save: Save, metrics: dict[str, float]) -> None:
        """Save this worker's part, and send it on its way once the last one counts.

        Raises:
            Exception: what went wrong with the last one.
        """
        self.wait()  # before another copy of the state is made
        folder = tempfile.TemporaryDirectory(prefix="sleepmami-checkpoint-")
        save(Path(folder.name))
        self._thread = threading.Thread(
            target=self._send, args=(folder, metrics), name="checkpoint upload", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when the last checkpoint counts.

        Raises:
            Exception: what went wrong with it.
        """
        if self._thread:
            self._thread.join()
        if self._error:
            raise self._error

    def _send(self, folder: tempfile.TemporaryDirectory[str], metrics: dict[str, float]) -> None:
        try:
            with folder as path:
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))
            ray.train.get_all_reported_checkpoints(
                consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED
            )
        except BaseException as error:  # handed to the training's thread, which raises it
            self._error = error
