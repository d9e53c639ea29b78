"""Settings of a sweep over settings: how many trials, who proposes them and who ends them early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sleepmami.errors import ConfigError, require

DEFAULT_LEVELS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """One sweep; trial 0 is the configuration it starts from, and always runs to the end."""

    objective: str  # a validation metric, higher is better: tune_spaces/spaces.py
    num_trials: int = 24
    search: Literal["optuna", "random", "grid"] = "optuna"  # optuna is TPE
    scheduler: Literal["asha", "none"] = "asha"
    reduction_factor: int = 3  # asha: of the trials that reach a rung, one in so many goes on
    grid_levels: int = DEFAULT_LEVELS  # values of each range, with search="grid"
    learning_rate: bool = False  # whether it is searched, too
    trials_per_gpu: int = 1
    seed: int = 20260210  # of the proposals; all trials train with loop.seed

    def __post_init__(self) -> None:
        require(self.num_trials >= 2, "num_trials", self.num_trials, ">= 2")
        require(self.reduction_factor >= 2, "reduction_factor", self.reduction_factor, ">= 2")
        require(self.grid_levels >= 2, "grid_levels", self.grid_levels, ">= 2")
        require(self.trials_per_gpu >= 1, "trials_per_gpu", self.trials_per_gpu, ">= 1")
        if self.search != "grid" and self.grid_levels != DEFAULT_LEVELS:
            raise ConfigError(
                f"grid_levels={self.grid_levels} has no effect with search={self.search!r}; set it "
                f"to {DEFAULT_LEVELS}"
            )
