"""What a spawned worker runs; tests compare it with one process and all the rows."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sleepmami.config import (
    DGCLConfig,
    EngineConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    OptimizerConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.errors import TrainingError
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.masking import Masks
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import tiny
from sleepmami.tables.demographics import DemographicStatistics
from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.training import collectives
from sleepmami.training.batches import MacroBatch, SegmentBatch, macro_batch
from sleepmami.training.engine import Batch, Engine, Objective, build_engine
from sleepmami.training.loop import Schedule, run
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.macro_validation import ProbeNights, ReadNights, validate_macro
from sleepmami.training.micro_validation import validate_micro
from sleepmami.training.objectives import MicroObjective
from tests.unit.training.toy import ToyBatch, ToyObjective, toy_batch, toy_steps
from tests.unit.training.worker_rows import (
    ROWS,
    night_rows,
    segment_rows,
    share,
    strange_night_rows,
)

PLAIN = EngineConfig(kind="plain", zero_stage=0)
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_fraction=0.0)


class FixedMasks(MicroObjective):
    """Each lane hides of its rows what one worker would hide of them."""

    def draw_masks(self, num_segments: int, step: int, lane: int) -> Masks:
        generator = torch.Generator().manual_seed(step)
        hidden_SBP = torch.rand(6, ROWS, 120, generator=generator).argsort(-1) < 60
        visible_SBV = hidden_SBP.to(torch.uint8).argsort(dim=-1, stable=True)[..., :60]
        own = slice(lane * num_segments, (lane + 1) * num_segments)
        return Masks(hidden_SBP[:, own], visible_SBV[:, own])


def lanes(batch: SegmentBatch, accumulation: int) -> list[SegmentBatch]:
    """A worker's rows as its micro batches."""
    parts = zip(*(part.chunk(accumulation, 1) for part in batch), strict=True)
    return [SegmentBatch(*part) for part in parts]


def micro_objective(**changes: Any) -> MicroObjective:
    """One that gives a batch the same loss however it is dealt out."""
    torch.manual_seed(0)
    # KoLeo looks for neighbours in a micro batch only
    small = {"model.shared_depth": 1, "model.higher_dim": 32, "loss.lambda_koleo": 0.0}
    config = replace_at(tiny().micro, small | changes)
    return FixedMasks(MicroEncoder(config.model), config, seed=0)


def drawn_masks_objective(**changes: Any) -> MicroObjective:
    """With the masks and KoLeo of a real training, which depend on the lanes."""
    torch.manual_seed(0)
    small = {"model.shared_depth": 1, "model.higher_dim": 32, "loss.lambda_koleo": 0.01}
    config = replace_at(tiny().micro, small | changes)
    return MicroObjective(MicroEncoder(config.model), config, seed=0)


def accumulated(
    objective: MicroObjective, accumulation: int, config: EngineConfig = PLAIN
) -> dict[str, Any]:
    """Gradients, metrics (means over workers) and weights of a step, and the metrics of the next.

    The gradients are those that autograd makes in the engine; the metrics hold the norm of those
    that the engine has made of them.
    """
    gradients: dict[str, Tensor] = {}

    def watch(name: str, gradient: Tensor) -> None:
        gradients[name] = gradients.get(name, torch.zeros(())) + gradient

    engine = build_engine(objective, config, OPTIMIZER, 10, accumulation)
    hooks = [
        parameter.register_hook(partial(watch, name))
        for name, parameter in objective.named_parameters()
    ]
    first = engine.train_step(lanes(segment_rows(0), accumulation))
    for hook in hooks:
        hook.remove()
    weights = {name: value.clone() for name, value in objective.state_dict().items()}
    second = engine.train_step(lanes(segment_rows(1), accumulation))
    return {
        "gradients": {n: collectives.mean_over_workers(g) for n, g in gradients.items()},
        "first": {n: collectives.mean_over_workers(v).item() for n, v in first.items()},
        "second": {n: collectives.mean_over_workers(v).item() for n, v in second.items()},
        "weights": weights,
    }


def validated(accumulation: int) -> dict[str, float]:
    """What two validation steps say, dealt out as this many micro batches."""
    objective = drawn_masks_objective()
    engine = build_engine(objective, PLAIN, OPTIMIZER, 10, accumulation)
    steps = [lanes(segment_rows(step), accumulation) for step in range(2)]
    return validate_micro(engine, objective, lambda: iter(steps))


