"""How EDF labels are cut into words, and what each word stands for (`label_vocabulary.py`).

A word is known when it stands in the vocabulary, is put together of words that stand there
(`Brustgurt`, `lchin`), or is the beginning of one (labels end after 16 characters). What is not
known never leaves the program (`safe_label`), because a label may hold a person's name.
"""

from __future__ import annotations

import functools
import re

from sleepmami.signals.label_vocabulary import ELECTRODE, EYE, MASTOID, SCALP, WORDS, Meaning
from sleepmami.signals.units import readable

_MEANING = {word: meaning for meaning, text in WORDS.items() for word in text.split()}
# What glued words are put together of. Short words without much meaning are left out: with them,
# too many names would be words (`Polsen`); a side is glued to what has sides (`Leogr`, not `Carl`).
_NEVER_GLUED = {
    Meaning.FILLER,
    Meaning.LINKED,
    Meaning.LETTER,
    Meaning.HORIZONTAL,
    Meaning.VERTICAL,
    Meaning.VENTILATOR,
    Meaning.CIRCULATION,
    Meaning.COMPUTED,
}
_NAMES = ("flores", "reyes")  # no `flo res`, no `r eyes`: common family names
_SIDES = {Meaning.LEFT, Meaning.RIGHT}
_SIDED = {Meaning.EYE, Meaning.EMG, Meaning.ECG, Meaning.CHIN, Meaning.LIMB}
_PIECES_BY_START: dict[str, list[str]] = {}
for _word, _meaning in _MEANING.items():
    _shortest = 4 if _meaning in _SIDES else 3
    if len(_word) >= _shortest and _meaning not in _NEVER_GLUED:
        _PIECES_BY_START.setdefault(_word[0], []).append(_word)
_BEFORE = frozenset("lrchv")
_AFTER = frozenset(("l", "r", "c", "z", "h", "v", "li", "re", "sx", "dx", "i", "ii", "iii"))
SPACED_ELECTRODE = re.compile(  # E_1-M2, C 3-A2; alone only an eye's, E-1
    r"^([^A-Za-z0-9]*(?:(?:EEG|EOG|PSG)[ _])?)"
    r"([CEFOP](?=[ _][1-4z][-:/])|E(?=[-_ ]{1,3}[12][^A-Za-z0-9]*$))[-_ ]{1,3}([1-4z])",
    re.IGNORECASE,
)
_UNITS_IN_LABELS = {
    "flow": re.compile(r"\bm?l/(?:min|s|m)\b|\blpm\b", re.IGNORECASE),
    "percent": re.compile("%"),
    "pressure": re.compile(r"\bcm ?h2o\b|\bmm ?hg\b|\bmbar\b|\bhpa\b", re.IGNORECASE),
}
_SIDE_THEN_NUMBER = re.compile(r"([lr])(\d+)")
_SHORTEST_BEGINNING = 4  # of a word cut short
_MAX_GLUED = 24
_DEVICE_LETTERS = {("c", "flow"), ("c", "flo"), ("c", "press"), ("c", "pres"), ("c", "pressure")}
_GLUED_PAIR = re.compile(
    rf"({SCALP}|{EYE}|{MASTOID})((?:{SCALP}|{EYE}|{MASTOID}){{1,2}}|cle|ler|le|avg|av|ar|car|ref|[am]x)"
)


@functools.lru_cache(maxsize=8192)
def meaning_of(word: str) -> Meaning | None:
    """What a lower-case word stands for; None when it is not known."""
    if word.isdigit():
        return Meaning.NUMBER
    if word in _MEANING:
        return _MEANING[word]
    if ELECTRODE.fullmatch(word):
        return Meaning.ELECTRODE
    if len(word) >= _SHORTEST_BEGINNING:
        begun = {
            m for known, m in _MEANING.items() if known[0] == word[0] and known.startswith(word)
        }
        if len(begun) == 1:
            return begun.pop()
    return None


