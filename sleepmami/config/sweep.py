"""Settings of a sweep over settings: how many trials, who proposes them and who ends them early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sleepmami.errors import ConfigError, require

DEFAULT_TRIALS, DEFAULT_LEVELS, DEFAULT_FACTOR, DEFAULT_SEED = 24, 3, 3, 20260210


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """One sweep; trial 0 is the configuration it starts from, and always runs to the end."""

    objective: str  # a validation metric, higher is better: tune_spaces/spaces.py
    num_trials: int = DEFAULT_TRIALS  # a grid has its own number
    search: Literal["optuna", "random", "grid"] = "optuna"  # optuna is TPE
    scheduler: Literal["asha", "none"] = "asha"
    reduction_factor: int = (
        DEFAULT_FACTOR  # asha: of the trials that reach a rung, one in so many goes on
    )
    grid_levels: int = DEFAULT_LEVELS  # values of each range, with search="grid"
    learning_rate: bool = False  # whether it is searched, too
    reads: bool = False  # whether dgcl.reads is; of tune dgcl alone
    trials_per_gpu: int = 1
    seed: int = DEFAULT_SEED  # of the proposals; all trials train with loop.seed

    def __post_init__(self) -> None:
        require(self.num_trials >= 2, "num_trials", self.num_trials, ">= 2")
        require(self.reduction_factor >= 2, "reduction_factor", self.reduction_factor, ">= 2")
        require(self.grid_levels >= 2, "grid_levels", self.grid_levels, ">= 2")
        require(self.trials_per_gpu >= 1, "trials_per_gpu", self.trials_per_gpu, ">= 1")
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        grid, asha = self.search == "grid", self.scheduler == "asha"
        self._no_effect_unless(not grid, "num_trials", DEFAULT_TRIALS, "search")
        self._no_effect_unless(not grid, "seed", DEFAULT_SEED, "search")
        self._no_effect_unless(grid, "grid_levels", DEFAULT_LEVELS, "search")
        self._no_effect_unless(asha, "reduction_factor", DEFAULT_FACTOR, "scheduler")

    def _no_effect_unless(self, used: bool, name: str, usual: int, because: str) -> None:
        value = getattr(self, name)
        if not used and value != usual:
            raise ConfigError(
                f"{name}={value} has no effect with {because}={getattr(self, because)!r}; set it "
                f"to {usual}"
            )
