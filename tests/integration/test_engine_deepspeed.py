"""DeepSpeed on one and on two CPU processes (gloo) against the plain engine, every ZeRO stage."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from sleepmami.config import EngineConfig, OptimizerConfig
from sleepmami.errors import CheckpointError, TrainingError
from sleepmami.training.engine import Engine, build_engine
from tests.unit.training import two_workers
from tests.unit.training.test_cached_contrast import require_equal
from tests.unit.training.toy import ToyObjective, toy_batch

pytestmark = pytest.mark.filterwarnings(  # DeepSpeed's own
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)

OPTIMIZER = OptimizerConfig(learning_rate=1e-2, clip_norm=0.5)


@pytest.fixture(scope="module", autouse=True)
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("group") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")  # Ray Train sets it for its workers
        dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def toy_engine(config: EngineConfig, accumulation: int = 2) -> Engine:
    return build_engine(ToyObjective(), config, OPTIMIZER, 12, accumulation)


def ten_steps(engine: Engine) -> list[dict[str, float]]:
    rows = []
    for step in range(engine.step, engine.step + 10):
        metrics = engine.train_step([toy_batch(2 * step), toy_batch(2 * step + 1)])
        rows.append({name: value.item() for name, value in metrics.items()})
    return rows


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_ten_steps_equal_the_plain_engine(stage: int, precision: str) -> None:
    plain_config = EngineConfig(kind="plain", zero_stage=0, precision=precision)
    plain = ten_steps(toy_engine(plain_config))
    ours = ten_steps(toy_engine(EngineConfig(zero_stage=stage, precision=precision)))
    for name in ("loss/total", "optim/grad_norm", "optim/learning_rate"):
        expected = [row[name] for row in plain]
        assert [row[name] for row in ours] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_non_finite_gradient_stops_before_the_step(stage: int) -> None:
    engine = toy_engine(EngineConfig(zero_stage=stage))
    ten_steps(engine)
    before = {name: value.clone() for name, value in engine.objective.state_dict().items()}
    broken = toy_batch(0)
    broken.y_B[0] = float("inf")
    with pytest.raises(TrainingError, match="step 10"):
        engine.train_step([broken, toy_batch(1)])
    for name, value in engine.objective.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_loaded_engine_continues_bit_for_bit(stage: int, tmp_path: Path) -> None:
    engine = toy_engine(EngineConfig(zero_stage=stage))
    ten_steps(engine)
    engine.save(tmp_path)
    resumed = toy_engine(EngineConfig(zero_stage=stage))
    resumed.load(tmp_path)
    assert resumed.step == 10
    for left, right in zip(ten_steps(engine), ten_steps(resumed), strict=True):
        assert left["loss/total"] == right["loss/total"]
        assert left["optim/grad_norm"] == right["optim/grad_norm"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_experts_balance_survives_a_restart(stage: int, tmp_path: Path) -> None:
    config = EngineConfig(zero_stage=stage, micro_batch=two_workers.ROWS)
    engine, resumed = (
        build_engine(two_workers.micro_objective(), config, OPTIMIZER, 10, 1) for _ in range(2)
    )
    two_workers.train_and_restart(engine, resumed, tmp_path)
    assert two_workers.balance_bias(engine).any()
    for name, value in engine.objective.state_dict().items():
        assert torch.equal(resumed.objective.state_dict()[name], value), name


def test_another_zero_stage_is_refused(tmp_path: Path) -> None:
    toy_engine(EngineConfig(zero_stage=1)).save(tmp_path)
    with pytest.raises(CheckpointError, match="found zero_stage=1, expected 2"):
        toy_engine(EngineConfig(zero_stage=2)).load(tmp_path)


def test_another_number_of_workers_is_refused(tmp_path: Path) -> None:
    engine = toy_engine(EngineConfig(zero_stage=1))
    engine.save(tmp_path)
    manifest = json.loads((tmp_path / "engine.json").read_text())
    (tmp_path / "engine.json").write_text(json.dumps(manifest | {"num_workers": 2}))
    with pytest.raises(CheckpointError, match="found num_workers=2, expected 1"):
        engine.load(tmp_path)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[int, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(two_workers.work_deepspeed, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"worker-{rank}.pt") for rank in range(2)]


@pytest.mark.slow  # two processes that import DeepSpeed
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_two_workers_with_a_restart_train_as_one_without(
    seen: list[dict[int, dict[str, Any]]], stage: int
) -> None:
    plain = EngineConfig(kind="plain", zero_stage=0)
    alone = build_engine(ToyObjective(), plain, two_workers.OPTIMIZER, 10, 1)
    expected = [alone.train_step([toy_batch(step)])["loss/total"].item() for step in range(6)]
    assert seen[0][stage]["losses"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_nan_on_one_worker_stops_both_before_the_step(
    seen: list[dict[int, dict[str, Any]]], stage: int
) -> None:
    for worker in seen:
        assert "step 6: loss or gradients are not finite" in worker[stage]["error"]
        assert all(worker[stage]["unchanged"])


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return two_workers.accumulated(two_workers.micro_objective(), 1)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_micro_batches_have_the_contrast_of_the_whole_batch(
    whole: dict[str, Any], stage: int, accumulation: int
) -> None:
    config = EngineConfig(zero_stage=stage)
    ours = two_workers.accumulated(two_workers.micro_objective(), accumulation, config)
    require_equal(ours, whole)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_both_engines_take_equal_steps_in_bfloat16(stage: int) -> None:
    half = EngineConfig(zero_stage=stage, precision="bfloat16")
    plain = EngineConfig(kind="plain", zero_stage=0, precision="bfloat16")
    ours, theirs = (
        two_workers.accumulated(two_workers.micro_objective(), 2, config)
        for config in (half, plain)
    )
    require_equal(ours, theirs, steps=("first",))  # bfloat16 magnifies the last bit of a weight
    for name, weight in theirs["weights"].items():
        assert weight.dtype == ours["weights"][name].dtype
        torch.testing.assert_close(ours["weights"][name], weight, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_two_workers_have_the_contrast_of_the_whole_batch(
    whole: dict[str, Any], seen: list[dict[Any, Any]], stage: int, accumulation: int
) -> None:
    for worker in seen:
        require_equal(worker["accumulated"][stage, accumulation], whole)
