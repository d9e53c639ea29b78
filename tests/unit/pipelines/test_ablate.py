"""Rows of Tables 4, 11 and 12: what is trained once, what is asked, what a failure costs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import ablate as stage
from pipelines.ablate import ablate
from sleepmami.config import (
    MACROS,
    MICROS,
    TABLES,
    AblateConfig,
    MacroPretrainConfig,
    MicroPretrainConfig,
    ProbeConfig,
    ProbeSplitConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError, TrainingError
from sleepmami.presets import tiny
from sleepmami.psg import MODALITIES
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import micro_night_row, recordings_table, rows_table
from sleepmami.tables.schemas import RECORDINGS, SEGMENTS, micro_nights_schema, provenance
from tests.unit.evaluation.planted import PlantedNight, write_corpus, write_embeddings

PROBE = ProbeConfig(split=ProbeSplitConfig(kind="folds"), penalties=(0.1,), num_resamples=100)
CONFIG = AblateConfig(micro=tiny().micro, macro=tiny().macro, probe=PROBE, cohort="planted")


def planted(num: int = 12) -> list[PlantedNight]:
    rng = np.random.default_rng(0)
    nights = []
    for number in range(num):
        stages = rng.integers(0, 5, 12).astype(np.int8)
        nights.append(
            PlantedNight(
                recording_id=f"r{number:02d}",
                subject_id=f"p{number:02d}",
                macro=np.eye(5)[stages] + 0.3 * rng.normal(size=(12, 5)),
                night=rng.normal(size=3),
                hypnogram=stages,
                age_years=40.0 + number,
                sex="male" if number % 3 else "female",
                ahi=float(number),
            )
        )
    return nights


def write_micro(run: Path, nights: list[PlantedNight]) -> str:
    """RUN/micro_nights.lance: as informative as the planted states, of two numbers a modality."""
    rng = np.random.default_rng(1)
    rows = []
    for night in nights:
        micro = rng.normal(size=(len(night.macro), len(MODALITIES), 2))
        micro[:, :5, 0] += night.macro
        rows.append(
            micro_night_row(
                recording_id=night.recording_id,
                subject_id=night.subject_id,
                cohort="planted",
                split=night.split,
                source_hash=None,
                micro=micro,
                modality_valid=np.ones((len(micro), len(MODALITIES)), np.bool_),
                demographics=Demographics(
                    subject_id=night.subject_id, age_years=night.age_years, sex=night.sex
                ),
                hypnogram=night.hypnogram,
                model_id="sleepmami-0123456789ab",
                weights_sha256="0123456789ab" + 52 * "0",
            )
        )
    uri, schema = str(run / "micro_nights.lance"), micro_nights_schema()
    fragments = lance_io.write_fragments(rows_table(rows, schema), uri, schema)
    lance_io.commit(uri, fragments, schema, metadata=provenance({}))
    return uri


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    folder = write_corpus(tmp_path / "corpus", planted())
    lance_io.commit(f"{folder}/segments.lance", [], SEGMENTS, metadata=provenance({}))
    return folder


@pytest.fixture
def of_two_cohorts(tmp_path: Path, corpus: str) -> str:
    """The same with six nights of another cohort."""
    others = [replace(night, recording_id=f"x{night.recording_id}") for night in planted(6)]
    folder = write_corpus(tmp_path / "others", others)
    rows = lance_io.read_table(f"{folder}/recordings.lance").to_pylist()
    table = recordings_table([row | {"cohort": "elsewhere"} for row in rows])
    uri = f"{corpus}/recordings.lance"
    fragments = lance_io.write_fragments(table, uri, RECORDINGS)
    lance_io.commit(uri, fragments, RECORDINGS, metadata=provenance({}))
    return corpus


class Stages:
    """Stands in for the four stages: notes what they were asked, and leaves planted vectors."""

    def __init__(self) -> None:
        self.micro: dict[str, MicroPretrainConfig] = {}
        self.macro: dict[str, MacroPretrainConfig] = {}
        self.calls: list[str] = []
        self.fail: Callable[[str], bool] = lambda _: False

    def pretrain_micro(self, corpus: str, run: str, config: MicroPretrainConfig) -> None:
        self._begin("micro", run)
        self.micro[Path(run).name] = config

    def embed_micro_nights(self, corpus: str, run: str, config: Any) -> str:
        uri = Path(run) / "micro_nights.lance"
        return str(uri) if uri.exists() else write_micro(Path(run), planted())

    def pretrain_macro(
        self, corpus: str, run: str, config: MacroPretrainConfig, *, micro_run: str
    ) -> None:
        self._begin("macro", run)
        assert Path(micro_run) in (Path(run), Path(run).parent)
        self.macro[Path(run).name] = config

    def embed_cohort(self, corpus: str, run: str, output: str, config: Any) -> None:
        assert config.cohorts == ("planted",)
        if not Path(output).exists():
            write_embeddings(Path(output), planted())

    def _begin(self, kind: str, run: str) -> None:
        self.calls.append(f"{kind} {Path(run).name}")
        if self.fail(self.calls[-1]):
            raise TrainingError(f"{self.calls[-1]}: the loss is not finite")


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    stages = Stages()
    for name in ("pretrain_micro", "embed_micro_nights", "pretrain_macro", "embed_cohort"):
        monkeypatch.setattr(stage, name, getattr(stages, name))
    return stages


def states(result: dict[str, Any]) -> dict[str, str]:
    return {row["row"]: row["state"] for row in result["rows"]}


# ------------------------------------------------------------------------------------------ rows


def test_every_row_names_encoders_that_there_are() -> None:
    for table in TABLES.values():
        for row in table.rows:
            assert not row.micro or row.micro in MICROS
            assert not row.macro or row.macro in MACROS
            assert len(row.paper) in (0, len(table.columns))


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_every_encoder_is_a_valid_setting_of_its_stage(name: str) -> None:
    from sleepmami.presets import preset

    for micro in MICROS.values():
        replace_at(preset(name).micro, micro.changes)
    for macro in MACROS.values():
        replace_at(preset(name).macro, macro.changes)


def test_the_paper_s_figures_are_those_of_its_tables() -> None:
    """Typed in from the paper a second time."""
    four = {row.title: row.paper for row in TABLES["4"].rows}
    assert four == {
        "Micro-Encoder only": (79.8, 80.1, 9.45, 9.69),
        "SleepMaMi": (81.9, 88.2, 6.73, 8.40),
    }
    eleven = {row.row: row.paper for row in TABLES["11"].rows if row.paper}
    assert eleven == {"1": (74.8,), "2": (75.7,), "3": (76.0,), "4": (79.8,), "5": (81.9,)}
    twelve = [row.paper[0] for row in TABLES["12"].rows]
    assert twelve == [79.8, 80.6, 80.2, 80.1, 80.7]


# ------------------------------------------------------------------------------------- a table


def test_rows_with_the_same_micro_encoder_train_it_once(
    stages: Stages, of_two_cohorts: str, tmp_path: Path
) -> None:
    ablate("12", of_two_cohorts, str(tmp_path / "out"), CONFIG)
    assert stages.calls.count("micro full_all") == 1
    assert [call for call in stages.calls if call.startswith("macro")] == [
        "macro age_one",
        "macro sex_one",
        "macro bmi_one",
        "macro dgcl_one",
    ]
    factors = {name: config.dgcl.factors for name, config in stages.macro.items()}
    assert factors == {
        "age_one": ("age",),
        "sex_one": ("sex",),
        "bmi_one": ("bmi",),
        "dgcl_one": ("age", "sex", "bmi"),
    }
    assert {config.cohorts for config in stages.macro.values()} == {("planted",)}


def test_rows_of_one_cohort_never_read_the_others(
    stages: Stages, of_two_cohorts: str, tmp_path: Path
) -> None:
    result = ablate("11", of_two_cohorts, str(tmp_path / "out"), CONFIG)
    mixing = {name: config.mixing for name, config in stages.micro.items()}
    one = (("elsewhere", 0.0),)
    assert mixing == {"private_one": one, "no_contrast_one": one, "full_one": one, "full_all": ()}
    assert stages.micro["private_one"].model.shared_depth == 0
    assert stages.macro["dgcl_all"].cohorts == ()
    assert states(result)["3"] == "not run"
    assert "Appendix D.1" in result["rows"][3]["reason"]


def test_in_a_corpus_of_one_cohort_large_scale_is_no_other_training(
    stages: Stages, corpus: str, tmp_path: Path
) -> None:
    result = ablate("11", corpus, str(tmp_path / "out"), replace(CONFIG, cohort=""))
    assert {call for call in stages.calls if call.startswith("micro")} == {
        "micro private_one",
        "micro no_contrast_one",
        "micro full_one",
    }
    (row,) = [row for row in result["rows"] if row["row"] == "4"]
    assert row["notes"] == ["the corpus has one cohort: trained on planted alone"]


def test_figures_are_in_the_paper_s_units_with_intervals(
    stages: Stages, corpus: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = ablate("4", corpus, str(out), CONFIG)
    assert states(result) == {"1": "done", "2": "done"}
    probe = json.loads((out / "table_4" / "row_2" / "staging.json").read_text())
    assert (probe["level"], probe["num_subjects"]) == ("macro", 12)
    accuracy = probe["figures"][0]
    cell = result["rows"][1]["cells"]["staging accuracy, %"]
    assert cell["value"] == 100 * accuracy["value"]
    assert (cell["low"], cell["high"]) == (100 * accuracy["low"], 100 * accuracy["high"])
    assert cell["paper"] == 81.9
    levels = {
        (row, task): json.loads((out / "table_4" / f"row_{row}" / f"{task}.json").read_text())["level"]
        for row in (1, 2)
        for task in ("staging", "sex", "age", "ahi")
    }  # fmt: skip
    assert {level for (row, _), level in levels.items() if row == 1} == {"micro"}
    assert levels[2, "age"] == levels[2, "ahi"] == levels[2, "sex"] == "night"
    text = (out / "table_4.md").read_text()
    assert f"| {cell['value']:.2f} ({cell['low']:.2f} .. {cell['high']:.2f}); paper 81.9 |" in text
    assert json.loads((out / "table_4.json").read_text()) == result


def test_one_failed_row_does_not_lose_the_others_and_is_tried_again(
    stages: Stages, of_two_cohorts: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    stages.fail = lambda call: call == "macro sex_one"
    first = ablate("12", of_two_cohorts, out, CONFIG)
    assert states(first) == {"1": "done", "2": "done", "3": "failed", "4": "done", "5": "done"}
    assert first["rows"][2]["reason"] == "macro sex_one: the loss is not finite"
    assert "failed: macro sex_one" in (tmp_path / "out" / "table_12.md").read_text()
    stages.fail = lambda _: False
    stages.calls.clear()
    second = ablate("12", of_two_cohorts, out, CONFIG)
    assert set(states(second).values()) == {"done"}
    assert stages.calls == ["micro full_all", "macro sex_one"]


def test_an_encoder_that_failed_is_not_trained_again_by_the_rows_that_share_it(
    stages: Stages, of_two_cohorts: str, tmp_path: Path
) -> None:
    stages.fail = lambda call: call == "micro full_all"
    result = ablate("12", of_two_cohorts, str(tmp_path / "out"), CONFIG)
    assert set(states(result).values()) == {"failed"}
    assert stages.calls == ["micro full_all"]


def test_a_task_without_labels_keeps_the_answers_of_the_others(
    stages: Stages, tmp_path: Path
) -> None:
    nights = [replace(night, ahi=None) for night in planted()]
    folder = write_corpus(tmp_path / "corpus", nights)
    lance_io.commit(f"{folder}/segments.lance", [], SEGMENTS, metadata=provenance({}))
    result = ablate("4", folder, str(tmp_path / "out"), CONFIG, ["1"])
    row = result["rows"][0]
    assert row["state"] == "failed"
    assert row["reason"].startswith("ahi: ")
    assert row["cells"]["age MAE, years"]["value"] > 0
    assert row["cells"]["AHI MAE, 1/h"]["value"] is None


def test_rows_may_be_chosen_and_the_table_grows(
    stages: Stages, corpus: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    assert states(ablate("4", corpus, out, CONFIG, ["1"])) == {"1": "done", "2": "not run"}
    assert states(ablate("4", corpus, out, CONFIG, ["2"])) == {"1": "done", "2": "done"}


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("change", [{"micro.loss.tau": 0.1}, {"macro.dgcl.rho": 0.2}, {"probe.seed": 1}])  # fmt: skip
def test_out_is_not_continued_with_other_settings(
    stages: Stages, corpus: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    out = str(tmp_path / "out")
    ablate("4", corpus, out, CONFIG, ["1"])
    stages.calls.clear()
    with pytest.raises(ConfigError, match="continue it with its own settings"):
        ablate("4", corpus, out, replace_at(CONFIG, change), ["2"])
    assert stages.calls == []


def test_out_is_not_continued_on_other_data(
    stages: Stages, corpus: str, of_two_cohorts: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    ablate("4", corpus, out, CONFIG, ["1"])
    uri = f"{corpus}/recordings.lance"
    lance_io.delete_recordings(uri, ["r00"])
    with pytest.raises(ConfigError, match=r"recordings_version"):
        ablate("4", corpus, out, CONFIG, ["2"])


def test_the_tested_cohort_must_be_named_where_there_are_several(
    stages: Stages, of_two_cohorts: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"found cohorts \['elsewhere', 'planted'\]"):
        ablate("4", of_two_cohorts, str(tmp_path / "out"), replace(CONFIG, cohort=""))


@pytest.mark.parametrize("row", ["3", "7"])
def test_a_row_that_is_not_defined_cannot_be_asked_for(
    stages: Stages, corpus: str, tmp_path: Path, row: str
) -> None:
    with pytest.raises(ConfigError, match=rf"--rows '{row}' of table 11: there are \['1', '2a',"):
        ablate("11", corpus, str(tmp_path / "out"), CONFIG, [row])


@pytest.mark.parametrize(
    "change",
    [
        {"macro.dgcl.factors": ["age"]},
        {"macro.cohorts": ["a"]},
        {"embed.cohorts": ["a"]},
        {"probe.cohorts": ["a"]},
        {"probe.level": "micro"},
        {"probe.outcomes": ["mi"]},
    ],
)
def test_what_rows_differ_in_and_what_no_table_asks_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace_at(CONFIG, change)


def test_a_run_of_the_same_settings_is_taken_as_it_is(
    stages: Stages, of_two_cohorts: str, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    ablate("11", of_two_cohorts, str(out), CONFIG, ["2", "5"], run=str(run))
    assert set(stages.micro) == {"full_one", "run"}
    assert set(stages.macro) == {"run"}
    assert stages.micro["run"] == CONFIG.micro
    assert sorted(path.name for path in (out / "encoders").iterdir()) == ["full_one", "vectors"]