def probe_night(number: int) -> MicroNight:
    """Four to nine epochs of vectors that say a person's age and sex, and the stage of each epoch."""
    rng = np.random.default_rng(number)
    length = 4 + number % 6
    stages = rng.integers(0, 5, length).astype(np.int8)
    micro = rng.normal(0, 0.3, (length, 6, 8))
    micro[:, :, 0] += (age(number) - 50) / 10
    micro[:, :, 1] += 2.0 * (number % 2)
    micro[np.arange(length), :, 2 + stages] += 3.0
    return MicroNight(
        recording_id=f"night{number}",
        subject_id=f"subject{number}",
        cohort="made-up",
        split="",
        source_hash=None,
        modality_valid=np.ones((length, 6), np.bool_),
        age_years=age(number),
        sex="female" if number % 2 else "male",
        bmi=20.0 + number % 7,
        hypnogram=stages,
        model_id="",
        micro=micro.astype(np.float16),
    )


def age(number: int) -> float:
    return float(np.random.default_rng([number, 1]).integers(30, 71))


PROBED = ProbeNights(
    row=[*range(60)],
    num_epochs=[4 + n % 6 for n in range(60)],
    age_years=[age(n) for n in range(60)],
    female=[bool(n % 2) for n in range(60)],
    num_fit=40,
)
PROBE_STATISTICS = DemographicStatistics(age_mean=50.0, age_std=10.0, bmi_mean=23.0, bmi_std=2.0)


def macro_validated(objective: MacroObjective) -> dict[str, float]:
    """What a validation says of an objective's model."""
    engine = build_engine(objective, PLAIN, OPTIMIZER, 10, 1)

    def read(rows: Sequence[int]) -> ReadNights:
        nights = [probe_night(row) for row in rows]
        batch = macro_batch(nights, PROBE_STATISTICS, 12)
        return ReadNights(batch, [night.hypnogram for night in nights])

    def embed(batch: MacroBatch) -> tuple[Tensor, Tensor]:
        return objective.model.embed(*batch[:3])

    contrasts = [night_rows(0), night_rows(1)]
    return validate_macro(engine, objective, PROBED, read, embed, lambda: iter(contrasts))


def balance_bias(engine: Engine) -> Tensor:
    """What chooses the experts of the only shared layer besides the router's logits."""
    bias: Tensor = engine.objective.state_dict()["model.shared.0.experts.balance_bias"]
    return bias


def train_and_restart(engine: Engine, resumed: Engine, folder: Path) -> None:
    """Two steps of `engine`, one more of both; a lost bias would be one step behind."""
    for step in range(2):
        engine.train_step([segment_rows(step)])
    engine.save(folder)
    resumed.load(folder)
    assert torch.equal(balance_bias(resumed), balance_bias(engine))
    for each in (engine, resumed):
        each.train_step([segment_rows(2)])


MACRO_DGCL = DGCLConfig(cycle_epochs=4)
STRANGE_DGCL = DGCLConfig(
    cycle_epochs=4, missing="available", partial_cycle="last", reads="running_mean"
)


def macro_objective(dgcl: DGCLConfig = MACRO_DGCL) -> MacroObjective:
    torch.manual_seed(0)
    model = MacroEncoderConfig(dim=8, forward_depth=1, backward_depth=1, state_dim=4)
    config = MacroPretrainConfig(model=model, dgcl=dgcl, max_epochs=12)
    return MacroObjective(MacroEncoder(model, 8), config)


STAGES: dict[str, tuple[Callable[[], Objective], Callable[[int], Batch]]] = {
    "micro": (micro_objective, segment_rows),
    "macro": (macro_objective, night_rows),
    "macro_strange": (partial(macro_objective, STRANGE_DGCL), strange_night_rows),
}


def train(which: str, num_steps: int = 2) -> dict[str, Any]:
    """Gradients of the first step, metrics of the last (means over workers) and the weights."""
    make_objective, rows = STAGES[which]
    objective = make_objective()
    batches = [rows(step) for step in range(num_steps)]
    loss, _ = objective(batches[0], 0, collectives.rank())
    loss.backward()
    gradients = {
        name: collectives.mean_over_workers(parameter.grad)  # what an engine does
        for name, parameter in objective.named_parameters()
        if parameter.grad is not None
    }
    objective.zero_grad()
    engine = build_engine(objective, PLAIN, OPTIMIZER, 10, 1)
    for batch in batches:
        metrics = engine.train_step([batch])
    means = {name: collectives.mean_over_workers(value) for name, value in metrics.items()}
    return {
        "loss": loss.item(),
        "gradients": gradients,
        "metrics": means,
        "weights": objective.state_dict(),
    }


def gather() -> dict[str, Any]:
    """Rows of both workers, and the gradient of a loss on all of them."""
    rows = torch.arange(6.0).view(2, 3) + 10 * collectives.rank()
    rows.requires_grad_()
    gathered = collectives.gather_rows(rows, dim=1)
    (gathered * torch.arange(12.0).view(2, 6)).sum().backward()
    unequal = torch.zeros(2 + collectives.rank(), 3)
    try:
        collectives.gather_rows(unequal)
        error = ""
    except TrainingError as raised:
        error = str(raised)
    return {
        "rows": gathered.detach(),
        "bools": collectives.gather_rows(torch.tensor([collectives.rank() == 1])),
        "gradient": rows.grad,
        "error": error,
        "sum": collectives.sum_over_workers(torch.tensor([1.0, collectives.rank()])),
        "mean": collectives.mean_over_workers(torch.tensor(float(collectives.rank()))),
        "all_true": [
            collectives.all_true(True),
            collectives.all_true(collectives.rank() == 0),
        ],
    }


