"""EDF labels read as words: what was recorded, from where, and against what.

A label is a sentence without grammar: `EEG C4-A1`, `C4M1`, `THOR RES`, `Leg/L`, `SpO2.1s`. It is
cut into words (`label_words.py`), and the words decide; no table of exact labels is kept, because
public cohorts alone hold hundreds of spellings. Electrodes A1 and A2 are called M1 and M2 (AASM
names). Breathing and oxygen are in `label_breath.py`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from sleepmami.psg import Confidence, Modality
from sleepmami.signals.label_breath import breathing, from_the_heart, saturation, supplied_oxygen
from sleepmami.signals.label_privacy import NO_LABEL, safe_label
from sleepmami.signals.label_words import ELECTRODE, Meaning, meaning_of, words
from sleepmami.signals.parsed_label import ALONE, DERIVED_GAIN, ParsedLabel, Sensor, Words
from sleepmami.signals.units import safe_unit, unit_kind, volt_scale

__all__ = [
    "DERIVED_GAIN",
    "NO_LABEL",
    "UNKNOWN",
    "ParsedLabel",
    "Sensor",
    "parse_label",
    "safe_label",
    "safe_unit",
    "unit_kind",
    "volt_scale",
    "words",
]

UNKNOWN = "label not known as one of our signals"

# Numbers a device computes, whatever signal they are about.
_DERIVED_NUMBERS = {
    Meaning.STATUS: "signal status, not a waveform",
    Meaning.IMPEDANCE: "electrode impedance",
    Meaning.RATE: "a rate computed by the device",
    Meaning.EVENT: "event marker",
    Meaning.HYPNOGRAM: "hypnogram",
    Meaning.BOOKKEEPING: "device bookkeeping",
    Meaning.COMPUTED: "computed from a signal",
}
_OTHER_SENSORS = {
    Meaning.SNORE: "snoring",
    Meaning.PLETH: "pulse waveform (plethysmogram)",
    Meaning.POSITION: "body position",
    Meaning.GAS: "a gas, or oxygen in tissue",
    Meaning.TEMPERATURE: "temperature or humidity",
    Meaning.LIGHT: "light",
    Meaning.MOVEMENT: "movement sensor",
    Meaning.VENTILATOR: "ventilator setting",
    Meaning.CIRCULATION: "pressure in the body or around it, or a gastric signal",
    Meaning.PULSE: "pulse",
}
_NOT_ON_THE_SCALP = (
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
_AIR_MOVES = (Meaning.NASAL, Meaning.FLOW, Meaning.AIR)
_SAME_ELECTRODE = {"a1": "m1", "a2": "m2", "loc": "e1", "roc": "e2", "pg1": "e1", "pg2": "e2"}
_MASTOIDS = ("m1", "m2")
_EYES = {"e1": "left", "e2": "right"}
_SIGN = re.compile(r"[^-+]*[^-+\s]\s*([-+])\s*")  # EMG+ and EMG-: the two ends of a pair


def parse_label(label: str, unit: str = "") -> ParsedLabel:
    """What the label says; the unit settles words that mean two things (`O2`, `Pressure`)."""
    return _parse(label, unit_kind(unit))


@functools.lru_cache(maxsize=8192)
def _parse(label: str, kind: str) -> ParsedLabel:
    found = Words(words(label))
    if not found.words:
        return ParsedLabel(what="a channel without a readable name")
    for meaning, what in _DERIVED_NUMBERS.items():
        pressure = "pr" in found.words and any(map(found.has, _AIR_MOVES))  # else a pulse rate
        if found.has(meaning) and not (meaning is Meaning.RATE and pressure):
            return ParsedLabel(what=what)
    if kind == "rate":
        return ParsedLabel(what="a rate computed by the device")
    sign = _SIGN.fullmatch(label)
    return (
        from_the_heart(found)
        or _limb_or_muscle(found, sign[1] if sign else "")
        or _heart_or_eye(found, sign[1] if sign else "")
        or saturation(found, kind)
        or supplied_oxygen(found, kind)
        or _scalp(found, kind)
        or _not_ours(found)
        or breathing(found, kind)
        or _generic(found, sign[1] if sign else "")
        or ParsedLabel(what=UNKNOWN)
    )


# ------------------------------------------------------------------------------------------ parts


def _side(found: Words) -> str:
    left, right = found.has(Meaning.LEFT), found.has(Meaning.RIGHT)
    return "" if left == right else "left" if left else "right"


def _numbers(found: Words) -> list[str]:
    return [word for word in found.words if word.isdigit()]


def _electrodes(found: Words) -> list[str]:
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


def _places(found: Words) -> list[str]:
    """`1`, `2`, `l`, `r`, `c`: which of several electrodes of one kind the label means."""
    places = []
    for word in found.words:
        if word in ("1", "2", "3"):
            places.append(word)
        elif word in ("c", "ctr", "center", "centre"):
            places.append("c")
        elif meaning_of(word) in (Meaning.LEFT, Meaning.RIGHT):
            places.append("l" if meaning_of(word) is Meaning.LEFT else "r")
    return places


def _side_of_place(place: str) -> str:
    return {"l": "left", "r": "right"}.get(place, "")


def _limb_or_muscle(found: Words, sign: str) -> ParsedLabel | None:
    trunk = found.has(Meaning.THORAX) or found.has(Meaning.ABDOMEN)
    if found.has(Meaning.LIMB) or (found.has(Meaning.EMG) and trunk):
        return ParsedLabel(what="limb or breathing-muscle EMG, not the chin")
    if not found.has(Meaning.CHIN):
        return None
    chin = ParsedLabel(what="chin EMG", modality=Modality.EMG)
    places = _places(found)
    if sign and not places:
        return _one_of_pair("chin", sign, chin, 0)
    if found.count(Meaning.CHIN) > 1 or len(places) != 1:
        return chin
    place = places[0]
    if found.has(Meaning.EMG):  # a lead the recorder calls an EMG is bipolar already
        rank = min(int(place), 2) if place.isdigit() else 1
        return ParsedLabel(
            what="chin EMG", modality=Modality.EMG, rank=rank, side=_side_of_place(place)
        )
    others = [p for p in (("1", "2", "3") if place.isdigit() else ("l", "r", "c")) if p != place]
    return ParsedLabel(
        what=f"chin electrode {place.upper()}",
        modality=Modality.EMG,
        rank=ALONE,
        electrode=f"chin {place}",
        partners=tuple(f"chin {other}" for other in others),
        side=_side_of_place(place),
        confidence=Confidence.LIKELY,
    )


def _one_of_pair(name: str, sign: str, whole: ParsedLabel, base: int) -> ParsedLabel:
    other = "-" if sign == "+" else "+"
    return ParsedLabel(
        what=f"{whole.what}, {sign} electrode",
        modality=whole.modality,
        rank=base + ALONE + (sign == "-"),
        electrode=f"{name} {sign}",
        partners=(f"{name} {other}",),
        confidence=Confidence.LIKELY,
    )


def _heart_or_eye(found: Words, sign: str) -> ParsedLabel | None:
    if found.has(Meaning.ECG):
        return _heart(found, sign)
    electrodes = _electrodes(found)
    active = next((e for e in electrodes if e not in _MASTOIDS), "")
    oculogram = found.has(Meaning.EYE) or bool({"vog", "hog"} & set(found.words))
    if oculogram or active in _EYES:
        return _eye(found, electrodes)
    return None


def _heart(found: Words, sign: str) -> ParsedLabel:
    whole = ParsedLabel(what="ECG", modality=Modality.ECG)
    places = [place for place in _places(found) if place != "c"]
    hearts = [meaning_of(word) is Meaning.ECG for word in found.words]
    repeated = sum(hearts) > 1 and not (sum(hearts) == 2 and all(hearts[:2]))  # ECG EKG2
    if sign and not places:
        return _one_of_pair("ecg", sign, whole, 0)
    if len(places) != 1 or repeated:
        return whole
    place = places[0]
    others = [p for p in (("1", "2", "3") if place.isdigit() else ("l", "r")) if p != place]
    return ParsedLabel(
        what=f"ECG electrode {place.upper()}",
        modality=Modality.ECG,
        rank=ALONE + (place in ("2", "3", "r")),
        electrode=f"ecg {place}",
        partners=tuple(f"ecg {other}" for other in others),
        side=_side_of_place(place),
        confidence=Confidence.LIKELY,
    )


def _eye(found: Words, electrodes: list[str]) -> ParsedLabel:
    eyes = [e for e in electrodes if e in _EYES]
    guessed = {"pg1", "pg2"} & set(found.words)  # below the eyes, or at the pharynx
    sure = Confidence.GUESS if guessed else Confidence.CERTAIN
    side = _EYES[eyes[0]] if eyes else _side(found)
    if not side and "e" in found.words:  # Portuguese: esquerdo
        side = "left"
    if not side and _numbers(found):
        side = {"1": "left", "2": "right"}.get(_numbers(found)[0], "")
        sure = Confidence.LIKELY
    both = len(set(eyes)) == 2 or (found.has(Meaning.LEFT) and found.has(Meaning.RIGHT))
    if both or (found.has(Meaning.HORIZONTAL) and not side):
        return ParsedLabel(what="horizontal EOG", modality=Modality.EOG, rank=10, confidence=sure)
    if found.has(Meaning.VERTICAL):
        return ParsedLabel(what="vertical EOG", modality=Modality.EOG, rank=30, confidence=sure)
    base = {"left": 0, "": 11, "right": 20}[side] + 3 * bool(guessed)
    what = f"{side} EOG".strip()
    if len(electrodes) > len(eyes) or found.has(Meaning.LINKED):
        reference = _reference(found, [e for e in electrodes if e not in _EYES])
        return ParsedLabel(
            what=what,
            modality=Modality.EOG,
            rank=base,
            side=side,
            reference=reference,
            confidence=sure,
            inverted=electrodes[:1] not in ([e] for e in _EYES) and bool(eyes),
        )
    if eyes:
        near, far = ("M2", "M1") if side == "left" else ("M1", "M2")
        return ParsedLabel(
            what=f"{what}, electrode {eyes[0].upper()}",
            modality=Modality.EOG,
            rank=base + ALONE,
            electrode=eyes[0].upper(),
            partners=(near, far),
            side=side,
            confidence=Confidence.GUESS if guessed else Confidence.LIKELY,
        )
    if not side:
        sure = Confidence.LIKELY
    return ParsedLabel(what=what, modality=Modality.EOG, rank=base + 1, side=side, confidence=sure)


# ------------------------------------------------------------------------------------------ scalp


def _reference(found: Words, references: Sequence[str]) -> str:
    """How the label's reference is shown: `M2`, `M1+M2`, `Cz`, `CLE`."""
    if {"m1", "m2"} <= set(references):
        return "M1+M2"
    if references:
        return references[0].upper() if references[0] in _MASTOIDS else references[0].capitalize()
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


