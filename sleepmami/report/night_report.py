"""One self-contained HTML page about one embedded night and the model that embedded it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import (
    EPOCH_SAMPLES,
    MODEL_RATE_HZ,
    STORED_RATE_HZ,
    STORED_SCALE,
    Modality,
    Night,
    segment_start_epochs,
)
from sleepmami.report import figures
from sleepmami.report.page import page
from sleepmami.report.pictures import data_uri, png
from sleepmami.report.training_curves import MACRO_CURVES, MICRO_CURVES, curve_pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class NightReport:
    """What the page shows.

    Attributes:
        night: the preprocessed recording.
        micro: float32[num_epochs, width], the Micro-Encoder's vector of each epoch.
        macro: float32[num_epochs, width], each epoch in the context of its night.
        epoch_valid: bool[num_epochs].
        info: of the embedding; model id, weights hash, missing modalities.
        micro_history: metrics of Micro pretraining, one mapping per report.
        macro_history: metrics of Macro pretraining.
        files: what a reader may want to open: description -> path.
    """

    night: Night
    micro: NDArray[np.float32]
    macro: NDArray[np.float32]
    epoch_valid: NDArray[np.bool_]
    info: Mapping[str, Any]  # Any: JSON values
    micro_history: Sequence[Mapping[str, float]] = field(default=())
    macro_history: Sequence[Mapping[str, float]] = field(default=())
    files: Mapping[str, str] = field(default_factory=dict)


def render(report: NightReport) -> str:
    """The page as HTML; nothing in it is loaded from elsewhere."""
    night = report.night
    return page(
        "night.html.j2",
        report=report,
        night=night,
        minutes=night.num_epochs / 2,
        num_valid=int(report.epoch_valid.sum()),
        missing=[m.value for m in night.missing],
        stage_shares=_stage_shares(night),
        pictures=_pictures(report),
        micro=curve_pictures(report.micro_history, MICRO_CURVES, "micro"),
        macro=curve_pictures(report.macro_history, MACRO_CURVES, "macro"),
    )


def _stage_shares(night: Night) -> list[tuple[str, float]]:
    if night.hypnogram is None:
        return []
    return [
        (figures.STAGE_NAMES[stage], float((night.hypnogram == stage).mean()))
        for stage in figures.STAGE_COLOURS
    ]


def _pictures(report: NightReport) -> dict[str, str]:
    """Name -> data URI of each picture there is something to draw for."""
    night = report.night
    drawn = {
        "usable": figures.usable_epochs(night.usable, night.num_epochs),
        "components": figures.components_over_night(report.macro, report.epoch_valid),
        "map": figures.embedding_map(
            {"Micro-Encoder": report.micro, "Macro-Encoder": report.macro},
            report.epoch_valid,
            night.hypnogram,
        ),
    }
    if night.hypnogram is not None:
        drawn["hypnogram"] = figures.hypnogram(night.hypnogram)
    if Modality.EEG in night.signals:
        drawn["eeg"] = figures.eeg_spectrogram(continuous(night, Modality.EEG), night.num_epochs)
    return {name: data_uri(png(figure)) for name, figure in drawn.items()}


def continuous(night: Night, modality: Modality) -> NDArray[np.float32]:
    """A 100 Hz modality of the whole night as z-scores float32[num_epochs * 3000], unsegmented."""
    if STORED_RATE_HZ[modality] != MODEL_RATE_HZ:
        raise ValueError(f"{modality} is not stored at {MODEL_RATE_HZ} Hz")
    out = np.zeros(night.num_epochs * EPOCH_SAMPLES, np.float32)
    starts = segment_start_epochs(night.num_epochs)
    for start, segment in zip(starts, night.signals[modality], strict=True):
        first = start * EPOCH_SAMPLES
        out[first : first + len(segment)] = segment / STORED_SCALE
    return out
