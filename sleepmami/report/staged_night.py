"""One night as scored and as a probe stages it, with how sure the probe is of each epoch.

What is read is the table of predictions of `probe staging --csv`. Shapes: L epochs of the night, of
which those that were not asked (wake long before and after sleep, no valid signal) are UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sleepmami.errors import TableError
from sleepmami.evaluation.predictions import LIKELIHOOD, Names, Predictions
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


def staged_nights(predictions: Predictions) -> list[StagedNight]:
    """All nights of a table of predictions, by recording id.

    Raises:
        TableError: columns or stages that predictions of stages do not have.
    """
    columns = [f"{LIKELIHOOD}{stage.name}" for stage in STAGE_ROWS]
    lacking = {"recording_id", "epoch", "truth", "guess", *columns} - predictions.columns
    if lacking:
        raise TableError(f"predictions of stages: found no {sorted(lacking)}; expected them")
    if not len(predictions):
        raise TableError("predictions of stages: found no epoch; expected some")
    truth_R, guess_R = (_stages(predictions.texts[name]) for name in ("truth", "guess"))
    likely_R = np.max([predictions.numbers[column] for column in columns], axis=0)
    recordings, epoch_R = predictions.texts["recording_id"], predictions.numbers["epoch"]
    order = np.argsort(recordings.code_R, kind="stable")
    stops = np.cumsum(np.bincount(recordings.code_R, minlength=len(recordings.names)))
    nights = []
    for name, rows in zip(recordings.names, np.split(order, stops[:-1]), strict=True):
        length = int(epoch_R[rows].max()) + 1
        truth, guess = (np.full(length, Stage.UNKNOWN, np.int8) for _ in ("truth", "guess"))
        confidence = np.full(length, np.nan)
        truth[epoch_R[rows]], guess[epoch_R[rows]] = truth_R[rows], guess_R[rows]
        confidence[epoch_R[rows]] = likely_R[rows]
        nights.append(
            StagedNight(recording_id=name, truth=truth, guess=guess, confidence=confidence)
        )
    return sorted(nights, key=lambda night: night.recording_id)


def _stages(column: Names) -> NDArray[np.int8]:
    unknown = sorted(set(column.names) - set(Stage.__members__))
    if unknown:
        raise TableError(f"predictions of stages: found {unknown}; expected stages")
    return np.array([Stage[name] for name in column.names], np.int8)[column.code_R]


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
