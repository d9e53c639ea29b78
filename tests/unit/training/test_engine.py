import json
from pathlib import Path

import pytest
import torch

from sleepmami.config import EngineConfig, OptimizerConfig
from sleepmami.errors import CheckpointError, TrainingError
from sleepmami.training.engine import Engine, build_engine, deepspeed_config
from tests.unit.training import two_workers
from tests.unit.training.toy import ToyBatch, ToyObjective, toy_batch

PLAIN = EngineConfig(kind="plain", zero_stage=0)
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_fraction=0.0)


def toy_engine(
    accumulation: int = 1, config: EngineConfig = PLAIN, optimizer: OptimizerConfig = OPTIMIZER
) -> Engine:
    return build_engine(ToyObjective(), config, optimizer, 100, accumulation)


def values(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in engine.objective.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def split(batch: ToyBatch) -> list[ToyBatch]:
    half = batch.num_rows // 2
    return [ToyBatch(*(part[:half] for part in batch)), ToyBatch(*(part[half:] for part in batch))]


def test_two_micro_batches_are_one_batch() -> None:
    whole, halves = toy_engine(), toy_engine(accumulation=2)
    for seed in range(5):
        batch = toy_batch(seed)
        one = whole.train_step([batch])
        two = halves.train_step(split(batch))
        assert one["loss/total"].item() == pytest.approx(two["loss/total"].item(), rel=1e-6)
    for left, right in zip(values(whole).values(), values(halves).values(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_the_step_is_adamw_on_the_clipped_gradient() -> None:
    engine = toy_engine(optimizer=OptimizerConfig(clip_norm=0.01, warmup_fraction=0.0))
    twin = ToyObjective()
    optimizer = torch.optim.AdamW(
        [
            {"params": [twin.net[0].weight, twin.net[2].weight], "weight_decay": 0.05},
            {"params": [twin.net[0].bias, twin.net[2].bias], "weight_decay": 0.0},
        ],
        lr=5e-4,
        betas=(0.9, 0.99),
    )
    metrics = engine.train_step([toy_batch(0)])
    loss, _ = twin(toy_batch(0), 0)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
    optimizer.step()
    assert norm > 0.01
    assert metrics["optim/grad_norm"].item() == pytest.approx(norm.item())
    assert metrics["optim/learning_rate"].item() == pytest.approx(5e-4)
    for left, right in zip(engine.objective.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_a_nan_loss_stops_before_the_step() -> None:
    engine = toy_engine(accumulation=2)
    engine.train_step([toy_batch(0), toy_batch(1)])
    before = values(engine)
    broken = toy_batch(2)
    broken.y_B[3] = float("nan")
    with pytest.raises(TrainingError, match=r"step 1: .* not finite .*loss/total=nan"):
        engine.train_step([broken, toy_batch(3)])
    assert same(before, values(engine))
    assert engine.step == 1


def test_a_finite_loss_with_an_infinite_gradient_stops_too() -> None:
    engine = toy_engine()
    before = values(engine)
    bias = engine.objective.net[2].bias
    bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradients are not finite"):
        engine.train_step([toy_batch(0)])
    assert same(before, values(engine))


def test_the_objective_hears_of_each_step() -> None:
    engine = toy_engine()
    for seed in range(3):
        engine.train_step([toy_batch(seed)])
    assert engine.objective.num_steps == 3


def test_a_wrong_number_of_micro_batches_is_refused() -> None:
    with pytest.raises(TrainingError, match="found 1 micro batches, expected 2"):
        toy_engine(accumulation=2).train_step([toy_batch(0)])


def test_bfloat16_autocasts_the_forward_pass_and_keeps_float32_parameters() -> None:
    half = toy_engine(config=EngineConfig(kind="plain", zero_stage=0, precision="bfloat16"))
    full = toy_engine()
    loss_half = half.train_step([toy_batch(0)])["loss/total"].item()
    loss_full = full.train_step([toy_batch(0)])["loss/total"].item()
    assert loss_half != loss_full
    assert loss_half == pytest.approx(loss_full, rel=2e-2)
    assert all(p.dtype == torch.float32 for p in half.objective.parameters())


def test_a_loaded_engine_continues_bit_for_bit(tmp_path: Path) -> None:
    engine = toy_engine()
    for seed in range(4):
        engine.train_step([toy_batch(seed)])
    engine.save(tmp_path)
    resumed = toy_engine()
    resumed.load(tmp_path)
    assert resumed.step == 4
    for seed in range(4, 8):
        engine.train_step([toy_batch(seed)])
        resumed.train_step([toy_batch(seed)])
    assert same(values(engine), values(resumed))


def test_the_experts_balance_survives_a_restart(tmp_path: Path) -> None:
    engine, resumed = (
        build_engine(two_workers.micro_objective(), PLAIN, OPTIMIZER, 10, 1) for _ in range(2)
    )
    two_workers.train_and_restart(engine, resumed, tmp_path)
    assert two_workers.balance_bias(engine).any()
    assert same(values(engine), values(resumed))


def test_a_folder_without_manifest_is_not_loaded(tmp_path: Path) -> None:
    engine = toy_engine()
    engine.save(tmp_path)
    (tmp_path / "engine.json").unlink()
    with pytest.raises(CheckpointError, match=r"engine\.json: found no such file"):
        engine.load(tmp_path)


def test_a_folder_without_state_is_not_loaded(tmp_path: Path) -> None:
    engine = toy_engine()
    engine.save(tmp_path)
    (tmp_path / "engine.pt").unlink()
    with pytest.raises(CheckpointError, match=r"engine\.pt: found no such file"):
        engine.load(tmp_path)


def test_a_folder_of_another_engine_is_not_loaded(tmp_path: Path) -> None:
    engine = toy_engine()
    engine.save(tmp_path)
    manifest = json.loads((tmp_path / "engine.json").read_text())
    (tmp_path / "engine.json").write_text(json.dumps(manifest | {"kind": "deepspeed"}))
    with pytest.raises(CheckpointError, match="found kind='deepspeed', expected 'plain'"):
        engine.load(tmp_path)


def test_deepspeed_without_a_process_group_says_what_to_do() -> None:
    with pytest.raises(TrainingError, match=r"engine\.kind='plain'"):
        toy_engine(config=EngineConfig())


def test_the_deepspeed_config_carries_the_settings() -> None:
    config = EngineConfig(zero_stage=2, precision="bfloat16", micro_batch=7)
    plain = deepspeed_config(config, OptimizerConfig(clip_norm=0.5), accumulation=3)
    assert plain["zero_optimization"] == {"stage": 2}
    assert plain["torch_autocast"]["enabled"] is True
    assert plain["train_micro_batch_size_per_gpu"] == 7
    assert plain["gradient_accumulation_steps"] == 3
    assert plain["gradient_clipping"] == 0.5
