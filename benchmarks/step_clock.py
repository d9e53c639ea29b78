"""What does a call cost, beside its own matrix products run alone in between?

CPU seconds on a CPU, so that other programs on the machine do not count; wall seconds on a GPU.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from matrix_products import Yardstick, record, total_flop
from torch import Tensor

from sleepmami.training.engine import Batch, Engine

PROFILE_ROWS = 16
SQUARE_SIZE = {"cpu": 2048, "cuda": 8192}


def square_flop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """What a large square matrix product reaches at its best: the harsher of the two yardsticks."""
    size = SQUARE_SIZE[device.type]
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
    """Runs something a few times, its matrix products alone in between, and says what it cost."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats

    def step(self, name: str, engine: Engine, batch: Batch, dtype: torch.dtype) -> dict[str, Any]:
        """One optimizer step; the engine raises unless loss and gradients are finite."""
        metrics: dict[str, Tensor] = {}
        micro_batches = [batch] * engine.accumulation

        def work() -> None:
            metrics.update(engine.train_step(micro_batches))

        rows = batch.num_rows * engine.accumulation
        run = self._run(name, rows, batch.row_name, work, dtype)
        more = {"micro_batch": batch.num_rows, "accumulation": engine.accumulation}
        return run | more | {"loss": metrics["loss/total"].item()}

    def inference(
        self, name: str, batch: Batch, work: Callable[[], object], dtype: torch.dtype
    ) -> dict[str, Any]:
        """An embedding without gradients."""
        with torch.inference_mode():
            return self._run(name, batch.num_rows, batch.row_name, work, dtype)

    def _run(
        self, name: str, rows: int, kind: str, work: Callable[[], object], dtype: torch.dtype
    ) -> dict[str, Any]:
        work()  # warm-up: compilation, optimizer state, allocator
        products = record(work)
        alone = Yardstick(products, self.device, self._seconds)
        square_per_s = square_flop_per_s(self.device, dtype)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        readings = []
        for _ in range(self.repeats):
            readings.append(timed(work, self.device))
            alone.run()
        wall_s, cpu_s = (statistics.median(column) for column in zip(*readings, strict=True))
        seconds = busy_s(wall_s, cpu_s, self.device)
        flop = total_flop(products)
        return {
            "name": name,
            "batch": rows,
            "rows": kind,
            "seconds": wall_s,
            "cpu_seconds": cpu_s,
            "rows_per_busy_second": rows / seconds,
            "gflop": flop / 1e9,
            "gemm_share": alone.seconds / seconds,
            "gemm_gflop_per_s": alone.flop_per_s / 1e9,
            "square_gemm_share": flop / seconds / square_per_s,
            "square_gemm_gflop_per_s": square_per_s / 1e9,
            "peak_memory_gb": peak_memory_gb(self.device),
            "profile": profile(work, self.device),
        }

    def _seconds(self, work: Callable[[], object]) -> float:
        return busy_s(*timed(work, self.device), self.device)


def peak_memory_gb(device: torch.device) -> float:
    """Of the GPU since the last run; of this process and its whole life on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def profile(work: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """Where the time of one call goes: the operators that take most of it themselves."""
    cuda = device.type == "cuda"
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if cuda else activity.CPU]) as measured:
        work()
        synchronize(device)
    time_of = {
        event.key: event.self_device_time_total if cuda else event.self_cpu_time_total
        for event in measured.key_averages()
    }
    total = sum(time_of.values())
    top = sorted(measured.key_averages(), key=lambda event: -time_of[event.key])[:PROFILE_ROWS]
    return [
        {"operator": event.key, "calls": event.count, "share": time_of[event.key] / total}
        for event in top
    ]
