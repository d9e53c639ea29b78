"""EDF labels and units read as words: what was recorded, from where, and against what.

A label is a sentence without grammar: `EEG C4-A1`, `C4M1`, `THOR RES`, `Leg/L`, `SpO2.1s`. It is
cut into words, and the words decide; no table of exact labels is kept, because public cohorts alone
hold hundreds of spellings. Electrodes A1 and A2 are called M1 and M2 (AASM names).
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from dataclasses import dataclass

from sleepmami.psg import Modality

# Ranks order the channels of one modality; lower is preferred. Within a body site, a recorded
# derivation comes first, then one we derive (DERIVED_GAIN better than the lone electrode).
DERIVED_GAIN = 3
_ALONE = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedLabel:
    """What one label says.

    Attributes:
        what: the channel in a technician's words.
        modality: None when the channel is not one of our signals.
        rank: order of preference within the modality, 0 first.
        electrode: name of a lone electrode (`C4`, `M1`, `chin 1`), else empty.
        partners: electrodes whose subtraction makes a derivation of a lone electrode, best first.
    """

    what: str
    modality: Modality | None = None
    rank: int = 0
    electrode: str = ""
    partners: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------ words

_SCALP = r"(?:(?:fp|af|ft|fc|tp|cp|[fctpo])(?:z|10|[1-9])|po[z3478]|iz)"
_MASTOID = r"[am][12]"
_EYE = r"(?:e[12]|loc|roc)"
_ELECTRODE = re.compile(rf"{_SCALP}|{_MASTOID}|{_EYE}")
_LINKED = ("cle", "ler", "le", "ar", "avg", "av", "car")  # a computed reference: derived already
_GLUED_PAIR = re.compile(
    rf"({_SCALP}|{_EYE}|{_MASTOID})({_SCALP}|{_EYE}|{_MASTOID}|{'|'.join(_LINKED)}|ref)"
)
_GLUED_WORD = re.compile(r"([a-z]{0,5}?)(eeg|eog|emg|ecg|ekg)(.*)|([lrc]|sub)?(chin)(.*)")
_SAME_ELECTRODE = {"a1": "m1", "a2": "m2", "loc": "e1", "roc": "e2"}


def readable(text: str) -> str:
    """Text as ASCII: UTF-8 bytes that were read as Latin-1 repaired, accents dropped."""
    with contextlib.suppress(UnicodeError):  # it was Latin-1, or Unicode, in the first place
        text = text.encode("latin-1").decode("utf-8")
    decomposed = unicodedata.normalize("NFKD", text)
    return decomposed.encode("ascii", "ignore").decode()


def words(label: str) -> list[str]:
    """The label's lower-case words: `EEG(sec)` -> eeg, sec; `C3M2` -> c3, m2."""
    text = re.sub(r"\b([A-Za-z])\.([A-Za-z])\b\.?", r"\1\2", readable(label))  # H.R. -> HR
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", " ", text)  # LegL, RespRate; but not SpO2
    text = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z][a-z]{2})", " ", text)  # RIPFlow, SpO2Status
    return [word for glued in re.findall(r"[a-z0-9]+", text.lower()) for word in _unglue(glued)]


def _unglue(word: str) -> list[str]:
    if pair := _GLUED_PAIR.fullmatch(word):
        return [pair[1], pair[2]]
    if glued := _GLUED_WORD.fullmatch(word):
        before, stem, after = glued.groups()[:3] if glued[2] else glued.groups()[3:]
        return [*(_unglue(before) if before else []), stem, *(_unglue(after) if after else [])]
    if numbered := re.fullmatch(r"([a-z]{3,}?(?<!o))(\d+)", word):  # leg1, but not spo2 or etco2
        return [numbered[1], numbered[2]]
    if numbered := re.fullmatch(r"(\d+)([a-z].*)", word):
        return [numbered[1], *_unglue(numbered[2])]
    return [word]


# ---------------------------------------------------------------------------------------- sensors

