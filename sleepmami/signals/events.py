"""Scored events: which kind a scorer's words name, and which seconds they cover.

Words decide, in several languages and spellings, and the first that names a kind wins: "Arousal
after hypopnea" is an arousal, "Hypopnea with arousal" a hypopnea. A text with more than one word
that is not known to belong to an event's name is somebody's remark, not an event.
"""

import math
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import EventKind, ScoredEvent
from sleepmami.signals.stage_words import plain_text

MAX_TEXT = 120
MAX_STRANGE_WORDS = 1

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[a-z]+")
_APNEA = re.compile(r"apno?e(a|as|e|es|en|ia|ias|n|s|u)?|apnaea|bezdech(y|ow)?")
_HYPOPNEA = re.compile(
    r"(hyp|hip|ip)o?a?pno?e(a|as|e|es|en|ia|ias|n|s|u)?|hypopnaea|hyp|sp.?ycenie"
)
_AROUSAL = re.compile(
    r"arous\w*|microarous\w*|weckreaktion(en)?|micro?eveils?|microdespertar(es)?|microrisvegli\w*"
    r"|(mikro)?wybudzeni[ae]"
)
_DESATURATION = re.compile(r"desat\w*|dessat\w*|entsattigung(en)?|desats?")
_RERA = re.compile(r"\breras?\b|\brespiratory effort[ -]*related arousals?\b")
_TYPES = (
    (re.compile(r"obs(tr\w*)?|ostru\w*|obt|obturacyjn\w*"), EventKind.OBSTRUCTIVE_APNEA),
    (re.compile(r"cent(r\w*)?|zentr\w*"), EventKind.CENTRAL_APNEA),
    (
        re.compile(r"mix\w*|gemischt\w*|gemengd\w*|mist[ao]|misch\w*|mieszan\w*"),
        EventKind.MIXED_APNEA,
    ),
)
_LETTERS = {  # the type in one letter, as in APNEA-O
    "o": EventKind.OBSTRUCTIVE_APNEA,
    "c": EventKind.CENTRAL_APNEA,
    "m": EventKind.MIXED_APNEA,
}
# what says that there was none, or that it is counted elsewhere
_DENIALS = re.compile(
    r"(arti?e?fa[ck]t\w*|artefa\w*|post\w*|index|indices|no|not|non|kein\w*|sans|sin|sem|periodic"
    r"|reject\w*|delet\w*|exclu\w*|false|possible|probable|question\w*|test\w*|free|ahi|rdi|odi)"
)
_FILLER_WORDS = (
    "a b d e f g h i j k l n p q r s t u v w x y z o c m "  # single letters of channels and types
    "and by di da de del der des die du due durch el en et for from in la le mit of ou por the to "
    "und with without ohne avec con com w related resulting after respiratory resp effort event "
    "events finding sleep scored manual auto automatic detected eeg ecg emg flow nasal oxygen "
    "oxyhemoglobin hemoglobin haemoglobin spo sao o sat saturation sauerstoff asda adsa aasm aro "
    "res spont spontaneous spontan external cheshire limb plm plms lm leg movement snore snoring "
    "arousal ar standard sdo micro type unspecified respiratoria respiratoire respiratorisch "
    "respiratorisches respiratorio oddechu alveolar unclassified nsrr min max sec bpm"
)
_FILLERS = frozenset(_FILLER_WORDS.split())


@lru_cache(maxsize=4096)
def event_of_text(text: str) -> EventKind | None:
    """The kind of event that a scorer's text names, or None.

    Artifacts, "post-...", periodic breathing, indices and negations are none, and so is a text in
    which apnea and hypopnea are one category.
    """
    if len(text) > MAX_TEXT:
        return None
    # NSRR writes the name twice, "Arousal|Arousal ()"; other tools append a channel after "@@"
    first = text.partition("@@")[0].partition("|")[0] or text.partition("|")[2]
    plain = plain_text(_CAMEL.sub(" ", first)).replace("_", " ")
    if "?" in plain:
        return None
    plain = re.sub(r"micro[ -]+(?=eveil|arous|despert|risvegl)", "micro", plain)
    words = _WORD.findall(plain)
    if any(_DENIALS.fullmatch(word) for word in words):
        return None
    known = [_kind_of_word(word) for word in words]
    strange = sum(
        kind is None and word not in _FILLERS and _type_of(word) is None
        for word, kind in zip(words, known, strict=True)
    )
    if strange > MAX_STRANGE_WORDS:
        return None
    if _RERA.search(plain):
        return EventKind.RERA
    if EventKind.APNEA in known and EventKind.HYPOPNEA in known:
        return None
    kind = next((kind for kind in known if kind is not None), None)
    if kind is EventKind.APNEA or (kind is None and words[:1] == ["a"] and len(words) == 2):
        return _apnea(words, default=kind)
    return kind


