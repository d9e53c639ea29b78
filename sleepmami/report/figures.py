"""Pictures of one night; each function takes arrays and returns a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from sleepmami.psg import EPOCH_S, MODALITIES, MODEL_RATE_HZ, Modality, Stage
from sleepmami.report.pictures import LIGHT

STAGE_ROWS = (Stage.WAKE, Stage.REM, Stage.N1, Stage.N2, Stage.N3)  # top to bottom
STAGE_COLOURS = LIGHT.stages
STAGE_NAMES = {
    Stage.WAKE: "Wake",
    Stage.REM: "REM",
    Stage.N1: "N1",
    Stage.N2: "N2",
    Stage.N3: "N3",
    Stage.UNKNOWN: "not scored",
}
COMPONENT_COLOURS = LIGHT.series[:3]
WIDTH_IN = 9.0
TIME_LEFT, TIME_WIDTH = 0.075, 0.84  # of the figure; the rest is for a colour bar


def _hours(num_epochs: int) -> NDArray[np.float64]:
    return np.arange(num_epochs) * EPOCH_S / 3600


def _over_the_night(num_epochs: int, height_in: float) -> tuple[Figure, Axes]:
    """A figure whose time axis lies at the same place in every picture of the page."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    bottom, top = 0.46 / height_in, 1 - 0.08 / height_in
    axes = figure.add_axes((TIME_LEFT, bottom, TIME_WIDTH, top - bottom))
    axes.set_xlim(0, num_epochs * EPOCH_S / 3600)
    axes.set_xlabel("hours from the start of the recording")
    return figure, axes


def hypnogram(stages: NDArray[np.int8]) -> Figure:
    """Scored stages int8[num_epochs] over the night."""
    figure, axes = _over_the_night(len(stages), 1.9)
    height = {stage: -row for row, stage in enumerate(STAGE_ROWS)}
    level = np.array([height.get(Stage(code), np.nan) for code in stages])
    edges = np.append(_hours(len(stages)), len(stages) * EPOCH_S / 3600)
    axes.stairs(level, edges, baseline=None, color="#444444", linewidth=0.8)
    for stage in STAGE_ROWS:
        part = np.where(stages == stage, level, np.nan)
        axes.stairs(part, edges, baseline=None, color=STAGE_COLOURS[stage], linewidth=3)
    axes.set_yticks([height[stage] for stage in STAGE_ROWS], [STAGE_NAMES[s] for s in STAGE_ROWS])
    axes.set_ylim(-len(STAGE_ROWS) + 0.5, 0.5)
    return figure


def confidence_over_night(confidence: NDArray[np.float32], threshold: float) -> Figure:
    """Probability of the chosen stage float32[num_epochs], marked where below a threshold."""
    figure, axes = _over_the_night(len(confidence), 1.5)
    edges = np.append(_hours(len(confidence)), len(confidence) * EPOCH_S / 3600)
    axes.stairs(confidence, edges, color="#0072B2", linewidth=0.8)
    unsure = np.where(confidence < threshold, confidence, np.nan)
    axes.stairs(unsure, edges, baseline=None, color="#D55E00", linewidth=2)
    axes.axhline(threshold, color="#888888", linewidth=0.6, linestyle=":")
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    return figure


def channel_overview(
    traces: Mapping[Modality, tuple[NDArray[np.uint8], tuple[float, float]]], num_epochs: int
) -> Figure:
    """One row per modality: power by frequency over the night, or a level as a line.

    Args:
        traces: bytes [num_epochs, bands] and the lowest and highest frequency in Hz; one band is a
            level.
        num_epochs: of the night.
    """
    figure = Figure(figsize=(WIDTH_IN, 0.5 + 0.95 * max(1, len(traces))))
    rows = np.atleast_1d(figure.subplots(max(1, len(traces)), 1, sharex=True))
    figure.subplots_adjust(TIME_LEFT, 0.1, TIME_LEFT + TIME_WIDTH, 0.98, hspace=0.15)
    hours = num_epochs * EPOCH_S / 3600
    for axes, (modality, (values, (low_hz, high_hz))) in zip(rows, traces.items(), strict=False):
        axes.set_ylabel(f"{modality.value}\nHz" if high_hz else modality.value, fontsize="small")
        if high_hz:
            extent = (0, hours, low_hz, high_hz)
            axes.imshow(values.T, aspect="auto", origin="lower", cmap="viridis", extent=extent)
        else:
            axes.plot(_hours(num_epochs), values[:, 0], color="#0072B2", linewidth=0.8)
            axes.set_yticks([])
    rows[-1].set_xlim(0, hours)
    rows[-1].set_xlabel("hours from the start of the recording")
    return figure


