"""What executes one optimizer step: DeepSpeed, or plain torch with the same methods.

A step is: the objective's `before_step`, forward and backward of each micro batch, one check on all
workers that loss and gradients are finite, clip, AdamW, learning rate by schedule. A check that
fails stops every worker before any parameter changes. With precision "bfloat16" both engines
autocast the forward pass and keep parameters, gradients and AdamW in float32.
"""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sleepmami.config import EngineConfig, OptimizerConfig
from sleepmami.errors import CheckpointError, TrainingError
from sleepmami.training import collectives
from sleepmami.training.optim import build_optimizer, learning_rate

MANIFEST_FILE = "engine.json"  # written last
PLAIN_FILE = "engine.pt"
DEEPSPEED_TAG = "deepspeed"


class Batch(Protocol):
    """What the loop and the engines know of a micro batch."""

    @property
    def num_rows(self) -> int:
        """Rows of this micro batch."""

    @property
    def row_name(self) -> str:
        """What a row is: `segments`, `nights`."""

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""


class Objective(nn.Module):
    """A model with its loss: `forward(batch, step, lane) -> (loss, metrics)`.

    `lane` is the place of the micro batch among all of a step, whichever worker has it: rank *
    accumulation + its place on the worker. `loss` is a scalar; the mean over lanes is what a step
    descends. `metrics` are detached scalars, of the same names at every call; NaN stands for
    "nothing to measure".
    """

    def before_step(self, micro_batches: Sequence[Any], step: int) -> None:
        """Called on every worker, without gradients, with the micro batches of its lanes."""

    def run_model(self, batch: Any) -> None:
        """What of `forward` is the model's arithmetic, without a trace; to count it."""
        self(batch, 0)

    def after_step(self) -> None:
        """Called on every worker after each optimizer step; does nothing unless overridden."""


