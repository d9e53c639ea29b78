"""Pretraining runs whose workers meet their fate at chosen steps, and what such a run left.

Losses are those of every step, in the run's metrics file; weights are compared by their hash.
"""

import json
import os
import signal
import time
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

    def rows(self, run: Path) -> list[dict[str, float]]:
        """What the metrics file has; nothing before the first checkpoint."""
        file = run / self.metrics
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def losses(self, run: Path) -> list[float]:
        """Of each step, once and in order."""
        rows = self.rows(run)
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

    def run_killed(self, run: Path, deaths: Sequence[Death]) -> list[int]:
        """One run to its end, through all of the deaths; the steps that the last to die began."""
        config = replace_at(self.config, {"workers.max_failures": len(deaths)})
        with self.watched(run, deaths=deaths) as watch:
            self.start(str(run), config)
        assert len(list(watch.glob("died-*"))) == len(deaths)
        return steps_begun(watch, deaths[-1][1])

    def run_stopped_and_started_again(self, run: Path, death: Death) -> None:
        """A run that ends by a death, and a second one that ends it."""
        config = replace_at(self.config, {"workers.max_failures": 0})
        with self.watched(run, deaths=[death]), pytest.raises(TrainingError, match="died"):
            self.start(str(run), config)
        self.start(str(run), config)

    @contextmanager
    def watched(self, run: Path, **fate: Any) -> Iterator[Path]:
        """Runs in the body have `fateful_worker(...)` as their worker; yields its folder."""
        folder = run.parent / f"{run.name}-watch"
        with pytest.MonkeyPatch.context() as patch:
            worker = fateful_worker(self.module.__name__, folder, **fate)
            patch.setattr(self.module, "train_worker", worker)
            yield folder


def fateful_worker(
    module: str,
    folder: Path,
    *,
    deaths: Sequence[Death] = (),
    poison_before: int | None = None,
    slow_from: int | None = None,
) -> Callable[[dict[str, Any]], None]:
    """The stage's own worker, whose steps are noted; it travels to the workers by value.

    Args:
        module: of `pipelines`, whose `train_worker` it is.
        folder: made; takes the notes.
        deaths: each happens once.
        poison_before: rank 1 begins this step, every time, with a weight that is NaN.
        slow_from: this step and later ones take a second longer.
    """
    folder.mkdir()

    def worker(config: dict[str, Any]) -> None:
        import importlib

        from sleepmami.training import collectives
        from sleepmami.training.engine import Engine

        train_step = Engine.train_step

        def fateful(engine: Engine, batches: Any) -> dict[str, torch.Tensor]:
            rank = collectives.rank()
            with (folder / f"begun-{rank}").open("a") as begun:
                begun.write(f"{engine.step}\n")
            died = folder / f"died-{engine.step}"
            if (engine.step, rank) in deaths and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 1 and engine.step == poison_before:
                next(engine.objective.parameters()).data.fill_(float("nan"))
            if slow_from is not None and engine.step >= slow_from:
                time.sleep(1)
            return train_step(engine, batches)

        Engine.train_step = fateful  # type: ignore[method-assign]
        importlib.import_module(module).train_worker(config)

    return worker


def steps_begun(folder: Path, rank: int = 0) -> list[int]:
    """By one of the workers that `fateful_worker` watched, in the order of time."""
    return [int(line) for line in (folder / f"begun-{rank}").read_text().split()]
