"""What a sweep writes is a preset that training commands take, and nothing else is."""

import json
from pathlib import Path

import pytest

from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError
from sleepmami.presets import preset, preset_name, tiny


def written(folder: Path, **values: object) -> str:
    usual = {"preset": "tiny", "stage": "macro", "overrides": {"dgcl.rho": 0.2}}
    file = folder / "best.json"
    file.write_text(json.dumps({**usual, **values}))
    return str(file)


def test_a_file_changes_its_settings_and_no_others(tmp_path: Path) -> None:
    found = preset(written(tmp_path, about={"trial": "trial_007"}))
    assert found.macro == replace_at(tiny().macro, {"dgcl.rho": 0.2})
    assert (found.micro, found.embed) == (tiny().micro, tiny().embed)


def test_a_file_knows_the_name_it_builds_on(tmp_path: Path) -> None:
    assert preset_name(written(tmp_path)) == "tiny"
    assert preset_name("paper") == "paper"
    with pytest.raises(ConfigError, match="unknown preset"):
        preset_name("huge")


def test_settings_that_hold_only_together_are_changed_together(tmp_path: Path) -> None:
    overrides = {"batch_subjects": 12, "engine.micro_batch": 6}
    assert preset(written(tmp_path, overrides=overrides)).macro.batch_subjects == 12


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"overrides": {"dgcl.roh": 1.0}}, r"best\.json: unknown setting 'dgcl.roh'"),
        ({"overrides": {"dgcl.rho": -1.0}}, r"best\.json: dgcl.rho must be > 0"),
        (
            {"preset": "huge"},
            r"found preset 'huge', expected one of \['paper', 'paper_literal', 'tiny'\]",
        ),
        ({"preset": ["tiny"]}, r"found preset \['tiny'\], expected one of"),
        ({"overrides": {"dgcl.v": float("inf")}}, r"best\.json: dgcl\.v must be a finite number"),
        ({"stage": "mega"}, "found stage 'mega'"),
        ({"overrides": [1]}, "with list, expected"),
        ({"extra": 1}, r"found keys \['extra', "),
    ],
)
def test_what_is_no_preset_file_is_refused(
    tmp_path: Path, values: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        preset(written(tmp_path, **values))


def test_a_file_that_is_not_there_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json: found no such file"):
        preset(str(tmp_path / "nowhere.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match=r"bad\.json: found no JSON"):
        preset(str(tmp_path / "bad.json"))
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ConfigError, match=r"deep\.json: found no JSON"):
        preset(str(tmp_path / "deep.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.json: found a folder"):
        preset(str(tmp_path / "folder.json"))
    with pytest.raises(ConfigError, match="unknown preset 'huge'"):
        preset("huge")
