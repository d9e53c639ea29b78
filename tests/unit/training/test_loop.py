import itertools
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from sleepmami.config import EngineConfig, LoopConfig, OptimizerConfig
from sleepmami.errors import TrainingError
from sleepmami.training.engine import Engine, build_engine
from sleepmami.training.loop import Save, Schedule, run
from tests.unit.training.toy import ToyBatch, ToyObjective, toy_steps

Reports = list[tuple[dict[str, float], bool]]


def toy_engine(total_steps: int) -> Engine:
    config = EngineConfig(kind="plain", zero_stage=0)
    optimizer = OptimizerConfig(learning_rate=3e-2)
    return build_engine(ToyObjective(), config, optimizer, total_steps, 1)


def schedule(total: int, log: int = 1000, checkpoint: int = 1000) -> Schedule:
    return Schedule(total_steps=total, log_every=log, checkpoint_every=checkpoint)


def reports_of(engine: Engine, plan: Schedule) -> Reports:
    reports: Reports = []
    run(engine, toy_steps, plan, lambda m, save: reports.append((m, save is not None)))
    return reports


def test_the_loss_of_a_line_falls_a_hundredfold() -> None:
    reports = reports_of(toy_engine(300), schedule(300, log=10))
    assert reports[-1][0]["loss/total"] < reports[0][0]["loss/total"] / 100


def test_reports_come_every_log_and_every_checkpoint_step_and_at_the_end() -> None:
    reports = reports_of(toy_engine(11), schedule(11, log=2, checkpoint=4))
    steps = [(metrics["step"], saved) for metrics, saved in reports]
    assert steps == [(2, False), (4, True), (6, False), (8, True), (10, False), (11, True)]


def test_validation_comes_every_so_many_steps_and_at_the_end() -> None:
    plan = replace(schedule(7, log=2), validate_every=3)
    reports: list[dict[str, float]] = []
    seen = itertools.count()
    run(
        toy_engine(7),
        toy_steps,
        plan,
        lambda metrics, save: reports.append(metrics),
        lambda: {"validation/total": float(next(seen))},
    )
    found = [(row["step"], row.get("validation/total")) for row in reports]
    assert found == [(2, None), (3, 0.0), (4, None), (6, 1.0), (7, 2.0)]


def test_metrics_are_means_over_the_steps_since_the_last_report() -> None:
    each = [m["loss/total"] for m, _ in reports_of(toy_engine(4), schedule(4, log=1))]
    pairs = [m["loss/total"] for m, _ in reports_of(toy_engine(4), schedule(4, log=2))]
    assert pairs == pytest.approx([(each[0] + each[1]) / 2, (each[2] + each[3]) / 2])


def test_metric_names_and_meaning() -> None:
    (first, _), (last, _) = reports_of(toy_engine(4), schedule(4, log=2))
    assert set(last) == {
        "loss/total",
        "optim/learning_rate",
        "optim/grad_norm",
        "data/points_per_s",
        "data/wait_fraction",
        "compute/mfu",
        "memory/peak_rss_gb",
        "eta_s",
        "step",
    }  # and not loss/nothing, which is NaN: no worker could measure it
    assert last["data/points_per_s"] > 0
    assert 0 <= last["data/wait_fraction"] <= 1
    assert first["eta_s"] > 0
    assert last["eta_s"] == 0


def test_a_resumed_run_ends_bit_equal_to_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, first, second = toy_engine(12), toy_engine(12), toy_engine(12)
    run(whole, toy_steps, schedule(12), lambda metrics, save: None)

    def keep(metrics: dict[str, float], save: Save | None) -> None:
        if save and metrics["step"] == 5:
            save(tmp_path)

    def dies(start: int) -> Iterator[list[ToyBatch]]:
        yield from islice(toy_steps(start), 7)
        raise OSError("the worker died")

    with pytest.raises(OSError, match="died"):
        run(first, dies, schedule(12, checkpoint=5), keep)
    second.load(tmp_path)
    run(second, toy_steps, schedule(12), lambda metrics, save: None)
    for left, right in zip(
        whole.objective.parameters(), second.objective.parameters(), strict=True
    ):
        assert torch.equal(left, right)


def test_what_a_report_saves_is_the_state_of_its_step(tmp_path: Path) -> None:
    def report(metrics: dict[str, float], save: Save | None) -> None:
        assert save
        save(tmp_path)

    engine, resumed = toy_engine(3), toy_engine(3)
    run(engine, toy_steps, schedule(3), report)
    resumed.load(tmp_path)
    assert resumed.step == 3
    for left, right in zip(
        engine.objective.parameters(), resumed.objective.parameters(), strict=True
    ):
        assert torch.equal(left, right)


def test_a_nan_batch_stops_the_run_with_the_parameters_of_the_step_before() -> None:
    engine, twin = toy_engine(10), toy_engine(10)

    def poisoned(start: int) -> Iterator[list[ToyBatch]]:
        for step, micro_batches in enumerate(toy_steps(start)):
            if step == 3:
                micro_batches[0].y_B.fill_(float("nan"))
            yield micro_batches

    with pytest.raises(TrainingError, match="step 3"):
        run(engine, poisoned, schedule(10), lambda metrics, save: None)
    for micro_batches in islice(toy_steps(0), 3):
        twin.train_step(micro_batches)
    for left, right in zip(engine.objective.parameters(), twin.objective.parameters(), strict=True):
        assert torch.equal(left, right)


def test_data_that_ends_early_is_an_error_that_names_the_step() -> None:
    with pytest.raises(TrainingError, match="step 2: found too little data"):
        run(
            toy_engine(5),
            lambda start: islice(toy_steps(start), 2),
            schedule(5),
            lambda metrics, save: None,
        )


def test_a_finished_run_does_nothing_more() -> None:
    engine = toy_engine(2)
    reports_of(engine, schedule(2))
    assert reports_of(engine, schedule(2)) == []


@pytest.mark.parametrize(("max_steps", "expected"), [(0, 21), (5, 5), (100, 21)])
def test_total_steps_are_passes_cut_at_max_steps(max_steps: int, expected: int) -> None:
    plan = Schedule.of(LoopConfig(num_passes=3, max_steps=max_steps), steps_per_pass=7)
    assert plan.total_steps == expected


def test_too_little_data_for_one_step_is_an_error() -> None:
    with pytest.raises(TrainingError, match="too little data"):
        Schedule.of(LoopConfig(), steps_per_pass=0)
