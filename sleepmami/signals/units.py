"""Units of EDF signals: which quantity a unit measures, and voltages in any spelling."""

from __future__ import annotations

import contextlib
import re
import unicodedata

_VOLTS = {"v": 1e6, "mv": 1e3, "uv": 1.0, "nv": 1e-3}
_VOLT_WORDS = {
    "volt": "v",
    "millivolt": "mv",
    "microvolt": "uv",
    "mikrovolt": "uv",
    "mcv": "uv",
    "nanovolt": "nv",
}
# Closed lists: a unit that is quoted to a user or stored must be one of these (`safe_unit`).
_KINDS = {
    "percent": r"%|percent|perc|pct|prozent|% ?sat|% ?spo2|% ?sao2|% ?o2|%o2",
    "rate": r"bpm|/min|1/min|b/min|beats/min|min-1|hz|/m|breaths/min|1/s",
    "temperature": r"deg ?c|c|degrees? ?c|degrees? ?celsius|celsius|f|deg ?f|k",
    "pressure": r"cm ?h2o|cm ?wc|h2o|hpa|mbar|kpa|pa|mmhg|torr|psi",
    "flow": r"l/s|l/min|ml/s|lpm|l|ml|ml/min|l/m",
    "other": (
        r"g|mg|m/s\^?2|deg|deg/s|lux|lx|s|ms|min|minutes|hrs|h|a|ma|ua|na|ohm|kohm|db|rpm|mg/l|bit"
    ),
    "": r"a\.?u|arb|arb\.? units?|units?|none|n/a|-|1|count|counts|adu|lsb|raw",
}


# letters that are no base letter with an accent
_SPELLED = str.maketrans(
    {
        "\u00df": "ss",
        "\u0142": "l",
        "\u0141": "L",
        "\u00f8": "o",
        "\u00d8": "O",
        "\u0153": "oe",
        "\u0152": "OE",
        "\u00e6": "ae",
        "\u00c6": "AE",
        "\u0131": "i",
    }
)


def readable(text: str) -> str:
    """Text as ASCII: UTF-8 bytes that were read as Latin-1 repaired, accents dropped."""
    decomposed = unicodedata.normalize("NFKD", repaired(text).translate(_SPELLED))
    return decomposed.encode("ascii", "ignore").decode()


def repaired(text: str) -> str:
    """Composed text; UTF-8 bytes that were read as Latin-1 are read again."""
    with contextlib.suppress(UnicodeError):  # it was Latin-1, or Unicode, in the first place
        text = text.encode("latin-1").decode("utf-8")
    return unicodedata.normalize("NFC", text)


def _spelled_out(unit: str) -> str:
    """The unit with `u` for micro and `deg` for the degree sign."""
    text = unit.strip()
    for micro in ("\u00c2\u00b5", "\u00ce\u00bc", "\u00b5", "\u03bc", "\u00e6", "\ufffd", "?"):
        text = text.replace(micro, "u")  # UTF-8 read as Latin-1, micro, mu, code page 437, lost
    return repaired(text).replace("\u00b0", "deg").replace("\u00ba", "deg")


def _plain(unit: str) -> str:
    plain = readable(_spelled_out(unit)).lower().strip(" .[]()")
    return _VOLT_WORDS.get(plain.removesuffix("s"), plain)


def volt_scale(unit: str) -> float | None:
    """Factor from the unit to microvolts; None when the unit is not a voltage."""
    return _VOLTS.get(_plain(unit))


def unit_kind(unit: str) -> str:
    """volt, percent, rate, temperature, pressure, flow, other, or empty when not known."""
    plain = _plain(unit)
    if plain in _VOLTS:
        return "volt"
    return next((kind for kind, p in _KINDS.items() if re.fullmatch(p, plain)), "")


def safe_unit(unit: str) -> str:
    """The unit when it is a known one, empty when there is none, else `?`.

    A unit field is eight free characters; what is stored or told must not be somebody's name.
    """
    text = unit.strip()
    if not text:
        return ""
    plain = _plain(text)
    known = plain in _VOLTS or any(re.fullmatch(p, plain) for p in _KINDS.values())
    return repaired(text) if known and _spelled_out(text).isascii() else "?"
