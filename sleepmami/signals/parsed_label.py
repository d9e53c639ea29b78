"""What a label says, as data: the type that the label parser's parts fill in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sleepmami.psg import Confidence, Modality
from sleepmami.signals.label_vocabulary import Meaning
from sleepmami.signals.label_words import meaning_of

# Ranks order the channels of one modality; lower is preferred. Within a body site, a recorded
# derivation comes first, then one we derive (DERIVED_GAIN better than the lone electrode).
DERIVED_GAIN = 3
ALONE = 6


class Sensor(Enum):
    """How breathing was measured."""

    FLOW = auto()  # nasal cannula, or a device's own flow
    THERMISTOR = auto()
    BELT_FLOW = auto()  # computed from belts
    THORAX = auto()
    ABDOMEN = auto()
    EFFORT = auto()  # a belt of unstated place
    UNSTATED = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedLabel:
    """What one label says.

    Attributes:
        what: the channel in a technician's words, never the label's own.
        modality: None when the channel is not one of our signals.
        rank: order of preference within the modality, 0 first.
        electrode: name of a lone electrode (`C4`, `M1`, `chin 1`), else empty.
        partners: electrodes whose subtraction makes a derivation of a lone electrode, best first.
        side: "left", "right" or empty.
        reference: what was subtracted when it was recorded (`M2`, `M1+M2`), or empty.
        confidence: how sure the reading is; says nothing when there is no modality.
        sensor: how breathing was measured; None for anything else.
        inverted: recorded with its reference first, so that its sign is to be changed.
    """

    what: str
    modality: Modality | None = None
    rank: int = 0
    electrode: str = ""
    partners: tuple[str, ...] = ()
    side: str = ""
    reference: str = ""
    confidence: Confidence = Confidence.CERTAIN
    sensor: Sensor | None = None
    inverted: bool = False


class Words:
    """A label's words together with what they mean."""

    def __init__(self, found: list[str]) -> None:
        self.words = tuple(found)
        self.meanings = [meaning_of(word) for word in found]

    def begins_with(self, meaning: Meaning) -> bool:
        """Whether the first word means this."""
        return self.meanings[:1] == [meaning]

    def has(self, meaning: Meaning) -> bool:
        """Whether some word means this."""
        return meaning in self.meanings

    def count(self, meaning: Meaning) -> int:
        """How many words mean this."""
        return self.meanings.count(meaning)

    @property
    def numbers(self) -> list[str]:
        """The words that are numbers."""
        return [word for word in self.words if word.isdigit()]

    @property
    def unknown(self) -> bool:
        """Whether some word of two letters or more is not known."""
        pairs = zip(self.words, self.meanings, strict=True)
        return any(meaning is None and len(word) > 1 for word, meaning in pairs)
