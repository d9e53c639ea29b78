"""Commands that search settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipelines.cli.options import (
    AddressOption,
    PresetOption,
    PrintOption,
    SetOption,
    configured,
    on_ray,
)
from sleepmami.config import SweepConfig
from sleepmami.config_edit import from_dict
from sleepmami.errors import ConfigError
from sleepmami.presets import preset

DEFAULTS = SweepConfig(objective="")
OutOption = Annotated[
    str, typer.Option("--out", metavar="SWEEP", help="folder or URI; run again to resume")
]
TrialsOption = Annotated[
    int | None, typer.Option("--trials", help="default 24; a grid has its own")
]
SearchOption = Annotated[str, typer.Option("--search", help="optuna | random | grid")]
SchedulerOption = Annotated[str, typer.Option("--scheduler", help="asha | none")]
FactorOption = Annotated[
    int, typer.Option("--reduction-factor", help="asha: one in so many goes on")
]
LevelsOption = Annotated[int, typer.Option("--grid-levels", help="values of each range of a grid")]
RateOption = Annotated[bool, typer.Option("--learning-rate", help="search it, too")]
ReadsOption = Annotated[bool, typer.Option("--reads", help="search dgcl.reads, too")]
SeedOption = Annotated[int, typer.Option("--seed", help="of the proposals")]


def tune_dgcl(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="holds micro/ and micro_nights.lance")],
    sweep: OutOption,
    objective: Annotated[
        str, typer.Option("--objective", help="probe | age_r2 | sex_auroc | stage_macro_f1")
    ] = "probe",
    trials: TrialsOption = None,
    search: SearchOption = DEFAULTS.search,
    scheduler: SchedulerOption = DEFAULTS.scheduler,
    reduction_factor: FactorOption = DEFAULTS.reduction_factor,
    grid_levels: LevelsOption = DEFAULTS.grid_levels,
    learning_rate: RateOption = False,
    reads: ReadsOption = False,
    trials_per_gpu: Annotated[
        int, typer.Option("--trials-per-gpu", help="that share one GPU")
    ] = DEFAULTS.trials_per_gpu,
    seed: SeedOption = DEFAULTS.seed,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Search rho, v and lambda_sex of eqs. 4-6 by held-out probes; writes SWEEP/best.json."""
    config = configured(preset(preset_name).macro, assignments, print_config)
    settings = _settings(
        "dgcl",
        objective=objective,
        trials=trials,
        search=search,
        scheduler=scheduler,
        reduction_factor=reduction_factor,
        grid_levels=grid_levels,
        learning_rate=learning_rate,
        reads=reads,
        trials_per_gpu=trials_per_gpu,
        seed=seed,
    )
    from tune_spaces.stages import tune_dgcl as start

    with on_ray(address):
        start(corpus, run, sweep, config, settings, preset_name)


def tune_micro(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS")],
    sweep: OutOption,
    objective: Annotated[
        str, typer.Option("--objective", help="contrast_accuracy_blocked | contrast_accuracy")
    ] = "contrast_accuracy_blocked",
    trials: TrialsOption = None,
    search: SearchOption = DEFAULTS.search,
    scheduler: SchedulerOption = DEFAULTS.scheduler,
    reduction_factor: FactorOption = DEFAULTS.reduction_factor,
    grid_levels: LevelsOption = DEFAULTS.grid_levels,
    learning_rate: RateOption = False,
    seed: SeedOption = DEFAULTS.seed,
    preset_name: PresetOption = "paper",
    assignments: SetOption = [],  # noqa: B006
    print_config: PrintOption = False,
    address: AddressOption = None,
) -> None:
    """Search tau, lambda_cl and the masks of section 3.1; writes SWEEP/best.json."""
    config = configured(preset(preset_name).micro, assignments, print_config)
    settings = _settings(
        "micro",
        objective=objective,
        trials=trials,
        search=search,
        scheduler=scheduler,
        reduction_factor=reduction_factor,
        grid_levels=grid_levels,
        learning_rate=learning_rate,
        seed=seed,
    )
    from tune_spaces.stages import tune_micro as start

    with on_ray(address):
        start(corpus, sweep, config, settings, preset_name)


def _settings(stage: str, trials: int | None, **values: Any) -> SweepConfig:  # Any: its fields
    """What was asked for; a loss as the objective is refused before Ray is started."""
    from tune_spaces.spaces import require_objective

    values["objective"] = require_objective(stage, values["objective"])
    if trials is not None:
        values["num_trials"] = trials
        if values["search"] == "grid":
            raise ConfigError("--trials has no effect with --search grid; leave it out")
    return from_dict(SweepConfig, values)
