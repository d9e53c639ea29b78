"""Scorings in XML: NSRR `PSGAnnotation` in two dialects, and Profusion `CMPStudyConfig`."""

import math
import re
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as safe_xml

from sleepmami.errors import RecordingError
from sleepmami.psg import EPOCH_S, EventKind, ScoredEvent, Stage
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scoring_marks import Marks, invalid_scoring
from sleepmami.signals.stage_words import NSRR_CODES, stage_of_text

MAX_XML_BYTES = 64 * 2**20

# The XML parser takes any encoding that Python has a codec for; these are those that occur.
_DECLARED_ENCODING = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)")
_PLAIN_ENCODING = re.compile(rb"utf-?(8|16)|(us-)?ascii|iso-8859-\d+|windows-125\d", re.IGNORECASE)


def marks_of_xml(content: bytes, name: str) -> Marks:
    """Stages and events of an XML scoring.

    Raises:
        RecordingError: annotation_invalid when it is no XML that we know, or a stage has no start.
    """
    if len(content) > MAX_XML_BYTES:
        raise invalid_scoring(name, f"more than {MAX_XML_BYTES} bytes")
    declared = _DECLARED_ENCODING.match(content.lstrip())
    if declared and not _PLAIN_ENCODING.fullmatch(declared[1]):
        raise invalid_scoring(name, f"XML in encoding {declared[1][:20].decode('latin-1')!r}")
    try:
        root: Element = safe_xml.fromstring(content.lstrip())
    except (ParseError, ValueError, LookupError) as error:  # also entities, unknown encodings
        raise invalid_scoring(name, f"no readable XML ({error})") from error
    length_s = _seconds(root, "EpochLength", name) or float(EPOCH_S)
    marks = Marks()
    if _local(root) == "PSGAnnotation":
        _add_scored(marks, root, "EventConcept", length_s, name)
    elif _local(root) == "CMPStudyConfig":
        _add_scored(marks, root, "Name", length_s, name)
        codes = [element for element in root.iter() if _local(element) == "SleepStage"]
        for index, code in enumerate(codes):
            stage = _stage_of_code(_content(code))
            marks.stages.append((index * length_s, length_s, stage))
    else:
        raise invalid_scoring(name, f"XML of kind {_local(root)!r}")
    if not marks.stages and not marks.events:
        raise invalid_scoring(name, "XML without a sleep stage or event")
    return marks


def _add_scored(marks: Marks, root: Element, tag: str, epoch_length_s: float, name: str) -> None:
    """The ScoredEvents: `Stage 2 sleep|2`, `SDO:...` concepts, `Hypopnea|Hypopnea` and the like."""
    for scored in root.iter():
        if _local(scored) != "ScoredEvent":
            continue
        concept = _content(_child(scored, tag))
        stage = stage_of_text(concept, bare=False) if concept.startswith("SDO:") else None
        if _content(_child(scored, "EventType")).lower().startswith("stages"):
            stage = _stage_of_code(concept.rpartition("|")[2])
        kind = event_of_text(concept) if stage is None else None
        if kind is not None:
            _add_event(marks, scored, kind)
        elif stage is not None:
            start_s = _seconds(scored, "Start", name)
            if start_s is None:
                raise invalid_scoring(name, f"a stage event {concept!r} without a start")
            duration_s = _seconds(scored, "Duration", name) or epoch_length_s
            marks.stages.append((start_s, duration_s, stage))


def _add_event(marks: Marks, scored: Element, kind: EventKind) -> None:
    """One event, unless it has no readable time: that spoils itself only, not the night."""
    try:
        start_s = _seconds(scored, "Start", "")
        duration_s = _seconds(scored, "Duration", "") or 0.0
    except RecordingError:
        return
    if start_s is not None:
        marks.events.append(ScoredEvent(start_s=start_s, duration_s=duration_s, kind=kind))


def _stage_of_code(code: str) -> Stage:
    """The stage of a number or name; both XML families count as the NSRR does."""
    if code.isdecimal() and len(code) < 4:
        return NSRR_CODES.get(int(code), Stage.UNKNOWN)
    stage = stage_of_text(code, bare=True)
    return Stage.UNKNOWN if stage is None else stage


def _local(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _child(element: Element, tag: str) -> Element | None:
    return next((child for child in element if _local(child) == tag), None)


def _content(element: Element | None) -> str:
    """An element's text; empty for no element."""
    text = element.text if element is not None else None
    return (text or "").strip()


def _seconds(element: Element, tag: str, name: str) -> float | None:
    """A child's number of seconds; None when there is no such child, or it is empty."""
    text = _content(_child(element, tag)).replace(",", ".")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise invalid_scoring(name, f"{tag} {text!r}")
    return value
