"""What a sweep knows after its driver died, and what that makes it propose and end."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sleepmami.config import MacroPretrainConfig, SweepConfig
from sleepmami.config_edit import flatten, to_dict
from sleepmami.errors import ConfigError
from tune_spaces.early_end import SparingAsha
from tune_spaces.proposals import fixed_points, searcher
from tune_spaces.record import SweepRecord
from tune_spaces.spaces import DGCL, READS, Overrides, default_point

OBJECTIVE = "validation/probe"
VALUES = dict(flatten(to_dict(MacroPretrainConfig())))
DEFAULT = default_point(DGCL, VALUES)


def ended(
    record: SweepRecord, overrides: Overrides, *values: float, status: Any = "finished"
) -> None:
    trial = record.begin(overrides)
    trial.rows = [{"step": 3.0 * (n + 1), OBJECTIVE: value} for n, value in enumerate(values)]
    trial.status = status
    record.write()


def proposed(record: SweepRecord, config: SweepConfig, most: int) -> list[Overrides]:
    search = searcher(DGCL, VALUES, config, record)
    points = [search.suggest(f"t{n}") for n in range(most)]
    return [point for point in points if isinstance(point, dict)]


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    record = SweepRecord(str(tmp_path))
    ended(record, DEFAULT, 0.1, 0.2)
    record.begin({**DEFAULT, "dgcl.v": 1.0})
    record.write()
    again = SweepRecord(str(tmp_path))
    assert again.trials == record.trials
    assert [trial.name for trial in again.ended] == ["trial_000"]
    assert (again.trials[0].steps, again.trials[0].value(OBJECTIVE)) == (6, 0.2)


def test_an_interrupted_trial_keeps_its_number_and_begins_again(tmp_path: Path) -> None:
    record = SweepRecord(str(tmp_path))
    ended(record, DEFAULT, 0.1)
    other = {**DEFAULT, "dgcl.v": 1.0}
    record.begin(other).rows.append({"step": 3.0, OBJECTIVE: 0.5})
    trial = record.begin(other)
    assert (trial.number, trial.rows) == (1, [])
    assert record.begin({**DEFAULT, "dgcl.v": 2.0}).number == 2


@pytest.mark.parametrize("search", ["optuna", "random", "grid"])
def test_the_default_is_proposed_first(tmp_path: Path, search: Any) -> None:
    config = SweepConfig(objective=OBJECTIVE, search=search)
    assert proposed(SweepRecord(str(tmp_path)), config, 2)[0] == DEFAULT


@pytest.mark.parametrize("search", ["optuna", "random", "grid"])
def test_after_a_death_what_ended_is_not_proposed_and_what_was_running_comes_first(
    tmp_path: Path, search: Any
) -> None:
    config = SweepConfig(objective=OBJECTIVE, search=search)
    record = SweepRecord(str(tmp_path))
    before = proposed(record, config, 4)
    for place, point in enumerate(before[:3]):
        ended(record, point, 0.1 * place)
    record.begin(before[3])  # was running
    record.write()
    after = proposed(SweepRecord(str(tmp_path)), config, 3)
    assert after[0] == pytest.approx(before[3])
    assert all(point not in before for point in after[1:])


def test_random_trials_are_the_same_ones_with_and_without_a_death(tmp_path: Path) -> None:
    config = SweepConfig(objective=OBJECTIVE, search="random", num_trials=5)
    record = SweepRecord(str(tmp_path))
    whole = proposed(record, config, 9)
    assert len(whole) == 5
    for point in whole[:2]:
        ended(record, point, 0.3)
    assert proposed(record, config, 9) == whole[2:]


def test_optuna_proposes_either_kind_of_reading_and_knows_what_it_proposed(tmp_path: Path) -> None:
    config = SweepConfig(objective=OBJECTIVE, reads=True)
    record, space = SweepRecord(str(tmp_path)), (*DGCL, READS)
    for _ in range(2):  # the second with trials in the record
        search = searcher(space, VALUES, config, record)
        points = [search.suggest(f"t{n}") for n in range(20)]
        assert {point["dgcl.reads"] for point in points} == {"state", "running_mean"}
        for point in points[:2]:
            ended(record, point, 0.5)


def test_a_grid_is_as_long_as_its_levels_say() -> None:
    config = SweepConfig(objective=OBJECTIVE, search="grid", grid_levels=2)
    points = fixed_points(DGCL, DEFAULT, config)
    assert len(points) == 2**3 + 1  # the default lies between


class Trial(NamedTuple):
    trial_id: str
    config: Overrides


def asha() -> SparingAsha:
    return SparingAsha(
        objective=OBJECTIVE, total_steps=27, first_rung=3, reduction_factor=3, spared=DEFAULT
    )


def decisions(scheduler: SparingAsha, trial: Trial, *values: float) -> list[str]:
    scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    return [
        scheduler.on_trial_result(None, trial, {"step": 3 * (n + 1), OBJECTIVE: value})
        for n, value in enumerate(values)
    ]


OTHER = {**DEFAULT, "dgcl.v": 1.0}


def test_the_worst_at_a_rung_ends_and_the_default_does_not() -> None:
    scheduler = asha()
    for name in "abc":
        decisions(scheduler, Trial(name, OTHER), 0.9)
    assert decisions(scheduler, Trial("bad", OTHER), 0.1) == ["STOP"]
    assert decisions(scheduler, Trial("default", DEFAULT), 0.1, 0.1) == ["CONTINUE", "CONTINUE"]


def test_at_its_last_step_a_trial_ends_by_itself() -> None:
    scheduler, trial = asha(), Trial("other", OTHER)
    scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    assert scheduler.on_trial_result(None, trial, {"step": 27, OBJECTIVE: 0.5}) == "CONTINUE"


def test_after_a_death_rungs_remember_who_stood_there(tmp_path: Path) -> None:
    record = SweepRecord(str(tmp_path))
    for number in range(3):
        ended(record, {**DEFAULT, "dgcl.v": 1.0 + number}, 0.9)
    scheduler = asha()
    assert decisions(scheduler, Trial("new", OTHER), 0.1) == ["CONTINUE"]  # knows nothing
    scheduler = asha()
    scheduler.remember(record)
    assert decisions(scheduler, Trial("new", OTHER), 0.1) == ["STOP"]


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="grid_levels=4 has no effect with search='optuna'"):
        SweepConfig(objective=OBJECTIVE, grid_levels=4)
    with pytest.raises(ConfigError, match="num_trials=5 has no effect with search='grid'"):
        SweepConfig(objective=OBJECTIVE, search="grid", num_trials=5)
    with pytest.raises(ConfigError, match="seed=3 has no effect with search='grid'"):
        SweepConfig(objective=OBJECTIVE, search="grid", seed=3)
    with pytest.raises(ConfigError, match="reduction_factor=4 has no effect with scheduler='none'"):
        SweepConfig(objective=OBJECTIVE, scheduler="none", reduction_factor=4)
    with pytest.raises(ConfigError, match="seed must be >= 0"):
        SweepConfig(objective=OBJECTIVE, seed=-1)
    with pytest.raises(ConfigError, match="num_trials"):
        SweepConfig(objective=OBJECTIVE, num_trials=1)
