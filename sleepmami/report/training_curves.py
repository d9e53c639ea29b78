"""How an encoder learned: training and validation over the steps, out of a run's own log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from sleepmami.report.pictures import PANEL_IN, Picture, Theme, picture
from sleepmami.report.wording import sentence

History = Sequence[Mapping[str, float]]
Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One panel: a metric of training steps, of validation, or both.

    Attributes:
        title: of the panel.
        training: its name in the log; empty where training has no such metric.
        validation: the same of held-out nights.
    """

    title: str
    training: str = ""
    validation: str = ""


MICRO_CURVES = (
    Curve(title="total loss (eq. 3)", training="loss/total", validation="validation/total"),
    Curve(
        title="reconstruction (eq. 1)",
        training="loss/reconstruction",
        validation="validation/reconstruction",
    ),
    Curve(
        title="contrast (eq. 2)",
        training="loss/contrastive",
        validation="validation/contrastive",
    ),
    Curve(title="KoLeo", training="loss/koleo", validation="validation/koleo"),
    Curve(
        title="slots found by a modality's own signal",
        validation="validation/contrast_accuracy_blocked",
    ),
)
MACRO_CURVES = (
    Curve(title="DGCL (eq. 6)", training="loss/dgcl"),
    Curve(
        title="DGCL above its lowest possible value",
        training="loss/excess",
        validation="validation/dgcl_excess",
    ),
    Curve(title="age, R\u00b2 of a held-out probe", validation="validation/age_r2"),
    Curve(title="sex, AUROC of a held-out probe", validation="validation/sex_auroc"),
    Curve(title="stages, macro F1 of a held-out probe", validation="validation/stage_macro_f1"),
)


def curve_pictures(history: History, curves: Sequence[Curve], prefix: str) -> list[Picture]:
    """A picture of each curve that the log has; `prefix` begins the names of their files."""
    pictures = []
    for curve in curves:
        lines = {"training": _points(history, curve.training),
                 "validation": _points(history, curve.validation)}  # fmt: skip
        if any(lines.values()):
            name = (curve.training or curve.validation).replace("/", "_").lower()
            pictures.append(_picture(f"{prefix}_{name}", curve.title, lines))
    return pictures


def _points(history: History, name: str) -> Points:
    return [(row["step"], row[name]) for row in history if name and name in row]


def _picture(name: str, title: str, lines: Mapping[str, Points]) -> Picture:
    said = [
        f"{kind} from {points[0][1]:.3g} at step {points[0][0]:.0f} to {points[-1][1]:.3g} at step "
        f"{points[-1][0]:.0f}"
        for kind, points in lines.items()
        if points
    ]
    return picture(
        name,
        partial(loss_curve, title, lines["training"], lines["validation"]),
        alt=f"{sentence(title)}: {'; '.join(said)}.",
    )


def loss_curve(title: str, training: Points, validation: Points, theme: Theme) -> Figure:
    """One panel; validation is dashed and has a marker at every step at which it was asked."""
    figure = Figure(figsize=(PANEL_IN, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    if training:
        axes.plot(*zip(*training, strict=True), color=theme.series[0], label="training")
    if validation:
        axes.plot(
            *zip(*validation, strict=True),
            color=theme.series[1],
            linestyle="--",
            marker="s",
            markersize=4,
            label="validation",
        )
    axes.set_xlabel("step")
    axes.grid(alpha=0.5)
    axes.legend(loc="best")
    return figure
