"""What one optimizer step and one embedding cost, on whatever device is there.

Random inputs, one process, no Ray: the price of the models alone. README.md says how to read it.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from provenance import git_state, machine
from step_clock import Clock
from torch import Tensor, nn

from sleepmami import __version__
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig
from sleepmami.config_edit import replace_at
from sleepmami.models.cpu import prepare_cpu
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import PRESETS, preset
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, SEGMENT_SAMPLES
from sleepmami.training.batches import MacroBatch, SegmentBatch
from sleepmami.training.engine import Engine, Objective, build_engine
from sleepmami.training.macro_objective import MacroObjective
from sleepmami.training.objectives import MicroObjective

MICRO_BATCH = {"cpu": 32, "cuda": 512}  # segments that one forward and backward takes
ACCUMULATION = {"cpu": 2, "cuda": 1}  # micro batches of a step; the paper's 512 would be 16
EMBED_BATCH = {"cpu": 32, "cuda": 512}  # EmbedConfig.windows_per_batch on a CPU
MACRO_BATCH, MACRO_BATCH_FULL = 8, 40  # nights
NIGHT_SEGMENTS = 480  # eight hours
PAPER_SEGMENTS, PAPER_PASSES = 9.48e6, 3  # Table 9
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="paper")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--macro", action="store_true", help="also the Macro-Encoder")
    parser.add_argument("--full", action="store_true", help="its step with 40 nights, too")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs; the median counts")
    parser.add_argument("--precision", choices=sorted(DTYPES), help="default bfloat16 on CUDA")
    parser.add_argument("--micro-batch", type=int, help="segments; default 32, on CUDA 512")
    parser.add_argument("--accumulation", type=int, help="micro batches of a step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    kind = torch.device(arguments.device).type
    if arguments.precision is None:
        arguments.precision = "bfloat16" if kind == "cuda" else "float32"
    arguments.micro_batch = arguments.micro_batch or MICRO_BATCH[kind]
    arguments.accumulation = arguments.accumulation or ACCUMULATION[kind]
    prepare_cpu(arguments.threads)
    torch.manual_seed(0)
    result = measure(arguments)
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every number of the report, the ones asked for most often first."""
    device = torch.device(arguments.device)
    settings = preset(arguments.preset)
    micro_dim = settings.micro.model.higher_dim
    micro = MicroEncoder(settings.micro.model).to(device)
    macro = MacroEncoder(settings.macro.model, micro_dim).to(device)
    clock = Clock(device, arguments.repeats)
    runs = micro_runs(clock, micro, settings.micro, arguments)
    if arguments.macro or arguments.full:
        sizes = (MACRO_BATCH, MACRO_BATCH_FULL) if arguments.full else (MACRO_BATCH,)
        runs += macro_runs(clock, macro, settings.macro, micro_dim, sizes, arguments.precision)
    return {
        **headline({run["name"]: run for run in runs}, device),
        "preset": arguments.preset,
        "precision": arguments.precision,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "machine": machine_with(device),
        "code": {"version": __version__, **git_state("../sleepmami", "bench_step.py")},
        "parameters": {"micro": parameter_counts(micro), "macro": parameter_counts(macro)},
        "runs": runs,
    }


