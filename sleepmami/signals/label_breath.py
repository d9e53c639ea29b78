"""Labels of breathing and of oxygen saturation."""

from __future__ import annotations

from dataclasses import replace

from sleepmami.psg import Confidence, Modality
from sleepmami.signals.label_vocabulary import Meaning
from sleepmami.signals.parsed_label import ParsedLabel, Sensor, Words

_NOT_SATURATION = (
    Meaning.SNORE,
    Meaning.PLETH,
    Meaning.POSITION,
    Meaning.GAS,
    Meaning.TEMPERATURE,
    Meaning.LIGHT,
    Meaning.MOVEMENT,
    Meaning.VENTILATOR,
)
# what an oximeter says beside the saturation: its perfusion index, its light, its signal
_NOT_THE_SATURATION = {"pi", "perf", "perfusion", "red", "ir", "strength", "amp", "ampl"}
_NOT_THE_SATURATION |= {"pls", "hb"}
_WAVES = {"wave", "curve"}  # of an oximeter: the pulse, not the saturation
_SECONDS = {"backup", "aux", "alt", "altflow"}  # beside the one that the scorer looks at
_OXIMETERS = {"masimo", "nonin"}


def saturation(found: Words, kind: str) -> ParsedLabel | None:
    """Oxygen saturation; None when the label says something else."""
    named = found.has(Meaning.SATURATION)
    oxygen = found.has(Meaning.OXYGEN)
    if oxygen and not named and {"ac", "dc"} & set(found.words):
        return None  # the light that the oximeter measures
    by_unit = "o2" in found.words and (kind == "percent" or bool(_OXIMETERS & set(found.words)))
    if not (named or oxygen or by_unit) or any(found.has(other) for other in _NOT_SATURATION):
        return None
    if _NOT_THE_SATURATION & set(found.words):
        return ParsedLabel(what="a number of the oximeter, not its saturation")
    if _WAVES & set(found.words) and kind != "percent":
        return ParsedLabel(what="pulse waveform (plethysmogram)")
    beat_to_beat = "bb" in found.words or max(map(found.words.count, ("b", "beat"))) > 1
    if found.has(Meaning.PULSE) and kind != "percent" and not beat_to_beat:
        if not found.begins_with(Meaning.PULSE):  # `SpO2 pulse`, `Oxi pulse`
            return None
        named = False  # `Pulse Ox`: the oximeter, most likely its saturation
    if not named and (found.has(Meaning.FLOW) or kind in ("flow", "pressure")):
        return ParsedLabel(what="oxygen given to the patient, or its pressure")
    second = bool(_SECONDS & set(found.words))
    through_the_skin = any(word.startswith(("tc", "sentec")) for word in found.words)
    return ParsedLabel(
        what="oxygen saturation",
        modality=Modality.SPO2,
        rank=2 if through_the_skin or second else int(beat_to_beat or not named),
        confidence=Confidence.CERTAIN if named else Confidence.LIKELY,
    )


def supplied_oxygen(found: Words, kind: str) -> ParsedLabel | None:
    """`O2 conc`, `O2 Pleth`: not the electrode O2, which stands alone or beside an electrode."""
    if "o2" not in found.words or found.has(Meaning.EEG) or found.count(Meaning.ELECTRODE) > 1:
        return None
    if kind in ("flow", "pressure") or "dc" in found.words:  # DC: an input for other devices
        return ParsedLabel(what="oxygen given to the patient, or a gas")
    plain = (
        Meaning.ELECTRODE,
        Meaning.FILLER,
        Meaning.LINKED,
        Meaning.NUMBER,
        Meaning.RIGHT,
        Meaning.LETTER,
    )
    said = [meaning for meaning in found.meanings if meaning not in plain]
    if any(meaning is not None for meaning in said) or (said and kind != "volt"):
        return ParsedLabel(what="oxygen given to the patient, or a gas")
    return None


def from_the_heart(found: Words) -> ParsedLabel | None:
    """Breathing that somebody computed from an ECG: neither of the two."""
    if found.has(Meaning.ECG) and found.has(Meaning.BREATHING):
        return ParsedLabel(what="breathing computed from the ECG")
    return None


