"""Settings of the Micro-Encoder and its pretraining: Tables 8 and 9, upper halves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sleepmami.config.training import (
    EngineConfig,
    LoopConfig,
    OptimizerConfig,
    WorkersConfig,
    require_even_batch,
)
from sleepmami.errors import ConfigError, require

SharedView = Literal["joint", "blocked"]  # whether the shared encoder attends across modalities
ContrastiveView = Literal["same", "blocked"]  # what eq. 2 compares: what fusion reads, or not
MAX_WEIGHT = 1000.0  # of a cohort in `mixing`: more is a slip, and the order of a pass is in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroEncoderConfig:
    """Table 8, upper half. Widths, depths and heads in signal order."""

    patch_channels: tuple[int, ...] = (32, 64, 128)  # Patch Emb. conv blocks
    patch_kernels: tuple[int, ...] = (10, 5, 1)  # kernel = stride
    lower_dim: int = 128
    lower_depth: int = 2
    higher_dim: int = 384
    higher_depth: int = 2
    num_heads: int = 8
    merge_kernel: int = 10
    merge_stride: int = 5  # M: patches per merged token
    shared_depth: int = 4
    num_experts: int = 4
    num_active_experts: int = 2
    balancing: Literal["bias", "none"] = "bias"  # of the experts' load without a loss: moe.py
    fusion_depth: int = 4
    upsample_dim: int = 128
    decoder_dim: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 4
    merge_scheme: Literal["grid", "packed", "dense"] = "grid"  # micro_encoder.py says what each is
    shared_input: Literal["merged", "private"] = "merged"  # private: after the higher blocks
    shared_view: SharedView = "joint"  # blocked: no attention across modalities
    modality_embedding: bool = False  # a learned vector added to what enters the shared encoder

    def __post_init__(self) -> None:
        product = 1
        for kernel in self.patch_kernels:
            product *= kernel
        require(
            product == 50, "model.patch_kernels", self.patch_kernels, "kernels whose product is 50"
        )
        same = len(self.patch_channels) == len(self.patch_kernels)
        require(same, "model.patch_channels", self.patch_channels, "one width per patch kernel")
        require(
            self.patch_channels[-1] == self.lower_dim,
            "model.lower_dim",
            self.lower_dim,
            f"the last of patch_channels ({self.patch_channels[-1]})",
        )
        for name, heads in (
            ("lower_dim", self.num_heads),
            ("higher_dim", self.num_heads),
            ("decoder_dim", self.decoder_heads),
        ):
            dim = getattr(self, name)
            require(dim % (2 * heads) == 0, f"model.{name}", dim, f"a multiple of {2 * heads}")
        require(
            self.merge_kernel == 2 * self.merge_stride,
            "model.merge_kernel",
            self.merge_kernel,
            "2 x stride",
        )
        require(
            60 % self.merge_stride == 0, "model.merge_stride", self.merge_stride, "a divisor of 60"
        )
        ok = 1 <= self.num_active_experts <= self.num_experts
        require(ok, "model.num_active_experts", self.num_active_experts, "in 1..num_experts")
        for name in ("lower_depth", "higher_depth", "shared_depth", "fusion_depth"):
            require(getattr(self, name) >= 0, f"model.{name}", getattr(self, name), ">= 0")
        if self.shared_depth == 0:
            shared = {
                "shared_view": "joint",
                "shared_input": "merged",
                "modality_embedding": False,
                "balancing": "bias",
            }
            for name, without in {"fusion_depth": 0, **shared}.items():
                value, expected = getattr(self, name), f"{without!r} with model.shared_depth=0"
                require(value == without, f"model.{name}", value, expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingConfig:
    """Structured masks of section 3.1: `run` hidden patches in every 2 * run, at a random phase."""

    fast_run: int = 1  # EEG, EOG, EMG, ECG: 0.5 s
    slow_run: int = 4  # RESP, SPO2: 2 s
    placement: Literal["periodic", "jitter"] = "periodic"  # jitter: a new phase in each interval

    def __post_init__(self) -> None:
        for name in ("fast_run", "slow_run"):
            run = getattr(self, name)
            require(
                run >= 1 and 120 % (2 * run) == 0,
                f"masking.{name}",
                run,
                "such that 2*run divides 120",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroLossConfig:
    """Eqs. 1-3 and Appendix C."""

    lambda_cl: float = 0.1  # eq. 3
    lambda_koleo: float = 0.01  # eq. 3
    lambda_balance: float = 0.0  # of the experts' auxiliary loss, which eq. 3 has not; moe.py
    tau: float = 0.07  # temperature of eq. 2
    smoothing_points: int = 11  # Appendix C: moving average of the reconstruction target
    reconstruction_over: Literal["masked", "all"] = "masked"  # what the mean of eq. 1 runs over
    temporal_negatives: Literal["equation", "text"] = "equation"  # eq. 2 and its text disagree
    own_segment_neighbours: bool = True  # KoLeo: also the other slot of the segment may be nearest
    contrast_over: Literal["batch", "micro_batch"] = "batch"  # N of eq. 2 when batches accumulate
    # of eq. 2. Departs from the paper, which is "all": docs/departures.md
    slot_negatives: Literal["all", "other_segments", "same_place"] = "same_place"
    # what eq. 2 and KoLeo read of a joint shared encoder; blocked: a second pass, modalities apart.
    # auto is blocked wherever there are two views to tell apart. Departs from the paper: "same"
    contrastive_view: Literal["auto", "same", "blocked"] = "auto"

    def __post_init__(self) -> None:
        require(self.tau > 0, "loss.tau", self.tau, "> 0")
        for name in ("lambda_cl", "lambda_koleo", "lambda_balance"):
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), ">= 0")
        ok = self.smoothing_points >= 1 and self.smoothing_points % 2 == 1
        require(ok, "loss.smoothing_points", self.smoothing_points, "odd and >= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroPretrainConfig:
    """Micro-Encoder pretraining, Table 9 upper half."""

    model: MicroEncoderConfig = field(default_factory=MicroEncoderConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    loss: MicroLossConfig = field(default_factory=MicroLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 512  # segments over all workers
    shuffle_buffer: int = 1024  # rows that one micro batch after another is drawn from
    mixing: tuple[tuple[str, float], ...] = ()  # (cohort, how often a pass reads it); others once
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(validate_every=200))
    engine: EngineConfig = field(default_factory=EngineConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        require(self.batch_size >= 2, "batch_size", self.batch_size, ">= 2")
        require(self.shuffle_buffer >= 0, "shuffle_buffer", self.shuffle_buffer, ">= 0")
        names = [cohort for cohort, _ in self.mixing]
        require(len(set(names)) == len(names), "mixing", names, "each cohort once")
        for cohort, weight in self.mixing:
            require(0 <= weight <= MAX_WEIGHT, f"mixing of {cohort}", weight, f"0..{MAX_WEIGHT:g}")
        read = self.loss.lambda_cl > 0 or self.loss.lambda_koleo > 0
        if self.model.shared_depth == 0:
            found = (self.loss.lambda_cl, self.loss.lambda_koleo)
            expected = "(0, 0) with model.shared_depth=0: both compare shared embeddings"
            require(not read, "(loss.lambda_cl, loss.lambda_koleo)", found, expected)
        expected = "0 where no fusion, contrast or KoLeo reads the shared encoder"
        ok = read or self.model.shared_depth == 0 or self.model.fusion_depth > 0
        require(ok, "model.shared_depth", self.model.shared_depth, expected)
        require_even_batch(
            "batch_size", self.batch_size, self.workers.num_workers, self.engine.micro_batch
        )
        model, weight = self.model, self.loss.lambda_balance
        chooses = model.shared_depth > 0 and model.num_active_experts < model.num_experts
        expected = "0 where no router chooses among experts"
        require(chooses or weight == 0, "loss.lambda_balance", weight, expected)
        self._require_micro_batches_to_contrast()
        self._require_two_views_to_be_read()
        rows = self.loop.validate_rows
        ok = not self.loop.validate_every or rows >= self.batch_size
        require(ok, "loop.validate_rows", rows, f">= batch_size ({self.batch_size})")

    def _require_micro_batches_to_contrast(self) -> None:
        share = self.batch_size // self.workers.num_workers
        if self.loss.contrast_over == "batch":
            return
        if share <= self.engine.micro_batch or not self.loss.lambda_cl:
            raise ConfigError(
                f"loss.contrast_over='micro_batch' has no effect with {share} rows a worker, "
                f"engine.micro_batch={self.engine.micro_batch} and loss.lambda_cl="
                f"{self.loss.lambda_cl}; set it to 'batch'"
            )

    @property
    def contrastive_view(self) -> ContrastiveView:
        """`loss.contrastive_view`, where auto is decided."""
        if self.loss.contrastive_view != "auto":
            return self.loss.contrastive_view
        return "same" if self._why_one_view() else "blocked"

    def _require_two_views_to_be_read(self) -> None:
        reason = self._why_one_view()
        if self.loss.contrastive_view == "blocked" and reason:
            raise ConfigError(
                f"loss.contrastive_view='blocked' found with {reason}, expected a joint shared "
                "encoder that fusion reads and that eq. 2 or KoLeo compares; leave it at 'auto'"
            )

    def _why_one_view(self) -> str | None:
        """Why a second pass of the shared encoder would be the first once more, or unread."""
        lambdas = (self.loss.lambda_cl, self.loss.lambda_koleo)
        reasons = {
            "model.shared_depth=0": self.model.shared_depth == 0,
            "model.shared_view='blocked'": self.model.shared_view == "blocked",
            f"(loss.lambda_cl, loss.lambda_koleo)={lambdas}": not any(lambdas),
            # then nothing would read the joint pass, and shared_view=blocked is the same for less
            "model.fusion_depth=0": self.model.fusion_depth == 0,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)
