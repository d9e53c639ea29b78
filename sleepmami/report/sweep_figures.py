"""Pictures of a sweep: which settings went with which score; plain values in, Figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

WIDTH_IN = 9.0
DEFAULT_COLOUR = "#D55E00"
STOPPED_COLOUR = "#999999"
WHOLE_COLOUR = "#0072B2"


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptAxis:
    """One setting: a range with its bounds, or the values to choose from."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    options: tuple[Any, ...] = ()  # Any: JSON values

    def place(self, value: Any) -> float:
        """Where a value lies, 0 (low, first option) to 1."""
        if self.options:
            return self.options.index(value) / max(1, len(self.options) - 1)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def ticks(self) -> list[Any]:
        """Values to write at the axis."""
        if self.options:
            return list(self.options)
        shares = (0.0, 1 / 3, 2 / 3, 1.0)
        if self.log:
            return [self.low * (self.high / self.low) ** share for share in shares]
        return [self.low + share * (self.high - self.low) for share in shares]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptTrial:
    """One trial that reported a score; `whole` if it ran to the end."""

    settings: Mapping[str, Any]
    score: float
    whole: bool
    is_default: bool


def parallel_coordinates(
    axes: Sequence[SweptAxis], trials: Sequence[SweptTrial], score_name: str
) -> Figure:
    """One line a trial through all its settings to its score; the brighter the better.

    Trials that were ended early are thin and grey, the default is thick.
    """
    figure = Figure(figsize=(WIDTH_IN, 4.2), layout="constrained")
    plot = figure.subplots()
    scores = [trial.score for trial in trials]
    norm = Normalize(*_bounds(scores))
    for trial in sorted(trials, key=lambda t: (t.is_default, t.whole, t.score)):
        heights = [axis.place(trial.settings[axis.name]) for axis in axes]
        heights.append(float(norm(trial.score)))
        colour: Any = colormaps["viridis"](norm(trial.score)) if trial.whole else STOPPED_COLOUR
        if trial.is_default:
            colour = DEFAULT_COLOUR
        width = 2.4 if trial.is_default else 1.4 if trial.whole else 0.6
        plot.plot(range(len(heights)), heights, color=colour, linewidth=width)
    for place, axis in enumerate(axes):
        plot.axvline(place, color="#444444", linewidth=0.8)
        for value in axis.ticks():
            plot.annotate(
                _short(value),
                (place, axis.place(value)),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            )
    plot.axvline(len(axes), color="#444444", linewidth=0.8)
    names = [axis.name for axis in axes]
    plot.set_xticks(range(len(axes) + 1), [*names, score_name])
    plot.set_yticks([])
    plot.set_xlim(-0.05, len(axes) + 0.05)
    for spine in plot.spines.values():
        spine.set_visible(False)
    figure.colorbar(ScalarMappable(norm=norm, cmap="viridis"), ax=plot, label=score_name)
    _legend(plot, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return figure


def slices(axes: Sequence[SweptAxis], trials: Sequence[SweptTrial], score_name: str) -> Figure:
    """The score over each setting by itself, one panel a setting."""
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(axes), sharey=True))
    for panel, axis in zip(panels, axes, strict=True):
        for trial in trials:
            value = trial.settings[axis.name]
            where = axis.options.index(value) if axis.options else value
            panel.plot(
                where,
                trial.score,
                marker="*" if trial.is_default else "o",
                markersize=12 if trial.is_default else 5,
                color=_colour(trial),
                markerfacecolor=_colour(trial) if trial.whole else "none",
                linestyle="none",
                zorder=3 if trial.is_default else 2,
            )
        if axis.options:
            panel.set_xticks(range(len(axis.options)), [_short(o) for o in axis.options])
        elif axis.log:
            panel.set_xscale("log")
            panel.set_xlim(axis.low * 0.9, axis.high * 1.1)
            panel.set_xticks(axis.ticks(), [_short(value) for value in axis.ticks()])
            panel.set_xticks([], minor=True)
        panel.set_xlabel(axis.name)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(score_name)
    kinds = {"default": (DEFAULT_COLOUR, "*"), "to the end": (WHOLE_COLOUR, "o")}
    for label, (colour, marker) in kinds.items():
        panels[-1].plot([], [], marker, color=colour, label=label)
    panels[-1].plot([], [], "o", color=STOPPED_COLOUR, markerfacecolor="none", label="ended early")
    figure.legend(loc="outside upper center", frameon=False, fontsize=8, ncols=3)
    return figure


def _colour(trial: SweptTrial) -> str:
    if trial.is_default:
        return DEFAULT_COLOUR
    return WHOLE_COLOUR if trial.whole else STOPPED_COLOUR


def _bounds(scores: Sequence[float]) -> tuple[float, float]:
    low, high = min(scores), max(scores)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _legend(plot: Axes, **where: Any) -> None:
    plot.plot([], [], color=DEFAULT_COLOUR, linewidth=2.4, label="default")
    plot.plot([], [], color=STOPPED_COLOUR, linewidth=0.6, label="ended early")
    plot.legend(frameon=False, fontsize=8, ncols=2, **where)
