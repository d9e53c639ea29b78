"""Scorings in text files, told apart by what their lines look like.

rdann listings of WFDB annotations (slpdb), St. Vincent's respiratory events, Luna `.annot`, Domino
exports, tables with a header row (`scoring_tables.py`), and lists of one stage per line.
"""

import re
from collections.abc import Callable, Sequence

from sleepmami.psg import EPOCH_S, EventKind, ScoredEvent, Stage
from sleepmami.signals.events import event_of_text
from sleepmami.signals.scoring_headless import marks_of_headless
from sleepmami.signals.scoring_marks import Marks, invalid_scoring
from sleepmami.signals.scoring_rows import Row, add_rows, duration_to, require_inside, stage_reader
from sleepmami.signals.scoring_tables import find_header, marks_of_table
from sleepmami.signals.scoring_times import (
    Timeline,
    elapsed_or_none,
    number_or_none,
    time_of_day_or_none,
)
from sleepmami.signals.stage_words import (
    DREAMS_CODES,
    CodeSystem,
    code_hint,
    codes_by_key,
    stage_in_list,
    stage_of_text,
)

MAX_TEXT_BYTES = 16 * 2**20
MAX_LINES = 200_000  # a row per second of two days
MAX_LINE = 20_000
MAX_WORDS = 40  # of a line that scores an epoch or event

# one listing line: time, sample, type, subtype, channel, number, auxiliary text
_RDANN = re.compile(
    r"\s*(\[[^\]]{5,40}\]|[\d:.]{1,20})\s+\d+\s+\S\s+-?\d+\s+\d+\s+\d+(?:\s+(\S.*))?"
)
_RDANN_EVENTS = {
    "H": (EventKind.HYPOPNEA,),
    "HA": (EventKind.HYPOPNEA, EventKind.AROUSAL),
    "OA": (EventKind.OBSTRUCTIVE_APNEA,),
    "X": (EventKind.OBSTRUCTIVE_APNEA, EventKind.AROUSAL),
    "CA": (EventKind.CENTRAL_APNEA,),
    "CAA": (EventKind.CENTRAL_APNEA, EventKind.AROUSAL),
    "LA": (EventKind.AROUSAL,),  # a leg movement with arousal
    "A": (EventKind.AROUSAL,),
}
_RDANN_STAGES = {"W", "1", "2", "3", "4", "R"}
_ST_VINCENT = re.compile(r"\s*(\d{1,2}:\d{2}:\d{2})\s+((?:HYP|APNEA)-[OCM])\s(.*)", re.IGNORECASE)
_DOMINO = re.compile(
    r"([\d.\-/ ]{0,11}[\d:]{7,8},\d{3})(?:\s*-\s*([\d.\-/ ]{0,11}[\d:]{7,8},\d{3}))?\s*;(.*)"
)
_DOMINO_RATE = re.compile(r"Rate:\s*(\d+)\s*s", re.IGNORECASE)
_DREAMS = re.compile(r"\[hypnogram.*\]", re.IGNORECASE)
_DREAMS_STEP_S = 5.0
_LUNA_ELAPSED = re.compile(r"(?:0\+|e:(?=0\d:))(.+)")  # e:0... is no epoch, they have no zeros
_LUNA_EPOCH = re.compile(
    r"e:(?:([1-9]\d{0,2}):)?(?:([1-9]\d{0,2}):)?([1-9]\d{0,5})"
)  # length, step, from 1
_LUNA_STAGES = re.compile(r"ss|hypno\w*|(sleep[_ ]?)?stag(e|es|ing)", re.IGNORECASE)
_LUNA_TIMES = {3: (1, 2), 4: (2, 3), 5: (3, 4)}  # columns of start and stop by number of columns
_LIST_STEPS_S = (20.0, 10.0, 5.0, 4.0, 1.0)
LIST_TOLERANCE_S = 60.0
COMMENTS = ("#", "%", "//")


