"""What would 1 to 64 GPUs need of disk, network and memory? The tables of docs/scaling.md.

Arithmetic on measured numbers of one machine (`results/`) and on the figures of hardware that was
not at hand, which are named as such. No run of several machines stands behind it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleepmami.presets import paper
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, SEGMENT_S, STORED_RATE_HZ

RESULTS = Path(__file__).parent / "results"
GPUS = (1, 2, 4, 8, 16, 32, 64)
SEGMENT_BYTES = sum(2 * SEGMENT_S * STORED_RATE_HZ[modality] for modality in MODALITIES)
CORPUS_SEGMENTS, PASSES = 9.48e6, 3  # Table 9
TRAIN_GFLOP = 22.2  # of one segment, forward and backward: `runs` of bench_step
ACTIVATION_MB = 55  # that one segment keeps for its backward pass under bfloat16

# Not measured: data sheets and what well-tuned training reaches
PEAK_TFLOP = 790.0  # H200, dense bfloat16
MFU = 0.4
GBYTE_PER_S = {"NVLink, 450 GB/s": 450.0, "400 Gb/s": 50.0, "25 Gb/s": 3.1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one core of this project's machine was seen to do.

    Attributes:
        parameters: of the Micro-Encoder.
        read_mb_per_core_s: stored bytes from Lance to batches.
        ray_mb_per_core_s: the same through Ray Data.
    """

    parameters: int
    read_mb_per_core_s: float
    ray_mb_per_core_s: float

    @classmethod
    def of(cls, step: dict[str, Any], batches: dict[str, Any]) -> Measured:
        """From the JSON of bench_step.py and bench_batches.py."""
        contestants = batches["contestants"]
        return cls(
            parameters=step["parameters"]["micro"]["total"],
            read_mb_per_core_s=contestants["batches"]["mb_per_core_s"],
            ray_mb_per_core_s=contestants["ray_data"]["mb_per_core_s"],
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=Path, default=RESULTS / "step_paper_2core_cpu.json")
    parser.add_argument("--batches", type=Path, default=RESULTS / "batches_2core_cpu.json")
    arguments = parser.parse_args()
    measured = Measured.of(
        json.loads(arguments.step.read_text()), json.loads(arguments.batches.read_text())
    )
    print(data_table(measured), network_table(measured), memory_table(measured), sep="\n")


def windows_per_s() -> float:
    """Of one GPU at the assumed MFU."""
    return PEAK_TFLOP * 1e3 * MFU / TRAIN_GFLOP


def data_table(measured: Measured) -> str:
    """Bytes and cores that keep the GPUs fed, were they never waiting for each other."""
    rows = [
        "| GPUs | windows/s | read, GB/s | cores, plain reader | cores, Ray Data | hours |",
        "|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        rate = gpus * windows_per_s()
        mbyte = rate * SEGMENT_BYTES / 1e6
        hours = CORPUS_SEGMENTS * PASSES / rate / 3600
        rows.append(
            f"| {gpus} | {rate:,.0f} | {mbyte / 1e3:.1f} | "
            f"{mbyte / measured.read_mb_per_core_s:.1f} | "
            f"{mbyte / measured.ray_mb_per_core_s:.1f} | {hours:.2f} |"
        )
    return "\n".join(rows) + "\n"


def network_table(measured: Measured) -> str:
    """Share of a step that computes, when nothing overlaps: the pessimistic end."""
    batch = paper().micro.batch_size
    rows = [
        "| GPUs | compute, ms | all-reduce, MB each way | slots of eq. 2, MB | "
        + " | ".join(GBYTE_PER_S)
        + " |",
        "|---|---|---|---|" + "---|" * len(GBYTE_PER_S),
    ]
    for gpus in GPUS:
        compute_s = batch / gpus / windows_per_s()
        gradients = 2 * (gpus - 1) / gpus * measured.parameters * 4
        slots = (gpus - 1) / gpus * slot_bytes(batch)
        shares = [
            compute_s / (compute_s + (gradients + slots) / (speed * 1e9))
            for speed in GBYTE_PER_S.values()
        ]
        rows.append(
            f"| {gpus} | {compute_s * 1e3:.2f} | {gradients / 1e6:.0f} | {slots / 1e6:.0f} | "
            + " | ".join(f"{share:.0%}" for share in shares)
            + " |"
        )
    return "\n".join(rows) + "\n"


def slot_bytes(batch: int) -> float:
    """Shared and private embeddings of all slots of a batch, float32."""
    return len(MODALITIES) * batch * SEGMENT_EPOCHS * 2 * paper().micro.model.higher_dim * 4


def memory_table(measured: Measured) -> str:
    """Bytes of one GPU; AdamW's two moments are what ZeRO-1 shares out."""
    batch = paper().micro.batch_size
    rows = [
        "| GPUs | rows each | activations, GB | weights + gradients, GB | moments, GB | ZeRO-1 |",
        "|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        moments = measured.parameters * 8 / 1e9
        rows.append(
            f"| {gpus} | {batch // gpus} | {batch / gpus * ACTIVATION_MB / 1e3:.1f} | "
            f"{measured.parameters * 8 / 1e9:.2f} | {moments:.2f} | {moments / gpus:.2f} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
