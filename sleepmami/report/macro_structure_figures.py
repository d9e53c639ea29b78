"""Pictures of sleep's macro-structure: areas of stages over the night in a grid of groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sleepmami.psg import Stage
from sleepmami.report.figures import STAGE_NAMES
from sleepmami.report.macro_structure import BIN_H, STAGE_ORDER, GroupedNights
from sleepmami.report.pictures import BROAD_IN, PANEL_IN, Theme

HATCHES = {Stage.WAKE: "", Stage.REM: "////", Stage.N1: "....", Stage.N2: "", Stage.N3: "xxxx"}


def stage_areas(groups: Sequence[Sequence[GroupedNights]], theme: Theme) -> Figure:
    """Shares of the stages over hours from the onset of sleep, a panel per group.

    Stages lie in one order, are hatched, and have a line between them, for whoever sees no colours.
    """
    num_rows, num_columns = len(groups), len(groups[0])
    width = BROAD_IN if num_columns > 2 else PANEL_IN
    figure = Figure(figsize=(width, 0.7 + 1.3 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    longest = max(len(group.shares) for row in groups for group in row)
    for row, own in enumerate(groups):
        for column, group in enumerate(own):
            axes = grid[row, column]
            _areas(axes, group, theme)
            axes.set_xlim(0, max(longest, 1) * BIN_H)
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 0.5, 1], ["0", "50", "100%"])
    for axes in grid[-1]:
        axes.set_xlabel("hours of sleep and after", fontsize=8.5)
    handles = [
        Patch(
            facecolor=theme.stages[stage],
            edgecolor=theme.page,
            hatch=HATCHES[stage],
            label=STAGE_NAMES[stage],
        )
        for stage in STAGE_ORDER
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=1.6)
    return figure


def _areas(axes: Axes, group: GroupedNights, theme: Theme) -> None:
    people = f"{group.num_subjects} people"
    if group.num_nights != group.num_subjects:
        people += f", {group.num_nights} nights"
    axes.set_title(f"{group.label}\n({people})", fontsize=8)
    if not len(group.shares):
        axes.text(0.5, 0.5, "nobody", ha="center", va="center", transform=axes.transAxes)
        return
    # each bin holds its share from its beginning to its end
    edges = np.arange(len(group.shares) + 1) * BIN_H
    bottom = np.zeros(len(group.shares))
    for place, stage in enumerate(reversed(STAGE_ORDER)):
        top = bottom + group.shares[:, len(STAGE_ORDER) - 1 - place]
        axes.fill_between(
            edges,
            np.append(bottom, bottom[-1]),
            np.append(top, top[-1]),
            step="post",
            facecolor=theme.stages[stage],
            edgecolor=theme.page,
            hatch=HATCHES[stage],
            linewidth=0,
        )
        axes.stairs(top, edges, baseline=None, color=theme.page, linewidth=0.8)
        bottom = top
