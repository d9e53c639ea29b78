"""Annotation texts written anew from a fixed vocabulary; every other text is removed.

Onsets, durations and the time-keeping of the data records stay. A recognised text is replaced by
its canonical spelling, so that nothing that stood beside it rides along.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from sleepmami.psg import EventKind, Stage
from sleepmami.signals.edf_header import printable
from sleepmami.signals.events import event_of_text
from sleepmami.signals.stage_words import stage_of_text

_TAL = re.compile(rb"([+-]\d+(?:[.,]\d*)?)(?:\x15(\d+(?:[.,]\d*)?))?\x14(.*)", re.DOTALL)
_NOT_NUL = re.compile(rb"[^\0]+")

# S1 to S4 keep their own names: as AASM stages they would lose one
_RK = re.compile(r"(?:stage|stadium|stade|s)[ _:-]*([1-4])\b")
_STAGE_CODES = {
    Stage.WAKE: "W",
    Stage.N1: "N1",
    Stage.N2: "N2",
    Stage.N3: "N3",
    Stage.REM: "R",
    Stage.UNKNOWN: "?",
}


class Spellings(NamedTuple):
    """A clean text, and a shorter one for data records without room for it."""

    canonical: str
    short: str


_EVENTS = {
    EventKind.OBSTRUCTIVE_APNEA: Spellings("Obstructive apnea", "Obs apnea"),
    EventKind.CENTRAL_APNEA: Spellings("Central apnea", "Cent apnea"),
    EventKind.MIXED_APNEA: Spellings("Mixed apnea", "Mix apnea"),
    EventKind.APNEA: Spellings("Apnea", "Apnea"),
    EventKind.HYPOPNEA: Spellings("Hypopnea", "Hypopnea"),
    EventKind.RERA: Spellings("RERA", "RERA"),
    EventKind.DESATURATION: Spellings("Desaturation", "Desat"),
    EventKind.AROUSAL: Spellings("Arousal", "Arousal"),
}
_WHOLE_TEXTS = """
Lights off, Lights on, Lights out, Light off, Light on, Recording starts, Recording start,
Recording started, Recording ends, Recording end, Recording stops, Recording stop,
Recording stopped, Start recording, Stop recording, End of recording, Start, Stop, End,
Movement, Body movement, Leg movement, Limb movement, PLM, LM, Artifact, Artefact, Unscored,
QRS, R peak, Bradycardia, Tachycardia, Snore, Snoring, Periodic breathing, Cheyne-Stokes,
Cheyne Stokes, Flow limitation, Large leak, Spindle, Sleep spindle, K-complex, Eyes open,
Eyes closed, Calibration, Biocalibration, Supine, Prone, Left, Right, Upright, Epoch
"""
_WHOLE = {text.lower(): text for text in " ".join(_WHOLE_TEXTS.split()).split(", ")}


def clean_record(raw: bytes, *, keeps_time: bool) -> tuple[bytes, int, int]:
    """One annotation signal of one data record, as many bytes as before.

    Args:
        raw: time-stamped lists, each closed by a NUL.
        keeps_time: whether this signal opens each record with the record's own onset, as the first
            annotation signal does.

    Returns:
        (clean bytes, texts kept, texts removed). What is no time-stamped list counts as one text.
    """
    lists: list[tuple[bytes, list[Spellings]]] = []
    removed = 0
    for found in _NOT_NUL.finditer(raw):
        tal = _TAL.fullmatch(found[0])
        if not tal:
            removed += 1
            continue
        times_record = keeps_time and found.start() == 0 and not tal[2] and tal[3][:1] == b"\x14"
        texts = [text for text in tal[3].split(b"\x14") if text]
        lasting = bool(tal[2] and tal[2].strip(b"0.,"))
        clean = [clean_text(printable(text), lasting) for text in texts]
        kept = [spellings for spellings in clean if spellings]
        removed += len(texts) - len(kept)
        when = tal[1] + (b"\x15" + tal[2] if tal[2] else b"") + b"\x14"
        if times_record:
            when += b"\x14"
        if times_record or kept:
            lists.append((when.replace(b",", b"."), kept))
    packed, num_kept, num_dropped = _packed(lists, len(raw))
    return packed, num_kept, removed + num_dropped


def _packed(lists: list[tuple[bytes, list[Spellings]]], width: int) -> tuple[bytes, int, int]:
    """(time-stamped lists in exactly `width` bytes, texts in them, texts for which no room was)."""
    whole = sum(len(texts) for _, texts in lists)
    for spelling in (0, 1):
        packed = b"\0".join(
            when + b"".join(text[spelling].encode() + b"\x14" for text in texts)
            for when, texts in lists
        )
        if len(packed) <= width:
            return packed.ljust(width, b"\0"), whole, 0
    fitting: list[bytes] = []
    kept, room = 0, width + 1  # the last list needs no NUL after it
    for when, texts in lists:
        line, added = when, 0
        for text in texts:
            longer = line + text.short.encode() + b"\x14"
            if len(longer) < room:
                line, added = longer, added + 1
        if added or when[-2:] == b"\x14\x14":
            fitting.append(line)
            kept, room = kept + added, room - len(line) - 1
    return b"\0".join(fitting).ljust(width, b"\0"), kept, whole - kept


@lru_cache(maxsize=4096)
def clean_text(text: str, lasting: bool) -> Spellings | None:
    """How a text is written in a clean file; None when it is not known to name anything.

    Args:
        text: as the scorer left it.
        lasting: whether the annotation has a duration: "R" for a moment is a heart beat.
    """
    plain = " ".join(text.partition("@@")[0].lower().split())  # a channel may follow "@@"
    if plain in _WHOLE:
        return Spellings(_WHOLE[plain], _WHOLE[plain])
    stage = stage_of_text(text, bare=lasting)
    if stage is not None:
        return _stage_spellings(stage, plain)
    kind = event_of_text(text)
    return _EVENTS[kind] if kind else None


def _stage_spellings(stage: Stage, plain: str) -> Spellings:
    if plain.startswith(("movement", "mt")):
        return Spellings("Movement time", "MT")
    numbered = _RK.search(plain) if stage in (Stage.N1, Stage.N2, Stage.N3) else None
    code = numbered[1] if numbered else _STAGE_CODES[stage]
    if "sta" in plain:  # "stage1" has room for no more than that
        return Spellings(f"Sleep stage {code}", f"Stage{code}" if code != "?" else "Sleep stage ?")
    return Spellings(f"Sleep stage {code}", f"S{code}" if numbered else code)