# Numbers a device computes, whatever signal they are about.
_DERIVED_NUMBERS = {
    r"off|stat|status|qual\w*|sqi|art[ei]fact": "signal status, not a waveform",
    r"imp|imped\w*": "electrode impedance",
    r"d?hr|hrate|h?rate|bpm|rr|rri|pr|prr|frequenz|herzfreq\w*": "a rate computed by the device",
    r"events?|evt|marker|marca|trig\w*|annotations?|stim": "event marker",
    r"hypno\w*|stages?|staging": "hypnogram",
    r"crc|date|time|battery|batt?|akku|video|counter": "device bookkeeping",
}
_OTHER_SENSORS = {
    r"snor\w*|schnarch\w*|ronq\w*|ronco|ronfl\w*|russ\w*|mic\w*|mikro\w*|audio|sound": "snoring",
    r"pleth\w*|plet|ppg|ptt|pwa?v?": "pulse waveform (plethysmogram)",
    r"pos|posit\w*|posic\w*|body|lage|korperlage|elevation|angle": "body position",
    r"\w*co2\w*|capno\w*|kapno\w*|cap": "carbon dioxide",
    r"temp\w*": "temperature",
    r"light|lux|licht|luz|lumin\w*|ambient": "light",
    r"acc\w*|acti\w*|aktiv\w*|gravity|imu|axis|gyro\w*|movement|motion": "movement sensor",
    r"leak\w*|epr|tid|tidal|vol|volume|min|lim|limit\w*|ti|te|ie|ratio": "ventilator setting",
    r"sum|phase|vibration|ph": "a computed or gastric signal",
}
_PULSE = re.compile(r"pulse?|puls\w*|pols\w*|heart|herz|beat|\w*puls")
_LIMB = re.compile(
    r"[lrx]?legs?[lr]?|[lr]?tib\w*|[lr]at|[lr]?ta|plm\w*|lm|pierna\w*|perna\w*|beine?|jambe\w*|gamb\w*"
    r"|[lr]?arms?|fds|edc|flex\w*|extens\w*|masseter\w*|deltoid\w*|intercost\w*|diaphr\w*"
)
_CHIN = re.compile(r"chin|(sub)?ment(al\w*|o\w*)?|kinn\w*|queixo|m[iy]lo\w*|geniogl\w*")
_SATURATION = re.compile(
    r"spo2?\w*|sa[o0]2\w*|o2sat\w*|osat|sato2|sat|satur\w*|satt\w*|saett\w*|ox[iy]m\w*"
)
_LEFT = {"l", "left", "li", "links", "lt", "sx", "sin", "sinistra", "izq", "gauche", "g", "esq"}
_RIGHT = {"r", "right", "re", "rechts", "rt", "dx", "dex", "destra", "der", "droit", "d", "dir"}

_FLOW = re.compile(r"[a-z]{0,3}flow|[a-z]*fluss\w*|fluxo?|flujo|debit|stroom|flo")
_THERMISTOR = re.compile(r"therm\w*|termi\w*|termo\w*|ther|oral|oro\w*|mouth|air|airflow|naf")
_NASAL = re.compile(r"nasal\w*|nas[eo]?|cann?ul\w*|kanule|ptaf|npt|npaf|npv?|pnasal")
_PRESSURE = re.compile(r"press?|pressure|druck|presion|pressao|pression")
_DEVICE = re.compile(r"[a-z]{0,3}pap|mask\w*|device|ventil\w*|ipap|epap")
_THORAX = re.compile(r"tho|thor\w*|tora\w*|chest\w*|brust\w*|borst\w*|rib|ribcage|rc")
_ABDOMEN = re.compile(r"ab|abd\w*|addom\w*|addd?om\w*|bauch\w*|buik\w*|belly")
_BREATHING = re.compile(r"resp\w*|atmung\w*|effort|belts?|breath\w*|rip|sangle")


def _any(pattern: re.Pattern[str], found: list[str]) -> bool:
    return any(pattern.fullmatch(word) for word in found)


