"""The matrix of missing modalities on a Ray cluster, from simulated nights to its JSON."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.embed_nights import embed_cohort
from pipelines.ingest_edf import ingest
from pipelines.missing_modalities import ANSWER, missing_modalities
from pipelines.random_bundle import random_bundle
from sleepmami.config import EmbedConfig, IngestConfig, MissingConfig
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation.missing import SUBSETS, WHOLE
from sleepmami.evaluation.probe import run_probe
from sleepmami.presets import tiny
from sleepmami.simulation.night import simulate_night
from sleepmami.simulation.night_files import write_night
from sleepmami.simulation.subjects import simulate_subject
from sleepmami.tables import lance_io

pytestmark = pytest.mark.ray

NUM_NIGHTS, HOURS, SEED = 5, 0.6, 8
CONFIG = replace_at(
    MissingConfig(embed=EmbedConfig(num_actors=1)),  # to start one takes longest
    {
        "fill": "zero",  # as `probe` reads what is not valid
        "probe.split.kind": "folds",
        "probe.split.num_folds": 2,
        "probe.penalties": [0.1],
        "probe.num_resamples": 100,
    },
)


@pytest.fixture(scope="module")
def folder(ray_cluster: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus, run (an untrained bundle) and cohort."""
    folder = tmp_path_factory.mktemp("missing")
    for index in range(NUM_NIGHTS):
        subject = simulate_subject(index, SEED)
        write_night(folder / "edfs", subject, simulate_night(subject, HOURS, SEED))
    corpus, run = str(folder / "corpus"), str(folder / "run")
    ingest(str(folder / "edfs"), corpus, IngestConfig(recording_ids="file_name"))
    random_bundle(corpus, run, tiny().micro, tiny().macro, 0)
    embed_cohort(corpus, run, str(folder / "cohort"), CONFIG.embed)
    return folder


def start(folder: Path, out: str = "missing", config: MissingConfig = CONFIG) -> dict:  # type: ignore[type-arg]
    places = [str(folder / name) for name in ("corpus", "run", "cohort", out)]
    return missing_modalities(*places, config)


def test_all_63_are_answered_and_the_whole_is_what_probe_says(folder: Path) -> None:
    answer = start(folder)
    assert json.loads((folder / "missing" / ANSWER).read_text()) == answer
    assert [tuple(entry["modalities"]) for entry in answer["subsets"]] == list(SUBSETS)
    for entry in answer["subsets"]:
        for level in ("micro", "macro"):
            for name in ("accuracy", "macro_f1", "kappa", "cosine"):
                assert entry[level][name]["value"] is not None, (entry["modalities"], name)
    whole = answer["subsets"][WHOLE]
    for level in ("micro", "macro"):
        config = replace_at(CONFIG.probe, {"level": level})
        expected = run_probe("staging", str(folder / "cohort"), [], config)
        assert whole["num_epochs"] == expected.num_rows
        for figure in expected.figures[:3]:
            found = whole[level][figure.name]
            assert found["value"] == pytest.approx(figure.estimate.value, abs=0.01)
        assert whole[level]["cosine"]["value"] == pytest.approx(1)
    assert answer["notes"] == ["the encoder was never trained: its weights are random"]


def test_a_run_that_was_interrupted_goes_on_with_what_is_missing(folder: Path) -> None:
    before = start(folder)
    shutil.copytree(folder / "missing", folder / "again")
    files = sorted((folder / "again" / "nights").iterdir())
    assert len(files) == before["num_nights"] == NUM_NIGHTS
    files[0].unlink()
    times = {file: file.stat().st_mtime_ns for file in files[1:]}
    assert start(folder, "again") == before
    assert {file: file.stat().st_mtime_ns for file in files[1:]} == times
    with pytest.raises(ConfigError, match="fill='zero', expected 'mean'"):
        start(folder, "again", replace_at(CONFIG, {"fill": "mean"}))


def test_probes_of_each_subsets_own_vectors_stand_beside_the_fixed(folder: Path) -> None:
    config = replace_at(CONFIG, {"refit": True, "refit_epochs": 1000})
    answer = start(folder, "refit", config)
    out = folder / "refit"
    assert sorted(file.name for file in (out / "refit").iterdir()) == ["fold_0.npz", "fold_1.npz"]
    assert not (out / "refit_nights").exists()
    fixed = start(folder)
    for entry, plain in zip(answer["subsets"], fixed["subsets"], strict=True):
        for level in ("micro", "macro"):
            assert entry[level] == plain[level]
            gain = entry[f"{level}_refit"]["macro_f1_gain"]["value"]
            found = entry[f"{level}_refit"]["macro_f1"]["value"] - entry[level]["macro_f1"]["value"]
            assert gain == pytest.approx(found)
    whole = answer["subsets"][WHOLE]
    for level in ("micro", "macro"):
        # all epochs are fitted on, so that it is the fixed probe but for half precision
        assert abs(whole[f"{level}_refit"]["macro_f1_gain"]["value"]) < 0.02
    (out / "nights" / sorted(file.name for file in (out / "nights").iterdir())[0]).unlink()
    assert start(folder, "refit", config) == answer
    with pytest.raises(ConfigError, match="refit_epochs=1000"):
        start(folder, "refit")


def test_vectors_of_other_settings_or_no_vectors_are_refused(folder: Path) -> None:
    with pytest.raises(TableError, match="found vectors of both_halves=False"):
        start(folder, "other", replace_at(CONFIG, {"embed.both_halves": True}))
    with pytest.raises(TableError, match="found no table"):
        missing_modalities(
            str(folder / "corpus"), str(folder / "run"), str(folder), str(folder / "x"), CONFIG
        )
    assert not (folder / "other").exists()


def test_counts_of_a_night_add_up_to_what_was_asked(folder: Path) -> None:
    start(folder)
    tables = lance_io.read_table(str(folder / "cohort" / "night_embeddings.lance"), ["num_epochs"])
    epochs = sum(tables.column(0).to_pylist())
    for file in (folder / "missing" / "nights").iterdir():
        with np.load(file) as stored:
            asked = stored["counts"].sum((2, 3))
            assert (asked[:, 0] == asked[:, 1]).all()
            assert asked.max() <= epochs
            assert (np.abs(stored["cosine"][..., 0]) <= stored["cosine"][..., 1] + 1e-9).all()
