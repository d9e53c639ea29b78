"""What the embedding pass costs by batch size and precision, and what bfloat16 changes.

Whole nights through the Embedder, in one process, without Ray or Lance. README.md says how to read
it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sleepmami import __version__
from sleepmami.config import PreprocessConfig, SimulateConfig
from sleepmami.inference.embedder import Embedder
from sleepmami.models.cpu import prepare_cpu
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.presets import PRESETS, preset
from sleepmami.psg import MODALITIES, Night, segment_start_epochs
from sleepmami.signals.preprocess import load_night
from sleepmami.simulation.cohort import write_cohort
from sleepmami.training.checkpoint import Bundle, load_bundle

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", help="trained weights; default random ones of --preset")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="paper")
    parser.add_argument("--edf", nargs="*", default=[], help="recordings; default a simulated one")
    parser.add_argument("--hours", type=float, default=0.5, help="of the simulated night")
    parser.add_argument("--batches", nargs="*", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved; the median counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    prepare_cpu(arguments.threads)
    bundle = load_bundle(arguments.bundle) if arguments.bundle else random_bundle(arguments.preset)
    nights = [load_night(edf, bundle.preprocess, recording_id=edf) for edf in arguments.edf]
    result = {
        "weights": bundle.model_id if arguments.bundle else f"random, preset {arguments.preset}",
        "threads": arguments.threads,
        "machine": f"{platform.platform()}, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {arguments.device}",
        "code_version": __version__,
        "load_average": os.getloadavg(),
        "runs": measure(bundle, nights or [simulated_night(arguments.hours)], arguments),
    }
    for run in result["runs"]:
        print("  ".join(f"{name} {value}" for name, value in run.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def random_bundle(name: str) -> Bundle:
    """A Micro-Encoder that has learnt nothing: enough to price one."""
    torch.manual_seed(0)
    micro = preset(name).micro
    state = MicroEncoder(micro.model).state_dict()
    return Bundle(micro=micro, micro_state=state, preprocess=PreprocessConfig())


def simulated_night(hours: float) -> Night:
    """All six modalities."""
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(folder, SimulateConfig(num_subjects=1, duration_h=hours), lambda *_: None)
        (edf,) = (Path(folder) / "edf").iterdir()
        return load_night(edf, PreprocessConfig(), recording_id="simulated")


def measure(
    bundle: Bundle, nights: Sequence[Night], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Each precision at each batch size; rounds go over all of them, so that load falls on all."""
    embedders = {
        (precision, batch): Embedder(
            bundle, windows_per_batch=batch, device=arguments.device, precision=precision
        )
        for batch in arguments.batches
        for precision in PRECISIONS
    }
    num_windows = sum(len(segment_start_epochs(night.num_epochs)) for night in nights)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in embedders}
    vectors: dict[tuple[str, int], NDArray[np.float32]] = {}
    for _ in range(arguments.rounds):
        for key, embedder in embedders.items():
            start = time.perf_counter() if arguments.device == "cuda" else time.process_time()
            found = [embedder.epochs(night).micro_LMD for night in nights]
            now = time.perf_counter() if arguments.device == "cuda" else time.process_time()
            seconds[key].append(now - start)
            vectors[key] = np.concatenate(found)
    exact_LMD = vectors["float32", arguments.batches[0]]
    runs = []
    for (precision, batch), spent in seconds.items():
        found_LMD = vectors[precision, batch]
        by_modality = {
            m: cosines(found_LMD[:, i], exact_LMD[:, i]) for i, m in enumerate(MODALITIES)
        }
        whole = cosines(
            found_LMD.reshape(len(found_LMD), -1), exact_LMD.reshape(len(exact_LMD), -1)
        )
        runs.append(
            {
                "precision": precision,
                "windows_per_batch": batch,
                "windows_per_core_second": round(num_windows / statistics.median(spent), 3),
                "cosine_min": float(whole.min()),
                "cosine_min_by_modality": {
                    m.value: float(cosine.min()) for m, cosine in by_modality.items() if len(cosine)
                },
            }
        )
    return runs


def cosines(one_LD: NDArray[np.float32], two_LD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the rows that are not zero."""
    one_LD, two_LD = (x.astype(np.float64) for x in (one_LD, two_LD))
    there = one_LD.any(axis=1) & two_LD.any(axis=1)
    lengths = np.linalg.norm(one_LD, axis=1) * np.linalg.norm(two_LD, axis=1)
    return np.asarray((one_LD * two_LD).sum(1)[there] / lengths[there])


if __name__ == "__main__":
    main()
