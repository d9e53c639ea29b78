"""Every label of a file read together: the user's channel file, known montages, then the words.

Some montages number their channels, so that a label alone says nothing (`EEG3`, `X1`); the other
labels of the file give the montage away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sleepmami.config import PreprocessConfig
from sleepmami.psg import Confidence
from sleepmami.signals.edf_header import EdfChannel
from sleepmami.signals.labels import UNKNOWN, ParsedLabel, parse_label, words

IGNORE = "ignore"
BY_FILE = "by your channel file"

_ISRUC = {
    "x1": "EMG chin",
    "x2": "ECG",
    "x3": "Leg left",
    "x4": "Leg right",
    "x5": "Snore",
    "x6": "Flow",
    "dc3": "Flow",
    "x7": "Abdomen",
    "x8": "Abdomen",
    "dc8": "Position",
}
_APNEA_ECG = {"respc": "Thorax", "respa": "Abdomen", "respn": "Nasal"}
_NOX_CHIN = dict.fromkeys(("1f", "2f", "12"), "EMG chin")  # electrodes 1, 2 and F
_LONE_CHINS = {"emg1": "chin 1", "emg2": "chin 2", "emg3": "chin 3"}
# name, labels that give the montage away -> what its labels mean
_CONVENTIONS: tuple[tuple[str, frozenset[str], Mapping[str, str]], ...] = (
    (
        "MESA",
        frozenset({"eeg1", "eeg2", "eeg3", "ekg", "thor", "abdo"}),
        {"eeg1": "EEG Fz-Cz", "eeg2": "EEG Cz-Oz", "eeg3": "EEG C4-M1"},
    ),
    ("Nox", frozenset({"1f", "2f"}), _NOX_CHIN),
    ("Apnea-ECG", frozenset(_APNEA_ECG), _APNEA_ECG),
    *(("ISRUC", frozenset({eye, "x1", "x2"}), _ISRUC) for eye in ("loca2", "e1m2", "loc", "e1")),
    *(
        ("CFS", frozenset({"emg1", "emg2", "emg3", "c3", "c4", mastoid}), _LONE_CHINS)
        for mastoid in ("m1", "a1")
    ),
)
_GRID = frozenset({"a5", "a6", "b5", "b6"})  # amplifiers that number electrodes, not name them
_GRID_LABEL = re.compile(r"[a-h]\d{1,2}")
_NET = frozenset({"e5", "e6"})  # EGI's nets of 64 to 256; E1 and E2 alone are beside the eyes
_NET_LABEL = re.compile(r"e\d{1,3}")


def read_montage(
    channels: Sequence[EdfChannel], config: PreprocessConfig | None = None
) -> list[ParsedLabel]:
    """What every channel is, in file order."""
    keys = ["".join(words(channel.label)) for channel in channels]
    present = set(keys)
    meanings: dict[str, tuple[str, str]] = {}
    for montage, signature, convention in _CONVENTIONS:
        if signature <= present:
            meanings |= {key: (label, montage) for key, label in convention.items()}
    grid, net = present >= _GRID, present >= _NET
    rules = config.channels if config else ()
    parsed = []
    for channel, key in zip(channels, keys, strict=True):
        meaning = user_meaning(channel.label, rules)
        if meaning is not None:
            parsed.append(_by_file(meaning, channel.unit))
        elif key in meanings:
            label, montage = meanings[key]
            said = parse_label(label, channel.unit)
            what = f"{said.what} (the {montage} montage)"
            parsed.append(replace(said, what=what, confidence=Confidence.GUESS))
        elif (grid and _GRID_LABEL.fullmatch(key)) or (net and _NET_LABEL.fullmatch(key)):
            parsed.append(ParsedLabel(what="electrode of a numbered grid, its place is not said"))
        else:
            parsed.append(parse_label(channel.label, channel.unit))
    return parsed


def user_meaning(label: str, rules: Sequence[tuple[str, str]]) -> str | None:
    """What a channel file says about a label; None when it says nothing.

    Case and the amount of blank space do not matter; `*` stands for any characters. A rule that
    names the label exactly comes before one with `*`; among equals the first counts.
    """
    if not rules:
        return None
    wanted = plain(label)
    wild = None
    for pattern, meaning in rules:
        ours = plain(pattern)
        if ours == wanted:
            return meaning
        if wild is None and "*" in ours:
            expression = ".*".join(re.escape(part) for part in ours.split("*"))
            if re.fullmatch(expression, wanted, re.DOTALL):
                wild = meaning
    return wild


def plain(label: str) -> str:
    """A label as channel files compare it: one space between words, lower case."""
    return " ".join(label.split()).casefold()


def _by_file(meaning: str, unit: str) -> ParsedLabel:
    if plain(meaning) == IGNORE:
        return ParsedLabel(what=f"left out {BY_FILE}")
    said = parse_label(meaning, unit)
    if said.what == UNKNOWN:
        return ParsedLabel(what=f"its meaning is not understood, {BY_FILE}")
    return replace(said, what=f"{said.what} {BY_FILE}", confidence=Confidence.CERTAIN)