def _kind_of_word(word: str) -> EventKind | None:
    for pattern, kind in (
        (_HYPOPNEA, EventKind.HYPOPNEA),
        (_APNEA, EventKind.APNEA),
        (_DESATURATION, EventKind.DESATURATION),
        (_AROUSAL, EventKind.AROUSAL),
    ):
        if pattern.fullmatch(word):
            return kind
    return None


def _type_of(word: str) -> EventKind | None:
    return next((kind for pattern, kind in _TYPES if pattern.fullmatch(word)), None)


def _apnea(words: list[str], default: EventKind | None) -> EventKind | None:
    """The type of apnea; "A. Obstructiva" abbreviates it, then there is no default."""
    types = {kind for word in words if (kind := _type_of(word)) is not None}
    if not types and default is not None and words[-1] in _LETTERS and len(words) == 2:
        types = {_LETTERS[words[-1]]}
    if len(types) > 1:
        return default
    return next(iter(types), default)


def kept_events(events: Iterable[ScoredEvent], recording_s: float) -> tuple[ScoredEvent, ...]:
    """Events by start, within the recording.

    One with a negative or non-finite time is dropped, one outside the recording too, and one that
    reaches over an end is cut there. A duration of 0 means that the scorer gave none.
    """
    kept = []
    for event in events:
        times_ok = math.isfinite(event.start_s) and math.isfinite(event.duration_s)
        if not times_ok or event.duration_s < 0:
            continue
        start_s = max(event.start_s, 0.0)
        stop_s = min(event.start_s + event.duration_s, recording_s)
        momentary = event.duration_s == 0 and 0 <= event.start_s < recording_s
        if start_s == event.start_s and stop_s < recording_s:
            kept.append(event)  # as scored: stop minus start would round
        elif stop_s > start_s or momentary:
            kept.append(ScoredEvent(start_s=start_s, duration_s=stop_s - start_s, kind=event.kind))
    return tuple(sorted(kept))


def event_mask(
    events: Iterable[ScoredEvent], kinds: Collection[EventKind], num_seconds: int
) -> NDArray[np.bool_]:
    """Which seconds of a recording lie in an event of one of these kinds.

    A second counts when such events, taken together, cover at least half of it. An event that
    covers half of no second marks the one its middle lies in, so none that was scored gets lost.

    Returns:
        bool[num_seconds]; element s is the time from s to s + 1.
    """
    spans = sorted((e.start_s, e.start_s + e.duration_s) for e in events if e.kind in kinds)
    covered_s = np.zeros(num_seconds)
    mask: NDArray[np.bool_] = np.zeros(num_seconds, dtype=np.bool_)
    end_s = 0.0  # what lies before is counted already
    for start_s, stop_s in spans:
        middle = math.floor((start_s + stop_s) / 2)
        if not _covers_half_a_second(start_s, stop_s) and 0 <= middle < num_seconds:
            mask[middle] = True
        start_s, stop_s = max(start_s, end_s), min(stop_s, float(num_seconds))
        if stop_s <= start_s:
            continue
        end_s = stop_s
        first, last = math.floor(start_s), math.ceil(stop_s)
        seconds = np.arange(first, last)
        covered_s[first:last] += np.minimum(seconds + 1, stop_s) - np.maximum(seconds, start_s)
    return mask | (covered_s >= 0.5 - 1e-9)


def _covers_half_a_second(start_s: float, stop_s: float) -> bool:
    """Whether one whole-second bin is covered by half or more."""
    first = math.floor(start_s)
    in_first = min(stop_s, first + 1) - start_s
    in_second = min(stop_s, first + 2) - (first + 1)
    return max(in_first, in_second) >= 0.5 - 1e-9
