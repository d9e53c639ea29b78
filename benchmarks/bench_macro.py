"""What one Macro step of Table 9 costs: 40 nights of 1,080 epochs, on whatever device is there.

One process has all 40 nights; Table 9's batch on two workers is two steps of 20 beside each other
and a gather. Random nights, no Ray, DeepSpeed or table. README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_step import machine_with, one_process_engine, random_nights
from matrix_products import Yardstick, record, total_flop
from provenance import git_state
from step_clock import busy_s, timed
from torch import Tensor

from sleepmami import __version__
from sleepmami.models import ssm
from sleepmami.models.cpu import prepare_cpu
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.presets import PRESETS, preset
from sleepmami.training.macro_objective import MacroObjective

SAMPLE_S = 0.02  # between two looks at the memory in use


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="paper")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--nights", type=int, help="default: the preset's batch_subjects")
    parser.add_argument("--epochs", type=int, help="of a night; default: the preset's max_epochs")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps; the median counts")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    prepare_cpu(arguments.threads)
    torch.manual_seed(0)
    result = measure(arguments)
    for name in HEADLINE:
        print(f"{name:28s} {result[name]:.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


HEADLINE = (
    "step_seconds",
    "step_cpu_seconds",
    "nights_per_busy_second",
    "scan_share",
    "gemm_share",
    "step_memory_gb",
    "batch_gb",
    "loss",
)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The step, and between its repeats the scans and the matrix products alone."""
    device = torch.device(arguments.device)
    settings = preset(arguments.preset)
    config, micro_dim = settings.macro, settings.micro.model.higher_dim
    nights = arguments.nights or config.batch_subjects
    num_epochs = arguments.epochs or config.max_epochs
    model = MacroEncoder(config.model, micro_dim).to(device)
    engine = one_process_engine(
        MacroObjective(model, config), config, nights, arguments.precision, 1
    )
    batch = random_nights(nights, num_epochs, micro_dim).to(device)
    metrics: dict[str, Tensor] = {}

    def step() -> None:
        metrics.update(engine.train_step([batch]))

    before_gb = memory_gb(device)
    with PeakMemory(device) as memory:
        step()  # the first: freed memory is kept for the next ones
    scan = ScanReplay()
    with scan.recording():
        products = record(step)
    alone = Yardstick(products, device, lambda work: busy_s(*timed(work, device), device))
    steps, scans = [], []
    for _ in range(arguments.repeats):
        steps.append(timed(step, device))
        scans.append(busy_s(*timed(scan.run, device), device))
        alone.run()
    wall_s, cpu_s = (statistics.median(column) for column in zip(*steps, strict=True))
    seconds = busy_s(wall_s, cpu_s, device)
    scan_s = scan.calls * statistics.median(scans)
    return {
        "step_seconds": wall_s,
        "step_cpu_seconds": cpu_s,
        "nights_per_busy_second": nights / seconds,
        "scan_seconds": scan_s,
        "scan_share": scan_s / seconds,
        "gemm_share": alone.seconds / seconds,
        "gflop": total_flop(products) / 1e9,
        "step_memory_gb": memory.peak_gb - before_gb,
        "batch_gb": sum(part.nbytes for part in batch) / 1e9,
        "loss": metrics["loss/total"].item(),
        "nights": nights,
        "epochs": num_epochs,
        "scan_calls": scan.calls,
        "preset": arguments.preset,
        "precision": arguments.precision,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "machine": machine_with(device),
        "code": {"version": __version__, **git_state("../sleepmami", "bench_macro.py")},
    }


class ScanReplay:
    """Catches one call of the selective scan, and makes it again alone, both ways.

    All blocks of a stack scan tensors of one shape, so that one stands for the others.
    """

    def __init__(self) -> None:
        self.calls = 0  # of one step
        self._arguments: tuple[Any, ...] = ()  # Any: tensors, and options of the scan

    def recording(self) -> _Replaced:
        """While it lasts, what the model scans is noted."""
        original = ssm.selective_scan

        def noted(*arguments: Any) -> Any:  # Any: whatever the scan takes and gives
            self.calls += 1
            self._arguments = tuple(
                a.detach().clone() if isinstance(a, Tensor) else a for a in arguments
            )
            return original(*arguments)

        return _Replaced(original, noted)

    def run(self) -> None:
        """One scan, forward and backward."""
        wanted = [
            a.requires_grad_(a.is_floating_point()) if isinstance(a, Tensor) else a
            for a in self._arguments
        ]
        found = ssm.selective_scan(*wanted)
        out = found if isinstance(found, Tensor) else found[0]
        leaves = [a for a in wanted if isinstance(a, Tensor) and a.requires_grad]
        torch.autograd.grad(out, leaves, torch.ones_like(out))


class _Replaced:
    """`ssm.selective_scan` is another function for a while."""

    def __init__(self, original: Callable[..., Any], other: Callable[..., Any]) -> None:
        self._original, self._other = original, other

    def __enter__(self) -> None:
        ssm.selective_scan = self._other

    def __exit__(self, *_: object) -> None:
        ssm.selective_scan = self._original


class PeakMemory:
    """The most memory in use while it lasts; a CPU's is looked at every SAMPLE_S."""

    def __init__(self, device: torch.device) -> None:
        self.peak_gb = 0.0
        self._device = device
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.peak_gb = torch.cuda.max_memory_allocated(self._device) / 1e9
        else:
            self._done.set()
            self._watch.join()

    def _look(self) -> None:
        while not self._done.is_set():
            self.peak_gb = max(self.peak_gb, memory_gb(self._device))
            time.sleep(SAMPLE_S)


def memory_gb(device: torch.device) -> float:
    """In use now: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e9
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


if __name__ == "__main__":
    main()
