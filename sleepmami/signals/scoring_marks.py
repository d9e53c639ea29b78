"""What every scorer's dialect becomes: intervals of sleep stage, and events.

One rule turns intervals into epochs: an epoch takes the stage that covers most of it, counting
unscored time as a stage. So scorings in 5-s or 20-s steps, merged runs and off-grid starts need no
special case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import EPOCH_S, ScoredEvent, Stage

Interval = tuple[float, float, Stage]  # start_s, duration_s, stage

READABLE = (
    "sleep stages or events as EDF+ annotations, a hypnogram channel, NSRR PSGAnnotation or "
    "Profusion CMPStudyConfig XML, Luna .annot, or a text table of them"
)


@dataclass
class Marks:
    """What a scorer marked, in seconds from the recording's first sample."""

    stages: list[Interval] = field(default_factory=list)
    events: list[ScoredEvent] = field(default_factory=list)


def invalid_scoring(name: str, found: str, expected: str = READABLE) -> RecordingError:
    """The error for a scorer's file that cannot be used; `found` may quote it."""
    return RecordingError(
        RecordingCode.ANNOTATION_INVALID, file=name, found=found, expected=expected
    )


def hypnogram_of(intervals: Sequence[Interval], num_epochs: int) -> NDArray[np.int8]:
    """Per epoch the stage covering most of it; in a tie the lighter one, and unscored last.

    Returns:
        int8[num_epochs] of Stage codes.
    """
    stages = [*(stage for stage in Stage if stage is not Stage.UNKNOWN), Stage.UNKNOWN]
    covered_s = np.zeros((len(stages), num_epochs))  # unscored last
    for row, stage in enumerate(stages[:-1]):
        of_stage = [(start, length) for start, length, its in intervals if its is stage]
        if of_stage:
            starts_s, lengths_s = np.array(of_stage, dtype=np.float64).T
            covered_s[row] = _cover(starts_s, starts_s + lengths_s, num_epochs)
    covered_s[-1] = EPOCH_S - covered_s.sum(axis=0)
    # a sum of many short steps may miss a tie by a rounding error
    rounded_s = covered_s.round(6)
    hypnogram: NDArray[np.int8] = np.array(stages, dtype=np.int8)[rounded_s.argmax(axis=0)]
    return hypnogram


def _cover(
    starts_s: NDArray[np.float64], stops_s: NDArray[np.float64], num_epochs: int
) -> NDArray[np.float64]:
    """Seconds of each epoch that intervals cover, in time linear in both numbers."""
    starts = np.clip(starts_s / EPOCH_S, 0, num_epochs)
    stops = np.clip(stops_s / EPOCH_S, 0, num_epochs)
    kept = stops > starts
    # the covered time before an edge is a ramp from that edge on; two ramps make an interval
    covered = np.zeros(num_epochs + 2)
    for edges, sign in ((starts[kept], 1.0), (stops[kept], -1.0)):
        epoch = edges.astype(np.int64)
        into = edges - epoch
        np.add.at(covered, epoch, sign * (1 - into))
        np.add.at(covered, epoch + 1, sign * into)
    return np.cumsum(covered)[:num_epochs] * float(EPOCH_S)
