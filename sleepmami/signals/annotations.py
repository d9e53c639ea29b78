"""Hypnograms from scorers' files: EDF+ annotations, NSRR XML in two dialects, Profusion XML.

Every dialect becomes a list of (start, duration, stage) intervals, and one rule turns intervals
into epochs: an epoch takes the stage that covers most of it, counting unscored time as a stage.
So scorings in 5-s or 20-s steps, merged runs and off-grid starts need no special case.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as safe_xml
import numpy as np
from numpy.typing import NDArray

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.psg import EPOCH_S, Stage
from sleepmami.signals.edf import Annotation, open_edf

MAX_XML_BYTES = 64 * 2**20

Interval = tuple[float, float, Stage]  # start_s, duration_s, stage

_STAGE_NAMES = {  # AASM, Rechtschaffen & Kales, and the numbers of NSRR and Profusion
    name: stage
    for stage, names in {
        Stage.WAKE: "w wake 0",
        Stage.N1: "n1 s1 nrem1 1",
        Stage.N2: "n2 s2 nrem2 2",
        Stage.N3: "n3 s3 nrem3 3 n4 s4 nrem4 4",
        Stage.REM: "r rem 5",
    }.items()
    for name in names.split()
}
_STAGE_PREFIX = re.compile(r"(sleep[ _]?)?stage[ _:-]*(.*)")
_SDO_STAGES = {  # Sleep Domain Ontology concepts, the older NSRR dialect
    "sdo:wakestate": Stage.WAKE,
    "sdo:nonrapideyemovementsleep-n1": Stage.N1,
    "sdo:nonrapideyemovementsleep-n2": Stage.N2,
    "sdo:nonrapideyemovementsleep-n3": Stage.N3,
    "sdo:nonrapideyemovementsleep-n4": Stage.N3,
    "sdo:rapideyemovementsleep": Stage.REM,
}

# The XML parser takes any encoding that Python has a codec for; these are those that occur.
_DECLARED_ENCODING = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)")
_PLAIN_ENCODING = re.compile(rb"utf-?(8|16)|(us-)?ascii|iso-8859-\d+|windows-125\d", re.IGNORECASE)

# A scorer's file next to night.edf, best first: what follows the recording's name.
_SUFFIXES = (
    "-nsrr.xml",
    "-profusion.xml",
    ".xml",
    "-hypnogram.edf",
    "-sleepscoring.edf",
    "-base.edf",
    "-annotations.edf",
    "-hypnogram.bdf",
)
DAY_S = 86_400
CLOCK_TOLERANCE_S = 1  # EDF headers round to seconds
_SEPARATORS = str.maketrans("_ ", "--")
_RECORDING_SUFFIX = re.compile(r"-psg$")
_SLEEP_EDF = re.compile(r"(s[ct]\d{4}[a-z]).-psg\.")  # the last letter is the scorer's


def read_hypnogram(
    source: str | os.PathLike[str] | bytes,
    num_epochs: int,
    *,
    name: str | None = None,
    clock_s: int | None = None,
) -> NDArray[np.int8]:
    """The hypnogram in a scorer's file, whichever dialect it is in.

    Args:
        source: path of a file, or its bytes: EDF+ or BDF+ with stage annotations, NSRR
            `PSGAnnotation` XML, or Profusion `CMPStudyConfig` XML, told apart by content. Its time
            0 is the recording's first sample.
        num_epochs: length of the result; longer scorings are cut, shorter ones end in UNKNOWN.
        name: what errors call the file; the path when not given.
        clock_s: time of day at which the recording starts. An EDF scoring that says it starts at
            another is refused; stages put beside the wrong signal would look like any others.

    Returns:
        int8[num_epochs] of Stage codes.

    Raises:
        RecordingError: annotation_invalid when there is no sleep stage in it, unreadable, or what
            `open_edf` says of an EDF.
    """
    name = name or ("<bytes>" if isinstance(source, bytes) else os.fspath(source))
    start = _read(source, name, 8)
    if start[:1] == b"0" or start == b"\xffBIOSEMI":
        scoring = open_edf(source, name=name, truncated="keep")
        _require_same_start(name, scoring.clock_s, clock_s)
        annotations = scoring.annotations()
        hypnogram = hypnogram_from_annotations(annotations, num_epochs)
        if hypnogram is None:
            raise _invalid(name, f"{len(annotations)} annotations, none of them a sleep stage")
        return hypnogram
    return _epochs(_xml_intervals(_read(source, name, MAX_XML_BYTES + 1), name), num_epochs)


def _require_same_start(name: str, scoring_s: int | None, recording_s: int | None) -> None:
    if scoring_s is None or recording_s is None:
        return
    later_s = (scoring_s - recording_s + DAY_S // 2) % DAY_S - DAY_S // 2
    if abs(later_s) > CLOCK_TOLERANCE_S:
        when = "after" if later_s > 0 else "before"
        found = f"a scoring that starts {abs(later_s)} s {when} the recording by their clocks"
        raise RecordingError(
            RecordingCode.ANNOTATION_INVALID,
            file=name,
            found=found,
            expected="one that starts with it",
        )


def hypnogram_from_annotations(
    annotations: Sequence[Annotation], num_epochs: int
) -> NDArray[np.int8] | None:
    """Stage codes int8[num_epochs] from annotation texts; None when none of them is a stage.

    A stage without a duration lasts one epoch.
    """
    intervals = [
        (annotation.onset_s, annotation.duration_s or float(EPOCH_S), stage)
        for annotation in annotations
        if (stage := _stage_of_text(annotation)) is not None
    ]
    return _epochs(intervals, num_epochs) if intervals else None


def find_annotation(edf_path: str, candidates: Sequence[str]) -> str | None:
    """The scorer's file of one recording among candidate paths, or None; see `pair_annotations`."""
    return pair_annotations([edf_path], candidates)[edf_path]


