"""Settings refuse what is misspelt, of the wrong type, out of range, or without effect."""

import dataclasses

import pytest

from sleepmami.config import EngineConfig, MacroPretrainConfig, MicroPretrainConfig
from sleepmami.config_edit import from_dict, parse_assignments, replace_at, to_dict
from sleepmami.errors import ConfigError
from sleepmami.presets import PRESETS, Preset, paper, preset, tiny
from sleepmami.tables.demographics import DemographicStatistics


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name: str) -> None:
    assert from_dict(Preset, to_dict(preset(name))) == preset(name)


def test_a_dotted_name_changes_one_setting_and_no_other() -> None:
    changed = replace_at(MacroPretrainConfig(), {"dgcl.rho": 0.2})
    assert changed.dgcl.rho == 0.2
    assert dataclasses.replace(changed, dgcl=MacroPretrainConfig().dgcl) == MacroPretrainConfig()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("dgcl.roh", 0.2, "unknown setting 'dgcl.roh'"),
        ("dgl.rho", 0.2, "no group 'dgl'"),
        ("dgcl.rho", "0.2", "of type float"),
        ("dgcl.rho", 0.0, "> 0"),
        ("dgcl.include_self", 1, "of type bool"),
        ("dgcl.reduction", "max", "one of"),
        ("dgcl.reads", "mean", r"dgcl\.reads must be one of \('state', 'running_mean'\)"),
        ("dgcl", 3, "group of settings"),
        ("batch_subjects", 39, "batch_subjects=39"),
        ("loop.num_passes", True, "of type int"),
        ("dgcl.v", float("inf"), r"dgcl\.v must be a finite number, got inf"),
        ("dgcl.lambda_sex", float("nan"), "a finite number, got nan"),
        ("dgcl.rho", 10**400, "of type float"),
        ("loop.seed", -1, r"loop\.seed must be >= 0"),
        ("loop.validate_rows", 0, r"loop\.validate_rows must be >= 1"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(
    name: str, value: object, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace_at(MacroPretrainConfig(), {name: value})


def test_a_group_changes_what_it_names_and_no_more() -> None:
    changed = replace_at(tiny().macro, {"model": {"dim": 32}})
    assert changed == replace_at(tiny().macro, {"model.dim": 32})
    assert changed.model.forward_depth == tiny().macro.model.forward_depth


def test_a_whole_number_is_a_float_setting_too() -> None:
    assert replace_at(MacroPretrainConfig(), {"dgcl.rho": 1}).dgcl.rho == 1.0


def test_a_setting_without_effect_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no effect"):
        EngineConfig(kind="plain", zero_stage=1)


def test_a_batch_that_workers_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of num_workers"):
        replace_at(MicroPretrainConfig(), {"batch_size": 511})


def test_assignments_are_json_or_text() -> None:
    assert parse_assignments(["a.b=0.5", "c=[1, 2]", "d=shhs1", "e=true", "f=x=y"]) == {
        "a.b": 0.5,
        "c": [1, 2],
        "d": "shhs1",
        "e": True,
        "f": "x=y",
    }


def test_an_assignment_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dotted\.name=value"):
        parse_assignments(["dgcl.rho"])


def test_a_number_too_long_to_read_is_text_and_refused_as_such() -> None:
    with pytest.raises(ConfigError, match=r"dgcl\.rho must be of type float"):
        replace_at(MacroPretrainConfig(), parse_assignments(["dgcl.rho=" + "9" * 5000]))


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"\['paper', 'paper_literal', 'tiny'\]"):
        preset("papr")


def test_tiny_keeps_the_papers_objective() -> None:
    assert tiny().micro.loss == paper().micro.loss
    assert tiny().macro.dgcl == paper().macro.dgcl
    assert tiny().ingest == paper().ingest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.contrast_over": "micro_batch", "engine.micro_batch": 512}, "contrast_over"),
        ({"loss.contrast_over": "micro_batch", "loss.lambda_cl": 0.0}, "contrast_over"),
        ({"loop.validate_every": 0, "loop.validate_rows": 99}, r"validate_rows=99 has no effect"),
        ({"loss.lambda_balance": 0.1, "model.num_experts": 2}, "where no router chooses"),
        ({"loop.validate_rows": 511}, r"loop\.validate_rows must be >= batch_size \(512\)"),
    ],
)
def test_training_settings_without_effect_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace_at(MicroPretrainConfig(), changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dgcl.factors": []}, "one or more of"),
        ({"dgcl.factors": ["age", "age"]}, "each once"),
        ({"dgcl.factors": ["height"]}, r"dgcl\.factors must be one of"),
        ({"dgcl.factors": ["age"], "dgcl.lambda_sex": 2.0}, "no effect without sex"),
        ({"dgcl.factors": ["sex"], "dgcl.lambda_sex": 0.0}, "nothing to compare"),
        ({"dgcl.factors": ["bmi"], "dgcl.missing": "available"}, "no effect with one factor"),
        ({"dgcl.partial_cycle": "last", "dgcl.cycle_epochs": 1}, "leaves no rest"),
        ({"crop": "middle"}, "crop must be one of"),
        ({"model.input": "sum"}, r"model\.input must be one of"),
        ({"model.dim": 0}, r"model\.dim must be >= 1"),
    ],
)
def test_macro_settings_that_contradict_each_other_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace_at(MacroPretrainConfig(), changes)


@pytest.mark.parametrize("factors", [["age"], ["sex"], ["bmi"], ["age", "sex", "bmi"]])
def test_the_rows_of_table_12_are_settings(factors: list[str]) -> None:
    config = replace_at(MacroPretrainConfig(), {"dgcl.factors": factors})
    assert config.dgcl.factors == tuple(factors)
    assert from_dict(MacroPretrainConfig, to_dict(config)) == config


def test_a_partial_cycle_makes_half_a_cycle_long_enough() -> None:
    dgcl = MacroPretrainConfig().dgcl
    assert dgcl.shortest_night == 180
    assert dataclasses.replace(dgcl, partial_cycle="last").shortest_night == 90


def test_a_number_that_may_be_unknown_survives_json() -> None:
    statistics = DemographicStatistics(age_mean=50.0, age_std=9.0, bmi_mean=None, bmi_std=None)
    assert from_dict(DemographicStatistics, to_dict(statistics)) == statistics


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([["shhs", 2], ["shhs", 1]], "each cohort once"),
        ([["shhs", -0.5]], "mixing of shhs"),
        ([["shhs", float("nan")]], "mixing must be a finite number"),
        ([["shhs"]], "a list of 2"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused(value: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace_at(MicroPretrainConfig(), {"mixing": value})


def test_a_mixture_is_set_as_json() -> None:
    changes = parse_assignments(['mixing=[["shhs", 0.5], ["mros", 2]]'])
    assert replace_at(MicroPretrainConfig(), changes).mixing == (("shhs", 0.5), ("mros", 2.0))
