"""The tables of docs/learning.md, from the JSON files of learning.py: mean and range over seeds."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Evaluation = dict[str, Any]  # Any: JSON
Column = Callable[[Evaluation], float]

PROBES: dict[str, Column] = {
    "stage accuracy": lambda e: e["probe"]["staging"]["accuracy"],
    "macro F1": lambda e: e["probe"]["staging"]["macro_f1"],
    "kappa": lambda e: e["probe"]["staging"]["kappa"],
    "accuracy, 2 subjects' labels": lambda e: e["probe"]["few_labels"]["accuracy"],
    "apnea AUROC": lambda e: e["probe"]["apnea"]["auroc"],
    "apnea AP": lambda e: e["probe"]["apnea"]["average_precision"],
}
HALVES: dict[str, Column] = {
    "parity explains": lambda e: e["parity_explains"],
    "stage explains": lambda e: e["stage_explains"],
    "cosine of halves": lambda e: e["half"]["cosine"],
    "each half less its mean": lambda e: e["half"]["cosine_own_mean"],
    "accuracy, one half": lambda e: e["probe"]["staging"]["accuracy"],
    "accuracy, mean of both": lambda e: e["probe_mean_of_halves"]["staging"]["accuracy"],
    "few labels, mean of both": lambda e: e["probe_mean_of_halves"]["few_labels"]["accuracy"],
}
SHARED: dict[str, Column] = {
    "contrast accuracy, joint": lambda e: e["health"]["contrast/accuracy_joint"],
    "blocked": lambda e: e["health"]["contrast/accuracy_blocked"],
    "finds its company": lambda e: e["copying"]["company"],
    "finds its signal's window": lambda e: e["copying"]["signal"],
    "fused hears others": lambda e: e["hearing"],
    "cosine between modalities": lambda e: e["health"]["shared/modality_cosine_joint"],
    "shared with private": lambda e: e["health"]["shared/private_cosine_joint"],
    "KoLeo": lambda e: e["health"]["loss/koleo"],
    "rank of shared": lambda e: e["health"]["shared/effective_rank_joint"],
    "least expert": lambda e: e["health"]["moe/min_share"],
    "greatest": lambda e: e["health"]["moe/max_share"],
}
SIGNALS = ("EEG", "EOG", "EMG", "ECG", "RESP", "SPO2")
RECONSTRUCTION: dict[str, Column] = {
    f"{m} error": lambda e, m=m: e["health"][f"loss/reconstruction_{m}"] for m in SIGNALS
}
RANKS: dict[str, Column] = {f"{m} rank": lambda e, m=m: e["effective_rank"][m] for m in SIGNALS}


def main() -> None:
    """Print every table; a variant without a measure has an empty cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    runs = [
        run for file in parser.parse_args().files for run in json.loads(file.read_text())["runs"]
    ]
    for name, columns, last_only in (
        ("Probes", PROBES, False),
        ("Half of the window", HALVES, True),
        ("Shared encoder", SHARED, True),
        ("Reconstruction, held-out", RECONSTRUCTION, False),
        ("Effective rank of the vectors", RANKS, False),
    ):
        print(f"\n{name}\n")
        print_table(runs, columns, last_only=last_only)


def print_table(runs: list[dict[str, Any]], columns: dict[str, Column], *, last_only: bool) -> None:
    """One row per variant and step."""
    rows: dict[tuple[str, int], list[Evaluation]] = {}
    for run in runs:
        for evaluation in run["evaluations"][-1:] if last_only else run["evaluations"]:
            rows.setdefault((run["variant"], evaluation["step"]), []).append(evaluation)
    print("| variant | step | seeds | " + " | ".join(columns) + " |")
    print("|---" * (3 + len(columns)) + "|")
    for (variant, step), evaluations in rows.items():
        cells = [cell(evaluations, column) for column in columns.values()]
        print(f"| {variant} | {step} | {len(evaluations)} | " + " | ".join(cells) + " |")


def cell(evaluations: list[Evaluation], column: Column) -> str:
    """Mean over the seeds, and their range when there are several."""
    try:
        values = [column(evaluation) for evaluation in evaluations]
    except KeyError:
        return ""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
