"""Settings of the Macro-Encoder and its pretraining: Tables 8 and 9, lower halves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from sleepmami.config.training import EngineConfig, LoopConfig, OptimizerConfig, WorkersConfig
from sleepmami.errors import ConfigError, require

Factor = Literal["age", "sex", "bmi"]
PartialCycle = Literal["drop", "last"]
Crop = Literal["ends", "start"]
Reads = Literal["state", "running_mean"]
FACTORS: tuple[Factor, ...] = ("age", "sex", "bmi")
DEFAULT_LAMBDA_SEX = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroEncoderConfig:
    """Table 8, lower half; the Mamba sizes are those of Gu & Dao's reference implementation."""

    dim: int = 512
    forward_depth: int = 2
    backward_depth: int = 2
    state_dim: int = 16  # N
    conv_kernel: int = 4
    expand: int = 2
    input: Literal["concat", "mean"] = "concat"  # six modalities side by side, or their mean
    # standardized: each micro feature less its mean over its deviation, of the training nights
    input_scale: Literal["standardized", "raw"] = "standardized"  # why: departures.md
    post_norm: Literal["update", "residual"] = "update"  # which PostNorm: departures.md

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int):
                require(value >= 1, f"model.{item.name}", value, ">= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DGCLConfig:
    """Demographic-guided contrastive learning, eqs. 4-6; defaults are Table 9."""

    rho: float = 0.1  # softmax temperature over subject pairs, eq. 4
    v: float = 0.5  # temperature of the demographic weights, eq. 4
    lambda_sex: float = DEFAULT_LAMBDA_SEX  # added to the distance when sexes differ, eq. 5
    cycle_epochs: int = 180  # 90 minutes
    factors: tuple[Factor, ...] = FACTORS  # what eq. 5 compares; Table 12
    missing: Literal["exclude", "available"] = "exclude"  # nights without one of them: App. C
    partial_cycle: PartialCycle = "drop"  # last: a rest of half a cycle ends at the last epoch
    # Z of eq. 4: the state at a cycle's end, or the mean of the valid epochs' states up to it
    reads: Reads = "state"
    similarity: Literal["cosine", "dot"] = "cosine"  # <Z_i, Z_j> of eq. 4
    include_self: bool = False  # whether k of eq. 4 runs over i itself: departures.md
    reduction: Literal["mean", "sum"] = "mean"  # sum is the literal eq. 6

    def __post_init__(self) -> None:
        for name in ("rho", "v"):
            require(getattr(self, name) > 0, f"dgcl.{name}", getattr(self, name), "> 0")
        require(self.lambda_sex >= 0, "dgcl.lambda_sex", self.lambda_sex, ">= 0")
        require(self.cycle_epochs >= 1, "dgcl.cycle_epochs", self.cycle_epochs, ">= 1")
        once = len(set(self.factors)) == len(self.factors)
        require(
            bool(self.factors) and once,
            "dgcl.factors",
            self.factors,
            f"one or more of {FACTORS}, each once",
        )
        if "sex" not in self.factors and self.lambda_sex != DEFAULT_LAMBDA_SEX:
            raise ConfigError(
                f"dgcl.lambda_sex={self.lambda_sex} has no effect without sex in dgcl.factors "
                f"({list(self.factors)}); leave it at {DEFAULT_LAMBDA_SEX}"
            )
        if self.factors == ("sex",) and self.lambda_sex == 0:
            raise ConfigError(
                "dgcl.lambda_sex=0 leaves dgcl.factors=['sex'] nothing to compare: all distances "
                "would be 0"
            )
        if len(self.factors) == 1 and self.missing == "available":
            raise ConfigError(
                f"dgcl.missing='available' has no effect with one factor ({self.factors[0]}): a "
                "night without it has nothing in common with others; set it to 'exclude'"
            )
        if self.cycle_epochs == 1 and self.partial_cycle == "last":
            raise ConfigError(
                "dgcl.partial_cycle='last' has no effect with dgcl.cycle_epochs=1, which leaves no "
                "rest; set it to 'drop'"
            )

    @property
    def shortest_night(self) -> int:
        """Epochs of the shortest night in which some cycle ends."""
        return half_cycle(self.cycle_epochs) if self.partial_cycle == "last" else self.cycle_epochs


def half_cycle(cycle_epochs: int) -> int:
    """The shortest rest of a night that `partial_cycle="last"` takes for a cycle."""
    return (cycle_epochs + 1) // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroPretrainConfig:
    """Macro-Encoder pretraining, Table 9 lower half."""

    model: MacroEncoderConfig = field(default_factory=MacroEncoderConfig)
    dgcl: DGCLConfig = field(default_factory=DGCLConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-4, warmup_fraction=0.05)
    )
    batch_subjects: int = 40
    max_epochs: int = 1080  # 540 minutes
    cohorts: tuple[str, ...] = ()  # whose nights train and validate; none named: of all
    crop: Crop = "ends"  # which max_epochs of a longer night each direction reads: departures.md
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(num_passes=4, log_every=1, checkpoint_every=50)
    )
    engine: EngineConfig = field(default_factory=lambda: EngineConfig(micro_batch=20))
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        # with two subjects and k != i, the softmax of eq. 4 has one term: the loss is always 0
        require(self.batch_subjects >= 3, "batch_subjects", self.batch_subjects, ">= 3")
        once = len(set(self.cohorts)) == len(self.cohorts)
        require(once, "cohorts", self.cohorts, "a list of different names")
        cycle = self.dgcl.cycle_epochs
        require(
            self.max_epochs >= cycle,
            "max_epochs",
            self.max_epochs,
            f">= dgcl.cycle_epochs ({cycle})",
        )
        workers = self.workers.num_workers
        if (
            self.batch_subjects % workers
            or self.batch_subjects // workers != self.engine.micro_batch
        ):
            raise ConfigError(
                f"batch_subjects={self.batch_subjects} must be num_workers ({workers}) x "
                f"engine.micro_batch ({self.engine.micro_batch}): the contrast runs over the whole "
                "batch, so nothing accumulates"
            )