def _scalp(found: Words, kind: str) -> ParsedLabel | None:
    electrodes = _electrodes(found)
    if not electrodes:
        return None
    inverted = electrodes[0] in _MASTOIDS and not set(electrodes) <= set(_MASTOIDS)
    if inverted:  # A1:O2 is O2-A1 upside down
        at = next(place for place, e in enumerate(electrodes) if e not in _MASTOIDS)
        electrodes = [electrodes[at], *electrodes[:at], *electrodes[at + 1 :]]
    active, *references = electrodes
    if active in _MASTOIDS and _behind_the_unknown(found):
        return None  # DX1-A2: against a mastoid, but it is not the mastoid
    elsewhere = any(found.has(meaning) for meaning in _NOT_ON_THE_SCALP)
    if elsewhere and active == "o2" and not references:
        return ParsedLabel(what="oxygen given to the patient, or a gas")
    if elsewhere and not found.has(Meaning.EEG):
        return None
    if active in _MASTOIDS and found.has(Meaning.EEG) and _numbers(found):
        return None  # EEG1-A2: against a mastoid, but which site is not said
    if active in _MASTOIDS:
        if references and set(electrodes) != {active}:
            return ParsedLabel(what="two reference electrodes against each other")
        return ParsedLabel(what=f"reference electrode {active.upper()}", electrode=active.upper())
    name, side = active.capitalize(), _scalp_side(active)
    reference = _reference(found, references)
    if reference:
        pair = (active, references[0] if references else "")
        rank = {("c4", "m1"): 0, ("c3", "m2"): 1}.get(pair, _site(*pair))
        if inverted and active == "cz":
            rank = 40  # M1-Cz: everything is recorded against Cz, the mastoid too
        elif pair[1] and pair[1] not in (*_MASTOIDS, "cz") and pair[0] not in ("fpz", "pz"):
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


