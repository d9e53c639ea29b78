"""One night as scored and as a probe stages it, with how sure the probe is of each epoch.

What is read is the table of predictions of `probe staging --csv`. Shapes: L epochs of the night, of
which those that were not asked (wake long before and after sleep, no valid signal) are UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sleepmami.errors import TableError
from sleepmami.psg import EPOCH_S, Stage
from sleepmami.report.figures import STAGE_NAMES, STAGE_ROWS
from sleepmami.report.pictures import BROAD_IN, Theme

UNSURE_BELOW = 0.5  # of the most likely stage's probability: others together are as likely


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedNight:
    """Predictions of one night.

    Attributes:
        recording_id: a pseudonym, unless names were kept.
        truth: int8[L] stages as scored.
        guess: int8[L] the most likely stage.
        confidence: float[L], its probability; NaN where an epoch was not asked.
    """

    recording_id: str
    truth: NDArray[np.int8]
    guess: NDArray[np.int8]
    confidence: NDArray[np.float64]

    @property
    def asked(self) -> NDArray[np.bool_]:
        """bool[L]."""
        return np.asarray(np.isfinite(self.confidence))

    @property
    def unsure(self) -> NDArray[np.bool_]:
        """bool[L], epochs whose most likely stage is less likely than the others together."""
        return np.asarray(self.confidence < UNSURE_BELOW)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """bool[L]."""
        return np.asarray(self.asked & (self.truth != self.guess))

    def finding(self) -> str:
        """How often it is right, and whether doubt tells where it is wrong."""
        asked, unsure, wrong = self.asked, self.unsure, self.wrong
        said = (
            f"{self.recording_id}: {1 - wrong[asked].mean():.0%} of {asked.sum():,} epochs as "
            f"scored; {unsure.sum():,} epochs are unsure (below {UNSURE_BELOW:.0%})"
        )
        if unsure.any() and not unsure[asked].all():
            said += (
                f", of which {wrong[unsure].mean():.0%} are wrong, against "
                f"{wrong[asked & ~unsure].mean():.0%} of the others"
            )
        return said + "."


def staged_nights(predictions: Mapping[str, Sequence[str]]) -> list[StagedNight]:
    """All nights of a table of predictions, by recording id.

    Raises:
        TableError: columns or stages that predictions of stages do not have.
    """
    columns = [f"p_{stage.name}" for stage in STAGE_ROWS]
    lacking = {"recording_id", "epoch", "truth", "guess", *columns} - set(predictions)
    if lacking:
        raise TableError(f"predictions of stages: found no {sorted(lacking)}; expected them")
    rows: dict[str, list[int]] = {}
    for row, recording in enumerate(predictions["recording_id"]):
        rows.setdefault(recording, []).append(row)
    return [_night(name, own, columns, predictions) for name, own in sorted(rows.items())]


def _night(
    name: str, rows: Sequence[int], columns: Sequence[str], predictions: Mapping[str, Sequence[str]]
) -> StagedNight:
    try:
        epochs = np.array([int(predictions["epoch"][row]) for row in rows])
        truth, guess = (
            np.full(epochs.max() + 1, Stage.UNKNOWN, np.int8) for _ in ("truth", "guess")
        )
        truth[epochs] = [Stage[predictions["truth"][row]] for row in rows]
        guess[epochs] = [Stage[predictions["guess"][row]] for row in rows]
        likely = [[float(predictions[column][row]) for column in columns] for row in rows]
    except (KeyError, ValueError) as error:
        raise TableError(f"{name}: found no stage or number: {error}; expected some") from error
    confidence = np.full(len(truth), np.nan)
    confidence[epochs] = np.max(likely, axis=1)
    return StagedNight(recording_id=name, truth=truth, guess=guess, confidence=confidence)


def typical(nights: Sequence[StagedNight]) -> StagedNight:
    """The night of median accuracy, the lower one of two; of equal ones the first by its id."""
    ordered = sorted(nights, key=lambda n: (float(n.wrong[n.asked].mean()), n.recording_id))
    return ordered[len(ordered) // 2]


def staged_night_figure(night: StagedNight, theme: Theme) -> Figure:
    """Truth, guess and confidence over the same hours; unsure and wrong epochs have their marks."""
    figure = Figure(figsize=(BROAD_IN, 5.2), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3.6, 2))
    edges = np.arange(len(night.truth) + 1) * EPOCH_S / 3600
    _steps(top, night.truth, edges, theme)
    top.set_title("as scored", loc="left")
    _steps(middle, night.guess, edges, theme)
    middle.set_title("as the probe says", loc="left")
    middles = (edges[:-1] + edges[1:]) / 2
    for flags, height, label, colour in (
        (night.wrong, -5.0, "not as scored", theme.bad),
        (night.unsure, -5.8, "unsure", theme.ink),
    ):
        if flags.any():  # no marks would lie at the picture's corner, and the layout make room
            middle.plot(middles[flags], np.full(flags.sum(), height), "|", color=colour,
                        markersize=5, clip_on=False)  # fmt: skip
        middle.text(-0.012, height, label, ha="right", va="center", fontsize=8, color=colour,
                    transform=middle.get_yaxis_transform())  # fmt: skip
    middle.set_ylim(-6.3, 0.5)
    bottom.stairs(night.confidence, edges, baseline=None, color=theme.series[0], linewidth=0.8)
    bottom.axhline(UNSURE_BELOW, color=theme.ink, linestyle=":", linewidth=1)
    bottom.set_ylim(0.15, 1.03)
    bottom.set_yticks([0.2, UNSURE_BELOW, 1], ["20%", f"{UNSURE_BELOW:.0%}", "100%"])
    bottom.set_title("probability of what it says", loc="left")
    bottom.set_xlabel("hours from the start of the recording")
    asked = np.flatnonzero(night.asked)
    bottom.set_xlim(edges[asked[0]], edges[asked[-1] + 1])
    return figure


def _steps(axes: Axes, stages: NDArray[np.int8], edges: NDArray[np.float64], theme: Theme) -> None:
    height = {stage: -row for row, stage in enumerate(STAGE_ROWS)}
    level = np.array([height.get(Stage(code), np.nan) for code in stages])
    axes.stairs(level, edges, baseline=None, color=theme.soft, linewidth=0.8)
    for stage in STAGE_ROWS:
        part = np.where(stages == stage, level, np.nan)
        axes.stairs(part, edges, baseline=None, color=theme.stages[stage], linewidth=3)
    axes.set_yticks([height[stage] for stage in STAGE_ROWS], [STAGE_NAMES[s] for s in STAGE_ROWS])
    axes.set_ylim(-len(STAGE_ROWS) + 0.5, 0.5)