def pair_annotations(recordings: Sequence[str], candidates: Sequence[str]) -> dict[str, str | None]:
    """The scorer's file of each recording among candidate paths, or None.

    Names decide: `night.edf` goes with `night-nsrr.xml`, `night-profusion.xml`, `night.xml`,
    `night_hypnogram.edf` and the like, `SC4001E0-PSG.edf` with `SC4001EC-Hypnogram.edf`. The same
    folder is preferred. Names like `night.xml` repeat, so a file in another folder is taken only if
    it is the only one of its kind, no recording of that name lies beside it, and all recordings of
    that name lie in one folder.
    """
    index = _AnnotationIndex(recordings, candidates)
    return {recording: index.find(recording) for recording in recordings}


class _AnnotationIndex:
    """Candidates by the names of the recordings they may belong to."""

    def __init__(self, recordings: Sequence[str], candidates: Sequence[str]) -> None:
        self._files = {*recordings, *candidates}
        # by a name of `_names` and `_own_names`: (rank, path) of candidates, folders of recordings
        self._in_folder: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._anywhere: dict[str, list[tuple[int, str]]] = {}
        self._folders: dict[str, set[str]] = {}
        self._elsewhere: dict[str, str | None] = {}  # by the file name of a recording
        for recording in recordings:
            folder, _, file = recording.rpartition("/")
            for name in _own_names(file):
                self._folders.setdefault(name, set()).add(folder)
        for candidate in dict.fromkeys(candidates):
            folder, _, file = candidate.rpartition("/")
            for rank, name in _names(file):
                self._in_folder.setdefault((name, folder), []).append((rank, candidate))
                self._anywhere.setdefault(name, []).append((rank, candidate))

    def find(self, recording: str) -> str | None:
        folder, _, file = recording.rpartition("/")
        names = list(_own_names(file))
        beside = [found for name in names for found in self._in_folder.get((name, folder), ())]
        if beside:
            return _only_best(beside)
        if file not in self._elsewhere:
            self._elsewhere[file] = self._find_elsewhere(file, names)
        return self._elsewhere[file]

    def _find_elsewhere(self, file: str, names: Sequence[str]) -> str | None:
        if any(len(self._folders[name]) > 1 for name in names):
            return None
        return _only_best(
            [
                (rank, path)
                for name in names
                for rank, path in self._anywhere.get(name, ())
                if f"{path.rpartition('/')[0]}/{file}" not in self._files
            ]
        )


def _names(annotation: str) -> Iterator[tuple[int, str]]:
    """(rank, name) of the recordings that an annotation's file name may belong to, best rank 0."""
    normal = annotation.lower().translate(_SEPARATORS)
    for rank, suffix in enumerate(_SUFFIXES):
        if normal.endswith(suffix):
            yield rank, normal.removesuffix(suffix)
    if normal[8:] == "-hypnogram.edf":
        yield len(_SUFFIXES), f"{normal[:7]}/"  # no file name has a "/"; the next letter differs


def _own_names(recording: str) -> Iterator[str]:
    """The names under which a recording's annotation is found."""
    normal = recording.lower().translate(_SEPARATORS)
    yield _RECORDING_SUFFIX.sub("", normal.rpartition(".")[0])
    sleep_edf = _SLEEP_EDF.match(normal)
    if sleep_edf:
        yield f"{sleep_edf[1]}/"


def _only_best(found: Sequence[tuple[int, str]]) -> str | None:
    """The path of the best rank; None where none or several have it."""
    best = min((rank for rank, _ in found), default=None)
    paths = [path for rank, path in found if rank == best]
    return paths[0] if len(paths) == 1 else None