def poisoned_run() -> dict[str, Any]:
    """The second worker alone meets a NaN at step 2."""
    engine = build_engine(ToyObjective(), PLAIN, OPTIMIZER, 10, 1)

    def batches(start: int) -> Iterator[list[ToyBatch]]:
        for step in range(start, 10):
            batch = toy_batch(step)
            if step == 2 and collectives.rank() == 1:
                batch.y_B[0] = float("nan")
            yield [batch]

    return _stopped(engine, batches)


def uneven_run() -> dict[str, Any]:
    """The second worker alone runs out of data after two steps."""
    engine = build_engine(ToyObjective(), PLAIN, OPTIMIZER, 10, 1)

    def batches(start: int) -> Iterator[list[ToyBatch]]:
        steps = toy_steps(start)
        for _ in range(2 if collectives.rank() == 1 else 10):
            yield next(steps)

    return _stopped(engine, batches)


def _stopped(engine: Any, batches: Any) -> dict[str, Any]:
    schedule = Schedule(total_steps=10, log_every=1, checkpoint_every=100)
    reports: list[dict[str, float]] = []
    try:
        run(engine, batches, schedule, lambda metrics, save: reports.append(metrics))
        error = ""
    except TrainingError as raised:
        error = str(raised)
    weights = [p.detach().clone() for p in engine.objective.parameters()]
    return {"error": error, "step": engine.step, "weights": weights, "reports": reports}


def work(rank: int, folder: str) -> None:
    """One of two workers; leaves what it saw in `folder`."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    seen = {
        "gather": gather(),
        **{which: train(which) for which in STAGES},
        "poisoned": poisoned_run(),
        "uneven": uneven_run(),
        "accumulated": {count: accumulated(micro_objective(), count) for count in (1, 2)},
        "drawn_masks": accumulated(drawn_masks_objective(), 1),
        "validated": validated(1),
        "macro_validated": macro_validated(macro_objective()),
    }
    dist.destroy_process_group()
    torch.save(seen, Path(folder) / f"worker-{rank}.pt")


def deepspeed_run(stage: int, folder: Path) -> dict[str, Any]:
    """Six steps with a restart after three, then a NaN on the second worker alone."""
    config = EngineConfig(zero_stage=stage)
    engine = build_engine(ToyObjective(), config, OPTIMIZER, 10, 1)
    losses = [engine.train_step([_half(step)])["loss/total"] for step in range(3)]
    engine.save(folder / f"worker-{dist.get_rank()}")  # as under Ray: a folder each, then merged
    merged = folder / f"stage-{stage}"
    for rank in range(2):
        dist.barrier()
        if rank == dist.get_rank():
            shutil.copytree(folder / f"worker-{rank}", merged, dirs_exist_ok=True)
            shutil.rmtree(folder / f"worker-{rank}")
    dist.barrier()
    engine = build_engine(ToyObjective(), config, OPTIMIZER, 10, 1)
    engine.load(merged)
    losses += [engine.train_step([_half(step)])["loss/total"] for step in range(3, 6)]
    broken = _half(6)
    if dist.get_rank() == 1:
        broken.y_B[0] = float("nan")
    before = [p.detach().clone() for p in engine.objective.parameters()]
    try:
        engine.train_step([broken])
        error = ""
    except TrainingError as raised:
        error = str(raised)
    return {
        "losses": [collectives.mean_over_workers(loss).item() for loss in losses],
        "error": error,
        "unchanged": [
            bool(torch.equal(old, new))
            for old, new in zip(before, engine.objective.parameters(), strict=True)
        ],
    }


def _half(step: int) -> ToyBatch:
    return ToyBatch(*(share(part).clone() for part in toy_batch(step)))


def work_deepspeed(rank: int, folder: str) -> None:
    """One of two workers under DeepSpeed; leaves what it saw in `folder`."""
    os.environ["LOCAL_RANK"] = str(rank)  # Ray Train sets it for its workers
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    seen: dict[Any, Any] = {stage: deepspeed_run(stage, Path(folder)) for stage in range(3)}
    seen["accumulated"] = {
        (stage, count): accumulated(micro_objective(), count, EngineConfig(zero_stage=stage))
        for stage in range(3)
        for count in (1, 2)
    }
    dist.destroy_process_group()
    torch.save(seen, Path(folder) / f"worker-{rank}.pt")
