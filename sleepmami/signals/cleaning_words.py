"""The closed lists of the header's cleaning as plain JSON, for the copy of its rules in a browser.

The page of the service cleans a header before it leaves the reader's machine (serve_apps/page). Its
rules are those of `deidentify_header.py` in another language; the words come from here, so that
there is one list of each.
"""

from __future__ import annotations

from typing import Any

from sleepmami.signals import (
    deidentify_header,
    label_privacy,
    label_vocabulary,
    label_words,
    units,
)


def cleaning_words() -> dict[str, Any]:  # Any: JSON values
    """Word lists and patterns; patterns use only what Python and JavaScript read alike."""
    return {
        "meanings": {word: m.name for word, m in label_words._MEANING.items()},
        "never_glued": sorted(m.name for m in label_words._NEVER_GLUED),
        "sided": sorted(m.name for m in label_words._SIDED),
        "sides": sorted(m.name for m in label_words._SIDES),
        "names": list(label_words._NAMES),
        "before": sorted(label_words._BEFORE),
        "after": sorted(label_words._AFTER),
        "device_letters": sorted(map(list, label_words._DEVICE_LETTERS)),
        "electrode": label_vocabulary.ELECTRODE.pattern,
        "glued_pair": label_words._GLUED_PAIR.pattern,
        "spaced_electrode": label_words.SPACED_ELECTRODE.pattern,
        "shortest_beginning": label_words._SHORTEST_BEGINNING,
        "max_glued": label_words._MAX_GLUED,
        "not_told": sorted(label_privacy._NOT_TOLD),
        "lone_letters": sorted(label_privacy._LONE_LETTERS),
        "shortest_safe_beginning": label_privacy._SHORTEST_SAFE_BEGINNING,
        "max_safe_digits": label_privacy._MAX_SAFE_DIGITS,
        "numbered": label_privacy._NUMBERED.pattern,
        "no_label": label_privacy.NO_LABEL,
        "volts": sorted(units._VOLTS),
        "volt_words": units._VOLT_WORDS,
        "unit_patterns": list(units._KINDS.values()),
        "spelled": {chr(sign): text for sign, text in units._SPELLED.items()},
        "sensors": deidentify_header._SENSOR_WORDS,
        "filters": deidentify_header._FILTER.pattern,
        "whole_filters": deidentify_header._WHOLE_FILTERS,
        "kinds": list(deidentify_header._KINDS),
    }
