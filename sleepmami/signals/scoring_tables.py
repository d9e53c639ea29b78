"""Scorings in text tables with a header row, and rows of (label, start, stop) from any file.

The header's words say what a column holds, in the spellings of BIDS, RemLogic, HMC, CAP, Luna and
many spreadsheets; the delimiter is the one under which most columns make sense.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from sleepmami.psg import EPOCH_S, ScoredEvent
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scoring_marks import Marks, invalid_scoring
from sleepmami.signals.scoring_rows import Row, add_rows, duration_to, require_inside, stage_reader
from sleepmami.signals.scoring_times import Timeline, number_or_none, time_of_day_or_none
from sleepmami.signals.stage_words import CodeSystem, code_hint, codes_by_key, plain_text

DELIMITERS = "\t;,"
MAX_HEADER_LINES = 64
MAX_CELLS = 200

# Per role the column names, best first.
_ROLES: Mapping[str, str] = {
    "elapsed": "recording_onset onset onset_s onset_sec onset_seconds elapsed elapsed_s "
    "elapsed_time",
    "start": "start start_s start_sec start_secs start_seconds start_time starttime start_time_s "
    "begin begin_s epoch_start epoch_start_s time_s time_sec time_seconds seconds beginn debut "
    "inicio time time_hh_mm_ss clock clock_time clocktime uhrzeit hora heure datetime date_time "
    "timestamp",
    "stop": "stop stop_s stop_sec stop_time end end_s end_sec end_time epoch_end",
    "duration": "duration duration_s duration_sec duration_secs duration_seconds dur dur_s length "
    "length_s epoch_length epoch_duration dauer duree duracion",
    "epoch": "epoch epoch_id epoch_no epoch_number epoch_num epoch_index epoch_idx epochs epoche",
    "stage": "stage_hum majority consensus stage_majority stage_consensus sleep_stage_text "
    "stage_name stage_label stage_text sleep_stage sleepstage sleep_stages sleepstages stage "
    "stages hypnogram hypno hypno_int sleep_stage_rk sleep_stage_aasm stage_rk stage_aasm "
    "stage_nsrr schlafstadium stadium stade etapa fase staging sleep_staging scoring score yasa "
    "prediction predicted_stage pred stage_ai user_defined_stage cast_defined_stage",
    "text": "annotation annotations event event_type eventtype event_name event_concept trial_type "
    "description apnea class concept label labels name type",
    "record": "record_id recording_id record recording nsrrid subject_id subject",
    "event_types": "event_types",
    "event_starts": "event_start_sec event_starts event_start_s",
    "event_durations": "event_duration_sec event_durations event_duration_s",
}
_ROLE_OF = {
    name: (role, rank) for role, names in _ROLES.items() for rank, name in enumerate(names.split())
}
_CODED_TEXT = ("label", "labels", "class")  # columns of texts that may hold stage codes instead


class Header(NamedTuple):
    """A header row: its line, the delimiter, and per role the column."""

    line: int
    delimiter: str
    columns: Mapping[str, int]
    names: Sequence[str]

    def name_of(self, role: str) -> str:
        """The normalised name of the column in a role; empty when there is none."""
        return self.names[self.columns[role]] if role in self.columns else ""


def find_header(lines: Sequence[str]) -> Header | None:
    """The header row among the first lines, or None."""
    best: tuple[int, Header] | None = None
    for index, line in enumerate(lines[:MAX_HEADER_LINES]):
        if len(line) > 4000:
            continue
        for delimiter in DELIMITERS:
            cells = line.lstrip("#").split(delimiter)
            names = [_normal(cell) for cell in cells[:MAX_CELLS]]
            columns: dict[str, int] = {}
            for column, name in enumerate(names):
                role, rank = _ROLE_OF.get(name, ("", 0))
                if role and (role not in columns or rank < _ROLE_OF[names[columns[role]]][1]):
                    columns[role] = column
            holds_marks = "stage" in columns or ("text" in columns and len(columns) > 1)
            if holds_marks and (best is None or len(columns) > best[0]):
                best = (len(columns), Header(index, delimiter, columns, names))
    return best[1] if best else None


def marks_of_table(
    lines: Sequence[str],
    header: Header,
    name: str,
    clock_s: float | None,
    num_epochs: int,
    hint: CodeSystem | None,
) -> Marks:
    """Stages and events of a table with a header row; see `marks_of_text` for the arguments.

    Raises:
        RecordingError: annotation_invalid for several recordings in one table, stage numbers of an
            unknown code system, times that cannot be read, or nothing scored.
    """
    column = _columns(lines[header.line + 1 :], header, name)
    num_rows = len(next(iter(column.values())))
    records = set(column.get("record", ()))
    if len(records) > 1:
        raise invalid_scoring(name, f"{len(records)} recordings in one table", "one recording")
    timeline = Timeline(name, clock_s)
    if clock_s is None and "epoch" in column and _of_day(column.get("start", ())):
        del column["start"]  # epoch numbers do as well
    elapsed = "elapsed" in column
    start_texts = column.get("elapsed", column.get("start", ()))
    starts = [_start(text, timeline, elapsed, name) for text in start_texts]
    marks = Marks()
    if "event_types" in column:
        marks.events = _listed_events(column, timeline)
    rows = _rows(column, starts, timeline, elapsed, num_rows, name)
    role, said = _codes(header, column, lines[: header.line], "".join(records))
    stage_of = stage_reader(column.get(role, ()), said or hint, name)
    add_rows(marks, rows, stage_of, name, timed=bool(starts))
    require_inside(marks, timeline, num_epochs, name)
    return marks


def _start(text: str, timeline: Timeline, elapsed: bool, name: str) -> float | None:
    """Seconds; None for an empty cell."""
    start_s = timeline.seconds(text, elapsed=elapsed)
    if start_s is None and text.lower() not in ("", "n/a", "na", "nan"):
        raise invalid_scoring(name, f"a row that starts at {text[:20]!r}")
    return start_s


def _rows(
    column: Mapping[str, Sequence[str]],
    starts: list[float | None],
    timeline: Timeline,
    elapsed: bool,
    num_rows: int,
    name: str,
) -> list[Row]:
    durations = [number_or_none(text) for text in column.get("duration", [""] * num_rows)]
    if starts:
        for index, text in enumerate(column.get("stop", ())):
            start_s = starts[index]
            if durations[index] is None and start_s is not None:
                durations[index] = duration_to(text, start_s, timeline, elapsed=elapsed)
    else:
        starts = list(_starts_by_epoch(column.get("epoch"), durations, num_rows, name))
        durations = [length or float(EPOCH_S) for length in durations]
    blank = [""] * num_rows
    texts = blank if "event_types" in column else column.get("text", blank)
    stages = column.get("stage", blank)
    return [Row(*cells) for cells in zip(starts, durations, stages, texts, strict=True)]


def _starts_by_epoch(
    epochs: Sequence[str] | None, durations: Sequence[float | None], num_rows: int, name: str
) -> list[float | None]:
    """Starts of rows that have no time: by epoch number counted from 0 or 1, else in order."""
    given = {length for length in durations if length}
    length_s = given.pop() if len(given) == 1 else float(EPOCH_S)
    if given:
        raise invalid_scoring(name, "epochs of several lengths and no start times")
    if epochs is None:
        return [index * length_s for index in range(num_rows)]
    numbers = [number_or_none(text) for text in epochs]
    first = min((number for number in numbers if number is not None), default=0.0)
    if first not in (0.0, 1.0):
        found = f"epoch numbers that begin with {first:g} and no start times"
        raise invalid_scoring(name, found, "epochs counted from 0 or 1")
    return [None if number is None else (number - first) * length_s for number in numbers]


def _codes(
    header: Header, column: Mapping[str, Sequence[str]], comments: Sequence[str], record: str
) -> tuple[str, CodeSystem | None]:
    """The role of the column that may hold stage codes, and what the table says they mean."""
    role = "stage"
    if role not in column and header.name_of("text") in _CODED_TEXT:
        role = "text"
    key = codes_by_key(" ".join(comments))
    return role, key or code_hint(header.name_of(role)) or code_hint(record)


def _listed_events(column: Mapping[str, Sequence[str]], timeline: Timeline) -> list[ScoredEvent]:
    """Events listed in a row's cells, as `HYP-O; HYP-C` at `5894; 5919`; repeats are one event."""
    found: dict[ScoredEvent, None] = {}
    lists = [column.get(role, ()) for role in ("event_types", "event_starts", "event_durations")]
    for types, starts, lengths in zip(*lists, strict=False):
        each = (cell.split(";") for cell in (types, starts, lengths))
        for text, start, length in zip(*each, strict=False):
            kind, start_s = event_of_text(text), timeline.seconds(start, elapsed=True)
            if kind is not None and start_s is not None:
                duration_s = number_or_none(length) or 0.0
                found[ScoredEvent(start_s=start_s, duration_s=duration_s, kind=kind)] = None
    return list(found)


def _of_day(texts: Sequence[str]) -> bool:
    return any(time_of_day_or_none(text) is not None for text in texts[:10])


def _columns(lines: Sequence[str], header: Header, name: str) -> dict[str, list[str]]:
    """Per role the column's cells in every line that is neither blank nor a comment."""
    kept = (line for line in lines if line.strip() and not line.startswith("#"))
    columns: dict[str, list[str]] = {role: [] for role in header.columns}
    try:
        for row in csv.reader(kept, delimiter=header.delimiter):
            for role, at in header.columns.items():
                columns[role].append(row[at].strip() if at < len(row) else "")
    except csv.Error as error:
        raise invalid_scoring(name, f"no readable table ({error})") from error
    return columns


@lru_cache(maxsize=1024)
def _normal(cell: str) -> str:
    """A column's name in lower-case words joined by "_"; empty for long texts."""
    if len(cell) > 60:
        return ""
    name = re.sub(r"[^a-z0-9]+", "_", plain_text(cell)).strip("_")
    return re.sub(r"_hh_mm_ss_\w+$", "_hh_mm_ss", name)  # [hh:mm:ss.xxx]
