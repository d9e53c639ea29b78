from pathlib import Path

import pytest

from pipelines import simulate
from pipelines.simulate import simulate_cohort
from sleepmami.config import SimulateConfig
from sleepmami.errors import ConfigError

CONFIG = SimulateConfig(num_subjects=2, duration_h=0.1, seed=4)


def test_a_second_call_writes_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate_cohort(str(tmp_path), CONFIG)
    assert "simulate: 2 written" in capsys.readouterr().err
    simulate_cohort(str(tmp_path), CONFIG)
    said = capsys.readouterr().err
    assert "2 already there" in said
    assert "written" not in said


def test_nights_that_land_on_another_disk_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "write_cohort_night", lambda *_: None)
    with pytest.raises(ConfigError, match=r"found 2 nights written elsewhere, such as sim-0001"):
        simulate_cohort(str(tmp_path), CONFIG)
    assert not (tmp_path / "metadata.csv").exists()


def test_an_object_store_is_refused() -> None:
    with pytest.raises(ConfigError, match="local folder, got 's3://bucket/nights'"):
        simulate_cohort("s3://bucket/nights", CONFIG)
