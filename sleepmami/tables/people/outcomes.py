"""Follow-up of people: columns of shhs-cvd-summary-dataset, or of a generic table, as outcomes.

A generic table has NAME_event (yes or no) with NAME_days, and NAME_prevalent where an outcome can
be had before the night; names are those that SHHS's columns get. In SHHS's summary times are days
since the SHHS1 night and end at `censdate`. Event columns count events, but for the deaths (0 or 1)
and `vital` (0 is dead). An outcome of a person is left out where the file does not say whether it
happened, when, or whether it had happened before the night.
"""

from typing import Final, NamedTuple

from sleepmami.errors import TableError
from sleepmami.tables.demographics import Outcome
from sleepmami.tables.people.csv_table import CsvTable, Row

CENSORED_AT: Final = "censdate"
MAX_COUNT: Final = 98  # 99 and 999 are codes in many files
_MAX_DAYS: Final = 40_000.0  # 110 years


class _Task(NamedTuple):
    name: str
    event: str
    time: str
    prevalent: str | None = None
    happened_is_zero: bool = False


_TASKS: Final = (
    _Task("angina", "angina", "ang_date", "prev_ang"),
    _Task("cvd_death", "cvd_death", "cvd_dthdt"),
    _Task("chf", "chf", "chf_date", "prev_chf"),  # not chfdt, the interim follow-up
    _Task("chd_death", "chd_death", "chd_dthdt"),
    _Task("mi", "mi", "mi_date", "prev_mi"),  # not midt, the interim follow-up
    _Task("stroke", "stroke", "stk_date", "prev_stk"),
    _Task("all_cause_death", "vital", CENSORED_AT, happened_is_zero=True),
)
SHHS_COLUMNS: Final = frozenset(
    column
    for task in _TASKS
    for column in (task.event, task.time, task.prevalent)
    if column is not None
)


_NAMED: Final = {
    task.name: (f"{task.name}_event", f"{task.name}_days")
    + ((f"{task.name}_prevalent",) if task.prevalent else ())
    for task in _TASKS
}
NAMED_COLUMNS: Final = frozenset(column for columns in _NAMED.values() for column in columns)


def named_outcomes(row: Row, table: CsvTable) -> tuple[Outcome, ...] | None:
    """The outcomes of a row of a generic table; None where nothing is known of any.

    An outcome is left out where the row does not say whether, when, or whether before.

    Raises:
        TableError: the table has some of an outcome's columns and lacks others.
    """
    outcomes = []
    for name, columns in _NAMED.items():
        missing = [column for column in columns if column not in table.header]
        if len(missing) == len(columns):
            continue
        if missing:
            raise TableError(
                f"{table.file}: line 1: found columns of the outcome {name} without {missing}; "
                f"expected {list(columns)} together"
            )
        event = row.flag(columns[0])
        time_days = days(row, columns[1])
        before = row.flag(columns[2]) if len(columns) > 2 else False
        if event is not None and time_days is not None and before is not None:
            outcomes.append(Outcome(name=name, event=event, time_days=time_days, prevalent=before))
    return tuple(outcomes) or None


def require_columns(table: CsvTable) -> None:
    """TableError where an event stands without its time, or without what was before the night."""
    header = set(table.header)
    for task in _TASKS:
        missing = sorted({c for c in (task.time, task.prevalent) if c} - header)
        if task.event in header and missing:
            raise TableError(
                f"{table.file}: line 1: found the column {task.event} without {missing}; "
                "expected them together"
            )


def shhs_outcomes(row: Row) -> tuple[Outcome, ...] | None:
    """The seven outcomes of a person, fewer where something is unknown; None where all is."""
    outcomes = []
    for task in _TASKS:
        zero_or_one = task.prevalent is None
        count = row.whole(task.event, "number of events", (0, 1 if zero_or_one else MAX_COUNT))
        before = (
            row.whole(task.prevalent, "number of events", (0, MAX_COUNT)) if (task.prevalent) else 0
        )
        if count is None or before is None:
            continue
        event = (count == 0) if task.happened_is_zero else count > 0
        time_days = days(row, task.time if event else CENSORED_AT)
        if time_days is not None:
            outcomes.append(
                Outcome(name=task.name, event=event, time_days=time_days, prevalent=before > 0)
            )
    return tuple(outcomes) or None


def days(row: Row, column: str) -> float | None:
    """A time of follow-up in days."""
    return row.number(column, "time in days", (0.0, _MAX_DAYS))


def has_shhs_outcomes(table: CsvTable) -> bool:
    """Whether it is the summary of outcomes, and not the events or the dataset."""
    return {"nsrrid", "vital", CENSORED_AT} <= set(table.header)
