"""Numbers and lists as a page writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sleepmami.evaluation.bootstrap import Estimate

NOT_DEFINED = "\u2013"
TO = "\u00a0to\u00a0"
# what figures of results are called, and their unit; of what is not here, its own name
FIGURE_NAMES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "kappa": "kappa",
    "mae": "mean absolute error",
    "mae_of_median": "mean absolute error of guessing the median",
    "r2": "R\u00b2",
    "auroc": "AUROC",
    "c_index": "C-index",
}
UNITS = {"age": "years", "bmi": "kg/m\u00b2", "ahi": "events/h"}
DISEASES = {
    "cvd_death": "cardiovascular death",
    "chf": "heart failure",
    "chd_death": "coronary death",
    "mi": "myocardial infarction",
}
SMALLER_IS_BETTER = frozenset({"mae"})


def number(value: float, digits: int | None = None) -> str:
    """As many digits behind the point as make four in all, or a dash where there is no number."""
    if not math.isfinite(value):
        return NOT_DEFINED
    return _minus(f"{value:.{_digits(value) if digits is None else digits}f}")


def _digits(value: float) -> int:
    return 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1


def _minus(text: str) -> str:
    """A minus that is as wide as a plus, in place of a hyphen."""
    return text.replace("-", "\u2212")


def with_interval(found: Estimate) -> str:
    """A value and its interval: 0.911 (0.898 to 0.923); the interval stays in one line."""
    if not math.isfinite(found.low):
        return number(found.value)
    digits = _digits(found.value)
    ends = f"{number(found.low, digits)}{TO}{number(found.high, digits)}"
    return f"{number(found.value)} ({ends})"


def signed_with_interval(found: Estimate) -> str:
    """A difference and its interval, with signs."""
    digits = _digits(max(found.value, found.low, found.high, key=abs))
    value, low, high = (
        _minus(f"{part:+.{digits}f}") if math.isfinite(part) else NOT_DEFINED
        for part in (found.value, found.low, found.high)
    )
    return f"{value} ({low}{TO}{high})"


def figure_name(name: str) -> str:
    """What a figure of a result is called."""
    if name.startswith("f1_"):
        return f"F1 {name.removeprefix('f1_')}"
    return FIGURE_NAMES.get(name, name.replace("_", " "))


def listed(words: Sequence[str]) -> str:
    """One, two and three."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def sentence(text: str) -> str:
    """With a capital letter, and all others as they are."""
    return text[:1].upper() + text[1:]


def within_sentence(text: str) -> str:
    """Without the capital that a title begins with; an abbreviation keeps its own."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def count(num: int, one: str, many: str = "") -> str:
    """1 night, 2 nights."""
    return f"{num:,} {one if num == 1 else many or one + 's'}"
