"""What a probe of epochs is asked: one class per epoch, or one per second of it; -1 is not asked.

Shapes: L epochs, K classified parts of an epoch (its seconds, or 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.config import ApneaConfig, Level
from sleepmami.evaluation.embeddings import ProbeNight
from sleepmami.evaluation.metrics import Ints
from sleepmami.evaluation.probe_losses import Weighting
from sleepmami.psg import EPOCH_S, EventKind, ScoredEvent, Stage

NOT_ASKED = -1
STAGES = tuple(stage for stage in Stage if stage is not Stage.UNKNOWN)
DISORDERED = (
    EventKind.OBSTRUCTIVE_APNEA,
    EventKind.CENTRAL_APNEA,
    EventKind.MIXED_APNEA,
    EventKind.APNEA,
    EventKind.HYPOPNEA,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What the classes of a task are called, how they are weighted, and over what.

    Attributes:
        num_parts: K.
        weighting: Table 10's.
        unit: what a part is.
    """

    classes: tuple[str, ...]
    num_parts: int
    weighting: Weighting
    unit: str


def staging_question() -> Question:
    """Five stages per epoch (section 4.1.1)."""
    names = tuple(stage.name for stage in STAGES)
    return Question(classes=names, num_parts=1, weighting="log_5", unit="epoch")


def apnea_question(config: ApneaConfig, level: Level = "macro") -> Question:
    """Normal or disordered breathing per second or epoch (section 4.1.2)."""
    by_second = level == "second"
    return Question(
        classes=("normal", "disordered"),
        num_parts=EPOCH_S if config.unit == "second" and not by_second else 1,
        weighting="inverse",
        unit="second" if by_second else config.unit,
    )


def stages(hypnogram: NDArray[np.int8], wake_min: float) -> Ints:
    """Stages [L, 1]; wake further than `wake_min` minutes from sleep is not asked.

    A night without any sleep asks nothing.
    """
    asleep = np.flatnonzero(hypnogram > Stage.WAKE)
    target_L = np.full(len(hypnogram), NOT_ASKED, np.int64)
    if len(asleep):
        kept = int(wake_min * 60 // EPOCH_S)
        part = slice(max(asleep[0] - kept, 0), asleep[-1] + kept + 1)
        target_L[part] = hypnogram[part]  # unscored epochs are -1 in both
    return target_L[:, None]


def breathing(night: ProbeNight, config: ApneaConfig, level: Level = "macro") -> Ints:
    """Disordered 1, normal 0.

    Of vectors of seconds [30 L, 1], as in Table 2: one head for all. Of vectors of epochs [L, 1],
    or with `apnea.unit=second` [L, 30], each second of an epoch by a linear head of its own. A
    second is what its middle is.
    """
    events = [event for event in night.events or () if event.kind in DISORDERED]
    if level == "second" or config.unit == "second":
        marks = np.zeros(night.num_epochs * EPOCH_S, np.int64)
        for event in events:
            first = max(int(np.ceil(event.start_s - 0.5)), 0)
            stop = int(np.ceil(event.start_s + event.duration_s - 0.5))
            marks[first : max(stop, 0)] = 1
        return marks.reshape(-1, 1 if level == "second" else EPOCH_S)
    overlap_L = overlaps_s(events, night.num_epochs)
    return (overlap_L >= config.min_overlap_s).astype(np.int64)[:, None]


def overlaps_s(events: list[ScoredEvent], num_epochs: int) -> NDArray[np.float64]:
    """Seconds of each epoch that lie within events [L]; what two events share counts once."""
    overlap_L = np.zeros(num_epochs)
    reached_s = 0.0
    for event in sorted(events):
        start_s = max(event.start_s, reached_s)
        stop_s = min(event.start_s + event.duration_s, num_epochs * EPOCH_S)
        for epoch in range(int(start_s // EPOCH_S), int(np.ceil(stop_s / EPOCH_S))):
            low, high = max(start_s, epoch * EPOCH_S), min(stop_s, (epoch + 1) * EPOCH_S)
            overlap_L[epoch] += max(high - low, 0.0)
        reached_s = max(reached_s, stop_s)
    return overlap_L
