"""Rows of a text scoring, whichever the file: what their labels, starts and lengths amount to."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sleepmami.psg import EPOCH_S, EventKind, ScoredEvent, Stage
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scoring_marks import Marks, invalid_scoring
from sleepmami.signals.scoring_times import Timeline, number_or_none
from sleepmami.signals.stage_words import CodeSystem, codes_that_fit, stage_in_list, stage_of_text

MAX_STEP_S = 60.0  # rows farther apart are changes, not steps
MAX_STRANGE = 0.1  # of a column of stages; a hypnogram with holes looks like any other


class Row(NamedTuple):
    """One line of a table; times in seconds from the recording's first sample, None if absent."""

    start_s: float | None
    duration_s: float | None
    stage: str
    text: str


def duration_to(
    text: str, start_s: float, timeline: Timeline, *, elapsed: bool = False
) -> float | None:
    """Seconds from a start to a stop, which `+30` gives as a duration; None without a stop."""
    text = text.strip()
    if text.startswith("+"):
        return number_or_none(text[1:])
    stop_s = timeline.seconds(text, elapsed=elapsed, after_s=start_s)
    return None if stop_s is None else stop_s - start_s


def stage_reader(
    texts: Sequence[str], hint: CodeSystem | None, name: str
) -> Callable[[str], Stage | None]:
    """What entries of a stage list stand for: names, or numbers of one code system.

    Raises:
        RecordingError: annotation_invalid when the numbers fit several systems that disagree.
    """
    meaning: dict[str, Stage | None] = {text: stage_in_list(text) for text in set(texts)}
    numbers = {text: number_or_none(text) for text in meaning}
    if any(value is not None and (value % 1 or abs(value) > 99) for value in numbers.values()):
        return meaning.get  # measurements, not codes
    codes = {text: int(value) for text, value in numbers.items() if value is not None}
    if codes:
        system = hint or codes_that_fit(codes.values())
        if system is None:
            found = f"sleep stages as bare numbers {sorted(set(codes.values()))[:12]}"
            raise invalid_scoring(
                name,
                found + ", which code systems read differently (REM is 1, 4 or 5)",
                "stage names (W, N1, N2, N3, R), or a comment such as # 0=W 1=N1 2=N2 3=N3 4=R",
            )
        meaning |= {text: system.get(code, Stage.UNKNOWN) for text, code in codes.items()}
    return meaning.get


def add_rows(
    marks: Marks,
    rows: Sequence[Row],
    stage_of: Callable[[str], Stage | None],
    name: str,
    *,
    timed: bool,
) -> None:
    """Stages and events of rows that each have a start.

    A text that names a stage makes the stage column a remark on where an event lies, as in RemLogic
    lists. So does a stage column beside rows that follow no steady step. Rows without a duration
    last one step when most rows lie one step apart, otherwise until the next row.

    Raises:
        RecordingError: annotation_invalid for a stage column of which too much is not understood.
    """
    has_stages = any(row.stage for row in rows)
    of_text = {
        text: stage_of_text(text, bare=True) if has_stages else _stage_or_code(text, stage_of)
        for text in {row.text for row in rows}
    }
    by_text = any(stage is not None for stage in of_text.values())
    placed = [row for row in rows if row.start_s is not None]
    starts_s = [row.start_s or 0.0 for row in placed]
    step_s, steady = _step(sorted(set(starts_s)))
    texts_hold_events = any(event_of_text(text) for text in of_text)
    stage_column = has_stages and not by_text and (steady or not texts_hold_events)
    following = _following(starts_s, step_s, steady)
    if stage_column:
        _require_understood([row.stage for row in placed if row.stage], stage_of, name)
    # with one row per second, or a stage beside it, an event lasts as long as its row
    per_row = timed and steady and len(starts_s) > 1 and (stage_column or step_s <= 1)
    kinds: dict[str, EventKind | None] = {text: event_of_text(text) for text in of_text}
    for row, start_s, next_s in zip(placed, starts_s, following, strict=True):
        stage = of_text[row.text] if by_text else None
        if stage_column:
            stage = stage_of(row.stage)
        if stage is not None:
            marks.stages.append((start_s, row.duration_s or next_s - start_s, stage))
        kind = kinds[row.text]
        if kind is not None:
            length_s = row.duration_s
            if length_s is None:  # of a table with one row per second, say
                length_s = step_s if per_row else 0.0
            marks.events.append(ScoredEvent(start_s=start_s, duration_s=length_s, kind=kind))
    if per_row and all(row.duration_s is None for row in rows):
        marks.events = _joined(marks.events)


