"""SDB segmentation from vectors of seconds: planted events, sizes, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sleepmami.config import ApneaConfig, ProbeConfig
from sleepmami.errors import ConfigError, TableError
from sleepmami.evaluation.embeddings import open_embeddings
from sleepmami.evaluation.probe import run_probe
from sleepmami.tables import lance_io
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings, write_npz
from tests.unit.evaluation.test_probe import FOLDS, nights

SECONDS = dataclasses.replace(FOLDS, level="second")


def breathing_nights(*, noise: float, shown: bool = True) -> list[PlantedNight]:
    """Events of 20 s; their share of each token's 2.5 s is one feature, the rest is noise."""
    rng = np.random.default_rng(1)
    made = nights()
    for night in made:
        num_epochs = len(night.macro)
        start_s = 20.0 + rng.integers(0, 60) + 80.0 * np.arange(3)
        night.events = [
            {"start_s": float(at), "duration_s": 20.0, "kind": "hypopnea"} for at in start_s
        ]
        fine = (np.arange(num_epochs * 300) + 0.5) / 10
        within = ((fine[:, None] >= start_s) & (fine[:, None] < start_s + 20)).any(1)
        share = within.reshape(num_epochs, 12, 25).mean(2)
        tokens = rng.normal(size=(num_epochs, 12, 4))
        tokens[:, :, 0] = shown * share + noise * tokens[:, :, 0]
        night.tokens = tokens
    return made


def asked(folder: Path, made: list[PlantedNight], config: ProbeConfig = SECONDS) -> Any:
    out, corpus = write_embeddings(folder / "o", made), write_corpus(folder / "c", made)
    rows: list[Any] = []
    found = run_probe(
        "apnea", out, [corpus], config, lambda c: rows.extend(zip(*c.values(), strict=True))
    )
    return found, rows


def test_events_that_the_tokens_show_are_found_to_the_second(tmp_path: Path) -> None:
    found, rows = asked(tmp_path, breathing_nights(noise=0.01))
    figures = {figure.name: figure.estimate.value for figure in found.figures}
    assert (found.unit, found.level, found.num_rows) == ("second", "second", 12 * 12 * 30)
    assert figures["macro_f1"] > 0.97  # a border may lie within a token
    truth, guess = [[row[n] for row in rows] for n in (4, 5)]
    expected = f1_score(truth, guess, average="macro")
    assert figures["macro_f1"] == pytest.approx(expected)


def test_tokens_that_show_nothing_find_nothing(tmp_path: Path) -> None:
    found, _ = asked(tmp_path, breathing_nights(noise=1.0, shown=False))
    f1 = next(figure.estimate for figure in found.figures if figure.name == "macro_f1")
    assert f1.value < 0.55


def test_predictions_name_epoch_and_second_of_a_row(tmp_path: Path) -> None:
    made = breathing_nights(noise=0.01)
    made[0].epoch_valid = np.arange(12) != 3
    found, rows = asked(tmp_path, made)
    assert found.num_rows == (12 * 12 - 1) * 30
    own = [row for row in rows if row[0] == made[0].recording_id]
    places = [(row[2], row[3]) for row in own]
    assert places == [(e, s) for e in range(12) if e != 3 for s in range(30)]
    event_s = made[0].events[0]["start_s"]  # type: ignore[index]
    truth = {30 * row[2] + row[3]: row[4] for row in own}
    marks = [truth.get(int(event_s) + offset) for offset in (-1, 0, 19, 20)]
    assert marks == ["normal", "disordered", "disordered", "normal"]


def test_many_seconds_are_thinned_out_to_fit_and_all_are_tested(tmp_path: Path) -> None:
    config = dataclasses.replace(SECONDS, max_fit_epochs=1000)
    found, _ = asked(tmp_path, breathing_nights(noise=0.01), config)
    assert found.num_rows == 12 * 12 * 30
    assert max(fold.num_fit_rows for fold in found.folds) <= 1000
    assert found.notes[0].startswith("fitted on 23.1% of the seconds of each night")


def test_a_folder_of_npz_holds_the_same_seconds(tmp_path: Path) -> None:
    made = breathing_nights(noise=0.5)
    table, files = write_embeddings(tmp_path / "o", made), write_npz(tmp_path / "n", made)
    both = [list(open_embeddings(uri).read([0, 5], "second")) for uri in (table, files)]
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one.x_LF, other.x_LF, atol=2e-3)  # half precision
        assert np.array_equal(one.valid_L, other.valid_L)


def test_embeddings_without_seconds_say_how_to_have_them(tmp_path: Path) -> None:
    made = breathing_nights(noise=0.5)
    corpus = write_corpus(tmp_path / "c", made)
    for night in made[1:]:
        night.tokens = None
    out = write_embeddings(tmp_path / "some", made)
    with pytest.raises(TableError, match="r01: found none; expected vectors of the seconds"):
        run_probe("apnea", out, [corpus], SECONDS)
    made[0].tokens = None
    for uri in (write_embeddings(tmp_path / "o", made), write_npz(tmp_path / "n", made)):
        with pytest.raises(TableError, match="found no vectors of seconds; expected those of `emb"):
            run_probe("apnea", uri, [corpus], SECONDS)


def test_seconds_of_another_length_or_model_are_refused(tmp_path: Path) -> None:
    made = breathing_nights(noise=0.5)
    corpus = write_corpus(tmp_path / "c", made)
    made[2].tokens = np.zeros((11, 12, 4))
    out = write_embeddings(tmp_path / "o", made)
    with pytest.raises(TableError, match=r"found those of 11 epochs; expected .* 12 epochs"):
        run_probe("apnea", out, [corpus], SECONDS)
    other = write_embeddings(tmp_path / "p", made)
    table = lance_io.read_table(f"{other}/second_embeddings.lance")
    column = table.column("weights_sha256").to_pylist()
    changed = table.set_column(
        table.schema.get_field_index("weights_sha256"),
        table.schema.field("weights_sha256"),
        [["cd" * 32, *column[1:]]],
    )
    lance_io.delete_rows(f"{other}/second_embeddings.lance", "true")
    schema = table.schema.with_metadata(
        {b"schema_name": b"second_embeddings", b"schema_version": b"2"}
    )
    parts = lance_io.write_fragments(changed, f"{other}/second_embeddings.lance", schema)
    lance_io.commit(f"{other}/second_embeddings.lance", parts, schema, metadata={})
    with pytest.raises(TableError, match="found vectors of weights cdcdcdcdcdcd; expected"):
        run_probe("apnea", other, [corpus], SECONDS)


@pytest.mark.parametrize("task", ["staging", "age"])
def test_only_apnea_asks_for_seconds(tmp_path: Path, task: Any) -> None:
    with pytest.raises(ConfigError, match=f"a vector for each second, {task} does not ask"):
        run_probe(task, str(tmp_path), [], SECONDS)


@pytest.mark.parametrize("apnea", [ApneaConfig(unit="second"), ApneaConfig(min_overlap_s=9.0)])
def test_settings_of_epochs_have_no_effect_on_seconds(apnea: ApneaConfig) -> None:
    with pytest.raises(ConfigError, match="have no effect with level='second'"):
        dataclasses.replace(SECONDS, apnea=apnea)
