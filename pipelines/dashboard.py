"""What of a step's metrics a person follows while a training runs, in one line."""

from __future__ import annotations

from collections.abc import Mapping

SHORT_NAMES = {  # in the order in which they are shown
    "loss/total": "loss",
    "loss/reconstruction": "reconstruction",
    "loss/contrastive": "contrast",
    "loss/excess": "excess",
    "validation/total": "validation",
}


def dashboard_line(metrics: Mapping[str, float]) -> str:
    """Losses, learning rate, speed, waiting for data, use of the device, memory and time left.

    What was not measured is left out.
    """
    parts = [f"{name} {metrics[key]:.4g}" for key, name in SHORT_NAMES.items() if key in metrics]
    if "optim/learning_rate" in metrics:
        parts.append(f"lr {metrics['optim/learning_rate']:.2g}")
    for key, value in metrics.items():
        if key.startswith("data/") and key.endswith("_per_s"):
            parts.append(f"{value:.4g} {key.removeprefix('data/').removesuffix('_per_s')}/s")
    for key, name in (("data/wait_fraction", "data wait"), ("compute/mfu", "MFU")):
        if key in metrics:
            parts.append(f"{name} {100 * metrics[key]:.3g} %")
    memory = metrics.get("memory/peak_cuda_gb", metrics.get("memory/peak_rss_gb"))
    if memory is not None:
        parts.append(f"{memory:.3g} GB")
    if "eta_s" in metrics:
        parts.append(f"{duration(metrics['eta_s'])} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Two figures and a unit, as one says it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