def usable_epochs(usable: Mapping[Modality, NDArray[np.bool_]], num_epochs: int) -> Figure:
    """Where each modality has a usable signal; an absent modality is an empty row."""
    figure, axes = _over_the_night(num_epochs, 1.7)
    hours = num_epochs * EPOCH_S / 3600
    absent = np.zeros(num_epochs, bool)
    grid = np.stack([usable.get(modality, absent) for modality in MODALITIES])
    axes.imshow(
        np.where(grid, 1.0, np.nan),
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=0,
        vmax=2,
        extent=(0, hours, len(MODALITIES) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(MODALITIES)), [m.value for m in MODALITIES])
    for row in range(1, len(MODALITIES)):
        axes.axhline(row - 0.5, color="white", linewidth=2)
    return figure


def eeg_spectrogram(samples: NDArray[np.float32], num_epochs: int) -> Figure:
    """Power of one channel at 100 Hz in each 30-s epoch, 0.5-30 Hz, in decibels."""
    frequency, _, power = scipy_signal.spectrogram(
        samples, fs=MODEL_RATE_HZ, nperseg=4 * MODEL_RATE_HZ, noverlap=2 * MODEL_RATE_HZ
    )
    shown = (frequency >= 0.5) & (frequency <= 30)
    decibel = 10 * np.log10(power[shown] + 1e-6)
    low, high = np.percentile(decibel, [5, 99])
    figure, axes = _over_the_night(num_epochs, 2.4)
    image = axes.imshow(
        decibel,
        aspect="auto",
        origin="lower",
        cmap="viridis",
        vmin=low,
        vmax=high,
        extent=(0, len(samples) / MODEL_RATE_HZ / 3600, 0.5, 30),
    )
    axes.set_ylabel("Hz")
    box = axes.get_position()
    beside = figure.add_axes((box.x1 + 0.01, box.y0, 0.012, box.height))
    figure.colorbar(image, cax=beside, label="dB")
    return figure


def principal_components(
    vectors: NDArray[np.float32], valid: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Scores [num_epochs, count] on the principal components of the valid rows, and their shares.

    Invalid rows are NaN. Fewer components than `count` exist when there are fewer valid rows; the
    missing ones are zero.
    """
    scores = np.zeros((len(vectors), count), np.float32)
    scores[~valid] = np.nan
    centred = vectors[valid] - vectors[valid].mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(count, len(singular))
    scores[valid, :kept] = left[:, :kept] * singular[:kept]
    share = np.zeros(count)
    total = float((singular**2).sum())
    if total > 0:
        share[:kept] = singular[:kept] ** 2 / total
    return scores, share


def components_over_night(vectors: NDArray[np.float32], valid: NDArray[np.bool_]) -> Figure:
    """The first three principal components of [num_epochs, width] over time."""
    scores, share = principal_components(vectors, valid, len(COMPONENT_COLOURS))
    figure, axes = _over_the_night(len(vectors), 2.6)
    for index, colour in enumerate(COMPONENT_COLOURS):
        label = f"PC{index + 1} ({share[index]:.0%})"
        axes.plot(_hours(len(vectors)), scores[:, index], color=colour, linewidth=0.8, label=label)
    axes.legend(ncols=3, fontsize="small", frameon=False, loc="upper center")
    axes.margins(y=0.2)
    axes.set_ylabel("score")
    return figure


def embedding_map(
    vectors: Mapping[str, NDArray[np.float32]],
    valid: NDArray[np.bool_],
    stages: NDArray[np.int8] | None,
) -> Figure:
    """A plane of the first two principal components per kind of vector, one point per epoch.

    Points are coloured by stage where the night is scored, else by time.

    Args:
        vectors: title -> [num_epochs, width].
        valid: bool[num_epochs], epochs to show.
        stages: Stage codes, or None.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained")
    planes = np.atleast_1d(figure.subplots(1, len(vectors)))
    for plane, (title, values) in zip(planes, vectors.items(), strict=True):
        scores, share = principal_components(values, valid, 2)
        plane.set_title(title, fontsize="medium")
        plane.set_xlabel(f"PC1 ({share[0]:.0%})")
        plane.set_ylabel(f"PC2 ({share[1]:.0%})")
        if stages is None:
            hours = _hours(len(values))
            points = plane.scatter(scores[:, 0], scores[:, 1], c=hours, s=7, cmap="viridis")
        else:
            _scatter_by_stage(plane, scores, valid, stages)
    if stages is None:
        figure.colorbar(points, ax=list(planes), label="hours")
    else:
        handles, labels = planes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, markerscale=2)
    return figure


def _scatter_by_stage(
    plane: Axes, scores: NDArray[np.float32], valid: NDArray[np.bool_], stages: NDArray[np.int8]
) -> None:
    for stage in (*STAGE_ROWS, Stage.UNKNOWN):
        rows = valid & (stages == stage)
        if rows.any():
            plane.scatter(
                scores[rows, 0],
                scores[rows, 1],
                s=7,
                color=STAGE_COLOURS[stage],
                label=STAGE_NAMES[stage],
            )
