"""The hypnogram of an embedded night: what a bundle's staging probe says of each epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.wire import HypnogramAnswer
from sleepmami.evaluation.fitted_probe import FittedProbe
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.psg import EPOCH_S, Stage

UNSCORED = "unknown"  # of an epoch without a usable signal
_CODES = {"W": Stage.WAKE, "WAKE": Stage.WAKE, "R": Stage.REM} | {
    stage.name: stage for stage in Stage
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypnogram:
    """Stages of a night; a probe's reading, not a scorer's.

    Attributes:
        classes: the probe's, K of them.
        probability_LK: float32[L, K]; zero where the epoch has no usable signal.
        valid_L: bool[L].
    """

    classes: tuple[str, ...]
    probability_LK: NDArray[np.float32]
    valid_L: NDArray[np.bool_]

    @property
    def stages(self) -> list[str]:
        """The likeliest class of each epoch, UNSCORED without a signal."""
        best = self.probability_LK.argmax(axis=1)
        return [
            self.classes[index] if valid else UNSCORED
            for index, valid in zip(best, self.valid_L, strict=True)
        ]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of that class, float32[L]."""
        return np.asarray(self.probability_LK.max(axis=1))

    def codes(self) -> NDArray[np.int8] | None:
        """Stage codes int8[L]; None when the classes are not sleep stages."""
        names = [name.upper() for name in self.classes]
        if any(name not in _CODES for name in names):
            return None
        codes = np.array([_CODES[name] for name in names], np.int8)
        return np.where(self.valid_L, codes[self.probability_LK.argmax(axis=1)], np.int8(-1))


def hypnogram_of(embedding: NightEmbedding, probe: FittedProbe) -> Hypnogram:
    """What the probe says.

    Raises:
        CheckpointError: the probe was fitted on vectors of other weights.
    """
    probe.require_encoder(embedding.info["weights_sha256"])
    vectors = embedding.micro if probe.level == "micro" else embedding.macro
    valid = embedding.epoch_valid
    probability_LK = np.zeros((len(valid), len(probe.classes)), np.float32)
    if valid.any():
        probability_LK[valid] = probe.probabilities(vectors[valid])
    return Hypnogram(classes=tuple(probe.classes), probability_LK=probability_LK, valid_L=valid)


def hypnogram_answer(hypnogram: Hypnogram, info: Mapping[str, object]) -> HypnogramAnswer:
    """The JSON shape."""
    return HypnogramAnswer(
        model_id=str(info["model_id"]),
        weights_sha256=str(info["weights_sha256"]),
        epoch_s=EPOCH_S,
        classes=list(hypnogram.classes),
        stages=hypnogram.stages,
        confidence=np.round(hypnogram.confidence, 4).tolist(),
        probabilities=np.round(hypnogram.probability_LK, 4).tolist(),
    )


def hypnogram_tsv(hypnogram: Hypnogram) -> bytes:
    """BIDS events columns onset and duration in seconds, then the stage and how sure it is."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(["onset", "duration", "stage", "confidence", *hypnogram.classes])
    columns = zip(hypnogram.stages, hypnogram.confidence, hypnogram.probability_LK, strict=True)
    for epoch, (stage, confidence, probabilities) in enumerate(columns):
        numbers = [f"{value:.4f}" for value in (confidence, *probabilities)]
        rows.writerow([epoch * EPOCH_S, EPOCH_S, stage, *numbers])
    return text.getvalue().encode()
