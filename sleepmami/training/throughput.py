"""How much arithmetic a training step is, how fast the device could do it, and the memory it takes.

MFU is model FLOPs utilisation (Chowdhery et al., 2022): the products of forward and backward pass,
without what is computed twice, against what the device's matrix units can do.
"""

import resource
import sys
import time
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sleepmami.config import Precision
from sleepmami.models import short_attention
from sleepmami.training import collectives
from sleepmami.training.engine import Batch, Engine

# Dense, without sparsity, in TFLOP/s: (bfloat16, float32) of NVIDIA's data sheets. torch's float32
# products use no TF32 unless told to.
KNOWN_PEAKS = {
    "B200": (2250.0, 75.0),
    "H200": (989.0, 67.0),
    "H100 NVL": (835.0, 60.0),
    "H100 PCIe": (756.0, 51.0),
    "H100": (989.0, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "L4": (121.0, 30.3),
    "A10": (125.0, 31.2),
}
GEMM_SIZE = 1024  # of the product that measures a CPU
BACKWARD = 2  # a product's two gradients are products of the same size


def step_flops(engine: Engine, batch: Batch) -> float:
    """Of this worker's share of a step, whose micro batches are all as `batch`.

    Counted in a forward pass without gradients that leaves no trace in the training.
    """
    counted: dict[Any, Callable[..., int]] = {  # Any: torch's operators have no public type
        torch.ops.aten._grouped_mm: _grouped_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        short_attention.OPERATOR: _attention_flops,
    }
    batch = batch.to(engine.device)
    with engine.evaluating(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
        engine.objective.run_model(batch)
    return float(counter.get_total_flops()) * (1 + BACKWARD) * engine.accumulation


def _grouped_flops(left: torch.Size, right: torch.Size, *_: Any, **__: Any) -> int:
    """Rows [A, K] sorted by group, weights [E, K, N]: each row meets one of the E."""
    return 2 * prod(left) * right[-1]


def _attention_flops(query: torch.Size, key: torch.Size, *_: Any, **__: Any) -> int:
    """Queries [..., T, D], keys and values [..., K, D]: a product with each."""
    return 2 * 2 * prod(query) * key[-2]


def peak_flops(device: torch.device, precision: Precision, given_tflops: float) -> float | None:
    """What the device can do at most, per second; None where nobody knows.

    Args:
        device: a CPU is measured, with as many threads as torch has; a GPU is known by its name.
        precision: of the products.
        given_tflops: decides, unless 0.
    """
    if given_tflops:
        return given_tflops * 1e12
    if device.type == "cpu":
        return _gemm_flops(precision, torch.get_num_threads())
    if device.type == "cuda":
        return known_peak(torch.cuda.get_device_name(device), precision)
    return None


def known_peak(name: str, precision: Precision) -> float | None:
    """The data sheet's number for a GPU of this name."""
    words = name.replace("-", " ").split()
    for model, (half, full) in KNOWN_PEAKS.items():  # longer names first
        if set(model.split()) <= set(words):
            return (half if precision == "bfloat16" else full) * 1e12
    return None


@cache
def _gemm_flops(precision: Precision, num_threads: int) -> float:
    """Best of five square products; `num_threads` is what a later call may change."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    square = torch.ones(GEMM_SIZE, GEMM_SIZE, dtype=dtype)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        square @ square
        took.append(time.perf_counter() - began)
    return float(2 * GEMM_SIZE**3 / min(took))


def memory_metrics(device: torch.device) -> dict[str, float]:
    """The most memory any worker has needed so far, in GB: of the process, and of its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peaks = {"memory/peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peaks["memory/peak_cuda_gb"] = torch.cuda.max_memory_allocated(device)
    highest = collectives.max_over_workers(
        torch.tensor(list(peaks.values()), dtype=torch.float64, device=device)
    )
    return {name: value / 1e9 for name, value in zip(peaks, highest.tolist(), strict=True)}