class Engine(ABC):
    """One worker's share of data-parallel training; `build_engine` chooses the kind."""

    def __init__(
        self,
        objective: Objective,
        config: EngineConfig,
        optimizer: OptimizerConfig,
        total_steps: int,
        accumulation: int,
    ) -> None:
        self.objective = objective
        self.step = 0  # optimizer steps done
        self.total_steps = total_steps
        self.accumulation = accumulation  # micro batches of one step
        self.device = next(objective.parameters()).device
        self.config = config
        self._optimizer_config = optimizer

    def train_step(self, micro_batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimizer step; returns this worker's metrics, averaged over its micro batches.

        Raises:
            TrainingError: on every worker and before the step, when loss or gradients of any
                worker are not finite.
        """
        if len(micro_batches) != self.accumulation:
            raise TrainingError(
                f"step {self.step}: found {len(micro_batches)} micro batches, "
                f"expected {self.accumulation}"
            )
        rate = learning_rate(self.step, self.total_steps, self._optimizer_config)
        collected: list[dict[str, Tensor]] = []
        losses: list[Tensor] = []
        micro_batches = [batch.to(self.device) for batch in micro_batches]
        with torch.no_grad(), self._autocast():
            self.objective.before_step(micro_batches, self.step)
        for index, batch in enumerate(micro_batches):
            loss, metrics = self._forward_backward(batch, index)
            collected.append(metrics)
            losses.append(loss.detach())
        means = {
            name: torch.stack([metrics[name] for metrics in collected]).nanmean()
            for name in collected[0]
        }
        finite = torch.isfinite(torch.stack(losses)).all() & self._gradients_finite()
        if not collectives.all_true(bool(finite), self.device):
            raise TrainingError(self._not_finite(losses, collected))
        norm = self._apply(rate)
        self.objective.after_step()
        self.step += 1
        means["optim/grad_norm"] = norm
        means["optim/learning_rate"] = torch.tensor(rate, device=self.device)
        return means

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """No gradients, modules in evaluation mode, and the precision of training."""
        self.objective.eval()
        try:
            with torch.no_grad(), self._autocast():
                yield
        finally:
            self.objective.train()

    def save(self, folder: Path) -> None:
        """Write what resuming needs; every worker calls it, into one folder or one each."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save_state(folder)
        if collectives.rank() == 0:
            (folder / MANIFEST_FILE).write_text(json.dumps(self._manifest(), indent=2))

    def load(self, folder: Path) -> None:
        """Continue from `save`; the folder holds the files of all workers.

        Raises:
            CheckpointError: the folder is incomplete, or of another engine or number of workers.
        """
        file = folder / MANIFEST_FILE
        if not file.is_file():
            raise CheckpointError(f"{file}: found no such file, expected a finished checkpoint")
        found, expected = json.loads(file.read_text()), self._manifest()
        names = ["kind", "zero_stage", "precision", "accumulation"]
        if self.config.zero_stage:  # each worker holds a shard of the optimizer state
            names.append("num_workers")
        for name in names:
            if found.get(name) != expected[name]:
                raise CheckpointError(
                    f"{file}: found {name}={found.get(name)!r}, expected {expected[name]!r}"
                )
        self._load_state(folder)
        self.step = int(found["step"])

    def _manifest(self) -> dict[str, object]:
        return {
            "kind": self.config.kind,
            "zero_stage": self.config.zero_stage,
            "precision": self.config.precision,
            "accumulation": self.accumulation,
            "num_workers": collectives.num_workers(),
            "step": self.step,
        }

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _lane(self, index: int) -> int:
        return collectives.rank() * self.accumulation + index

    def _is_last(self, index: int) -> bool:
        return index == self.accumulation - 1

    def _not_finite(self, losses: list[Tensor], metrics: list[dict[str, Tensor]]) -> str:
        finite = [bool(torch.isfinite(loss)) for loss in losses]
        worst = finite.index(False) if False in finite else 0
        values = ", ".join(f"{name}={float(value):.6g}" for name, value in metrics[worst].items())
        return (
            f"step {self.step}: loss or gradients are not finite on at least one worker; worker "
            f"{collectives.rank()}, micro batch {worst} has {values}; stopped before the step, no "
            "parameter changed"
        )

    @abstractmethod
    def _forward_backward(self, batch: Batch, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the micro batch's gradients / accumulation; the last also reduces over workers."""

    @abstractmethod
    def _gradients_finite(self) -> Tensor:
        """Whether this worker saw only finite gradients; a boolean scalar."""

    @abstractmethod
    def _apply(self, rate: float) -> Tensor:
        """Clip, update, clear the gradients; returns the gradient norm before clipping."""

    @abstractmethod
    def _save_state(self, folder: Path) -> None: ...

    @abstractmethod
    def _load_state(self, folder: Path) -> None: ...


class PlainEngine(Engine):
    """torch alone: DistributedDataParallel in a process group, the bare module without one."""

    def __init__(
        self,
        objective: Objective,
        config: EngineConfig,
        optimizer: OptimizerConfig,
        total_steps: int,
        accumulation: int,
    ) -> None:
        super().__init__(objective, config, optimizer, total_steps, accumulation)
        self._optimizer = build_optimizer(objective, optimizer)
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._norm = torch.zeros((), device=self.device)
        self._ddp: DistributedDataParallel | None = None
        if collectives.num_workers() > 1:
            self._ddp = DistributedDataParallel(objective, broadcast_buffers=False)

    def _forward_backward(self, batch: Batch, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        module = self._ddp or self.objective
        quiet = nullcontext() if self._is_last(index) or self._ddp is None else self._ddp.no_sync()
        with quiet:
            with self._autocast():
                loss, metrics = module(batch, self.step, self._lane(index))
            (loss / self.accumulation).backward()
        return loss, metrics

    def _gradients_finite(self) -> Tensor:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self._norm = nn.utils.get_total_norm(gradients)
        return torch.isfinite(self._norm)

    def _apply(self, rate: float) -> Tensor:
        nn.utils.clip_grads_with_norm_(
            self._parameters, self._optimizer_config.clip_norm, self._norm
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return self._norm

    def _save_state(self, folder: Path) -> None:
        if collectives.rank() == 0:  # the same on every worker
            state = {
                "objective": self.objective.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            }
            torch.save(state, folder / PLAIN_FILE)

    def _load_state(self, folder: Path) -> None:
        file = folder / PLAIN_FILE
        if not file.is_file():
            raise CheckpointError(f"{file}: found no such file, expected the state of the run")
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.objective.load_state_dict(state["objective"])
        self._optimizer.load_state_dict(state["optimizer"])


class DeepSpeedEngine(Engine):
    """DeepSpeed ZeRO 0, 1 or 2 around torch's AdamW, so that nothing is compiled at start."""

    def __init__(
        self,
        objective: Objective,
        config: EngineConfig,
        optimizer: OptimizerConfig,
        total_steps: int,
        accumulation: int,
    ) -> None:
        super().__init__(objective, config, optimizer, total_steps, accumulation)
        if not dist.is_initialized():
            raise TrainingError(
                "engine.kind='deepspeed' found no torch.distributed process group; start it under "
                "Ray Train, or set engine.kind='plain' and engine.zero_stage=0"
            )
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)
        for parameter in objective.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._watch)  # type: ignore[no-untyped-call]  # torch's own
        self._deepspeed, self._optimizer, _, _ = _import_deepspeed(self.device).initialize(
            model=objective,
            optimizer=build_optimizer(objective, optimizer),
            config=deepspeed_config(config, optimizer, accumulation),
            dist_init_required=False,
        )

    def _watch(self, gradient: Tensor) -> None:
        """Look at each gradient as it is made: ZeRO shards and frees them before the step."""
        self._finite.logical_and_(torch.isfinite(gradient).all())

    def _forward_backward(self, batch: Batch, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if index == 0:
            self._finite.fill_(True)
        loss, metrics = self._deepspeed(batch, self.step, self._lane(index))
        self._deepspeed.backward(loss)
        if not self._is_last(index):
            self._deepspeed.step()  # counts the micro batch; the last one's is _apply
        return loss, metrics

    def _gradients_finite(self) -> Tensor:
        return self._finite

    def _apply(self, rate: float) -> Tensor:
        norm = None
        if self.config.zero_stage == 0:  # DeepSpeed reports no norm there, but keeps the gradients
            parameters = self.objective.parameters()
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._deepspeed.step()
        if norm is None:
            norm = torch.as_tensor(self._deepspeed.get_global_grad_norm(), device=self.device)
        return norm.to(torch.float32)

    def _save_state(self, folder: Path) -> None:
        self._deepspeed.save_checkpoint(str(folder), tag=DEEPSPEED_TAG, save_latest=False)

    def _load_state(self, folder: Path) -> None:
        path, _ = self._deepspeed.load_checkpoint(str(folder), tag=DEEPSPEED_TAG)
        if path is None:
            raise CheckpointError(
                f"{folder / DEEPSPEED_TAG}: found no state of this worker, "
                f"expected shards of all {collectives.num_workers()} workers"
            )


def deepspeed_config(
    config: EngineConfig, optimizer: OptimizerConfig, accumulation: int
) -> dict[str, Any]:  # Any: DeepSpeed's own JSON
    """The JSON DeepSpeed takes; the only place it is written down."""
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": optimizer.clip_norm,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,  # torch's AdamW: DeepSpeed's would be compiled
        "torch_autocast": {
            "enabled": config.precision == "bfloat16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # gradients travel between workers in float32
        },
        "steps_per_print": None,
    }


def _import_deepspeed(device: torch.device) -> ModuleType:
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    import deepspeed.ops

    if device.type == "cpu":  # a shared-memory all-reduce compiled at start; gloo needs no compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    module: ModuleType = deepspeed
    return module


def build_engine(
    objective: Objective,
    config: EngineConfig,
    optimizer: OptimizerConfig,
    total_steps: int,
    accumulation: int,
) -> Engine:
    """The engine that `config.kind` names, on the device where the objective's parameters are.

    Args:
        objective: model and loss; the same parameters on every worker.
        config: kind, ZeRO stage, precision.
        optimizer: AdamW, clipping and schedule.
        total_steps: length of the learning-rate schedule.
        accumulation: micro batches of one step.
    """
    kinds: dict[str, type[Engine]] = {"plain": PlainEngine, "deepspeed": DeepSpeedEngine}
    return kinds[config.kind](objective, config, optimizer, total_steps, accumulation)
