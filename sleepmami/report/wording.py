"""Numbers and lists as a page writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sleepmami.evaluation.bootstrap import Estimate

NOT_DEFINED = "\u2013"
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


def number(value: float, digits: int = 3) -> str:
    """Three digits behind the point, or a dash where there is no number."""
    return _minus(f"{value:.{digits}f}") if math.isfinite(value) else NOT_DEFINED


def signed(value: float) -> str:
    """With its sign."""
    return _minus(f"{value:+.3f}") if math.isfinite(value) else NOT_DEFINED


def _minus(text: str) -> str:
    """A minus that is as wide as a plus, in place of a hyphen."""
    return text.replace("-", "\u2212")


def with_interval(found: Estimate) -> str:
    """A value and its interval: 0.911 (0.898 to 0.923)."""
    if not math.isfinite(found.low):
        return number(found.value)
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def signed_with_interval(found: Estimate) -> str:
    """A difference and its interval."""
    return f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"


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