def _first(table: dict[str, str], found: list[str]) -> str | None:
    return next((w for p, w in table.items() if any(re.fullmatch(p, word) for word in found)), None)


def parse_label(label: str, unit: str = "") -> ParsedLabel:
    """What the label says; the unit settles words that mean two things (`O2`, `Pressure`)."""
    found = words(label)
    kind = unit_kind(unit)
    if not found:
        return ParsedLabel(what="a channel without a readable name")
    derived = _first(_DERIVED_NUMBERS, found)
    if derived:
        return ParsedLabel(what=derived)
    if kind == "rate":
        return ParsedLabel(what="a rate computed by the device")
    return (
        _limb_or_muscle(found)
        or _heart_or_eye(found)
        or _saturation(found, kind)
        or _scalp(found)
        or _not_ours(found)
        or _breathing(found, kind)
        or _generic(found)
        or ParsedLabel(what="label not known as one of our signals")
    )


# ------------------------------------------------------------------------------------ biopotentials


def _side(found: list[str]) -> str:
    if _LEFT & set(found):
        return "left"
    return "right" if _RIGHT & set(found) else ""


def _numbers(found: list[str]) -> list[str]:
    return [word for word in found if word.isdigit()]


def _limb_or_muscle(found: list[str]) -> ParsedLabel | None:
    if _any(_LIMB, found):
        return ParsedLabel(what="limb or breathing-muscle EMG, not the chin")
    if not _any(_CHIN, found):
        return None
    numbers = _numbers(found)
    if found.count("chin") > 1 or len(numbers) > 1:
        return ParsedLabel(what="chin EMG", modality=Modality.EMG)
    if "chin" not in found or (not numbers and not {"l", "r", "c"} & set(found)):
        return ParsedLabel(what="chin EMG", modality=Modality.EMG)
    if "emg" in found:  # a lead the recorder calls an EMG is bipolar already
        rank = int(numbers[0]) if numbers else 1
        return ParsedLabel(what="chin EMG", modality=Modality.EMG, rank=min(rank, 2))
    place = numbers[0] if numbers else next(w for w in found if w in ("l", "r", "c"))
    others = [p for p in (("1", "2", "3") if numbers else ("l", "r", "c")) if p != place]
    return ParsedLabel(
        what=f"chin electrode {place.upper()}",
        modality=Modality.EMG,
        rank=_ALONE,
        electrode=f"chin {place}",
        partners=tuple(f"chin {other}" for other in others),
    )


def _heart_or_eye(found: list[str]) -> ParsedLabel | None:
    electrodes = _electrodes(found)
    if {"ecg", "ekg"} & set(found):
        return _heart(found)
    if "eog" in found or any(e in ("e1", "e2") for e in electrodes):
        return _eye(found, electrodes)
    return None


def _heart(found: list[str]) -> ParsedLabel:
    places = [w for w in found if w in ("1", "2", "3", "l", "r", "left", "right")]
    leads = found[1:] if len(found) > 1 and found[1] in ("ecg", "ekg") else found  # ECG EKG2-EKG
    if len(places) != 1 or sum(w in ("ecg", "ekg") for w in leads) > 1:
        return ParsedLabel(what="ECG", modality=Modality.ECG)
    place = places[0][0]
    others = [p for p in (("1", "2", "3") if place.isdigit() else ("l", "r")) if p != place]
    return ParsedLabel(
        what=f"ECG electrode {place.upper()}",
        modality=Modality.ECG,
        rank=_ALONE + (place in ("2", "3", "r")),
        electrode=f"ecg {place}",
        partners=tuple(f"ecg {other}" for other in others),
    )


