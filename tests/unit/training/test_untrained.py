"""Weights that nobody trained, and how everybody after them is told."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from pipelines.random_bundle import random_bundle
from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import ConfigError, TableError
from sleepmami.inference.embedder import Embedder
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import tiny
from sleepmami.tables import lance_io
from sleepmami.tables.schemas import RECORDINGS, provenance
from sleepmami.training.checkpoint import load_bundle, save_bundle
from sleepmami.training.untrained import untrained_bundle


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    config = {"preprocess": to_dict(PreprocessConfig(notch_hz=50.0, truncated="keep"))}
    uri = str(tmp_path / "corpus" / "recordings.lance")
    lance_io.commit(uri, [], RECORDINGS, metadata=provenance(config))
    return str(tmp_path / "corpus")


def test_the_weights_are_those_that_a_training_begins_with() -> None:
    bundle = untrained_bundle(tiny().micro, tiny().macro, PreprocessConfig(), 3)
    assert bundle.macro is not None
    assert bundle.macro_state is not None
    torch.manual_seed(3)  # as pretrain_micro.train_worker
    for name, tensor in MicroEncoder(tiny().micro.model).state_dict().items():
        assert torch.equal(bundle.micro_state[name], tensor), name
    torch.manual_seed(3)  # as pretrain_macro.train_nights
    model = MacroEncoder(bundle.macro.model, tiny().micro.model.higher_dim)
    for name, tensor in model.state_dict().items():
        assert torch.equal(bundle.macro_state[name], tensor), name


def test_drawing_them_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    untrained_bundle(tiny().micro, tiny().macro, PreprocessConfig(), 3)
    assert torch.equal(torch.rand(2), expected)


def test_run_is_as_after_both_trainings_and_says_that_there_were_none(
    corpus: str, tmp_path: Path
) -> None:
    run = str(tmp_path / "run")
    random_bundle(corpus, run, tiny().micro, tiny().macro, 1)
    for folder, encoders in (("run/micro", ["micro"]), ("run", ["micro", "macro"])):
        manifest = json.loads((tmp_path / folder / "manifest.json").read_text())
        assert manifest["untrained"] == encoders
        assert manifest["model_id"].startswith("untrained-")
        loaded = load_bundle(str(tmp_path / folder))
        assert loaded.model_id == manifest["model_id"]
        assert loaded.preprocess == PreprocessConfig(notch_hz=50.0)  # cut files: as of a training
        assert Embedder(loaded, windows_per_batch=2).bundle.untrained == tuple(encoders)


def test_the_same_again_is_left_alone_and_another_seed_is_refused(
    corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    random_bundle(corpus, run, tiny().micro, tiny().macro, 1)
    before = (tmp_path / "run" / "manifest.json").stat().st_mtime_ns
    random_bundle(corpus, run, tiny().micro, tiny().macro, 1)
    assert (tmp_path / "run" / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"loop\.seed=1, expected 2"):
        random_bundle(corpus, run, tiny().micro, tiny().macro, 2)
    assert load_bundle(run).lineage["untrained"]["seed"] == 1


def test_a_folder_in_which_a_training_began_is_refused(corpus: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    begun = tmp_path / "run" / "micro_config.json"
    begun.write_text(json.dumps(to_dict(tiny().micro)))
    with pytest.raises(ConfigError, match="found a run with"):
        random_bundle(corpus, str(tmp_path / "run"), tiny().micro, tiny().macro, 0)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["micro_config.json"]


def test_a_bundle_that_was_trained_is_never_written_over(corpus: str, tmp_path: Path) -> None:
    trained = untrained_bundle(tiny().micro, tiny().macro, PreprocessConfig(), 9)
    save_bundle(str(tmp_path / "run" / "micro"), dataclasses.replace(trained, lineage={}))
    with pytest.raises(ConfigError, match=r"found sleepmami-.*use a new folder"):
        random_bundle(corpus, str(tmp_path / "run"), tiny().micro, tiny().macro, 0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["micro"]


def test_without_a_corpus_there_is_nothing_to_ask_of_recordings(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="found no table"):
        random_bundle(str(tmp_path), str(tmp_path / "run"), tiny().micro, tiny().macro, 0)


def test_a_trained_bundle_is_not_called_untrained() -> None:
    bundle = untrained_bundle(tiny().micro, tiny().macro, PreprocessConfig(), 3)
    trained = dataclasses.replace(bundle, lineage={"micro": {"steps": 1}})
    assert trained.untrained == ()
    assert trained.model_id.startswith("sleepmami-")