def _stage_of_text(annotation: Annotation) -> Stage | None:
    """The stage an annotation names, UNKNOWN for movement and unscored, None for other events."""
    text = annotation.text.partition("@@")[0].strip().lower()  # a channel's name may follow "@@"
    if text.startswith("movement time"):
        return Stage.UNKNOWN
    prefixed = _STAGE_PREFIX.fullmatch(text)
    if prefixed:
        other = Stage.UNKNOWN if prefixed[1] else None  # "Sleep stage ?" is, "Stage shift" is not
        return _STAGE_NAMES.get(prefixed[2].replace(" ", ""), other)
    # A bare name needs a duration: a momentary "R" is a heart beat, and a number may be anything.
    if annotation.duration_s > 0 and not text.isdigit():
        return _STAGE_NAMES.get(text.replace(" ", ""))
    return None


def _epochs(intervals: Iterable[Interval], num_epochs: int) -> NDArray[np.int8]:
    """Per epoch the stage covering most of it; in a tie the lighter one, and unscored last."""
    stages = [*(stage for stage in Stage if stage is not Stage.UNKNOWN), Stage.UNKNOWN]
    covered_s = np.zeros((num_epochs, len(stages)))  # [epochs, stages], unscored last
    starts_s = np.arange(num_epochs) * float(EPOCH_S)
    for start_s, duration_s, stage in intervals:
        stop_s = min(start_s + duration_s, num_epochs * float(EPOCH_S))
        start_s = max(start_s, 0.0)
        if stop_s <= start_s or stage is Stage.UNKNOWN:
            continue
        first, last = int(start_s // EPOCH_S), math.ceil(stop_s / EPOCH_S)
        begin_s = starts_s[first:last]
        overlap_s = np.minimum(begin_s + EPOCH_S, stop_s) - np.maximum(begin_s, start_s)
        covered_s[first:last, stages.index(stage)] += overlap_s
    covered_s[:, -1] = EPOCH_S - covered_s.sum(axis=1)
    hypnogram: NDArray[np.int8] = np.array(stages, dtype=np.int8)[covered_s.argmax(axis=1)]
    return hypnogram


def _read(source: str | os.PathLike[str] | bytes, name: str, num_bytes: int) -> bytes:
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


def _xml_intervals(content: bytes, name: str) -> list[Interval]:
    if len(content) > MAX_XML_BYTES:
        raise _invalid(name, f"more than {MAX_XML_BYTES} bytes")
    declared = _DECLARED_ENCODING.match(content.lstrip())
    if declared and not _PLAIN_ENCODING.fullmatch(declared[1]):
        raise _invalid(name, f"XML in encoding {declared[1][:20].decode('latin-1')!r}")
    try:
        root: Element = safe_xml.fromstring(content.lstrip())
    except (ParseError, ValueError, LookupError) as error:  # also entities, unknown encodings
        raise _invalid(name, f"no readable XML ({error})") from error
    length_s = _seconds(root, "EpochLength", name) or float(EPOCH_S)
    if _local(root) == "PSGAnnotation":
        intervals = _nsrr_intervals(root, length_s, name)
    elif _local(root) == "CMPStudyConfig":
        codes = [element for element in root.iter() if _local(element) == "SleepStage"]
        intervals = [
            (index * length_s, length_s, _STAGE_NAMES.get(_content(code), Stage.UNKNOWN))
            for index, code in enumerate(codes)
        ]
    else:
        raise _invalid(name, f"XML of kind {_local(root)!r}")
    if not intervals:
        raise _invalid(name, "XML without a sleep stage")
    return intervals


def _nsrr_intervals(root: Element, epoch_length_s: float, name: str) -> list[Interval]:
    """Stage events of a `PSGAnnotation`: `Stage 2 sleep|2` or `SDO:...` concepts."""
    intervals = []
    for event in root.iter():
        if _local(event) != "ScoredEvent":
            continue
        concept = _content(_child(event, "EventConcept"))
        if concept in _SDO_STAGES:
            stage = _SDO_STAGES[concept]
        elif _content(_child(event, "EventType")).startswith("stages"):
            stage = _STAGE_NAMES.get(concept.rpartition("|")[2], Stage.UNKNOWN)
        else:
            continue
        start_s = _seconds(event, "Start", name)
        if start_s is None:
            raise _invalid(name, f"a stage event {concept!r} without a start")
        intervals.append((start_s, _seconds(event, "Duration", name) or epoch_length_s, stage))
    return intervals


def _local(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _child(element: Element, tag: str) -> Element | None:
    return next((child for child in element if _local(child) == tag), None)


def _content(element: Element | None) -> str:
    """An element's text in lower case; empty for no element."""
    text = element.text if element is not None else None
    return (text or "").strip().lower()


def _seconds(element: Element, tag: str, name: str) -> float | None:
    """A child's number of seconds; None when there is no such child, or it is empty."""
    text = _content(_child(element, tag)).replace(",", ".")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise _invalid(name, f"{tag} {text!r}")
    return value


def _invalid(name: str, found: str) -> RecordingError:
    return RecordingError(
        RecordingCode.ANNOTATION_INVALID,
        file=name,
        found=found,
        expected="sleep stages as EDF+ annotations, NSRR PSGAnnotation or Profusion CMPStudyConfig",
    )
