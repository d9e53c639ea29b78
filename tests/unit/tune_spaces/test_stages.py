"""What `tune dgcl` asks of a corpus before anything runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import tune_cohort
from pipelines.run_folder import remember_run
from sleepmami.config import MacroPretrainConfig, SweepConfig
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError, SleepMaMiError, TrainingError
from sleepmami.presets import tiny
from sleepmami.psg import Stage
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle
from tune_spaces import stages
from tune_spaces.spaces import default_point
from tune_spaces.stages import tune_dgcl, tune_micro
from tune_spaces.sweep import Sweep, _plain, run_sweep


class _ReachedError(Exception):
    """All was well, and this sweep would have begun."""

    def __init__(self, sweep: Sweep, config: SweepConfig) -> None:
        self.sweep, self.config = sweep, config


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(sweep: Sweep, config: SweepConfig) -> None:
        raise _ReachedError(sweep, config)

    monkeypatch.setattr(stages, "run_sweep", begin)


def tuned(
    folder: Path,
    objective: str = "probe",
    *,
    num_validation: int = 12,
    seed: int = 0,
    config: MacroPretrainConfig | None = None,
    learning_rate: bool = False,
    reads: bool = False,
) -> None:
    corpus, run = str(folder / "corpus"), str(folder / "run")
    micro = replace(random_bundle(), macro=None, macro_state=None)
    save_bundle(str(folder / "run" / "micro"), micro)
    tune_cohort.write_tune_cohort(
        corpus,
        run,
        num_train=12,
        num_validation=num_validation,
        num_epochs=180,
        dim=micro.micro.model.higher_dim,
        model_id=micro.model_id,
        seed=seed,
    )
    settings = SweepConfig(objective=objective, learning_rate=learning_rate, reads=reads)
    tune_dgcl(corpus, run, str(folder / "s"), config or tiny().macro, settings, "tiny")


def unscored(length: int, _: np.random.Generator) -> NDArray[np.int8]:
    return np.full(length, Stage.UNKNOWN, np.int8)


def test_stages_are_no_objective_where_no_night_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: None
) -> None:
    monkeypatch.setattr(tune_cohort, "_stages", unscored)
    complaint = "found 0 scored epochs in 12 nights of the train split and 0 in 12"
    with pytest.raises(TrainingError, match=complaint):
        tuned(tmp_path / "a", "stage_macro_f1")
    with pytest.raises(_ReachedError):
        tuned(tmp_path / "b", "probe")


def test_stages_are_an_objective_where_nights_are_scored(tmp_path: Path, reached: None) -> None:
    with pytest.raises(_ReachedError):
        tuned(tmp_path, "stage_macro_f1")


def test_a_corpus_without_a_validation_split_is_refused(tmp_path: Path, reached: None) -> None:
    with pytest.raises(SleepMaMiError, match="found 0 subjects of the validation split"):
        tuned(tmp_path, "probe", num_validation=0)


@pytest.mark.parametrize(
    ("seed", "rows", "complaint"),
    [
        (1, 2048, r"data\.people_sha256="),
        (0, 11, r"sweep\.validate_rows=2048, expected 11"),
    ],
)
def test_a_sweep_does_not_go_on_with_other_people(
    tmp_path: Path, reached: None, seed: int, rows: int, complaint: str
) -> None:
    config = replace_at(tiny().macro, {"loop.validate_every": 2})
    with pytest.raises(_ReachedError) as first:
        tuned(tmp_path / "a", config=config)
    changed = replace_at(config, {"loop.validate_rows": rows})
    with pytest.raises(_ReachedError) as second:
        tuned(tmp_path / "b", seed=seed, config=changed)
    before, after = first.value.sweep, second.value.sweep
    settings = before.settings | {"sweep": _plain(first.value.config, before)}
    remember_run(before.folder, "sweep", settings)
    with pytest.raises(ConfigError, match=complaint):
        run_sweep(replace(after, folder=before.folder), second.value.config)


@pytest.mark.parametrize(
    ("before", "found"),
    [({}, "no such setting"), ({"night_vector": "mean_of_cycles"}, "'mean_of_cycles'")],
)
def test_a_sweep_judged_by_other_night_vectors_does_not_go_on(
    tmp_path: Path, reached: None, before: dict[str, str], found: str
) -> None:
    with pytest.raises(_ReachedError) as begun:
        tuned(tmp_path)
    sweep, config = begun.value.sweep, begun.value.config
    settings = sweep.settings | {"sweep": _plain(config, sweep)}
    assert settings.pop("night_vector") == "mean_of_valid_epochs"
    remember_run(sweep.folder, "sweep", settings | before)
    with pytest.raises(ConfigError, match=f"night_vector={found}.*'mean_of_valid_epochs'"):
        run_sweep(sweep, config)


def test_what_dgcl_reads_is_searched_where_asked_for(tmp_path: Path, reached: None) -> None:
    with pytest.raises(_ReachedError) as begun:
        tuned(tmp_path, config=replace_at(tiny().macro, {"dgcl.reads": "running_mean"}), reads=True)
    sweep = begun.value.sweep
    assert default_point(sweep.space, sweep.values)["dgcl.reads"] == "running_mean"
    settings = SweepConfig(objective="contrast_accuracy", reads=True)
    with pytest.raises(ConfigError, match="--reads has no effect on tune micro"):
        tune_micro(str(tmp_path), str(tmp_path), tiny().micro, settings, "tiny")


@pytest.mark.parametrize("factors", [["age"], ["sex"], ["age", "bmi"]])
def test_a_penalty_that_has_no_effect_is_not_searched(
    tmp_path: Path, reached: None, factors: list[str]
) -> None:
    with pytest.raises(_ReachedError) as begun:
        tuned(tmp_path, config=replace_at(tiny().macro, {"dgcl.factors": factors}))
    assert [item.name for item in begun.value.sweep.space] == ["dgcl.rho", "dgcl.v"]


def test_a_space_in_which_trials_could_only_fail_is_refused(tmp_path: Path, reached: None) -> None:
    config = replace_at(tiny().macro, {"optimizer.final_learning_rate": 1e-4})
    with pytest.raises(ConfigError, match=r"learning_rate=1e-05 is searched, and does not go"):
        tuned(tmp_path, config=config, learning_rate=True)
