"""EDF labels read as words: what was recorded, from where, and against what.

A label is a sentence without grammar: `EEG C4-A1`, `C4M1`, `THOR RES`, `Leg/L`, `SpO2.1s`. It is
cut into words (`label_words.py`), and the words decide; no table of exact labels is kept, because
public cohorts alone hold hundreds of spellings. Electrodes of the scalp are in `label_scalp.py`,
breathing and oxygen in `label_breath.py`.
"""

from __future__ import annotations

import functools
import re

from sleepmami.psg import Confidence, Modality
from sleepmami.signals.label_breath import breathing, from_the_heart, saturation, supplied_oxygen
from sleepmami.signals.label_privacy import NO_LABEL, safe_label
from sleepmami.signals.label_scalp import (
    MASTOIDS,
    NOT_ON_THE_SCALP,
    electrodes_of,
    reference_of,
    scalp,
)
from sleepmami.signals.label_vocabulary import Meaning
from sleepmami.signals.label_words import kind_of_unit_in, meaning_of, words
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
    Meaning.UNUSED: "an input that nothing is connected to",
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
    Meaning.CIRCULATION: "pressure or girth in the body or around it, or a gastric signal",
    Meaning.PULSE: "pulse",
}
_AIR_MOVES = (Meaning.NASAL, Meaning.FLOW, Meaning.AIR)
_MOVEMENTS = ("mov", "mouv", "mvt", "motion", "beweg")  # of a chest that breathes; no Chest Acc
_EYES = {"e1": "left", "e2": "right"}
_LEADS = {"ii", "iii", "avr", "avl", "avf", *(f"v{number}" for number in range(1, 7))}
_DC_INPUT = re.compile(r"dc\d{1,2}")  # EEG DC1: for another device, whatever stands before it
_BEFORE_LEADS = {"d", "lead"}  # D as in derivation
_SIGN = re.compile(r"[^-+]*[^-+\s]\s*([-+])\s*")  # EMG+ and EMG-: the two ends of a pair


def parse_label(label: str, unit: str = "") -> ParsedLabel:
    """What the label says; the unit settles words that mean two things (`O2`, `Pressure`).

    A unit may stand in the label as well: `O2 l/min`.
    """
    return _parse(label, unit_kind(unit) or kind_of_unit_in(label))


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
        or _heart_lead(found, kind)
        or saturation(found, kind)
        or supplied_oxygen(found, kind)
        or scalp(found, kind)
        or _not_ours(found)
        or breathing(found, kind)
        or _generic(found, sign[1] if sign else "")
        or ParsedLabel(what=UNKNOWN)
    )


# ------------------------------------------------------------------------------------------ parts


def _side(found: Words) -> str:
    left, right = found.has(Meaning.LEFT), found.has(Meaning.RIGHT)
    return "" if left == right else "left" if left else "right"


def _places(found: Words) -> list[str]:
    """`1`, `2`, `l`, `r`, `c`: which of several electrodes of one kind the label means."""
    places = []
    for word in found.words:
        if word in ("1", "2", "3"):
            places.append(word)
        elif word in ("c", "z", "ctr", "center", "centre"):
            places.append("c")
        elif meaning_of(word) in (Meaning.LEFT, Meaning.RIGHT):
            places.append("l" if meaning_of(word) is Meaning.LEFT else "r")
    return places


def _side_of_place(place: str) -> str:
    return {"l": "left", "r": "right"}.get(place, "")


def _limb_or_muscle(found: Words, sign: str) -> ParsedLabel | None:
    trunk = found.has(Meaning.THORAX) or found.has(Meaning.ABDOMEN)
    other = {"at", "finger"} & set(found.words)  # EMG AT; without EMG, `at` may be a word
    breathing_muscle = trunk or found.has(Meaning.BREATHING)
    if found.has(Meaning.LIMB) or (found.has(Meaning.EMG) and (breathing_muscle or other)):
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
    electrodes = electrodes_of(found)
    active = next((e for e in electrodes if e not in MASTOIDS), "")
    oculogram = found.has(Meaning.EYE) or bool({"vog", "hog", "veo", "heo"} & set(found.words))
    if not oculogram and any(found.has(meaning) for meaning in NOT_ON_THE_SCALP):
        return None  # CHEST-E1: everything is recorded against an electrode beside the eye
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


