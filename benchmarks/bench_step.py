"""What one optimizer step and one embedding cost, on whatever device is there.

Random inputs, one process, no Ray: the price of the models alone. README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sleepmami import __version__
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig
from sleepmami.config_edit import replace_at
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import PRESETS, preset
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, SEGMENT_SAMPLES
from sleepmami.training.batches import MacroBatch, SegmentBatch
from sleepmami.training.engine import Batch, Engine, Objective, build_engine
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.objectives import MicroObjective

MICRO_BATCH = 8  # segments
MACRO_BATCH, MACRO_BATCH_FULL = 8, 40  # nights
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--full", action="store_true", help="also a Macro step of 40 nights")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the median counts")
    parser.add_argument("--precision", choices=sorted(DTYPES), default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    result = measure(arguments)
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every number of the report."""
    device = torch.device(arguments.device)
    settings = preset(arguments.preset)
    micro_dim = settings.micro.model.higher_dim
    micro, macro = MicroEncoder(settings.micro.model), MacroEncoder(settings.macro.model, micro_dim)
    parameters = {"micro": parameter_counts(micro), "macro": parameter_counts(macro)}
    gemm_per_s = gemm_flop_per_s(device, DTYPES[arguments.precision])
    clock = Clock(device, arguments.repeats, gemm_per_s)

    objective: Objective = MicroObjective(micro.to(device), settings.micro, seed=0)
    engine = one_process_engine(objective, settings.micro, MICRO_BATCH, arguments.precision)
    segments = random_segments(MICRO_BATCH).to(device)
    runs = [
        clock.step("micro step", engine, segments),
        clock.inference("micro embed", MICRO_BATCH, lambda: embed_micro(micro, segments)),
    ]
    objective = MacroObjective(macro.to(device), settings.macro)
    for size in (MACRO_BATCH, MACRO_BATCH_FULL) if arguments.full else (MACRO_BATCH,):
        engine = one_process_engine(objective, settings.macro, size, arguments.precision)
        nights = random_nights(size, settings.macro.max_epochs, micro_dim).to(device)
        runs.append(clock.step("macro step", engine, nights))
    night = random_nights(1, settings.macro.max_epochs, micro_dim).to(device)
    runs.append(clock.inference("macro embed", 1, lambda: macro.embed(*night[:3])))
    return {
        "preset": arguments.preset,
        "precision": arguments.precision,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "machine": machine(device),
        "code": {"version": __version__, **git_state()},
        "parameters": parameters,
        "gemm_gflop_per_s": gemm_per_s / 1e9,
        "runs": runs,
    }


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Trainable numbers per direct part of a model, and in all."""
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    total = sum(p.numel() for p in model.parameters())
    own = total - sum(parts.values())
    return parts | ({"own": own} if own else {}) | {"total": total}


def gemm_flop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """What a large square matrix product reaches: the yardstick of this run, best of five."""
    size = GEMM_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best_s = min(busy_s(*timed(lambda: left @ right, device), device) for _ in range(6))
    return 2 * size**3 / best_s


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one call; CPU seconds are those of all threads of this process."""
    synchronize(device)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def busy_s(wall_s: float, cpu_s: float, device: torch.device) -> float:
    """Seconds the arithmetic took: CPU seconds do not grow when other programs want the cores."""
    return wall_s if device.type == "cuda" else cpu_s


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock:
    """Runs something a few times and says what it cost."""

    def __init__(self, device: torch.device, repeats: int, gemm_per_s: float) -> None:
        self.device, self.repeats, self.gemm_per_s = device, repeats, gemm_per_s

    def step(self, name: str, engine: Engine, batch: Batch) -> dict[str, Any]:
        """One optimizer step; the engine raises unless loss and gradients are finite."""
        metrics: dict[str, Tensor] = {}

        def work() -> None:
            metrics.update(engine.train_step([batch]))

        run = self._run(name, batch.num_rows, batch.row_name, work)
        return run | {"loss": metrics["loss/total"].item()}

    def inference(self, name: str, rows: int, work: Callable[[], object]) -> dict[str, Any]:
        """An embedding without gradients."""
        kind = "segments" if name.startswith("micro") else "nights"
        with torch.inference_mode():
            return self._run(name, rows, kind, work)

    def _run(self, name: str, rows: int, kind: str, work: Callable[[], object]) -> dict[str, Any]:
        mapping = {torch.ops.aten._grouped_mm: grouped_mm_flop}
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:  # also the warm-up
            work()
        walls, cpus = zip(*(timed(work, self.device) for _ in range(self.repeats)), strict=True)
        wall_s, cpu_s = statistics.median(walls), statistics.median(cpus)
        flop = counter.get_total_flops()
        return {
            "name": name,
            "batch": rows,
            "rows": kind,
            "seconds": wall_s,
            "cpu_seconds": cpu_s,
            "rows_per_core_second": rows / cpu_s,
            "rows_per_second": rows / wall_s,
            "gflop": flop / 1e9,
            "gemm_share": flop / busy_s(wall_s, cpu_s, self.device) / self.gemm_per_s,
        }