def marks_of_text(
    content: bytes,
    name: str,
    num_epochs: int,
    clock_s: float | None,
    hint: CodeSystem | None = None,
) -> Marks:
    """Stages and events of a text scoring.

    Args:
        content: the file's bytes.
        name: what errors call the file.
        num_epochs: length of the recording.
        clock_s: time of day of its first sample, if known.
        hint: what stage numbers mean unless the content says.

    Raises:
        RecordingError: annotation_invalid when it is no text of a known form, when its stage
            numbers could mean several things, or when it has times of day and `clock_s` is None.
    """
    lines = _lines(content, name)
    full = [line for line in lines if line.strip()]
    if not full:
        raise invalid_scoring(name, "an empty file")
    body = [line for line in full if not line.startswith(COMMENTS)]
    if _most(body, _RDANN):
        return _rdann(body, name, clock_s)
    if _most(body, _ST_VINCENT):
        return _st_vincent(body, name, num_epochs, clock_s)
    if _most(body, _DOMINO):
        return _domino(full, name, num_epochs, clock_s)
    luna = _luna_rows(body)
    if luna:
        return _luna(luna, name, num_epochs, clock_s)
    header = None if body and _DREAMS.fullmatch(body[0].strip()) else find_header(full)
    if header is not None:
        return marks_of_table(full, header, name, clock_s, num_epochs, hint)
    headless = marks_of_headless(body, name, num_epochs, clock_s, hint)
    if headless is not None:
        return headless
    return _list(full, name, num_epochs, hint)


def _lines(content: bytes, name: str) -> list[str]:
    if len(content) > MAX_TEXT_BYTES:
        raise invalid_scoring(name, f"a text of more than {MAX_TEXT_BYTES} bytes")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    if "\0" in text:
        raise invalid_scoring(name, "a binary file")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > MAX_LINES:
        raise invalid_scoring(name, f"more than {MAX_LINES} lines")
    lines = text.split("\n")
    if any(len(line) > MAX_LINE for line in lines):
        raise invalid_scoring(name, f"a line of more than {MAX_LINE} characters")
    return lines