def micro_runs(
    clock: Clock, model: MicroEncoder, config: MicroPretrainConfig, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """A training step, and embedding in both precisions."""
    engine = one_process_engine(
        MicroObjective(model, config, seed=0),
        config,
        arguments.micro_batch,
        arguments.precision,
        arguments.accumulation,
    )
    segments = random_segments(arguments.micro_batch).to(clock.device)
    dtype = DTYPES[arguments.precision]
    runs = [clock.step("micro step", engine, segments, dtype)]
    segments = random_segments(EMBED_BATCH[clock.device.type]).to(clock.device)
    for name, embed_dtype in (("micro embed", torch.float32), ("micro embed bf16", torch.bfloat16)):
        frozen = model.for_inference(embed_dtype)
        work = functools.partial(embed_micro, frozen, segments)
        runs.append(clock.inference(name, segments, work, embed_dtype))
    return runs


def macro_runs(
    clock: Clock,
    model: MacroEncoder,
    config: MacroPretrainConfig,
    micro_dim: int,
    sizes: Sequence[int],
    precision: str,
) -> list[dict[str, Any]]:
    """A training step of each size, and one whole night."""
    runs = []
    dtype = DTYPES[precision]
    for size in sizes:
        engine = one_process_engine(MacroObjective(model, config), config, size, precision, 1)
        nights = random_nights(size, config.max_epochs, micro_dim).to(clock.device)
        runs.append(clock.step("macro step", engine, nights, dtype))
    night = random_nights(1, config.max_epochs, micro_dim).to(clock.device)
    work = functools.partial(model.embed, *night[:3])
    return [*runs, clock.inference("macro embed", night, work, torch.float32)]


def headline(runs: dict[str, dict[str, Any]], device: torch.device) -> dict[str, float]:
    """The keys others read; README.md defines them."""
    train, infer, half = (runs[f"micro {name}"] for name in ("step", "embed", "embed bf16"))
    keys = {
        "train_gemm_share": train["gemm_share"],
        "infer_gemm_share": infer["gemm_share"],
        "infer_gemm_share_bf16": half["gemm_share"],
        "train_windows_per_s": train["rows_per_busy_second"],
        "infer_windows_per_s": infer["rows_per_busy_second"],
        "infer_windows_per_s_bf16": half["rows_per_busy_second"],
    }
    if device.type == "cpu":
        keys["night_cpu_s"] = NIGHT_SEGMENTS / infer["rows_per_busy_second"]
        keys["night_cpu_s_bf16"] = NIGHT_SEGMENTS / half["rows_per_busy_second"]
        return keys
    per_s = train["rows_per_busy_second"]
    hours = PAPER_SEGMENTS * PAPER_PASSES / per_s / 3600
    cuda = {"mfu": train["square_gemm_share"], "gpu_windows_per_s": per_s}
    return keys | cuda | {"paper_schedule_hours": hours}


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Trainable numbers per direct part of a model, and in all."""
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    total = sum(p.numel() for p in model.parameters())
    own = total - sum(parts.values())
    return parts | ({"own": own} if own else {}) | {"total": total}


def one_process_engine(
    objective: Objective,
    config: MicroPretrainConfig | MacroPretrainConfig,
    rows: int,
    precision: str,
    accumulation: int,
) -> Engine:
    """Plain torch: what DeepSpeed adds depends on the number of workers, not on the model."""
    changes = {"kind": "plain", "zero_stage": 0, "micro_batch": rows, "precision": precision}
    engine = replace_at(config.engine, changes)
    return build_engine(
        objective, engine, config.optimizer, total_steps=100, accumulation=accumulation
    )


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
        female_B=(torch.rand(rows) < 0.5).float(),
    )


def embed_micro(model: MicroEncoder, segments: SegmentBatch) -> Tensor:
    """What inference does with a batch of segments."""
    modality_S = torch.arange(len(MODALITIES), device=segments.signal_SBT.device)
    return model.embed(segments.signal_SBT, modality_S, segments.valid_SB)


def machine_with(device: torch.device) -> dict[str, Any]:
    """Where the numbers come from."""
    return machine() | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def print_table(result: dict[str, Any]) -> None:
    """The numbers a person compares."""
    where = result["machine"]
    print(
        f"{result['preset']}, {where['cpu']}, {where['device']}, {result['threads']} thread(s), "
        f"{result['precision']}"
    )
    print(f"{'':16s}  rows  seconds  CPU s   rows/s     GFLOP  GEMM GF/s  share  of square GEMM")
    for run in result["runs"]:
        print(
            f"{run['name']:16s} {run['batch']:5d} {run['seconds']:8.3f} {run['cpu_seconds']:6.2f} "
            f"{run['rows_per_busy_second']:8.2f} {run['gflop']:9.1f} "
            f"{run['gemm_gflop_per_s']:10.1f} {run['gemm_share']:6.1%} "
            f"{run['square_gemm_share']:15.1%}"
        )
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name} {value:.4g}")


if __name__ == "__main__":
    main()
