"""What a sweep leaves, of trials made up by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayTaskError

from sleepmami.config_edit import replace_at
from sleepmami.errors import TrainingError
from sleepmami.presets import preset, tiny
from tune_spaces.outcome import finish
from tune_spaces.record import SweepRecord
from tune_spaces.spaces import DGCL, Overrides
from tune_spaces.sweep import Recorder

OBJECTIVE = "validation/probe"


def point(v: float) -> Overrides:
    return {"dgcl.rho": 0.1, "dgcl.v": v, "dgcl.lambda_sex": 1.0}


class TuneTrial:
    """What Tune tells its callbacks of a trial."""

    def __init__(
        self, folder: Path, name: str, overrides: Overrides, error: Exception | None
    ) -> None:
        self.trial_id, self.config, self.pickled_error_file = name, overrides, ""
        if error:
            self.pickled_error_file = str(folder / name)
            (folder / name).write_bytes(cloudpickle.dumps(error))


def sweep(folder: Path, *trials: tuple[float, list[float], Exception | None]) -> SweepRecord:
    """A record as the recorder makes it: (v, objective at steps 10, 20, 30, error) each."""
    record = SweepRecord(str(folder))
    notes: list[tuple[int, str]] = []
    recorder = Recorder(record, 30, OBJECTIVE, lambda n, note: notes.append((n, note)))
    for number, (v, values, error) in enumerate(trials):
        trial = TuneTrial(folder, f"t{number}", point(v), error)
        recorder.on_trial_start(0, [], trial)
        for place, value in enumerate(values):
            result = {"step": 10 * (place + 1), OBJECTIVE: value, "loss/total": 2.0, "pid": 7}
            recorder.on_trial_result(0, [], trial, result)
        if error:
            recorder.on_trial_error(0, [], trial)
        else:
            recorder.on_trial_complete(0, [], trial)
    assert [n for n, _ in notes] == [1] * len(trials)
    return SweepRecord(str(folder))  # as the file has it


def finished(folder: Path, record: SweepRecord) -> dict[str, Any]:
    uri = finish(
        str(folder),
        record,
        DGCL,
        OBJECTIVE,
        stage="macro",
        preset="tiny",
        base={"loop.num_passes": 3},
        about={"seeds": {"training": [1]}},
    )
    values: dict[str, Any] = json.loads(Path(uri).read_text())
    return values


def test_the_recorder_keeps_our_metrics_and_says_how_each_trial_ended(tmp_path: Path) -> None:
    died = TrainingError("step 3: not finite")
    record = sweep(tmp_path, (0.5, [0.1, 0.2, 0.3], None), (1.0, [0.05], None), (2.0, [], died))
    assert [trial.status for trial in record.trials] == ["finished", "stopped", "failed"]
    assert record.trials[1].rows == [{"step": 10.0, OBJECTIVE: 0.05, "loss/total": 2.0}]
    assert record.trials[2].reason == "step 3: not finite"


def test_a_reason_is_the_errors_own_words_however_ray_wraps_it(tmp_path: Path) -> None:
    wrapped = RayTaskError("train", "Traceback\n  many lines", TrainingError("step 3: not finite"))
    record = sweep(tmp_path, (0.5, [], wrapped.as_instanceof_cause()))
    assert record.trials[0].reason == "step 3: not finite"


def test_the_best_is_the_best_of_those_that_ran_to_the_end(tmp_path: Path) -> None:
    record = sweep(
        tmp_path,
        (0.5, [0.1, 0.2, 0.3], None),
        (1.0, [0.9], None),  # ended early: not compared over the same steps
        (2.0, [0.1, 0.2, 0.4], None),
        (2.5, [0.1, 0.2, 0.4], None),  # of equals the earliest
    )
    best = finished(tmp_path, record)
    assert best["overrides"] == {"loop.num_passes": 3, **point(2.0)}
    about = best["about"]
    assert (about["trial"], about["value"], about["default_value"]) == ("trial_002", 0.4, 0.3)
    assert about["above_default"] == pytest.approx(0.1)
    assert about["trials"] == {"finished": 3, "stopped": 1, "failed": 0}


def test_best_json_is_a_preset(tmp_path: Path) -> None:
    record = sweep(tmp_path, (0.5, [0.1, 0.2, 0.3], None), (2.0, [0.1, 0.2, 0.4], None))
    finished(tmp_path, record)
    expected = replace_at(tiny().macro, {"loop.num_passes": 3, **point(2.0)})
    assert preset(str(tmp_path / "best.json")).macro == expected


def test_the_default_wins_where_nothing_is_better(tmp_path: Path) -> None:
    record = sweep(tmp_path, (0.5, [0.1, 0.2, 0.3], None), (2.0, [0.1, 0.2, 0.3], None))
    best = finished(tmp_path, record)["about"]
    assert (best["trial"], best["above_default"]) == ("trial_000", 0.0)


def test_the_table_has_all_trials_in_order_of_merit_and_names_those_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = sweep(
        tmp_path,
        (0.5, [0.1, 0.2, 0.3], None),
        (1.0, [], ValueError("no such thing")),
        (1.5, [0.9], None),
        (2.0, [0.1, 0.2, 0.4], None),
        (2.5, [0.9, 0.5], None),
    )
    finished(tmp_path, record)
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    order = ["trial_003", "trial_000", "trial_004", "trial_002", "trial_001"]
    assert [row["trial"] for row in rows] == order
    assert [row[OBJECTIVE] for row in rows] == ["0.4", "0.3", "0.5", "0.9", ""]
    assert rows[-1]["reason"] == "ValueError: no such thing"
    assert "trial_001 failed: ValueError: no such thing" in capsys.readouterr().err


def test_without_a_default_there_is_no_best(tmp_path: Path) -> None:
    record = sweep(tmp_path, (0.5, [], TrainingError("bang")), (2.0, [0.1, 0.2, 0.3], None))
    with pytest.raises(TrainingError, match=r"no end of trial_000.*1 of 2 trials failed.*bang"):
        finished(tmp_path, record)
    assert not (tmp_path / "best.json").exists()
    assert (tmp_path / "trials.csv").exists()
