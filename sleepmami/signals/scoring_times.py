"""Times in scorers' text files: seconds, elapsed times and times of day."""

import math
import re

from sleepmami.signals.scoring_marks import invalid_scoring

DAY_S = 86_400
CLOCK_TOLERANCE_S = 1  # EDF headers round to seconds
MAX_TIME_TEXT = 64

_ELAPSED = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{2}(?:[.,]\d{1,9})?)")
_CLOCK = re.compile(
    r"\[?(?:\d[\d./-]*[ T]+|\d{1,4}[-/](?:\d{1,2}|[a-z]{3})[-/]\d{1,4}-)?"
    r"(\d{1,2})[:.](\d{2})[:.](\d{2}(?:[.,:]\d{1,9})?)"
    r" *([ap]m)?(?: +\d[\d./-]*)?\]?",
    re.IGNORECASE,
)


def number_or_none(text: str) -> float | None:
    """A finite number with a point or a comma; None for any other text."""
    if len(text) > MAX_TIME_TEXT:
        return None
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def elapsed_or_none(text: str) -> float | None:
    """Seconds of `90`, `1:30`, `0:01:30.5`; None for any other text."""
    value = number_or_none(text)
    if value is not None or len(text) > MAX_TIME_TEXT:
        return value
    found = _ELAPSED.fullmatch(text.strip())
    if not found:
        return None
    seconds = float(found[3].replace(",", "."))
    return int(found[1] or 0) * 3600 + int(found[2]) * 60 + seconds


def time_of_day_or_none(text: str) -> float | None:
    """Seconds since midnight of `22:30:05`, `10:30:05 PM`, with or without a date; else None."""
    found = _CLOCK.fullmatch(text.strip()) if len(text) <= MAX_TIME_TEXT else None
    if not found:
        return None
    hour, minute = int(found[1]), int(found[2])
    second = float(found[3].replace(",", ".").replace(":", "."))
    half = (found[4] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59 or second >= 60:
        return None
    return hour * 3600 + minute * 60 + second


class Timeline:
    """Turns a file's times into seconds from the recording's first sample.

    A time of day is the one nearest to the time before it, the first nearest to the recording's
    start: so it goes past midnight, and a scoring may begin a little before the recording.
    """

    def __init__(self, name: str, clock_s: float | None) -> None:
        """`clock_s` is the time of day of the recording's first sample, if known."""
        self._name = name
        self._clock_s = clock_s
        self._previous_s = 0.0
        self.used_clock = False

    def seconds(
        self, text: str, *, elapsed: bool = False, after_s: float | None = None
    ) -> float | None:
        """Seconds of a number, of a time of day, or with `elapsed` of a time since the start.

        With `after_s` a time of day is the first from there on, as the end of an event is.

        Returns:
            None when the text is no time.

        Raises:
            RecordingError: annotation_invalid for a time of day when the recording's is not known.
        """
        value = elapsed_or_none(text) if elapsed else number_or_none(text)
        if value is not None:
            return value
        day_s = time_of_day_or_none(text)
        if day_s is None:
            return None
        if self._clock_s is None:
            raise invalid_scoring(
                self._name,
                "times of day only, and the recording does not say when it starts",
                "seconds from the start, or a recording with a start time",
            )
        self.used_clock = True
        offset_s = day_s - self._clock_s
        if after_s is not None:
            return after_s + (offset_s - after_s) % DAY_S
        later_s = (offset_s - self._previous_s + DAY_S / 2) % DAY_S - DAY_S / 2
        self._previous_s += later_s
        return self._previous_s