def breathing(found: Words, kind: str) -> ParsedLabel | None:
    """Air flow or breathing effort; None when the label says something else."""
    said = _device(found, kind) or _airflow(found, kind) or _effort(found)
    if said and "index" in found.words:  # Flow Index
        return ParsedLabel(what="a number computed from the breathing")
    if said and said.modality and _SECONDS & set(found.words):
        return replace(said, rank=said.rank + 4)
    return said


def _resp(
    what: str, rank: int, sensor: Sensor, confidence: Confidence = Confidence.CERTAIN
) -> ParsedLabel:
    return ParsedLabel(
        what=what, modality=Modality.RESP, rank=rank, sensor=sensor, confidence=confidence
    )


def _device(found: Words, kind: str) -> ParsedLabel | None:
    flow = found.has(Meaning.FLOW) or found.has(Meaning.AIR)
    if found.has(Meaning.DEVICE) or (flow and "c" in found.words):
        if flow:
            return _resp("CPAP flow", 2, Sensor.FLOW)
        return ParsedLabel(what="pressure set by the breathing device")
    pressure = found.has(Meaning.PRESSURE) and not found.has(Meaning.NASAL)
    of_air = bool({"air", "luft", "aire"} & set(found.words)) and not found.has(Meaning.FLOW)
    if pressure and (of_air or (not flow and (kind == "pressure" or "c" in found.words))):
        return ParsedLabel(what="pressure set by the breathing device")
    return None


def _airflow(found: Words, kind: str) -> ParsedLabel | None:
    flow, nasal = found.has(Meaning.FLOW), found.has(Meaning.NASAL)
    if found.has(Meaning.INDUCTANCE) or (flow and "x" in found.words):
        flow = flow or "xflow" in found.words
        return _resp("flow from the belts", 15, Sensor.BELT_FLOW) if flow else None
    if "".join(found.words) == "newa" or "".join(found.words).startswith(
        ("newair", "newaf")
    ):  # SHHS: it replaced AIRFLOW
        return _resp("airflow thermistor", 9, Sensor.THERMISTOR)
    belts = found.has(Meaning.THORAX) or found.has(Meaning.ABDOMEN) or found.has(Meaning.EFFORT)
    if found.has(Meaning.THERMISTOR) or ("th" in found.words and flow):
        return _resp("airflow thermistor", 10, Sensor.THERMISTOR)
    if found.has(Meaning.AIR):
        if nasal or "pr" in found.words:
            return _resp("nasal airflow", 2, Sensor.FLOW)
        return _resp("airflow thermistor", 10, Sensor.THERMISTOR, Confidence.LIKELY)
    if flow and not belts:
        return _resp("respiratory flow", 0, Sensor.FLOW)
    if nasal:
        return _resp("nasal pressure", 1, Sensor.FLOW)
    plain = (Meaning.PRESSURE, Meaning.FILLER, Meaning.NUMBER)  # PressureE is of a device
    if found.has(Meaning.PRESSURE) and all(meaning in plain for meaning in found.meanings):
        # no better than the thermistor: it may as well be a mask's
        return _resp("nasal pressure", 12, Sensor.FLOW, Confidence.GUESS)
    return None


def _effort(found: Words) -> ParsedLabel | None:
    if found.has(Meaning.THORAX) or ("th" in found.words and found.has(Meaning.EFFORT)):
        return _resp("thorax effort", 20, Sensor.THORAX)
    if found.has(Meaning.ABDOMEN):
        return _resp("abdomen effort", 30, Sensor.ABDOMEN)
    if found.has(Meaning.SUM) and not found.has(Meaning.NASAL):
        return _resp("sum of the belts", 45, Sensor.EFFORT, Confidence.LIKELY)
    if found.has(Meaning.EFFORT) or found.has(Meaning.INDUCTANCE):
        return _resp("breathing effort", 38, Sensor.EFFORT, Confidence.LIKELY)
    if found.has(Meaning.BREATHING):
        return _resp("breathing", 40, Sensor.UNSTATED, Confidence.LIKELY)
    return None