def _most(lines: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """Whether at least half of the lines after a short header look like this, and there are any."""
    hits = sum(pattern.fullmatch(line) is not None for line in lines)
    return hits > 0 and 2 * hits >= len(lines) - 20


def _rdann(lines: Sequence[str], name: str, clock_s: float | None) -> Marks:
    """One listing line per epoch: `4 LA LA` is stage 4 and two arousals after leg movements.

    The texts say in which epoch an event lies, not when: each gets the whole epoch.
    """
    marks, timeline = Marks(), Timeline(name, clock_s)
    for line in lines:
        found = _RDANN.fullmatch(line)
        if not found or not found[2]:
            continue
        time = found[1]
        elapsed = not time.startswith("[")
        start_s = timeline.seconds(time, elapsed=elapsed)
        if start_s is None:
            continue
        if abs(start_s - round(start_s)) < 0.01:  # the first annotation lies on sample 1, not 0
            start_s = float(round(start_s))
        tokens = found[2].split()[:MAX_WORDS]
        stage = next((token for token in tokens if token in _RDANN_STAGES), None)
        events = [kind for token in tokens for kind in _RDANN_EVENTS.get(token, ())]
        if stage is not None:
            its = stage_of_text(f"stage {stage}", bare=True)
            marks.stages.append((start_s, float(EPOCH_S), Stage.UNKNOWN if its is None else its))
        for kind in events:
            event = ScoredEvent(start_s=start_s, duration_s=float(EPOCH_S), kind=kind)
            marks.events.append(event)
    if not marks.stages:
        raise invalid_scoring(name, "annotations of which none is a sleep stage")
    return marks


def _st_vincent(lines: Sequence[str], name: str, num_epochs: int, clock_s: float | None) -> Marks:
    """Respiratory events: time of day, type, then the duration as the first number."""
    marks, timeline = Marks(), Timeline(name, clock_s)
    for line in lines:
        found = _ST_VINCENT.fullmatch(line)
        kind = event_of_text(found[2]) if found else None
        start_s = timeline.seconds(found[1]) if found else None
        if found is None or kind is None or start_s is None:
            continue
        numbers = (number_or_none(word) for word in found[3].split()[:MAX_WORDS])
        duration_s = next((number for number in numbers if number is not None), 0.0)
        marks.events.append(ScoredEvent(start_s=start_s, duration_s=duration_s, kind=kind))
    require_inside(marks, timeline, num_epochs, name)
    return marks


def _domino(lines: Sequence[str], name: str, num_epochs: int, clock_s: float | None) -> Marks:
    """`22:00:00,000; N2` of a sleep profile, or `22:10:03,000-22:10:18,000; 15;Hypopnea; N2`."""
    rates = [float(found[1]) for line in lines if (found := _DOMINO_RATE.match(line))]
    step_s = rates[0] if rates else float(EPOCH_S)
    marks, timeline = Marks(), Timeline(name, clock_s)
    for line in lines:
        found = _DOMINO.fullmatch(line)
        start_s = timeline.seconds(found[1].strip()) if found else None
        if found is None or start_s is None:
            continue
        fields = [field.strip() for field in found[3].split(";")]
        if found[2] is None:
            stage = stage_in_list(fields[0])
            if stage is not None:
                marks.stages.append((start_s, step_s, stage))
            continue
        kind = next((kind for field in fields if (kind := event_of_text(field))), None)
        stop_s = timeline.seconds(found[2].strip(), after_s=start_s)
        if kind is not None and stop_s is not None:
            event = ScoredEvent(start_s=start_s, duration_s=stop_s - start_s, kind=kind)
            marks.events.append(event)
    require_inside(marks, timeline, num_epochs, name)
    return marks


LunaRow = tuple[str, str, str]  # class or instance, start, stop


def _luna_rows(lines: Sequence[str]) -> list[LunaRow] | None:
    """(label, start, stop) of each line; None when the lines are no Luna annotations."""
    rows = []
    for line in lines:
        cells = [cell.strip() for cell in line.split("\t" if "\t" in line else None)]
        if cells[0].lower() == "class":
            continue
        columns = _LUNA_TIMES.get(len(cells), (3, 4))
        if (
            len(cells) < 3
            or not _is_luna_time(cells[columns[0]])
            or number_or_none(cells[0]) is not None
        ):
            return None
        label = _luna_label(cells[0], cells[1]) if columns[0] > 1 else cells[0]
        rows.append((label, cells[columns[0]], cells[columns[1]]))
    return rows


def _luna_label(class_: str, instance: str) -> str:
    """What says most: the class (`N2`), its instance (`stage N2`), or both (`apnea central`)."""
    if instance not in ("", "."):
        if _LUNA_STAGES.fullmatch(class_):
            return instance
        if (
            stage_of_text(class_, bare=True) is None
            and event_of_text(f"{class_} {instance}") is not None
        ):
            return f"{class_} {instance}"
    return class_


def _luna_epoch(text: str) -> tuple[float, float] | None:
    """(start, stop) of an epoch: `e:1` of 30 s, `e:20:1` of 20 s, `e:30:15:1` in steps of 15 s."""
    found = _LUNA_EPOCH.fullmatch(text)
    if not found:
        return None
    length_s = float(found[1] or EPOCH_S)
    start_s = (int(found[3]) - 1) * float(found[2] or length_s)
    return start_s, start_s + length_s


def _is_luna_time(text: str) -> bool:
    if _luna_epoch(text):
        return True
    elapsed = _LUNA_ELAPSED.fullmatch(text)
    if elapsed:
        return elapsed_or_none(elapsed[1]) is not None
    return number_or_none(text) is not None or time_of_day_or_none(text) is not None


def _luna(rows: Sequence[LunaRow], name: str, num_epochs: int, clock_s: float | None) -> Marks:
    """`N2 . . 30 60 .`; times of day hh:mm:ss, `0+hh:mm:ss` since the start, `+30` and `...`."""
    timeline = Timeline(name, clock_s)
    starts = [_luna_seconds(start, timeline) for _, start, _ in rows]
    timed = []
    for index, ((label, _, stop), start_s) in enumerate(zip(rows, starts, strict=True)):
        if start_s is None:
            raise invalid_scoring(name, f"a start {rows[index][1][:20]!r}")
        duration_s: float | None
        if stop == "...":  # until the next line's start, or the end
            next_s = starts[index + 1] if index + 1 < len(rows) else None
            duration_s = (num_epochs * EPOCH_S if next_s is None else next_s) - start_s
        elif epoch := _luna_epoch(stop):
            duration_s = epoch[1] - start_s
        elif _luna_epoch(rows[index][1]) and stop in ("", "."):
            duration_s = (_luna_epoch(rows[index][1]) or (0.0, 0.0))[1] - start_s
        elif _LUNA_ELAPSED.fullmatch(stop):
            duration_s = (_luna_seconds(stop, timeline) or 0.0) - start_s
        else:
            duration_s = duration_to(stop, start_s, timeline)
        timed.append(Row(start_s, duration_s, "", label))
    marks = Marks()
    add_rows(marks, timed, _no_codes, name, timed=True)
    require_inside(marks, timeline, num_epochs, name)
    return marks


def _luna_seconds(text: str, timeline: Timeline) -> float | None:
    if epoch := _luna_epoch(text):
        return epoch[0]
    elapsed = _LUNA_ELAPSED.fullmatch(text)
    return elapsed_or_none(elapsed[1]) if elapsed else timeline.seconds(text)


def _no_codes(text: str) -> Stage | None:
    return None


def _list(lines: Sequence[str], name: str, num_epochs: int, named: CodeSystem | None) -> Marks:
    """One stage per line, from the recording's start in steps of one length.

    Steps are epochs unless a DREAMS header says otherwise, or there are more of them than the
    recording has room for and another usual step fits its length.
    """
    comments = " ".join(line for line in lines if line.startswith(COMMENTS))
    body = [line.strip().strip('"').strip() for line in lines if not line.startswith(COMMENTS)]
    dreams = bool(_DREAMS.fullmatch(body[0])) if body else False
    entries = body[1:] if dreams else body
    hint = DREAMS_CODES if dreams else codes_by_key(comments)
    if not entries or max(map(len, entries)) > 40:
        raise invalid_scoring(name, "a text of no known form")
    if not dreams and stage_in_list(entries[0]) is None and number_or_none(entries[0]) is None:
        hint = hint or code_hint(entries[0].replace(" ", "_"))  # a title above the list
        entries = entries[1:]
    stage_of: Callable[[str], Stage | None] = stage_reader(entries, hint or named, name)
    stages = [stage_of(entry) for entry in entries]
    if not stages or any(stage is None for stage in stages):
        raise invalid_scoring(name, "a text of no known form")
    step_s = _DREAMS_STEP_S if dreams else _list_step(len(entries), num_epochs, name)
    intervals = [
        (index * step_s, step_s, stage) for index, stage in enumerate(stages) if stage is not None
    ]
    return Marks(stages=intervals)


def _list_step(num_entries: int, num_epochs: int, name: str) -> float:
    recording_s = float(num_epochs * EPOCH_S)
    if num_entries <= 1.1 * num_epochs + 10:
        return float(EPOCH_S)
    for step_s in _LIST_STEPS_S:
        if abs(num_entries * step_s - recording_s) <= LIST_TOLERANCE_S:
            return step_s
    raise invalid_scoring(
        name,
        f"a list of {num_entries} stages without times, for a recording of {num_epochs} epochs",
        "one stage per epoch",
    )
