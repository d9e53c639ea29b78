"""Pictures of results: dots with whiskers, confusion, few-shot curves and heat maps.

Models keep their colour, marker and dash in every picture: their number among all models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sleepmami.evaluation.bootstrap import Estimate
from sleepmami.evaluation.results import Confusion
from sleepmami.report.pictures import DASHES, MARKERS, NUM_SERIES, PANEL_IN, Theme
from sleepmami.report.wording import NOT_DEFINED

LIGHT_TEXT_BELOW = 0.6  # of viridis, whose low end is dark
MAX_CELLS_WITH_INTERVALS = 36
MAX_LETTERS_LEVEL = 40  # of all column names; longer ones are slanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One model's estimates, by the name of the row, or by the number of subjects.

    Attributes:
        name: of the model.
        number: among all models, which decides its colour and marker.
        values: its estimates.
    """

    name: str
    number: int
    values: Mapping[str, Estimate]


def dots(
    rows: Sequence[str],
    series: Sequence[Series],
    label: str,
    theme: Theme,
    reference: tuple[float, str] | None = None,
) -> Figure:
    """A line per row, on it a dot with a whisker per model.

    Args:
        rows: from top to bottom.
        series: whose values may lack rows.
        label: of the axis.
        theme: of the picture.
        reference: where a guess would lie, and what to call it.
    """
    step = 0.17
    row_in = step * len(series) + 0.14
    legend_in = 0.2 * (len(series) + (reference is not None)) + 0.1
    figure = Figure(figsize=(PANEL_IN, 0.75 + legend_in + row_in * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(series):
        offset = (place - (len(series) - 1) / 2) * step / row_in
        there = [(y, one.values[row]) for y, row in enumerate(rows) if row in one.values]
        _whiskers(axes, [y + offset for y, _ in there], [e for _, e in there], one, theme)
    if reference is not None:
        value, name = reference
        axes.axvline(value, color=theme.ink, linewidth=1, linestyle=":", label=name)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for border in range(1, len(rows)):
        axes.axhline(border - 0.5, color=theme.soft, linewidth=0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.6)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", handlelength=2.2, borderpad=0)
    return figure


def _whiskers(
    axes: Axes, places: Sequence[float], found: Sequence[Estimate], one: Series, theme: Theme
) -> None:
    """Horizontal; an interval that is not defined is a dot alone."""
    number = one.number % NUM_SERIES
    values = [estimate.value for estimate in found]
    lengths = np.array([_lengths(estimate) for estimate in found] or np.zeros((0, 2)), np.float64).T
    axes.errorbar(
        values,
        places,
        xerr=lengths,
        fmt=MARKERS[number],
        markersize=5,
        linewidth=1.4,
        color=theme.series[number],
        label=one.name,
    )


def _lengths(found: Estimate) -> tuple[float, float]:
    """Below and above the value; a percentile interval may leave its value out."""
    if not math.isfinite(found.low):
        return 0.0, 0.0
    return max(0.0, found.value - found.low), max(0.0, found.high - found.value)


def confusion_matrix(confusion: Confusion, theme: Theme) -> Figure:
    """Shares of each row, which is the truth, over the counts (Fig. 11)."""
    counts = np.array(confusion.counts)
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    texts = [
        [
            f"{_percent(s)}\n{c:,}" if math.isfinite(s) else NOT_DEFINED
            for s, c in zip(*row, strict=True)
        ]
        for row in zip(share.tolist(), counts.tolist(), strict=True)
    ]
    rows = [f"{n}\n({t:,})" for n, t in zip(confusion.classes, total[:, 0].tolist(), strict=True)]
    figure = Figure(figsize=(PANEL_IN, 0.9 + 0.56 * len(rows)), layout="constrained")
    axes = figure.subplots()
    _cells(axes, share, texts, (0.0, 1.0), theme)
    axes.set_xticks(range(len(rows)), confusion.classes)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("guess")
    axes.set_ylabel("truth")
    return figure


def _percent(share: float) -> str:
    """Whole percents; 0% and 100% only where that is all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Estimate],
    labels: tuple[str, str],
    theme: Theme,
) -> Figure:
    """A matrix of values in viridis from the lowest to the highest, each written into its cell.

    Args:
        rows: from top to bottom.
        columns: from left to right.
        cells: by row and column; those that are not there are hatched.
        labels: of the rows' and the columns' axis.
        theme: of the picture.
    """
    values = np.full((len(rows), len(columns)), np.nan)
    texts = [[NOT_DEFINED] * len(columns) for _ in rows]
    small = len(cells) <= MAX_CELLS_WITH_INTERVALS
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            found = cells.get((row, column))
            if found is not None and math.isfinite(found.value):
                values[y, x] = found.value
                texts[y][x] = f"{found.value:.2f}"
                if small and math.isfinite(found.low):
                    texts[y][x] += f"\n{found.low:.2f}\u2013{found.high:.2f}"
    cell_in = 0.5 if small else 0.36
    figure = Figure(figsize=(PANEL_IN, 1.3 + cell_in * len(rows)), layout="constrained")
    axes = figure.subplots()
    known = values[np.isfinite(values)]
    bounds = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    _cells(axes, values, texts, bounds, theme, size=7.2 if len(columns) > 5 else 8.5)
    slanted = sum(map(len, columns)) > MAX_LETTERS_LEVEL
    axes.set_xticks(range(len(columns)), columns, rotation=35 if slanted else 0)
    if slanted:
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
            tick.set_rotation_mode("anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    return figure


def _cells(
    axes: Axes,
    values: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    bounds: tuple[float, float],
    theme: Theme,
    size: float = 8.5,
) -> None:
    low, high = bounds
    axes.imshow(values, aspect="auto", cmap="viridis", vmin=low, vmax=max(high, low + 1e-9))
    for (y, x), value in np.ndenumerate(values):
        light = (value - low) / max(high - low, 1e-9) < LIGHT_TEXT_BELOW
        colour = ("white" if light else "black") if math.isfinite(value) else theme.ink
        axes.text(x, y, texts[y][x], ha="center", va="center", color=colour, fontsize=size)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def few_shot_curve(series: Sequence[Series], label: str, theme: Theme) -> Figure:
    """A figure over the number of subjects with labels (Fig. 5).

    Args:
        series: values by number of subjects as text; "all 23" is everybody, drawn hollow.
        label: of the figure.
        theme: of the picture.
    """
    figure = Figure(figsize=(PANEL_IN, 3.1), layout="constrained")
    axes = figure.subplots()
    ticks: dict[float, str] = {}
    for place, one in enumerate(series):
        number, nudge = one.number % NUM_SERIES, 1.04 ** (place - (len(series) - 1) / 2)
        points = sorted((float(text.split()[-1]), text) for text in one.values)
        ticks |= {x: text.replace("all ", "\nall ") for x, text in points}
        places = [x * nudge for x, _ in points]
        found = [one.values[text] for _, text in points]
        axes.errorbar(
            places,
            [estimate.value for estimate in found],
            yerr=np.array([_lengths(estimate) for estimate in found]).T,
            color=theme.series[number],
            linestyle=DASHES[number],
            marker=MARKERS[number],
            markersize=5,
            linewidth=1.4,
            elinewidth=1,
            label=one.name,
        )
        for x, (_, text), estimate in zip(places, points, found, strict=True):
            if text.startswith("all"):
                colour = theme.series[number]
                axes.plot(
                    x, estimate.value, MARKERS[number], color=colour, mfc=theme.page, ms=7, zorder=3
                )
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set_xlabel("subjects with labels")
    axes.set_ylabel(label)
    axes.grid(alpha=0.5)
    axes.legend(loc="lower right")
    return figure
