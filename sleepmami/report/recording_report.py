"""One self-contained HTML page about a recording whose signals are not at hand any more.

What the service shows of a finished job: the embedding, an overview of the channels, and stages a
probe gave, with how sure it was. `night_report.py` is the page for whoever has the night itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, MODALITIES, Modality, Stage
from sleepmami.report import figures
from sleepmami.report.page import page
from sleepmami.report.pictures import data_uri, png

LOW_CONFIDENCE = 0.5  # an epoch below it is marked
TITLES = {
    "usable": "Usable signal",
    "hypnogram": "Hypnogram, by the bundle's probe",
    "confidence": "How sure the probe is",
    "overview": "Channels over the night",
    "components": "Embedding over the night",
    "map": "Embedding map",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingReport:
    """What the page shows. Shapes: L epochs.

    Attributes:
        micro, macro: float32[L, width].
        epoch_valid: bool[L].
        modality_valid: bool[L, 6].
        info: of the embedding, redacted.
        overview: JSON of night_overview.Overview, None when there is none.
        stages: Stage codes int8[L] of a probe, or None.
        confidence: float32[L], probability of the stage; None with `stages`.
    """

    micro: NDArray[np.float32]
    macro: NDArray[np.float32]
    epoch_valid: NDArray[np.bool_]
    modality_valid: NDArray[np.bool_]
    info: Mapping[str, Any]  # Any: JSON values
    overview: bytes | None = None
    stages: NDArray[np.int8] | None = None
    confidence: NDArray[np.float32] | None = None


def render_recording(report: RecordingReport) -> str:
    """The page as HTML; nothing in it is loaded from elsewhere."""
    drawn = _pictures(report)
    return page(
        "recording.html.j2",
        info=report.info,
        num_epochs=len(report.epoch_valid),
        minutes=len(report.epoch_valid) * EPOCH_S / 60,
        num_valid=int(report.epoch_valid.sum()),
        used=report.info["channels_used"],
        missing=report.info["modalities_missing"],
        shares=_shares(report.stages),
        num_unsure=_num_unsure(report),
        low_confidence=LOW_CONFIDENCE,
        pictures=[(TITLES[name], data_uri(png(figure))) for name, figure in drawn.items()],
    )


def _pictures(report: RecordingReport) -> dict[str, Figure]:
    num_epochs = len(report.epoch_valid)
    usable = {m: report.modality_valid[:, i] for i, m in enumerate(MODALITIES)}
    drawn: dict[str, Figure] = {}
    if report.stages is not None:
        drawn["hypnogram"] = figures.hypnogram(report.stages)
    if report.confidence is not None:
        drawn["confidence"] = figures.confidence_over_night(report.confidence, LOW_CONFIDENCE)
    drawn["usable"] = figures.usable_epochs(usable, num_epochs)
    if report.overview is not None:
        drawn["overview"] = figures.channel_overview(_traces(report.overview), num_epochs)
    if report.epoch_valid.any():
        drawn["components"] = figures.components_over_night(report.macro, report.epoch_valid)
        drawn["map"] = figures.embedding_map(
            {"Micro-Encoder": report.micro, "Macro-Encoder": report.macro},
            report.epoch_valid,
            report.stages,
        )
    return drawn


def _traces(overview: bytes) -> dict[Modality, tuple[NDArray[np.uint8], tuple[float, float]]]:
    """Modality -> bytes [L, F] and the frequencies they run over; (0, 0) for a level."""
    found = {}
    for channel in json.loads(overview)["channels"]:
        values = np.frombuffer(base64.b64decode(channel["data"]), np.uint8)
        bands = channel["bands_hz"] or (0.0, 0.0)
        found[Modality(channel["modality"])] = (
            values.reshape(channel["shape"]),
            (float(bands[0]), float(bands[-1])),
        )
    return found


def _shares(stages: NDArray[np.int8] | None) -> list[tuple[str, float]]:
    if stages is None:
        return []
    return [
        (figures.STAGE_NAMES[stage], float((stages == stage).mean()))
        for stage in figures.STAGE_COLOURS
        if stage is not Stage.UNKNOWN
    ]


def _num_unsure(report: RecordingReport) -> int | None:
    if report.confidence is None:
        return None
    return int((report.epoch_valid & (report.confidence < LOW_CONFIDENCE)).sum())