def _not_ours(found: Words) -> ParsedLabel | None:
    for meaning, what in _OTHER_SENSORS.items():
        if found.has(meaning):
            return ParsedLabel(what=what)
    belts = (Meaning.EFFORT, Meaning.INDUCTANCE, Meaning.BREATHING)
    if found.has(Meaning.SUM) and not any(found.has(meaning) for meaning in belts):
        return ParsedLabel(what="a computed signal")
    return None


def _generic(found: Words, sign: str) -> ParsedLabel | None:
    """`EEG`, `EEG2`, `EEG(sec)`, `EMG1`: the modality without a place."""
    number = int(next(iter(_numbers(found)), "1")[:2])
    if found.has(Meaning.EEG):
        rank = 80 if "sec" in found.words else 49 + min(max(number, 1), 20)
        return ParsedLabel(
            what="EEG", modality=Modality.EEG, rank=rank, confidence=Confidence.LIKELY
        )
    if found.count(Meaning.VERTICAL) == 2 and _side(found):  # Lower.Left-Upper: of the chin
        return ParsedLabel(
            what="chin EMG, two of its electrodes",
            modality=Modality.EMG,
            rank=8,
            side=_side(found),
            confidence=Confidence.GUESS,
        )
    if found.has(Meaning.EMG):
        muscle = ParsedLabel(what="EMG of unstated muscle", modality=Modality.EMG)
        if sign and not _places(found):
            return _one_of_pair("emg", sign, muscle, 30)
        sided = bool(_side(found)) and found.count(Meaning.EMG) == 1
        doubtful = sided or found.unknown  # `EMG R` and `EMG Wobble` may be of a leg
        return ParsedLabel(
            what=muscle.what,
            modality=Modality.EMG,
            rank=39 if doubtful else 9 + min(max(number, 1), 20),
            side=_side(found) if sided else "",
            confidence=Confidence.GUESS if doubtful else Confidence.LIKELY,
        )
    return None
