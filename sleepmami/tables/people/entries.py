"""What one row says of one person, and how two files that speak of one person are joined."""

import dataclasses
from dataclasses import dataclass
from typing import Final

from sleepmami.errors import TableError
from sleepmami.tables.demographics import Demographics, Outcome

MAX_AGE_DIFFERENCE_YEARS: Final = 1.0  # age at the visit or at its last birthday, rounded or not


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row of a table of people.

    Attributes:
        key: ties it to recordings; see `matching`.
        column: where the id stands, for errors.
        places: file and line that the values came from; two once files are joined.
    """

    key: str
    column: str
    person: Demographics
    places: tuple[str, ...]


def joined(first: Entry, second: Entry) -> Entry:
    """Both rows as one; a value that both know is taken from the first.

    Raises:
        TableError: other sexes, ages more than a year apart, other subjects or outcomes.
    """
    one, two = first.person, second.person
    _require_same(first, second, "subject", one.subject_id, two.subject_id)
    _require_same(first, second, "sex", one.sex, two.sex)
    age_years, top_coded = _age(first, second)
    return Entry(
        key=first.key,
        column=first.column,
        places=tuple(dict.fromkeys((*first.places, *second.places))),
        person=Demographics(
            subject_id=one.subject_id or two.subject_id,
            age_years=age_years,
            age_top_coded=top_coded,
            sex=one.sex or two.sex,
            bmi=two.bmi if one.bmi is None else one.bmi,
            ahi=two.ahi if one.ahi is None else one.ahi,
            outcomes=_outcomes(first, second),
        ),
    )


def without_subject(entry: Entry) -> Entry:
    """The entry for a row that has a subject id of its own."""
    person = dataclasses.replace(entry.person, subject_id=None)
    return dataclasses.replace(entry, person=person)


def _age(first: Entry, second: Entry) -> tuple[float | None, bool]:
    one, two = first.person, second.person
    if one.age_years is None or two.age_years is None:
        known = two if one.age_years is None else one
        return known.age_years, known.age_top_coded
    if one.age_top_coded != two.age_top_coded:
        coded, exact = (one, two) if one.age_top_coded else (two, one)
        assert coded.age_years is not None
        assert exact.age_years is not None
        if exact.age_years >= coded.age_years - MAX_AGE_DIFFERENCE_YEARS:
            return exact.age_years, False
    elif abs(one.age_years - two.age_years) <= MAX_AGE_DIFFERENCE_YEARS:
        return one.age_years, one.age_top_coded
    raise _contradiction(first, second, "age", f"{one.age_years:g}", f"{two.age_years:g}")


def _outcomes(first: Entry, second: Entry) -> tuple[Outcome, ...] | None:
    one, two = first.person.outcomes, second.person.outcomes
    if one is None or two is None:
        return two if one is None else one
    by_name = {outcome.name: outcome for outcome in one}
    for outcome in two:
        other = by_name.setdefault(outcome.name, outcome)
        _require_same(first, second, f"outcome {outcome.name}", str(other), str(outcome))
    return tuple(by_name.values())


def _require_same(first: Entry, second: Entry, what: str, one: str | None, two: str | None) -> None:
    if one is None or two is None:
        return
    if one.casefold().lstrip("0") != two.casefold().lstrip("0"):  # 0017 and 17 are one subject
        raise _contradiction(first, second, what, one, two)


def _contradiction(first: Entry, second: Entry, what: str, one: str, two: str) -> TableError:
    return TableError(
        f"{' and '.join(second.places)}: found {what} {two} for {second.key}; expected {one}, "
        f"as {' and '.join(first.places)} has it"
    )
