"""What the selective scan costs: our kernels against scans in plain torch, and mamba_ssm on a GPU.

One torch thread, memory in a process of its own, contestants in turns (README.md).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from provenance import git_state, machine
from scan_contestants import Scan, looping, naive
from step_clock import busy_s, timed

from sleepmami import __version__
from sleepmami.models import ssm
from sleepmami.models.cpu import prepare_cpu
from sleepmami.models.scan_kernel import kernel_scan, usable
from sleepmami.models.selective_scan import ScanInputs, ScanOutput, plain_scan

LENGTH, INNER, STATES = 1080, 1024, 16  # the paper's night and widths
NAIVE_LENGTH = 135  # an eighth: its backward pass costs the square of the length
LOOP_NIGHTS = 8  # more nights than these want more memory than there is
PACKAGES = ("torch",)


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--rounds", type=int, default=3, help="of all contestants; medians count")
    parser.add_argument("--nights", type=int, nargs="+", default=[1, 8, 40], help="batches")
    arguments = parser.parse_args()
    prepare_cpu(1)
    result = measure(arguments.nights, arguments.rounds)
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(batches: list[int], rounds: int) -> dict[str, Any]:
    """Every number of the report."""
    load_start, started = os.getloadavg(), datetime.now(UTC)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    # one process a row: what an earlier one freed would be taken again unseen
    pool = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    for nights in batches:
        runs: dict[str, list[dict[str, float]]] = {}
        works = contestants(nights, device)
        given = {length: random_inputs(nights, length, device) for _, length in works.values()}
        for scan, length in works.values():  # a process's first large gradients cost 0.3 s more
            one_run(scan, random_inputs(1, length, device), device)
        for _ in range(rounds):
            for name, (scan, length) in works.items():
                runs.setdefault(name, []).append(one_run(scan, given[length], device))
        del given  # memory is measured in other processes
        for name, (_, length) in works.items():
            seconds = {k: statistics.median(run[k] for run in runs[name]) for k in runs[name][0]}
            memory = pool.apply(peak_memory_gb, (name, nights, device.type))
            row = {"contestant": name, "nights": nights, "length": length}
            rows.append(row | seconds | {"peak_memory_gb": memory})
    pool.close()
    pool.join()
    return headline(rows, device) | {
        "rows": rows,
        "rounds": rounds,
        "inner": INNER,
        "states": STATES,
        "seconds": "wall" if device.type == "cuda" else "CPU seconds of one thread",
        "cuda": "measured" if device.type == "cuda" else "not run: no GPU on this machine",
        "started": started.isoformat(timespec="seconds"),
        "load_average": {"start": load_start, "end": os.getloadavg()},
        "machine": machine() | {"device": device.type},
        "versions": {name: version(name) for name in PACKAGES},
        "code": {"version": __version__, **git_state("../sleepmami", ".")},
    }


def contestants(nights: int, device: torch.device) -> dict[str, tuple[Scan, int]]:
    """Each with the length of the nights that it gets."""
    found: dict[str, tuple[Scan, int]] = {}
    if device.type == "cuda" and (kernel := ssm.cuda_kernel()) is not None:
        found["mamba_ssm"] = (lambda i: ssm.cuda_scan(kernel, i, None).out_BLI), LENGTH
    if device.type == "cpu":
        found["native"] = native, LENGTH
    found["chunked"] = (lambda i: from_zero(plain_scan, i)), LENGTH
    if nights <= LOOP_NIGHTS:
        found["loop"] = looping, LENGTH
    if nights == 1:
        found["naive"] = naive, NAIVE_LENGTH
    return found


def native(inputs: ScanInputs) -> torch.Tensor:
    """The C kernel, which must be there: its twin is another contestant."""
    assert usable(inputs), "the C kernel cannot be compiled here"
    return from_zero(kernel_scan, inputs)


def from_zero(
    scan: Callable[[ScanInputs, torch.Tensor, None], ScanOutput], inputs: ScanInputs
) -> torch.Tensor:
    """A whole night without padding."""
    state_BNI = inputs.u_BLI.new_zeros(len(inputs.u_BLI), *inputs.A_NI.shape)
    return scan(inputs, state_BNI, None).out_BLI


def random_inputs(nights: int, length: int, device: torch.device) -> ScanInputs:
    """Laid out as in the layer: z is half of a row twice as long, B and C are cut out of one."""
    torch.manual_seed(0)
    steps = (nights, length)
    xz_BLX = torch.randn(*steps, 2 * INNER, device=device)
    low_BLX = torch.randn(*steps, 32 + 2 * STATES, device=device)
    A_NI = -torch.arange(1.0, STATES + 1, device=device)[:, None].repeat(1, INNER)
    u_BLI, delta_BLI = F.silu(xz_BLX[..., :INNER]), 0.5 * torch.randn(*steps, INNER, device=device)
    _, B_BLN, C_BLN = low_BLX.split([32, STATES, STATES], 2)
    skip_I, bias_I = torch.ones(INNER, device=device), torch.full((INNER,), -4.6, device=device)
    z_BLI = xz_BLX[..., INNER:]
    tensors = (u_BLI, delta_BLI, B_BLN, C_BLN, z_BLI, A_NI, skip_I, bias_I)
    return ScanInputs(*(t.detach().requires_grad_() for t in tensors))


def warm_up(scan: Scan, device: torch.device) -> None:
    """Compile and load what there is to compile and load."""
    tiny = random_inputs(1, 2, device)
    torch.autograd.grad(scan(tiny).sum(), tiny)


def one_run(scan: Scan, inputs: ScanInputs, device: torch.device) -> dict[str, float]:
    """Seconds of a forward pass without gradients, and of one with its backward pass."""
    gradient_BLI = inputs.u_BLI.detach()

    def forward() -> None:
        with torch.no_grad():
            scan(inputs)

    def both() -> None:
        torch.autograd.grad(scan(inputs), inputs, gradient_BLI)

    forward_s = busy_s(*timed(forward, device), device)
    return {"forward_s": forward_s, "forward_backward_s": busy_s(*timed(both, device), device)}


def peak_memory_gb(name: str, nights: int, kind: str) -> float:
    """What forward and backward take beyond inputs and output gradient, in another process."""
    device = torch.device(kind)
    torch.set_num_threads(1)
    scan, length = contestants(nights, device)[name]
    warm_up(scan, device)
    inputs = random_inputs(nights, length, device)
    gradient_BLI = inputs.u_BLI.detach()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        torch.autograd.grad(scan(inputs), inputs, gradient_BLI)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e9
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts here
    before_kb = status_kb("VmRSS")
    torch.autograd.grad(scan(inputs), inputs, gradient_BLI)
    return (status_kb("VmHWM") - before_kb) * 1024 / 1e9


def status_kb(field: str) -> int:
    """A field of this process's memory, as Linux keeps it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def headline(rows: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """The numbers to quote; ratios of forward and backward to the native kernel, on a CPU."""
    seconds = {(r["contestant"], r["nights"]): r["forward_backward_s"] for r in rows}
    if device.type == "cuda":
        return {}
    ratio = {key: seconds[key] / seconds["native", key[1]] for key in seconds}
    found: dict[str, Any] = {"b40_fwd_bwd_cpu_s": seconds.get(("native", 40))}
    plain = {name: ratio[name, 8] for name in ("loop", "chunked") if (name, 8) in ratio}
    if plain:
        best = min(plain, key=lambda name: plain[name])
        found |= {"b8_ratio_torch_best": plain[best], "torch_best": best}
        found |= {"ratio_chunked": plain["chunked"], "ratio_loop": plain["loop"]}
    if ("naive", 1) in ratio:
        # steps as the length, each step's gradient a tensor of the whole length
        scale = LENGTH / NAIVE_LENGTH
        found["ratio_naive"] = ratio["naive", 1] * scale
        found["ratio_naive_is"] = (
            f"one night of {NAIVE_LENGTH} steps times {scale:g}, as if its cost were linear in the "
            f"length, over one night of {LENGTH}: a lower bound, for its backward pass is quadratic"
        )
    return found


def print_table(result: dict[str, Any]) -> None:
    """The numbers a person compares."""
    print(f"{result['machine']['cpu']}, {result['rounds']} rounds, {result['seconds']}")
    keys = ("forward_s", "forward_backward_s", "peak_memory_gb")
    print(f"{'':12s}{'nights':>8s}{'length':>8s}" + "".join(f"{key:>20s}" for key in keys))
    for row in result["rows"]:
        numbers = "".join(f"{row[key]:20.4f}" for key in keys)
        print(f"{row['contestant']:12s}{row['nights']:8d}{row['length']:8d}{numbers}")
    print({k: v for k, v in result.items() if "ratio" in k or k.startswith("b40")})


if __name__ == "__main__":
    main()
