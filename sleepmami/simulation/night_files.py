"""A simulated night on disk: NAME.edf and NAME-nsrr.xml, each renamed into place when complete."""

import itertools
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree  # writes only; reading untrusted XML is signals.scoring_xml

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EPOCH_S, Stage
from sleepmami.signals.edf_writer import write_edf
from sleepmami.simulation.events import EventKind, NightEvent
from sleepmami.simulation.night import SimulatedNight
from sleepmami.simulation.subjects import Subject

STAGE_CONCEPTS = {
    Stage.WAKE: "Wake|0",
    Stage.N1: "Stage 1 sleep|1",
    Stage.N2: "Stage 2 sleep|2",
    Stage.N3: "Stage 3 sleep|3",
    Stage.REM: "REM sleep|5",
}
# Type, concept and signal location of each event, as NSRR writes them.
EVENT_CONCEPTS = {
    EventKind.OBSTRUCTIVE_APNEA: (
        "Respiratory|Respiratory",
        "Obstructive apnea|Obstructive Apnea",
        "AIRFLOW",
    ),
    EventKind.CENTRAL_APNEA: ("Respiratory|Respiratory", "Central apnea|Central Apnea", "AIRFLOW"),
    EventKind.HYPOPNEA: ("Respiratory|Respiratory", "Hypopnea|Hypopnea", "AIRFLOW"),
    EventKind.DESATURATION: (
        "Respiratory|Respiratory",
        "SpO2 desaturation|SpO2 desaturation",
        "SaO2",
    ),
    EventKind.AROUSAL: ("Arousals|Arousals", "Arousal|Arousal ()", "EEG C4-A1"),
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place only if the block succeeds."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def edf_path(folder: Path, subject: Subject) -> Path:
    """Where `write_night` puts the signals."""
    return folder / f"{subject.subject_id}.edf"


def xml_path(folder: Path, subject: Subject) -> Path:
    """Where `write_night` puts the scoring."""
    return folder / f"{subject.subject_id}-nsrr.xml"


def write_night(
    folder: str | os.PathLike[str],
    subject: Subject,
    night: SimulatedNight,
    *,
    annotations: str | os.PathLike[str] | None = None,
) -> None:
    """Write NAME-nsrr.xml, then NAME.edf: where the EDF is, the night is complete.

    Args:
        folder: where the EDF goes; made when missing.
        subject: names the files.
        night: what to write.
        annotations: where the XML goes; `folder` when None.
    """
    edf = edf_path(Path(folder), subject)
    xml = xml_path(Path(folder if annotations is None else annotations), subject)
    for parent in (edf.parent, xml.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with replacing(xml) as temporary:
        temporary.write_bytes(nsrr_xml(night.hypnogram, night.events))
    with replacing(edf) as temporary:
        write_edf(
            temporary,
            night.channels,
            record_duration_s=night.device.record_duration_s,
            plus=night.device.plus,
        )


def nsrr_xml(hypnogram: NDArray[np.int8], events: tuple[NightEvent, ...]) -> bytes:
    """The scoring as NSRR XML; runs of equal epochs are merged into one event, as NSRR does."""
    root = ElementTree.Element("PSGAnnotation")
    ElementTree.SubElement(root, "SoftwareVersion").text = "sleepmami simulation"
    ElementTree.SubElement(root, "EpochLength").text = str(EPOCH_S)
    scored = ElementTree.SubElement(root, "ScoredEvents")
    night_s = hypnogram.size * EPOCH_S
    start = _add_event(scored, "", "Recording Start Time", 0.0, night_s)
    ElementTree.SubElement(start, "ClockTime").text = "00.00.00 22.00.00"
    edges = np.flatnonzero(np.diff(hypnogram)) + 1
    bounds = [0, *edges.tolist(), hypnogram.size]
    for first, stop in itertools.pairwise(bounds):
        concept = STAGE_CONCEPTS[Stage(int(hypnogram[first]))]
        duration_s = (stop - first) * EPOCH_S
        _add_event(scored, "Stages|Stages", concept, first * EPOCH_S, duration_s)
    for event in events:
        kind, concept, location = EVENT_CONCEPTS[event.kind]
        added = _add_event(scored, kind, concept, event.start_s, event.duration_s)
        ElementTree.SubElement(added, "SignalLocation").text = location
    ElementTree.indent(root)
    xml: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return xml


def _add_event(
    scored: ElementTree.Element, kind: str, concept: str, start_s: float, duration_s: float
) -> ElementTree.Element:
    event = ElementTree.SubElement(scored, "ScoredEvent")
    ElementTree.SubElement(event, "EventType").text = kind
    ElementTree.SubElement(event, "EventConcept").text = concept
    ElementTree.SubElement(event, "Start").text = f"{start_s:.1f}"
    ElementTree.SubElement(event, "Duration").text = f"{duration_s:.1f}"
    return event
