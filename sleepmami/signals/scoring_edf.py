"""Scorings in EDF and BDF: EDF+ annotations, and hypnograms stored as a signal."""

import itertools
import re
from collections.abc import Sequence

import numpy as np

from sleepmami.psg import EPOCH_S, ScoredEvent, Stage
from sleepmami.signals.edf import Annotation, EdfChannel, EdfFile
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scoring_marks import Interval, Marks
from sleepmami.signals.scoring_rows import ends_of
from sleepmami.signals.stage_words import NSRR_CODES, codes_that_fit, stage_of_text

_HYPNOGRAM_LABEL = re.compile(r"hypno.*|sleep ?(stage|profil).*|stag(e|es|ing)|schlafprofil")
MAX_CODE = 10
MIN_OPEN_ENDED = 10  # stages without a duration that show how far apart they are written
_EDF_RANGES = ((0.0, 6.0), (0.0, 9.0))  # 0 W, 1-4 S1-S4, 5 R, 6 movement, 9 unscored


def marks_of_edf(edf: EdfFile) -> Marks:
    """Stages and events among the annotations; stages of a hypnogram channel when those have none.

    Raises:
        RecordingError: what `EdfFile.annotations` says.
    """
    marks = marks_of_annotations(edf.annotations())
    if not marks.stages:
        channels = [c for c in edf.channels if _HYPNOGRAM_LABEL.fullmatch(c.label.strip().lower())]
        for channel in channels:
            marks.stages = _stages_of_channel(edf, channel)
            if marks.stages:
                break
    return marks


def marks_of_annotations(annotations: Sequence[Annotation]) -> Marks:
    """Stages and events among annotation texts.

    A stage without a duration lasts one epoch, but of many of them one step where most lie one step
    apart, otherwise until the next: some systems write each epoch, others only the changes.
    """
    marks = Marks()
    open_ended: list[tuple[float, Stage]] = []
    for annotation in annotations:
        # A bare name needs a duration: a momentary "R" is a heart beat.
        stage = stage_of_text(annotation.text, bare=annotation.duration_s > 0)
        if stage is not None and annotation.duration_s:
            marks.stages.append((annotation.onset_s, annotation.duration_s, stage))
        elif stage is not None:
            open_ended.append((annotation.onset_s, stage))
        if stage is not None:
            continue
        kind = event_of_text(annotation.text)
        if kind is not None:
            start_s, duration_s = annotation.onset_s, annotation.duration_s
            marks.events.append(ScoredEvent(start_s=start_s, duration_s=duration_s, kind=kind))
    starts_s = [onset_s for onset_s, _ in open_ended]
    many = len(starts_s) >= MIN_OPEN_ENDED
    ends_s = ends_of(starts_s) if many else [start_s + EPOCH_S for start_s in starts_s]
    marks.stages += [
        (onset_s, end_s - onset_s, stage)
        for (onset_s, stage), end_s in zip(open_ended, ends_s, strict=True)
    ]
    return marks


def _stages_of_channel(edf: EdfFile, channel: EdfChannel) -> list[Interval]:
    """Runs of equal codes in a hypnogram channel; none when they cannot be told.

    The EDF convention numbers stages as the NSRR does, and its channels range from 0 to 6 or 9.
    """
    values = edf.physical(channel)
    if not values.size or not channel.sample_rate_hz or not np.isfinite(values).all():
        return []
    rounded = values.round()
    if np.abs(values - rounded).max() > 0.01 or np.abs(rounded).max() > MAX_CODE:
        return []
    by_convention = (channel.physical_min, channel.physical_max) in _EDF_RANGES
    codes = NSRR_CODES if by_convention else codes_that_fit(np.unique(rounded).astype(int).tolist())
    if codes is None:
        return []
    edges = [0, *(np.flatnonzero(np.diff(rounded)) + 1).tolist(), len(rounded)]
    period_s = 1 / channel.sample_rate_hz
    intervals = [
        (first * period_s, (last - first) * period_s, codes.get(int(rounded[first]), Stage.UNKNOWN))
        for first, last in itertools.pairwise(edges)
    ]
    scored = any(stage is not Stage.UNKNOWN for _, _, stage in intervals)
    return intervals if scored else []