def _eye(found: list[str], electrodes: list[str]) -> ParsedLabel:
    eyes = [e for e in electrodes if e in ("e1", "e2")]
    side = {"e1": "left", "e2": "right"}[eyes[0]] if eyes else _side(found)
    if not side and not electrodes and _numbers(found):
        side = {"1": "left", "2": "right"}.get(_numbers(found)[0], "")
    horizontal = len(set(eyes)) == 2 or {"h", "horiz", "horizontal", "heog"} & set(found)
    if len(set(eyes)) == 2 or (horizontal and not side):
        return ParsedLabel(what="horizontal EOG", modality=Modality.EOG, rank=10)
    if {"v", "vert", "vertical"} & set(found):
        return ParsedLabel(what="vertical EOG", modality=Modality.EOG, rank=30)
    base = {"left": 0, "": 11, "right": 20}[side]
    what = f"{side} EOG".strip()
    if len(electrodes) > len(eyes) or set(_LINKED) & set(found):
        return ParsedLabel(what=what, modality=Modality.EOG, rank=base)
    if eyes:
        near, far = ("M2", "M1") if side == "left" else ("M1", "M2")
        return ParsedLabel(
            what=f"{what}, electrode {eyes[0].upper()}",
            modality=Modality.EOG,
            rank=base + _ALONE,
            electrode=eyes[0].upper(),
            partners=(near, far),
        )
    return ParsedLabel(what=what, modality=Modality.EOG, rank=base + 1)


def _electrodes(found: list[str]) -> list[str]:
    return [_SAME_ELECTRODE.get(w, w) for w in found if _ELECTRODE.fullmatch(w)]


def _site(active: str, reference: str) -> int:
    """Order of scalp sites: central, frontal, occipital, Fpz-Cz, Pz-Oz, any other."""
    if (active, reference) in (("fpz", "cz"), ("pz", "oz")):
        return 30 if active == "fpz" else 31
    letters = active.rstrip("z0123456789")
    return {"c": 2, "f": 12, "fp": 13, "af": 13, "o": 22}.get(letters, 42)


def _scalp(found: list[str]) -> ParsedLabel | None:
    electrodes = _electrodes(found)
    if not electrodes:
        return None
    active, *references = electrodes
    name = active.capitalize()
    linked = next((word for word in found if word in _LINKED), "")
    if active in ("m1", "m2"):
        if all(e in ("m1", "m2") for e in references) and references:
            return ParsedLabel(what="two reference electrodes against each other")
        return ParsedLabel(what=f"reference electrode {active.upper()}", electrode=active.upper())
    if references or linked:
        reference = references[0] if references else linked
        pair = (active, reference)
        rank = {("c4", "m1"): 0, ("c3", "m2"): 1}.get(pair, _site(active, reference))
        shown = reference.upper() if reference[0] == "m" or linked else reference.capitalize()
        return ParsedLabel(what=f"EEG {name}-{shown}", modality=Modality.EEG, rank=rank)
    rank = {"c4": 0, "c3": 1}.get(active, _site(active, ""))
    left = active[-1] in "13579"
    return ParsedLabel(
        what=f"EEG electrode {name}",
        modality=Modality.EEG,
        rank=rank + _ALONE,
        electrode=name,
        partners=("M2", "M1") if left else ("M1", "M2"),
    )


# ----------------------------------------------------------------------------- breath and oxygen


def _saturation(found: list[str], kind: str) -> ParsedLabel | None:
    known = _any(_SATURATION, found) or (kind == "percent" and "o2" in found)
    if not known or _first(_OTHER_SENSORS, found) or (_any(_PULSE, found) and kind != "percent"):
        return None
    beat_to_beat = found.count("b") > 1 or "bb" in found
    return ParsedLabel(what="oxygen saturation", modality=Modality.SPO2, rank=int(beat_to_beat))


def _not_ours(found: list[str]) -> ParsedLabel | None:
    other = _first(_OTHER_SENSORS, found)
    if other:
        return ParsedLabel(what=other)
    return ParsedLabel(what="pulse") if _any(_PULSE, found) else None


