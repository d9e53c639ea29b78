"""What may be told of a label: its known words, because the rest may be a person's name."""

from __future__ import annotations

import re

from sleepmami.signals.label_words import SPACED_ELECTRODE, in_vocabulary, meaning_of, words_of_run
from sleepmami.signals.units import readable, repaired

_SHORTEST_SAFE_BEGINNING = 6  # of a word cut short; shorter ones could as well begin a name
NO_LABEL = "channel"
_MAX_SAFE_DIGITS = 2
_NUMBERED = re.compile(r"[a-z]{1,2}\d{1,2}|\d{1,2}m?s")  # X1, DC8, 2s: too short for a name
# understood, but never told: names, more often than words of a label, and likely initials
_NAMES = (
    "sato son herz linker rechter lewy broda kiefer wade noga ben hake haka brada mage mave rinta"
    " buk sol levy brost akis vatsa noha syke cene can power toi tsi"
    " shin back knie knee calf thigh zunge tongue coxa muslo bis tip base"
)
_INITIALS = "fc hf fr va ho eg"
_NOT_TOLD = frozenset((*_NAMES.split(), *_INITIALS.split()))
_RUN = re.compile(r"\b[A-Za-z]\.[A-Za-z]\b\.?|[^\W_]+")  # H.R., or letters and digits
_SEPARATORS = frozenset("-_ ./:+()#,&%")
_OPENING, _CLOSING = frozenset("(#"), frozenset("()+-%.")
_LONE_LETTERS = frozenset("lrcpnhvxyz")


def safe_label(label: str) -> str:
    """The label's known words, spelled and ordered as they are; `channel` when none is known.

    A label is free text and may hold a person's name or birth date. A number stays only behind a
    known word and up to two digits, a single letter only beside a known word.
    """
    text = SPACED_ELECTRODE.sub(r"\1\2\3", repaired(label))
    runs = list(_RUN.finditer(text))
    known = [_is_known(run[0]) for run in runs]
    kept = ""
    last = 0
    for place, run in enumerate(runs):
        before = place > 0 and known[place - 1]
        after = place + 1 < len(runs) and known[place + 1]
        if not known[place] and not _is_known_beside(run[0], before, after):
            continue
        known[place] = known[place] or not run[0].isdigit()  # `NEW A/F`; no dates
        skipped = place > 0 and last < runs[place - 1].end()
        between = "" if skipped else _only(text[last : run.start()], _SEPARATORS)
        kept += (between or " ") if kept else _only(text[: run.start()], _OPENING)
        kept += run[0]
        last = run.end()
    if not kept:
        return NO_LABEL
    if last == runs[-1].end():
        kept += _only(text[last:], _CLOSING)
    return " ".join(kept.split())


def _only(text: str, allowed: frozenset[str]) -> str:
    return "".join(character for character in text if character in allowed)


def _is_known(run: str) -> bool:
    """Whether letters and digits are words of the vocabulary and nothing else."""
    plain = readable(run)
    if sum(map(str.isalnum, plain)) != sum(map(str.isalnum, run)):
        return False  # letters that are not Latin
    found = words_of_run(plain.replace(".", ""))
    if not found or (len(found) == 1 and (found[0].isdigit() or len(found[0]) == 1)):
        return False
    return all(_is_safe_word(word) for word in found)


def _is_known_beside(run: str, before: bool, after: bool) -> bool:
    """Whether a number or a letter belongs to the known word beside it."""
    plain = readable(run).lower()
    if plain.isdigit():
        return before and len(plain) <= _MAX_SAFE_DIGITS
    if len(plain) == 1:
        return (before and in_vocabulary(plain)) or (after and plain in _LONE_LETTERS)
    return False


def _is_safe_word(word: str) -> bool:
    if word.isdigit():
        return len(word) <= _MAX_SAFE_DIGITS
    if word in _NOT_TOLD:
        return False
    if in_vocabulary(word) or _NUMBERED.fullmatch(word):
        return True
    return len(word) >= _SHORTEST_SAFE_BEGINNING and meaning_of(word) is not None
