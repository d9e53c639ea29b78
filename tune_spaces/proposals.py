"""Who proposes the next trial: a list of points, or optuna's TPE after what is already known."""

from __future__ import annotations

import logging
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sleepmami.config.sweep import SweepConfig
from tune_spaces.record import SweepRecord
from tune_spaces.spaces import (
    Choice,
    Overrides,
    Range,
    Space,
    default_point,
    grid_points,
    random_points,
    without,
)


class Listed(Searcher):
    """Proposes the points of a list, and then says that it is done."""

    def __init__(self, points: list[Overrides], objective: str) -> None:
        super().__init__(metric=objective, mode="max")
        self._left = list(points)

    def suggest(self, trial_id: str) -> Any:  # Any: a point, or Ray's word for the end
        """The next point."""
        return self._left.pop(0) if self._left else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A list learns nothing."""


def fixed_points(space: Space, default: Overrides, config: SweepConfig) -> list[Overrides]:
    """All points of a search that does not look at results, the default first; [] for optuna."""
    if config.search == "optuna":
        return []
    if config.search == "grid":
        return [default, *without(grid_points(space, config.grid_levels), [default])]
    return [default, *random_points(space, config.num_trials - 1, config.seed)]


def searcher(
    space: Space, values: dict[str, Any], config: SweepConfig, record: SweepRecord
) -> Searcher:
    """Proposes what is left to run: first what was begun, then trial 0, then new ones.

    Args:
        space: to search.
        values: of the configuration to start from, by dotted name.
        config: of the sweep.
        record: what has been run.
    """
    default = default_point(space, values)
    again = [trial.overrides for trial in record.interrupted]
    known = [trial.overrides for trial in record.trials]
    fixed = fixed_points(space, default, config)
    first = again + without([default], known)
    if fixed:
        return Listed(again + without(fixed, known), config.objective)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    search = OptunaSearch(
        space=_distributions(space),
        metric=config.objective,
        mode="max",
        points_to_evaluate=first or None,
        # Another stream after a restart: the first one's proposals have been run.
        seed=config.seed + len(record.trials),
    )
    for trial in record.ended:
        value = trial.value(config.objective)
        failed = trial.status == "failed" or value is None
        search.add_evaluated_point(trial.overrides, 0.0 if value is None else value, error=failed)
    return search


def _distributions(space: Space) -> dict[str, Any]:  # Any: optuna's distributions
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    def of(item: Range | Choice) -> Any:
        if isinstance(item, Choice):
            return CategoricalDistribution(item.options)
        return FloatDistribution(item.low, item.high, log=item.log)

    return {item.name: of(item) for item in space}