def one_process_engine(
    objective: Objective,
    config: MicroPretrainConfig | MacroPretrainConfig,
    rows: int,
    precision: str,
) -> Engine:
    """Plain torch: what DeepSpeed adds depends on the number of workers, not on the model."""
    changes = {"kind": "plain", "zero_stage": 0, "micro_batch": rows, "precision": precision}
    engine = replace_at(config.engine, changes)
    return build_engine(objective, engine, config.optimizer, total_steps=100, accumulation=1)


def grouped_mm_flop(
    left: torch.Size, right: torch.Size, *rest: object, out_shape: torch.Size, **more: object
) -> int:
    """The experts, which torch does not count: rows, shared out over groups, times both widths."""
    if len(left) == 2 and len(right) == 2:  # the gradient of the weights: groups along the sum
        return 2 * left[0] * left[1] * right[1]
    return 2 * left[0] * left[1] * right[-1]


def random_segments(rows: int) -> SegmentBatch:
    """All six modalities present."""
    return SegmentBatch(
        signal_SBT=torch.randn(len(MODALITIES), rows, SEGMENT_SAMPLES),
        valid_SBE=torch.ones(len(MODALITIES), rows, SEGMENT_EPOCHS, dtype=torch.bool),
    )


def random_nights(rows: int, num_epochs: int, micro_dim: int) -> MacroBatch:
    """Nights of full length, all modalities present."""
    return MacroBatch(
        micro_BLMD=torch.randn(rows, num_epochs, len(MODALITIES), micro_dim),
        modality_valid_BLM=torch.ones(rows, num_epochs, len(MODALITIES), dtype=torch.bool),
        length_B=torch.full((rows,), num_epochs),
        age_B=torch.randn(rows),
        bmi_B=torch.randn(rows),
        female_B=torch.rand(rows) < 0.5,
    )


def embed_micro(model: MicroEncoder, segments: SegmentBatch) -> Tensor:
    """What inference does with a batch of segments."""
    modality_S = torch.arange(len(MODALITIES), device=segments.signal_SBT.device)
    return model.embed(segments.signal_SBT, modality_S, segments.valid_SB)


def machine(device: torch.device) -> dict[str, Any]:
    """Where the numbers come from."""
    return {
        "cpu": cpu_name(),
        "logical_cores": torch.multiprocessing.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def cpu_name() -> str:
    """The model name Linux gives, else what Python knows."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def git_state() -> dict[str, Any]:
    """Commit of this checkout and whether the library differs from it; empty outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../sleepmami", "bench_step.py")
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {}


def print_table(result: dict[str, Any]) -> None:
    """The numbers a person compares."""
    where = result["machine"]
    print(
        f"{result['preset']}, {where['cpu']}, {where['device']}, {result['threads']} thread(s), "
        f"{result['precision']}, large GEMM {result['gemm_gflop_per_s']:.1f} GFLOP/s"
    )
    for model, parts in result["parameters"].items():
        print(f"{model}: " + ", ".join(f"{name} {count:,}" for name, count in parts.items()))
    print(f"{'':12s} batch  seconds  CPU s  rows/core-s    GFLOP  GEMM share")
    for run in result["runs"]:
        print(
            f"{run['name']:12s} {run['batch']:5d} {run['seconds']:8.3f} {run['cpu_seconds']:6.2f} "
            f"{run['rows_per_core_second']:12.2f} {run['gflop']:8.1f} {run['gemm_share']:11.1%}"
        )


if __name__ == "__main__":
    main()
