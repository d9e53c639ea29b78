"""Labels of electrodes on the scalp, and which electrodes a label names.

Electrodes A1 and A2 are called M1 and M2, LOC and ROC E1 and E2 (AASM names).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sleepmami.psg import Confidence, Modality
from sleepmami.signals.label_vocabulary import ELECTRODE, Meaning
from sleepmami.signals.label_words import meaning_of
from sleepmami.signals.parsed_label import ALONE, ParsedLabel, Words

_SAME_ELECTRODE = {
    "a1": "m1",
    "a2": "m2",
    **dict.fromkeys(("loc", "pg1", "og"), "e1"),
    **dict.fromkeys(("roc", "pg2", "od"), "e2"),
}
MASTOIDS = ("m1", "m2")
NOT_ON_THE_SCALP = (
    Meaning.FLOW,
    Meaning.NASAL,
    Meaning.THERMISTOR,
    Meaning.AIR,
    Meaning.PRESSURE,
    Meaning.DEVICE,
    Meaning.GAS,
    Meaning.THORAX,
    Meaning.ABDOMEN,
    Meaning.EFFORT,
    Meaning.BREATHING,
    Meaning.VENTILATOR,
)


def electrodes_of(found: Words) -> list[str]:
    """Electrodes in the label's order; `C3-A22` and `Cz2-A1`, second ones, as C3-A2 and Cz-A1."""
    electrodes: list[str] = []
    for place, word in enumerate(found.words):
        if re.fullmatch(r"[am][12]\d|[cfpo]z[2-9]" if electrodes else r"[cfpo]z[2-9]", word):
            word = word[:2]
        elif word in ("01", "02") and any(
            map(ELECTRODE.fullmatch, (*found.words[:place][-1:], *found.words[place + 1 :]))
        ):
            word = "o" + word[1]  # a zero for an O
        if ELECTRODE.fullmatch(word):
            electrodes.append(_SAME_ELECTRODE.get(word, word))
    return electrodes


def reference_of(found: Words, references: Sequence[str]) -> str:
    """How the label's reference is shown: `M2`, `M1+M2`, `Cz`, `CLE`."""
    if {"m1", "m2"} <= set(references):
        return "M1+M2"
    if references:
        return references[0].upper() if references[0] in MASTOIDS else references[0].capitalize()
    linked = next((w for w in found.words if meaning_of(w) is Meaning.LINKED), "")
    return linked.upper()


def _site(active: str, reference: str) -> int:
    """Order of scalp sites: central, frontal, occipital, Fpz-Cz, Pz-Oz, any other."""
    if (active, reference) in (("fpz", "cz"), ("pz", "oz")):
        return 30 if active == "fpz" else 31
    letters = active.rstrip("z0123456789")
    return {"c": 2, "f": 12, "fp": 13, "af": 13, "o": 22}.get(letters, 42)


def _scalp_side(active: str) -> str:
    return "" if not active[-1].isdigit() else "left" if int(active[-1]) % 2 else "right"


def _behind_the_unknown(found: Words) -> bool:
    """Whether the label's first word is not known, or says nothing alone."""
    return meaning_of(found.words[0]) in (None, Meaning.LETTER)


def scalp(found: Words, kind: str) -> ParsedLabel | None:
    """An EEG derivation, a lone electrode or a reference; None when the label names neither."""
    electrodes = electrodes_of(found)
    if not electrodes:
        return None
    inverted = electrodes[0] in MASTOIDS and not set(electrodes) <= set(MASTOIDS)
    if inverted:  # A1:O2 is O2-A1 upside down
        at = next(place for place, e in enumerate(electrodes) if e not in MASTOIDS)
        electrodes = [electrodes[at], *electrodes[:at], *electrodes[at + 1 :]]
    active, *references = electrodes
    if active in MASTOIDS and _behind_the_unknown(found):
        return None  # DX1-A2: against a mastoid, but it is not the mastoid
    elsewhere = any(found.has(meaning) for meaning in NOT_ON_THE_SCALP)
    if elsewhere and active == "o2" and not references:
        return ParsedLabel(what="oxygen given to the patient, or a gas")
    if elsewhere and not found.has(Meaning.EEG):
        return None
    if active in MASTOIDS and found.has(Meaning.EEG) and found.numbers:
        return None  # EEG1-A2: against a mastoid, but which site is not said
    if active in MASTOIDS:
        if references and set(electrodes) != {active}:
            return ParsedLabel(what="two reference electrodes against each other")
        return ParsedLabel(what=f"reference electrode {active.upper()}", electrode=active.upper())
    name, side = active.capitalize(), _scalp_side(active)
    reference = reference_of(found, references)
    if reference:
        pair = (active, references[0] if references else "")
        rank = {("c4", "m1"): 0, ("c3", "m2"): 1}.get(pair, _site(*pair))
        if inverted and active == "cz":
            rank = 40  # M1-Cz: everything is recorded against Cz, the mastoid too
        elif pair[1] and pair[1] not in (*MASTOIDS, "cz") and pair[0] not in ("fpz", "pz"):
            rank += 3  # two sites near each other: C3-P3
        return ParsedLabel(
            what=f"EEG {name}-{reference}" + (", recorded upside down" if inverted else ""),
            modality=Modality.EEG,
            rank=rank,
            side=side,
            reference=reference,
            inverted=inverted,
        )
    rank = {"c4": 0, "c3": 1}.get(active, _site(active, ""))
    ambiguous = active == "o2" and kind != "volt" and not found.has(Meaning.EEG)
    return ParsedLabel(
        what=f"EEG electrode {name}",
        modality=Modality.EEG,
        rank=rank + ALONE,
        electrode=name,
        partners=("M2", "M1") if side == "left" else ("M1", "M2"),
        side=side,
        confidence=Confidence.GUESS if ambiguous else Confidence.LIKELY,
    )
