"""Who ends a trial early: ASHA, which spares the default, and remembers trials run before.

Population based training is not among the choices: it changes the settings of a trial while it
trains, so that its best is a history of settings and not one that a preset file could hold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from sleepmami.config.sweep import SweepConfig
from tune_spaces.record import SweepRecord
from tune_spaces.spaces import Overrides


class _Before(NamedTuple):
    """What ASHA asks of a trial that an earlier driver ran."""

    trial_id: str
    config: Overrides


class SparingAsha(AsyncHyperBandScheduler):
    """ASHA over steps, in which one configuration runs to the end whatever it is worth.

    Args:
        objective: higher is better.
        total_steps: of a whole trial.
        first_rung: steps after which a trial may be ended.
        reduction_factor: of the trials at a rung, one in so many goes on; rungs lie so many times
            further apart each.
        spared: settings of the trial that always goes on.
    """

    def __init__(
        self,
        *,
        objective: str,
        total_steps: int,
        first_rung: int,
        reduction_factor: int,
        spared: Overrides,
    ) -> None:
        super().__init__(
            time_attr="step",
            metric=objective,
            mode="max",
            max_t=total_steps,
            grace_period=min(first_rung, total_steps),
            reduction_factor=reduction_factor,
        )
        self._total_steps, self._spared = total_steps, spared

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on."""
        action = str(super().on_trial_result(tune_controller, trial, result))
        if result["step"] >= self._total_steps or trial.config == self._spared:
            return str(TrialScheduler.CONTINUE)  # at its last step a trial ends by itself
        return action

    def remember(self, record: SweepRecord) -> None:
        """Fill the rungs with what trials of an earlier driver reported there."""
        controller: Any = None  # ASHA does not look at it
        for number, trial in enumerate(record.ended):
            before: Any = _Before(f"before_{number}", trial.overrides)
            self.on_trial_add(controller, before)
            for row in trial.rows:
                self.on_trial_result(controller, before, row)
            self.on_trial_remove(controller, before)


def scheduler(
    config: SweepConfig,
    record: SweepRecord,
    *,
    total_steps: int,
    validate_every: int,
    default: Overrides,
) -> TrialScheduler:
    """What `config.scheduler` names.

    Args:
        config: of the sweep.
        record: what has been run.
        total_steps: of a whole trial.
        validate_every: steps between reports.
        default: settings of trial 0.
    """
    if config.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]  # Ray's own
    asha = SparingAsha(
        objective=config.objective,
        total_steps=total_steps,
        first_rung=validate_every,
        reduction_factor=config.reduction_factor,
        spared=default,
    )
    asha.remember(record)
    return asha
