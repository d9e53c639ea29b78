"""Scorings: the hypnogram and the events in a scorer's file, whichever dialect it is in.

The content tells dialects apart, never the file's name: EDF and XML announce themselves, and the
rest is text. Of a file's words only stage codes and event kinds leave these functions; what an
error quotes of them is in `RecordingError.found`, which stays with the user who has the file.
"""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import EPOCH_S, ScoredEvent
from sleepmami.signals.edf import Annotation, EdfFile, open_edf
from sleepmami.signals.events import kept_events
from sleepmami.signals.scoring_edf import marks_of_annotations, marks_of_edf
from sleepmami.signals.scoring_marks import Marks, hypnogram_of, invalid_scoring
from sleepmami.signals.scoring_text import marks_of_text
from sleepmami.signals.scoring_times import CLOCK_TOLERANCE_S, DAY_S
from sleepmami.signals.scoring_xml import MAX_XML_BYTES, marks_of_xml
from sleepmami.signals.stage_words import code_hint

# Of the typical stage; outside it times are in samples, milliseconds or minutes.
STAGE_LENGTHS_S = (1.0, 1800.0)
MIN_STAGES = 10  # fewer may well be that long
MAX_EVENTS = 20_000  # more than one every four seconds of a day
Source = str | os.PathLike[str] | bytes


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is scored in one recording.

    Attributes:
        hypnogram: Stage codes int8[num_epochs]; None when no stage is scored.
        events: by start; None when there is none, so that nobody knows whether there were.
    """

    hypnogram: NDArray[np.int8] | None
    events: tuple[ScoredEvent, ...] | None


def read_scoring(
    source: Source,
    num_epochs: int,
    *,
    name: str | None = None,
    clock_s: int | None = None,
    file_name: str | None = None,
) -> Scoring:
    """The hypnogram and the events in a scorer's file.

    Args:
        source: path of a file, or its bytes: EDF+ or BDF+, NSRR or Profusion XML, or one of the
            text forms of `scoring_text.py`. Its time 0 is the recording's first sample.
        num_epochs: length of the hypnogram; longer scorings are cut, shorter ones end in UNKNOWN.
        name: what errors call the file; the path when not given.
        clock_s: time of day at which the recording starts. An EDF scoring that says it starts at
            another is refused; stages put beside the wrong signal would look like any others.
            Texts that give times of day need it.
        file_name: what the file is called, for cohorts that are known by it; the path's or `name`
            when not given.

    Raises:
        RecordingError: annotation_invalid when there is neither a sleep stage nor an event in it,
            or they cannot be told; unreadable; or what `open_edf` says of an EDF.
    """
    name = name or ("<bytes>" if isinstance(source, bytes) else os.fspath(source))
    start = _read(source, name, 8)
    if _is_edf(start):
        edf = open_edf(source, name=name, truncated="keep")
        _require_same_start(name, edf.clock_s, clock_s)
        marks = marks_of_edf(edf)
        if not marks.stages and not marks.events:
            found = f"{len(edf.annotations())} annotations, none of them a sleep stage or event"
            raise invalid_scoring(name, found)
        return _scoring(marks, num_epochs, name)
    content = _read(source, name, MAX_XML_BYTES + 1)
    if file_name is None:
        file_name = name if isinstance(source, bytes) else os.path.basename(os.fspath(source))
    if _is_xml_start(content[:64]):
        return _scoring(marks_of_xml(content, name), num_epochs, name)
    hint = code_hint(file_name)
    marks = marks_of_text(content, name, num_epochs, clock_s, hint)
    if not marks.stages and not marks.events:
        raise invalid_scoring(name, "a text without a sleep stage or event")
    return _scoring(marks, num_epochs, name)


def scoring_in(edf: EdfFile, num_epochs: int) -> Scoring:
    """What the recording itself holds: its annotations, else a hypnogram channel.

    A hypnogram channel whose numbers could mean several things is left out.

    Raises:
        RecordingError: what `EdfFile.annotations` says, or annotation_invalid for more events than
            a night can have.
    """
    return _scoring(marks_of_edf(edf), num_epochs, edf.name)


def hypnogram_from_annotations(
    annotations: Sequence[Annotation], num_epochs: int
) -> NDArray[np.int8] | None:
    """Stage codes int8[num_epochs] from annotation texts; None when none of them is a stage."""
    intervals = marks_of_annotations(annotations).stages
    return hypnogram_of(intervals, num_epochs) if intervals else None


def _scoring(marks: Marks, num_epochs: int, name: str) -> Scoring:
    if len(marks.events) > MAX_EVENTS:
        raise invalid_scoring(name, f"{len(marks.events)} events", f"at most {MAX_EVENTS}")
    _require_seconds(marks, name)
    hypnogram = hypnogram_of(marks.stages, num_epochs) if marks.stages else None
    events = kept_events(marks.events, float(num_epochs * EPOCH_S))
    return Scoring(hypnogram=hypnogram, events=events if marks.events else None)


def _require_seconds(marks: Marks, name: str) -> None:
    """Refuse stages that are too long or short for a hypnogram in seconds."""
    if len(marks.stages) < MIN_STAGES:
        return
    typical_s = statistics.median(length_s for _, length_s, _ in marks.stages)
    low, high = STAGE_LENGTHS_S
    if not low <= typical_s <= high:
        found = f"{len(marks.stages)} stages that typically last {typical_s:g} s"
        raise invalid_scoring(name, found, f"times in seconds, and stages of {low:g} to {high:g} s")


def _is_edf(start: bytes) -> bool:
    """Whether the eight bytes of an EDF's or BDF's version are there."""
    version = start[:8]
    return version == b"\xffBIOSEMI" or (len(version) == 8 and version.strip(b" \0") == b"0")


def _is_xml_start(start: bytes) -> bool:
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"):
        start = start.removeprefix(mark)
    return start.replace(b"\0", b"").lstrip()[:1] == b"<"


def _require_same_start(name: str, scoring_s: int | None, recording_s: int | None) -> None:
    if scoring_s is None or recording_s is None:
        return
    later_s = (scoring_s - recording_s + DAY_S // 2) % DAY_S - DAY_S // 2
    if abs(later_s) > CLOCK_TOLERANCE_S:
        when = "after" if later_s > 0 else "before"
        found = f"a scoring that starts {abs(later_s)} s {when} the recording by their clocks"
        raise invalid_scoring(name, found, "one that starts with it")


def _read(source: Source, name: str, num_bytes: int) -> bytes:
    """The first bytes."""
    if isinstance(source, bytes):
        return source[:num_bytes]
    try:
        if not os.path.isfile(source):
            found = "a folder" if os.path.isdir(source) else "no such file"
        else:
            with open(source, "rb") as file:
                return file.read(num_bytes)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        found = str(error)
    raise RecordingError(
        RecordingCode.UNREADABLE, file=name, found=found, expected="a readable annotation file"
    )
