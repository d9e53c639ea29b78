"""On which data a Micro training that was stopped may go on; no cluster is asked."""

from pathlib import Path
from typing import Any

import pytest
import ray

from pipelines import pretrain_micro
from pipelines.run_folder import remember_run
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError
from sleepmami.presets import tiny
from sleepmami.tables import lance_io
from tests.corpora import write_corpus

MICRO = replace_at(tiny().micro, {"batch_size": 4, "engine.micro_batch": 2})


@pytest.fixture(autouse=True)
def stopped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training remembers its settings and is gone."""

    def fit(*_: object, settings: dict[str, Any], run: str, name: str, **__: object) -> None:
        remember_run(run, name, settings)

    monkeypatch.setattr(pretrain_micro, "fit", fit)
    monkeypatch.setattr(ray, "put", lambda value: value)


def test_a_training_is_continued_on_its_rows_but_not_when_a_night_has_changed_its_split(
    tmp_path: Path,
) -> None:
    corpus, moved = (
        write_corpus(tmp_path / name, num_train=3 - test, num_test=1 + test, num_epochs=8)
        for test, name in enumerate(("corpus", "moved"))
    )
    versions = {lance_io.version(f"{each}/segments.lance") for each in (corpus, moved)}
    assert len(versions) == 1
    run = str(tmp_path / "run")
    for _ in range(2):
        pretrain_micro.pretrain_micro(corpus, run, MICRO)
    with pytest.raises(ConfigError, match=r"found a run with data\.train_rows_digest="):
        pretrain_micro.pretrain_micro(moved, run, MICRO)
