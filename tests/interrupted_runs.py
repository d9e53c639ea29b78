"""Pretraining runs whose workers are killed at chosen steps, and what such a run left.

Losses are those of every step, in the run's metrics file; weights are compared by their hash.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig
from sleepmami.config_edit import replace_at
from sleepmami.errors import TrainingError
from sleepmami.training.checkpoint import load_bundle

Config = MicroPretrainConfig | MacroPretrainConfig
Death = tuple[int, int]  # (step, rank) of a worker that is killed before its part of the step


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A pretraining stage whose runs are compared.

    Attributes:
        module: of `pipelines`; has `train_worker`.
        start: begins or continues a run: `start(run, config)`.
        config: of `num_steps` steps, each of them logged.
        num_steps: of a run.
        bundle: the bundle a run leaves, below it.
        metrics: its metrics file, below it.
    """

    module: ModuleType
    start: Callable[[str, Any], object]  # Any: the stage's own config
    config: Config
    num_steps: int
    bundle: str
    metrics: str

    def losses(self, run: Path) -> list[float]:
        """Of each step, once and in order."""
        rows = [json.loads(line) for line in (run / self.metrics).read_text().splitlines()]
        assert [row["step"] for row in rows] == [*range(1, self.num_steps + 1)]
        return [row["loss/total"] for row in rows]

    def weights(self, run: Path) -> str:
        """The hash of the weights that a run ended with."""
        return load_bundle(str(run / self.bundle)).weights_sha256

    def random_deaths(self, count: int, seed: int, num_workers: int = 2) -> list[Death]:
        """Each at another step, of any worker."""
        rng = np.random.default_rng(seed)
        steps = sorted(rng.choice(np.arange(1, self.num_steps), count, replace=False).tolist())
        return [(step, int(rng.integers(num_workers))) for step in steps]

    def run_killed(self, run: Path, deaths: Sequence[Death]) -> None:
        """One run to its end, through all of the deaths."""
        config = replace_at(self.config, {"workers.max_failures": len(deaths)})
        with self._mortal(run.parent / f"{run.name}-died", deaths) as died:
            self.start(str(run), config)
            assert len(list(died.iterdir())) == len(deaths)

    def run_stopped_and_started_again(self, run: Path, death: Death) -> None:
        """A run that ends by a death, and a second one that ends it."""
        config = replace_at(self.config, {"workers.max_failures": 0})
        with (
            self._mortal(run.parent / f"{run.name}-died", [death]),
            pytest.raises(TrainingError, match="died"),
        ):
            self.start(str(run), config)
        self.start(str(run), config)

    @contextmanager
    def _mortal(self, folder: Path, deaths: Sequence[Death]) -> Iterator[Path]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                self.module, "train_worker", _mortal(self.module.__name__, folder, deaths)
            )
            yield folder


def _mortal(module: str, folder: Path, deaths: Sequence[Death]) -> Callable[[dict[str, Any]], None]:
    """The stage's own worker, but each death happens once; travels to the workers by value."""
    folder.mkdir()

    def worker(config: dict[str, Any]) -> None:
        import importlib

        from sleepmami.training import collectives
        from sleepmami.training.engine import Engine

        train_step = Engine.train_step

        def fateful(engine: Engine, batches: Any) -> dict[str, torch.Tensor]:
            died = folder / f"step{engine.step}"
            if (engine.step, collectives.rank()) in deaths and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return train_step(engine, batches)

        Engine.train_step = fateful  # type: ignore[method-assign]
        importlib.import_module(module).train_worker(config)

    return worker
