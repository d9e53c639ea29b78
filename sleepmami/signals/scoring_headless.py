"""Scorings in text tables without a header row: (start, length, label) and (time of day, label).

The first are what psg_utils (`0,60,W`) and EDFbrowser (ISO times) write, the second the event list
of Grass Twin (`22:00:30.00<tab>STAGE - N1`), which tells lengths in words (`DUR: 12.3 SEC.`).
"""

import re
from collections.abc import Sequence

from sleepmami.psg import EPOCH_S, ScoredEvent
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scoring_marks import Marks, invalid_scoring
from sleepmami.signals.scoring_rows import Row, add_rows, require_inside, stage_reader
from sleepmami.signals.scoring_times import Timeline, number_or_none, time_of_day_or_none
from sleepmami.signals.stage_words import CodeSystem, stage_of_text

_DELIMITERS = ("\t", ";", ",", None)  # None: any blanks
_LENGTH = re.compile(r"[- ]*\bDUR: *([\d.]{1,10}) *SEC\b[.]?", re.IGNORECASE)
_EQUAL_S = 0.01


def marks_of_headless(
    lines: Sequence[str], name: str, num_epochs: int, clock_s: float | None, hint: CodeSystem | None
) -> Marks | None:
    """Stages and events; None when the lines do not all look like this.

    Raises:
        RecordingError: annotation_invalid when the second numbers could be lengths or ends, stage
            numbers could mean several things, or there are times of day and `clock_s` is None.
    """
    for delimiter in _DELIMITERS:
        triples = [[cell.strip() for cell in line.strip().split(delimiter, 2)] for line in lines]
        if all(
            len(t) == 3 and _is_time(t[0]) and number_or_none(t[1]) is not None for t in triples
        ):
            return _triples(triples, name, num_epochs, clock_s, hint)
    pairs = [[cell.strip() for cell in line.split("\t", 1)] for line in lines]
    if all(len(pair) == 2 and time_of_day_or_none(pair[0]) is not None for pair in pairs):
        return _pairs(pairs, name, num_epochs, clock_s)
    return None


def _is_time(text: str) -> bool:
    return number_or_none(text) is not None or time_of_day_or_none(text) is not None


def _triples(
    triples: Sequence[Sequence[str]],
    name: str,
    num_epochs: int,
    clock_s: float | None,
    hint: CodeSystem | None,
) -> Marks:
    timeline = Timeline(name, clock_s)
    starts_s = [timeline.seconds(start) or 0.0 for start, _, _ in triples]
    lengths_s = [number_or_none(length) or 0.0 for _, length, _ in triples]
    if not timeline.used_clock and _are_ends(starts_s, lengths_s, name):
        lengths_s = [stop - start for start, stop in zip(starts_s, lengths_s, strict=True)]
    texts = [text.strip("\"' ") for _, _, text in triples]
    rows = [
        Row(start, length, "", text)
        for start, length, text in zip(starts_s, lengths_s, texts, strict=True)
    ]
    marks = Marks()
    numbers = [text for text in texts if number_or_none(text) is not None]
    add_rows(marks, rows, stage_reader(numbers, hint, name), name, timed=True)
    require_inside(marks, timeline, num_epochs, name)
    return marks


def _are_ends(starts_s: Sequence[float], seconds: Sequence[float], name: str) -> bool:
    """Whether the second numbers are ends, because they are the next starts and not lengths."""
    follows = [
        (abs(start + second - later) < _EQUAL_S, abs(second - later) < _EQUAL_S)
        for start, second, later in zip(starts_s, seconds, starts_s[1:], strict=False)
    ]
    as_lengths = sum(length for length, _ in follows)
    as_ends = sum(end for _, end in follows)
    if as_lengths > as_ends or any(s < start for start, s in zip(starts_s, seconds, strict=True)):
        return False
    if as_ends > as_lengths:
        return True
    if len(starts_s) == 1 and starts_s[0] == 0:
        return False
    raise invalid_scoring(
        name, "two numbers per line without a header, of which the second may be a length or an end"
    )


def _pairs(
    pairs: Sequence[Sequence[str]], name: str, num_epochs: int, clock_s: float | None
) -> Marks | None:
    timeline = Timeline(name, clock_s)
    marks = Marks()
    stages: list[tuple[float, str]] = []
    for time, text in pairs:
        start_s = timeline.seconds(time) or 0.0
        length = _LENGTH.search(text)
        label = _LENGTH.sub("", text)
        kind = event_of_text(label)
        if stage_of_text(label, bare=True) is not None:
            stages.append((start_s, label))
        elif kind is not None:
            length_s = (number_or_none(length[1]) if length else None) or 0.0
            marks.events.append(ScoredEvent(start_s=start_s, duration_s=length_s, kind=kind))
    if not stages and not marks.events:
        return None
    ends_s = [start_s for start_s, _ in stages[1:]] + [
        start_s + EPOCH_S for start_s, _ in stages[-1:]
    ]
    rows = [Row(s, e - s, "", text) for (s, text), e in zip(stages, ends_s, strict=True)]
    add_rows(marks, rows, lambda _: None, name, timed=True)
    require_inside(marks, timeline, num_epochs, name)
    return marks
