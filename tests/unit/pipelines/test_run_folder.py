"""Settings and metrics of a run, as an interrupted and continued run leaves them."""

import json
from pathlib import Path

import pytest

from pipelines.run_folder import History, remember_run, require_same_run
from sleepmami.errors import ConfigError


def rows(file: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_step_trained_again_replaces_its_row(tmp_path: Path) -> None:
    history = History(str(tmp_path / "metrics.jsonl"))
    for step, loss in ((1, 5.0), (2, 4.0), (3, 3.0), (2, 4.5)):
        history.add({"step": step, "loss": loss})
    history.write()
    expected = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.5}, {"step": 3, "loss": 3.0}]
    assert rows(tmp_path / "metrics.jsonl") == expected


def test_a_continued_run_keeps_the_rows_from_before(tmp_path: Path) -> None:
    first = History(str(tmp_path / "metrics.jsonl"))
    first.add({"step": 1, "loss": 5.0})
    first.write()
    second = History(str(tmp_path / "metrics.jsonl"))
    second.add({"step": 2, "loss": 4.0})
    second.write()
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_run_without_news_writes_nothing(tmp_path: Path) -> None:
    History(str(tmp_path / "metrics.jsonl")).write()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_same_settings_continue_a_run(tmp_path: Path) -> None:
    settings = {"model": {"dim": 4, "widths": [1, 2]}, "seed": 1}
    remember_run(str(tmp_path), "micro", settings)
    require_same_run(str(tmp_path), "micro", settings)
    assert json.loads((tmp_path / "micro_config.json").read_text()) == settings


def test_a_run_that_never_began_refuses_nothing(tmp_path: Path) -> None:
    require_same_run(str(tmp_path), "micro", {"seed": 1})
    require_same_run(str(tmp_path), "micro", {"seed": 2})
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_change_the_result_may_change(tmp_path: Path) -> None:
    remember_run(str(tmp_path), "micro", {"workers": {"max_failures": 3}, "loop": {"log_every": 1}})
    require_same_run(
        str(tmp_path), "micro", {"workers": {"max_failures": 9}, "loop": {"log_every": 5}}
    )


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model": {"dim": 8}, "seed": 1}, "model.dim=4, expected 8"),
        ({"model": {"dim": 8}, "seed": 2}, "model.dim=4, expected 8; seed=1, expected 2"),
        (
            {"model": {"dim": 4}},
            "seed=1, expected no such setting (another version of sleepmami)",
        ),
        (
            {"model": {"dim": 4, "depth": 2}, "seed": 1},
            "model.depth=no such setting (another version of sleepmami), expected 2",
        ),
    ],
)
def test_other_settings_are_refused_by_name(
    tmp_path: Path, other: dict[str, object], named: str
) -> None:
    remember_run(str(tmp_path), "micro", {"model": {"dim": 4}, "seed": 1})
    with pytest.raises(ConfigError) as refused:
        require_same_run(str(tmp_path), "micro", other)
    file = tmp_path / "micro_config.json"
    assert str(refused.value).startswith(f"{file}: found a run with {named}; continue it")