def in_vocabulary(word: str) -> bool:
    """Whether the lower-case word stands in the vocabulary as it is."""
    return word in _MEANING or bool(ELECTRODE.fullmatch(word))


def kind_of_unit_in(label: str) -> str:
    """The kind of a unit that stands in the label itself (`O2 l/min`, `SaO2 %`), else empty."""
    plain = readable(label)
    return next((kind for kind, unit in _UNITS_IN_LABELS.items() if unit.search(plain)), "")


def words(label: str) -> list[str]:
    """The label's lower-case words: `EEG(sec)` -> eeg, sec; `C3M2` -> c3, m2."""
    text = re.sub(r"\b([A-Za-z])\.([A-Za-z])\b\.?", r"\1\2", readable(label))  # H.R. -> HR
    for unit in _UNITS_IN_LABELS.values():
        text = unit.sub(" ", text)
    text = SPACED_ELECTRODE.sub(r"\1\2\3", text)
    return [word for run in re.findall(r"[A-Za-z0-9]+", text) for word in words_of_run(run)]


@functools.lru_cache(maxsize=8192)
def words_of_run(run: str) -> tuple[str, ...]:
    """The lower-case words of letters and digits that nothing separates."""
    whole = _split(run.lower())
    if whole is not None:
        return whole
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run)  # LegL, RespRate
    spaced = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z][a-z]{2})", " ", spaced)  # RIPFlow, SpO2Status
    pieces = spaced.lower().split()
    split = [_split(piece) for piece in pieces]
    if len(pieces) == 1 or all(part is None for part in split):
        return (run.lower(),)
    if any(part is None for part in split) and any(
        part and all(ELECTRODE.fullmatch(word) for word in part) for part in split
    ):
        return (run.lower(),)  # an unknown word that happens to end like an electrode
    return tuple(
        word for piece, part in zip(pieces, split, strict=True) for word in (part or (piece,))
    )


def _split(word: str) -> tuple[str, ...] | None:
    """Known words that the word is, or is put together of; None when it is not known."""
    if any(name in word for name in _NAMES):
        return None
    if word in _MEANING or word.isdigit():
        return (word,)
    if electrodes := _electrodes(word):
        return electrodes
    if len(word) <= _MAX_GLUED and (glued := _unglue(word, None)):
        return glued
    return (word,) if meaning_of(word) else None


def _electrodes(word: str) -> tuple[str, ...] | None:
    """`c3`, or `c3m2` cut in two."""
    if ELECTRODE.fullmatch(word):
        return (word,)
    if pair := _GLUED_PAIR.fullmatch(word):
        return (pair[1], *re.findall(rf"{SCALP}|{EYE}|{MASTOID}|[a-z]+", pair[2]))
    return None


def _unglue(word: str, before: Meaning | None) -> tuple[str, ...] | None:
    """The fewest known words in a row that `word` is, behind a word that means `before`."""
    if not word:
        return ()
    if before in (Meaning.EEG, Meaning.EYE) and (known := _electrodes(word)):
        return known
    if before in _SIDED:
        if word in _AFTER or (before is Meaning.EYE and word in ("d", "g")):
            return (word,)
        if sided := _SIDE_THEN_NUMBER.fullmatch(word):
            return (sided[1], sided[2])
    found: list[tuple[str, ...]] = []
    if before is not None and (digits := re.match(r"\d+", word)):
        rest = _unglue(word[digits.end() :], before)
        if rest is not None:
            found.append((digits[0], *rest))
    if before is None and word[0] in _BEFORE:
        rest = _unglue(word[1:], Meaning.LETTER)
        if rest and (_MEANING.get(rest[0]) in _SIDED or (word[0], rest[0]) in _DEVICE_LETTERS):
            found.append((word[0], *rest))
    for piece in _PIECES_BY_START.get(word[0], ()):
        if word.startswith(piece):
            rest = _unglue(word[len(piece) :], _MEANING[piece])
            if rest is not None:
                found.append((piece, *rest))
    return min(found, key=len, default=None)
