"""Every setting of the system: one frozen dataclass per stage, in pipeline order.

Defaults are the paper's numbers (Tables 8 and 9), each with its symbol or table. The same dotted
name (`dgcl.rho`) works in `--set`, in a Tune space and in a saved config.json; `config_edit.py` is
what reads and changes them. Torch-free.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from sleepmami.errors import ConfigError, require

Precision = Literal["float32", "bfloat16"]
SharedView = Literal["joint", "blocked"]  # whether the shared encoder attends across modalities
ContrastiveView = Literal["same", "blocked"]

# ------------------------------------------------------------------------------------ simulation


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulateConfig:
    """Nights with known answers; docs/simulation.md says what is and is not realistic."""

    num_subjects: int = 24
    duration_h: float = 7.5  # time in bed
    seed: int = 20260210

    def __post_init__(self) -> None:
        require(self.num_subjects >= 1, "num_subjects", self.num_subjects, ">= 1")
        require(0.1 <= self.duration_h <= 24, "duration_h", self.duration_h, "within 0.1..24")


# ---------------------------------------------------------------------------------------- ingest


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """Section 3.3. Pass bands in Hz; a notch of 0 switches it off.

    `channels` renames labels before they are read: pairs of a file's label and the words that it
    stands for, such as ("PG1", "EOG left") or ("Aux 3", "ignore").
    """

    layout: Literal["sleepmami", "sleep2vec"] = "sleepmami"  # which signals at which rates: psg.py
    eeg_eog_band_hz: tuple[float, float] = (0.3, 40.0)
    ecg_band_hz: tuple[float, float] = (0.3, 60.0)
    emg_highpass_hz: float = 10.0
    resp_lowpass_hz: float = 15.0
    notch_hz: float = 60.0
    notch_quality: float = 30.0
    detect_mains: bool = False  # notch at 50 or 60 Hz, whichever the recording shows, else notch_hz
    effort_band_hz: tuple[float, float] = (0.1, 0.7)  # RESP of layout sleep2vec: departures.md
    filter_order: int = 2  # Butterworth order of one of the two (zero-phase) passes
    min_duration_s: float = 60.0  # one segment
    max_duration_h: float = 72.0  # a longer file is refused as too large
    # keep: use the whole data records there are, as an ingest does; reject: a single file that is
    # embedded or sent, which was most likely cut off on its way
    truncated: Literal["reject", "keep"] = "reject"
    channels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("eeg_eog_band_hz", "ecg_band_hz", "effort_band_hz"):
            low, high = getattr(self, name)
            require(0 < low < high, f"preprocess.{name}", (low, high), "0 < low < high")
        if self.detect_mains and self.layout == "sleep2vec":
            raise ConfigError(
                "preprocess.detect_mains=True has no effect with preprocess.layout='sleep2vec', "
                "which has no notch; set it to False"
            )
        require(self.emg_highpass_hz > 0, "preprocess.emg_highpass_hz", self.emg_highpass_hz, "> 0")
        require(self.resp_lowpass_hz > 0, "preprocess.resp_lowpass_hz", self.resp_lowpass_hz, "> 0")
        require(self.notch_hz >= 0, "preprocess.notch_hz", self.notch_hz, ">= 0")
        require(self.notch_quality > 0, "preprocess.notch_quality", self.notch_quality, "> 0")
        require(1 <= self.filter_order <= 8, "preprocess.filter_order", self.filter_order, "1..8")
        require(
            self.min_duration_s >= 60, "preprocess.min_duration_s", self.min_duration_s, ">= 60"
        )
        require(self.max_duration_h > 0, "preprocess.max_duration_h", self.max_duration_h, "> 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """Subject-wise split by a stable hash of the subject id."""

    validation: float = 0.1
    test: float = 0.1
    salt: str = "sleepmami-1"

    def __post_init__(self) -> None:
        ok = self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1
        require(ok, "split", (self.validation, self.test), "two fractions that leave a train split")


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """EDF folder -> recordings.lance and segments.lance."""

    cohort: str = "unnamed"
    recording_ids: Literal["pseudonym", "file_name"] = "pseudonym"  # tables/pseudonyms.py
    preprocess: PreprocessConfig = field(default_factory=lambda: PreprocessConfig(truncated="keep"))
    split: SplitConfig = field(default_factory=SplitConfig)
    nights_per_commit: int = 16
    num_cpus_per_task: float = 1.0

    def __post_init__(self) -> None:
        require(bool(self.cohort), "cohort", self.cohort, "a name")
        require(self.nights_per_commit >= 1, "nights_per_commit", self.nights_per_commit, ">= 1")
        require(self.num_cpus_per_task > 0, "num_cpus_per_task", self.num_cpus_per_task, "> 0")


# ---------------------------------------------------------------------------- parts of a training


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW with cosine annealing; defaults are the Micro-Encoder's half of Table 9."""

    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.05
    warmup_fraction: float = (
        0.02  # of all steps; Table 9 names warm-up for Macro only: departures.md
    )
    clip_norm: float = 1.0  # the paper names none: departures.md

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "> 0")
        ok = 0 <= self.final_learning_rate <= self.learning_rate
        require(
            ok, "optimizer.final_learning_rate", self.final_learning_rate, "in 0..learning_rate"
        )
        for name in ("beta1", "beta2"):
            require(
                0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "in [0, 1)"
            )
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0")
        ok = 0 <= self.warmup_fraction < 1
        require(ok, "optimizer.warmup_fraction", self.warmup_fraction, "in [0, 1)")
        require(self.clip_norm > 0, "optimizer.clip_norm", self.clip_norm, "> 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """What executes a step. `plain` is torch DDP, the same five methods without DeepSpeed."""

    kind: Literal["deepspeed", "plain"] = "deepspeed"
    zero_stage: Literal[0, 1, 2] = 1
    precision: Precision = "float32"
    micro_batch: int = 64  # rows one worker takes at once; the rest of the batch accumulates
    peak_tflops: float = 0.0  # of one device, for MFU; 0 = known by its name, a CPU is measured

    def __post_init__(self) -> None:
        require(self.micro_batch >= 1, "engine.micro_batch", self.micro_batch, ">= 1")
        require(self.peak_tflops >= 0, "engine.peak_tflops", self.peak_tflops, ">= 0")
        if self.kind == "plain" and self.zero_stage:
            raise ConfigError(
                f"engine.zero_stage={self.zero_stage} has no effect with engine.kind='plain'; "
                "set it to 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Ray Train workers: two on the CPU by default; on a cluster as many as there are GPUs."""

    num_workers: int = 2
    use_gpu: bool = False
    cpus_per_worker: float = 1.0
    threads_per_worker: int = 1
    max_failures: int = 3  # worker deaths survived by restarting from the newest checkpoint

    def __post_init__(self) -> None:
        require(self.num_workers >= 1, "workers.num_workers", self.num_workers, ">= 1")
        require(self.cpus_per_worker > 0, "workers.cpus_per_worker", self.cpus_per_worker, "> 0")
        require(
            self.threads_per_worker >= 1,
            "workers.threads_per_worker",
            self.threads_per_worker,
            ">= 1",
        )
        require(self.max_failures >= 0, "workers.max_failures", self.max_failures, ">= 0")


VALIDATE_ROWS = 2048
Tracker = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long a training runs and how often it speaks and saves."""

    num_passes: int = 3  # Table 9 "training epochs"
    max_steps: int = 0  # stop earlier; 0 = run all passes
    log_every: int = 10
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    validate_every: int = 0  # steps; also at the end; 0 = never
    validate_rows: int = VALIDATE_ROWS  # at most, of the validation split, in whole batches
    trackers: tuple[Tracker, ...] = ()  # besides metrics.jsonl: docs/training.md
    seed: int = 20260210

    def __post_init__(self) -> None:
        require(self.num_passes >= 1, "loop.num_passes", self.num_passes, ">= 1")
        require(self.max_steps >= 0, "loop.max_steps", self.max_steps, ">= 0")
        require(self.validate_every >= 0, "loop.validate_every", self.validate_every, ">= 0")
        once = len(set(self.trackers)) == len(self.trackers)
        require(once, "loop.trackers", self.trackers, "each at most once")
        if not self.validate_every and self.validate_rows != VALIDATE_ROWS:
            raise ConfigError(
                f"loop.validate_rows={self.validate_rows} has no effect with "
                f"loop.validate_every=0; set it to {VALIDATE_ROWS}"
            )
        for name in ("log_every", "checkpoint_every", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"loop.{name}", getattr(self, name), ">= 1")


# ----------------------------------------------------------------------------------------- Micro


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
    slot_negatives: Literal["all", "other_segments", "same_place"] = "all"  # of eq. 2
    # what eq. 2 and KoLeo read of a joint shared encoder; blocked: a second pass, modalities apart
    contrastive_view: ContrastiveView = "same"

    def __post_init__(self) -> None:
        require(self.tau > 0, "loss.tau", self.tau, "> 0")
        for name in ("lambda_cl", "lambda_koleo", "lambda_balance"):
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), ">= 0")
        ok = self.smoothing_points >= 1 and self.smoothing_points % 2 == 1
        require(ok, "loss.smoothing_points", self.smoothing_points, "odd and >= 1")


MAX_WEIGHT = 1000.0  # of a cohort in `mixing`: more is a slip, and the order of a pass is in memory


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

    def _require_two_views_to_be_read(self) -> None:
        if self.loss.contrastive_view == "same":
            return
        lambdas = (self.loss.lambda_cl, self.loss.lambda_koleo)
        reasons = {
            "model.shared_depth=0": self.model.shared_depth == 0,
            "model.shared_view='blocked'": self.model.shared_view == "blocked",
            f"(loss.lambda_cl, loss.lambda_koleo)={lambdas}": not any(lambdas),
            # then nothing would read the joint pass, and shared_view=blocked is the same for less
            "model.fusion_depth=0": self.model.fusion_depth == 0,
        }
        for reason, holds in reasons.items():
            if holds:
                raise ConfigError(
                    f"loss.contrastive_view='blocked' found with {reason}, expected a joint shared "
                    "encoder that fusion reads and that eq. 2 or KoLeo compares; set it to 'same'"
                )


def require_even_batch(name: str, batch: int, num_workers: int, micro_batch: int) -> None:
    """Each worker takes batch / num_workers rows, in whole micro batches once it exceeds one."""
    share, rest = divmod(batch, num_workers)
    ok = rest == 0 and share >= 1 and share % min(share, micro_batch) == 0
    expected = f"a multiple of num_workers ({num_workers}), and of micro batches ({micro_batch})"
    require(ok, name, batch, expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig:
    """Embedding of epochs and nights, in batch and behind HTTP."""

    windows_per_batch: int = 32  # segments one forward pass takes
    precision: Precision = "float32"  # of the Micro-Encoder's products: embedder.py
    both_halves: bool = False  # mean of each epoch heard as first and second half: embedder.py
    nights_per_commit: int = 16
    num_actors: int = 1
    cpus_per_actor: float = 1.0
    threads_per_actor: int = 1
    use_gpu: bool = False

    def __post_init__(self) -> None:
        for name in ("windows_per_batch", "nights_per_commit", "num_actors", "threads_per_actor"):
            require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        require(self.cpus_per_actor > 0, "cpus_per_actor", self.cpus_per_actor, "> 0")


# ----------------------------------------------------------------------------------------- Macro


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroEncoderConfig:
    """Table 8, lower half; the Mamba sizes are those of Gu & Dao's reference implementation."""

    dim: int = 512
    forward_depth: int = 2
    backward_depth: int = 2
    state_dim: int = 16  # N
    conv_kernel: int = 4
    expand: int = 2

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            require(value >= 1, f"model.{item.name}", value, ">= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DGCLConfig:
    """Demographic-guided contrastive learning, eqs. 4-6; defaults are Table 9."""

    rho: float = 0.1  # softmax temperature over subject pairs, eq. 4
    v: float = 0.5  # temperature of the demographic weights, eq. 4
    lambda_sex: float = 1.0  # added to the distance when sexes differ, eq. 5
    cycle_epochs: int = 180  # 90 minutes
    include_self: bool = False  # whether k of eq. 4 runs over i itself: departures.md
    reduction: Literal["mean", "sum"] = "mean"  # sum is the literal eq. 6

    def __post_init__(self) -> None:
        for name in ("rho", "v"):
            require(getattr(self, name) > 0, f"dgcl.{name}", getattr(self, name), "> 0")
        require(self.lambda_sex >= 0, "dgcl.lambda_sex", self.lambda_sex, ">= 0")
        require(self.cycle_epochs >= 1, "dgcl.cycle_epochs", self.cycle_epochs, ">= 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroPretrainConfig:
    """Macro-Encoder pretraining, Table 9 lower half."""

    model: MacroEncoderConfig = field(default_factory=MacroEncoderConfig)
    dgcl: DGCLConfig = field(default_factory=DGCLConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-4, warmup_fraction=0.05)
    )
    batch_subjects: int = 40
    max_epochs: int = 1080  # 540 minutes; longer nights train on their first max_epochs
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(num_passes=4, log_every=1, checkpoint_every=50)
    )
    engine: EngineConfig = field(default_factory=lambda: EngineConfig(micro_batch=20))
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        # with two subjects and k != i, the softmax of eq. 4 has one term: the loss is always 0
        require(self.batch_subjects >= 3, "batch_subjects", self.batch_subjects, ">= 3")
        cycle = self.dgcl.cycle_epochs
        require(
            self.max_epochs >= cycle,
            "max_epochs",
            self.max_epochs,
            f">= dgcl.cycle_epochs ({cycle})",
        )
        if self.loop.validate_every:
            raise ConfigError(
                f"loop.validate_every={self.loop.validate_every} has no effect on the "
                "Macro-Encoder, which has no validation yet; set it to 0"
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


# --------------------------------------------------------------------------------------- serving


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """The HTTP service."""

    host: str = "127.0.0.1"
    port: int = 8000
    num_replicas: int = 1
    cpus_per_replica: float = 1.0
    threads_per_replica: int = 1
    use_gpu: bool = False
    max_body_mb: int = 1024  # a larger EDF is answered 413
    max_ongoing_requests: int = 16
    max_queued_requests: int = 64  # more are answered 429
    windows_per_batch: int = 32
    precision: Precision = "float32"  # as EmbedConfig's
    both_halves: bool = False  # as EmbedConfig's

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65535, "port", self.port, "in 0..65535")
        for name in (
            "num_replicas",
            "threads_per_replica",
            "max_body_mb",
            "max_ongoing_requests",
            "max_queued_requests",
            "windows_per_batch",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        require(self.cpus_per_replica > 0, "cpus_per_replica", self.cpus_per_replica, "> 0")