def _breathing(found: list[str], kind: str) -> ParsedLabel | None:
    flow, nasal = _any(_FLOW, found), _any(_NASAL, found)
    if _any(_PRESSURE, found) and not nasal and (kind == "pressure" or _any(_DEVICE, found)):
        return ParsedLabel(what="pressure set by the breathing device")
    if _any(_DEVICE, found) or {"c", "flow"} <= set(found):
        if flow:
            return ParsedLabel(what="CPAP flow", modality=Modality.RESP, rank=2)
        return ParsedLabel(what="pressure set by the breathing device")
    if {"rip", "crip", "x", "xflow"} & set(found):
        if flow:
            return ParsedLabel(what="flow from the belts", modality=Modality.RESP, rank=15)
    elif "".join(found).startswith(("newair", "newaf")):  # SHHS: it replaced AIRFLOW
        return ParsedLabel(what="airflow thermistor", modality=Modality.RESP, rank=9)
    elif _any(_THERMISTOR, found):
        return ParsedLabel(what="airflow thermistor", modality=Modality.RESP, rank=10)
    elif flow or nasal or _any(_PRESSURE, found):
        what = "respiratory flow" if flow else "nasal pressure"
        return ParsedLabel(what=what, modality=Modality.RESP, rank=0 if flow else 1)
    if _any(_THORAX, found):
        return ParsedLabel(what="thorax effort", modality=Modality.RESP, rank=20)
    if _any(_ABDOMEN, found):
        return ParsedLabel(what="abdomen effort", modality=Modality.RESP, rank=30)
    if _any(_BREATHING, found):
        return ParsedLabel(what="breathing", modality=Modality.RESP, rank=40)
    return None


def _generic(found: list[str]) -> ParsedLabel | None:
    """`EEG`, `EEG2`, `EEG(sec)`, `EMG1`: the modality without a place."""
    number = int(next(iter(_numbers(found)), "1")[:2])
    if "eeg" in found:
        rank = 80 if "sec" in found else 49 + min(max(number, 1), 20)
        return ParsedLabel(what="EEG", modality=Modality.EEG, rank=rank)
    if "emg" in found:
        rank = 39 if _side(found) and found.count("emg") == 1 else 9 + min(max(number, 1), 20)
        return ParsedLabel(what="EMG of unstated muscle", modality=Modality.EMG, rank=rank)
    return None


# ------------------------------------------------------------------------------------------ units

_VOLTS = {"v": 1e6, "mv": 1e3, "uv": 1.0, "nv": 1e-3}
_VOLT_WORDS = {"volt": "v", "millivolt": "mv", "microvolt": "uv", "mcv": "uv", "nanovolt": "nv"}
_KINDS = {
    "percent": r"%|percent|perc|pct|prozent|%\s*sat\w*|% ?spo2",
    "rate": r"bpm|/min|1/min|b/min|beats/min|min-1|hz",
    "temperature": r"deg ?c|c|degrees? ?c\w*|celsius|f|deg ?f|k",
    "pressure": r"cm ?h2o|h2o|hpa|mbar|kpa|pa|mmhg|psi",
    "flow": r"l/s|l/min|ml/s|lpm|l|ml|ml/min",
    "other": r"g|m/s\^?2|deg|deg/s|lux|lx|s|ms|min\.?|minutes|hrs|a|ma|ua|na|ohm|kohm|db|rpm",
}


def _plain_unit(unit: str) -> str:
    text = unit.strip()
    for micro in ("\u00c2\u00b5", "\u00ce\u00bc", "\u00b5", "\u03bc", "\u00e6", "\ufffd", "?"):
        text = text.replace(micro, "u")  # UTF-8 read as Latin-1, micro, mu, code page 437, lost
    plain = readable(text).lower().strip(" .[]()")
    return _VOLT_WORDS.get(plain.removesuffix("s"), plain)


def volt_scale(unit: str) -> float | None:
    """Factor from the unit to microvolts; None when the unit is not a voltage."""
    return _VOLTS.get(_plain_unit(unit))


def unit_kind(unit: str) -> str:
    """volt, percent, rate, temperature, pressure, flow, other, or empty when not known."""
    plain = _plain_unit(unit)
    if plain in _VOLTS:
        return "volt"
    return next((kind for kind, p in _KINDS.items() if re.fullmatch(p, plain)), "")
