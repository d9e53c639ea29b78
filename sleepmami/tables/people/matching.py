"""Keys that tie a row of a table of people to the names of its recordings.

A table makes keys with the functions `*_key`; `keys_of` makes, from the name of a recording, the
keys that its row could have. A recording and a row belong together when they share one.
"""

import re
from collections.abc import Iterator
from typing import Final

ENDINGS: Final = re.compile(r"\.(edf|bdf|rec)$", flags=re.IGNORECASE)
_BIDS = re.compile(r"(?:^|[_/])sub-([0-9a-z+]+)(?=[_/.]|$)")
_SLEEP_EDF = re.compile(r"(?:^|[^0-9a-z])(sc4|st7)(\d\d)(\d)[0-9a-z]{2}(?![0-9a-z])")
_SUBGROUP = re.compile(r"(?:sub)?group[ _-]*(iii|ii|i|3|2|1)(?![0-9a-z])")
_ROMAN: Final = {"i": "1", "ii": "2", "iii": "3"}
_NUMBERED = re.compile(r"(?:subject|subj|patient|s|p)?[ _-]*(\d{1,9})")


def recording_key(recording_id: str) -> str:
    """Of a row that names its recording."""
    return f"recording={recording_id}"


def subject_key(subject: str, visit: str | None = None) -> str:
    """Of a row that names a subject, and maybe a visit; leading zeros and case do not matter."""
    plain = subject.casefold()
    plain = plain.lstrip("0") or "0" if plain.isdecimal() else plain
    return f"subject={plain}" + (f" visit={visit}" if visit else "")


def bids_key(participant_id: str) -> str:
    """Of a participants.tsv row, `sub-12` or `12`; leading zeros matter, as BIDS has it."""
    return f"bids={participant_id.casefold().removeprefix('sub-')}"


def sleep_edf_key(study: str, subject: int, night: int | None = None) -> str:
    """Of Sleep-EDF's tables: study SC4 (a row per night) or ST7 (a row per subject)."""
    return f"{study.casefold()}={subject:02d}" + (f" night={night}" if night is not None else "")


def numbered_key(subject: int, subgroup: str | None = None) -> str:
    """Of a table that numbers its subjects, as ISRUC does; a subgroup numbers its own people."""
    return f"number={subject}" + (f" subgroup={subgroup}" if subgroup else "")


def subgroup_of(name: str) -> str | None:
    """1, 2 or 3 where a path names one of ISRUC's subgroups, as subgroup_II or subgroup2."""
    found = {_ROMAN.get(number, number) for number in _SUBGROUP.findall(name.casefold())}
    return found.pop() if len(found) == 1 else None


def recording_keys(recording_id: str) -> tuple[str, str]:
    """The recording's path, then its last part; the first that is in a table counts."""
    return recording_key(recording_id), recording_key(recording_id.rsplit("/", 1)[-1])


def keys_of(recording_id: str) -> Iterator[tuple[str, ...]]:
    """Keys by which tables of subjects could know a recording.

    Within a tuple the first key that is in a table counts; two tuples that lead to two rows make
    the recording ambiguous.
    """
    path = recording_id.casefold()
    stem = path.rsplit("/", 1)[-1]
    yield from _subject_keys(path)
    for label in dict.fromkeys(_BIDS.findall(path)):
        yield (bids_key(label),)
    for study, subject, night in _SLEEP_EDF.findall(stem):
        # ST7 rows are of a subject, and SC4 rows of a night: other nights have other ages
        yield (sleep_edf_key(study, int(subject), int(night) if study == "sc4" else None),)
    yield from _numbered_keys(path)


def _subject_keys(path: str) -> Iterator[tuple[str, ...]]:
    """A subject is a part of the file's name (`200001`, `p-07`), all of it, or a folder.

    The visit is a part that ends in one digit: `shhs2`, `visit1`, or the 8 of `visit-8`, which is
    no subject. A folder of digits may be anything, so it is no subject either.
    """
    *folders, stem = path.split("/")
    parts = list(re.finditer(r"[0-9a-z]+", stem))
    words = [part[0] for part in parts]
    digits = [re.fullmatch(r"[a-z]*(\d)", word) for word in words]
    subjects = [(folder, 0, 0) for folder in folders if not folder.isdecimal()]
    subjects.append((stem, 0, len(words)))
    for size in (1, 2):
        for first in range(len(parts) - size + 1):
            last = first + size
            if not (size == 1 and first and words[first - 1] == "visit"):
                subjects.append((stem[parts[first].start() : parts[last - 1].end()], first, last))
    for subject, first, last in subjects:
        others = digits[:first] + digits[last:]
        visits = dict.fromkeys(digit[1] for digit in others if digit)
        for visit in visits:
            yield subject_key(subject, visit), subject_key(subject)
        if not visits:
            yield (subject_key(subject),)


def _numbered_keys(path: str) -> Iterator[tuple[str, ...]]:
    """ISRUC: `1/1` and `subject1/1` (subject, file), `1/2/2` (subject, session, file).

    The subject is the outermost of the folders and files that bear a number alone. Above them may
    be folders of the cohort, but none that could name a person whose nights the numbers are.
    """
    parts = path.split("/")
    numbers: list[int] = []
    while parts and (match := _NUMBERED.fullmatch(parts[-1])):
        numbers.append(int(match[1]))
        parts.pop()
    above_is_cohort = not parts or "isruc" in parts[-1] or _SUBGROUP.search(parts[-1])
    if not 0 < len(numbers) <= 3 or not above_is_cohort:
        return
    subgroup = subgroup_of(path)
    if subgroup is not None:
        yield (numbered_key(numbers[-1], subgroup),)
        return
    # no subgroup in the path: a table of any subgroup may be meant, but only if there is one
    for group in (None, "1", "2", "3"):
        yield (numbered_key(numbers[-1], group),)