def _require_understood(
    texts: Sequence[str], stage_of: Callable[[str], Stage | None], name: str
) -> None:
    """Refuse stages of which some are understood and too many are not."""
    strange = [text for text in texts if stage_of(text) is None and event_of_text(text) is None]
    if len(texts) > len(strange) > MAX_STRANGE * len(texts):
        words = sorted(set(strange))[:8]
        found = f"{len(strange)} of {len(texts)} sleep stages in unknown words {words}"
        raise invalid_scoring(name, found, "stage names such as W, N1, N2, N3, R")


def ends_of(starts_s: Sequence[float]) -> list[float]:
    """When each stage ends that says only when it starts; see `add_rows`."""
    return _following(starts_s, *_step(sorted(set(starts_s))))


def _stage_or_code(text: str, stage_of: Callable[[str], Stage | None]) -> Stage | None:
    stage = stage_of_text(text, bare=True)
    return stage_of(text) if stage is None and number_or_none(text) is not None else stage


def _step(starts_s: Sequence[float]) -> tuple[float, bool]:
    """The usual distance between rows, and whether it is that of more than half of them."""
    if len(starts_s) < 2:
        return float(EPOCH_S), True
    distances = np.diff(np.array(starts_s)).round(3)
    values, counts = np.unique(distances, return_counts=True)
    most = counts.argmax()
    steady = 2 * counts[most] > len(distances) and values[most] <= MAX_STEP_S
    return float(values[most]), bool(steady)


def _following(starts_s: Sequence[float], step_s: float, steady: bool) -> list[float]:
    """Per row when it ends if it does not say: at the next later start, at most after a step."""
    ordered = sorted(set(starts_s))
    last_s = ordered[-1] + (step_s if steady else EPOCH_S) if ordered else 0.0
    ends_s = dict(zip(ordered, [*ordered[1:], last_s], strict=True)) if ordered else {}
    if steady:
        return [min(start_s + step_s, ends_s[start_s]) for start_s in starts_s]
    return [ends_s[start_s] for start_s in starts_s]


def _joined(events: Sequence[ScoredEvent]) -> list[ScoredEvent]:
    """Events of one kind that touch, made one."""
    joined: dict[EventKind, list[ScoredEvent]] = {}
    for event in sorted(events):
        of_kind = joined.setdefault(event.kind, [])
        if of_kind:
            last = of_kind[-1]
            if abs(last.start_s + last.duration_s - event.start_s) < 1e-3:
                length_s = event.start_s + event.duration_s - last.start_s
                of_kind[-1] = ScoredEvent(start_s=last.start_s, duration_s=length_s, kind=last.kind)
                continue
        of_kind.append(event)
    return [event for of_kind in joined.values() for event in of_kind]


def require_inside(marks: Marks, timeline: Timeline, num_epochs: int, name: str) -> None:
    """Refuse a scoring whose times of day all lie outside the recording."""
    stop_s = num_epochs * EPOCH_S
    spans = [(start, length) for start, length, _ in marks.stages]
    spans += [(event.start_s, event.duration_s) for event in marks.events]
    inside = any(start < stop_s and start + length >= 0 for start, length in spans)
    if spans and timeline.used_clock and not inside:
        raise invalid_scoring(name, "times of day that all lie outside the recording")