def _heart_lead(found: Words, kind: str) -> ParsedLabel | None:
    """`II`, `D II`, `aVF`, `V5`: a lead of the ECG by its name alone."""
    if not (_LEADS & set(found.words) and {*found.words} <= _LEADS | _BEFORE_LEADS):
        return None
    if kind not in ("volt", ""):
        return None
    return ParsedLabel(what="ECG", modality=Modality.ECG, rank=9, confidence=Confidence.GUESS)


def _eye(found: Words, electrodes: list[str]) -> ParsedLabel:
    eyes = [e for e in electrodes if e in _EYES]
    guessed = {"pg1", "pg2"} & set(found.words)  # below the eyes, or at the pharynx
    sure = Confidence.GUESS if guessed else Confidence.CERTAIN
    side = _EYES[eyes[0]] if eyes else _side(found)
    if not side and "e" in found.words:  # Portuguese: esquerdo
        side = "left"
    if not side and found.numbers:
        side = {"1": "left", "2": "right"}.get(found.numbers[0], "")
        sure = Confidence.LIKELY
    both = len(set(eyes)) == 2 or (found.has(Meaning.LEFT) and found.has(Meaning.RIGHT))
    if both or (found.has(Meaning.HORIZONTAL) and not side):
        return ParsedLabel(what="horizontal EOG", modality=Modality.EOG, rank=10, confidence=sure)
    if found.has(Meaning.VERTICAL):
        return ParsedLabel(what="vertical EOG", modality=Modality.EOG, rank=30, confidence=sure)
    base = {"left": 0, "": 11, "right": 20}[side] + 3 * bool(guessed)
    what = f"{side} EOG".strip()
    if len(electrodes) > len(eyes) or found.has(Meaning.LINKED):
        reference = reference_of(found, [e for e in electrodes if e not in _EYES])
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


def _not_ours(found: Words) -> ParsedLabel | None:
    trunk = found.has(Meaning.THORAX) or found.has(Meaning.ABDOMEN)
    moving = [w for w in found.words if meaning_of(w) is Meaning.MOVEMENT]
    breathes = trunk and all(word.startswith(_MOVEMENTS) for word in moving)
    for meaning, what in _OTHER_SENSORS.items():
        if found.has(meaning) and not (meaning is Meaning.MOVEMENT and breathes):
            return ParsedLabel(what=what)
    sums = (Meaning.EFFORT, Meaning.INDUCTANCE, Meaning.BREATHING, Meaning.NASAL)
    plain = (Meaning.SUM, Meaning.LETTER, Meaning.FILLER, Meaning.NUMBER)  # XSum: of the belts
    if found.has(Meaning.SUM) and not any(found.has(meaning) for meaning in sums):
        alone = all(meaning in plain for meaning in found.meanings)
        return None if alone else ParsedLabel(what="a computed signal")
    return None


def _generic(found: Words, sign: str) -> ParsedLabel | None:
    """`EEG`, `EEG2`, `EEG(sec)`, `EMG1`: the modality without a place."""
    number = int(next(iter(found.numbers), "1")[:2])
    if found.has(Meaning.EEG) and not any(map(_DC_INPUT.fullmatch, found.words)):
        rank = 80 if "sec" in found.words or found.unknown else 49 + min(max(number, 1), 20)
        sure = Confidence.GUESS if found.unknown else Confidence.LIKELY
        return ParsedLabel(what="EEG", modality=Modality.EEG, rank=rank, confidence=sure)
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
