"""What `tune dgcl` asks of a corpus before anything runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import tune_cohort
from sleepmami.config import SweepConfig
from sleepmami.errors import SleepMaMiError, TrainingError
from sleepmami.presets import tiny
from sleepmami.psg import Stage
from sleepmami.training.checkpoint import save_bundle
from tests.bundles import random_bundle
from tune_spaces import stages
from tune_spaces.stages import tune_dgcl


class _ReachedError(Exception):
    """All was well, and the sweep would have begun."""


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: Any) -> None:
        raise _ReachedError

    monkeypatch.setattr(stages, "run_sweep", begin)


def tuned(folder: Path, objective: str, *, num_validation: int = 12) -> None:
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
    )
    tune_dgcl(
        corpus, run, str(folder / "s"), tiny().macro, SweepConfig(objective=objective), "tiny"
    )


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
