"""What the deployments hand to each other; nothing here leaves the service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serve_apps.backend import Recording, WindowBatch
from serve_apps.wire import ModelInfo
from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import to_dict
from sleepmami.inference.embedder import EpochEmbedding, NightEmbedding
from sleepmami.inference.hearing import HeardRows
from sleepmami.psg import Night

# The bytes of a recording as an array, because Ray shares an array's memory and copies bytes.
SharedRecording = NDArray[np.uint8] | str


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """A night, and with which settings it was made.

    Attributes:
        night: what the Encoder reads; its arrays lie in memory that the processes share.
        settings_key: `settings_key` of the PreprocessConfig.
        seconds: that it took.
    """

    night: Night
    settings_key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer and where the time went.

    Attributes:
        embedding: redacted.
        seconds: by stage: queued, encoding, night.
        batches: forward passes it had windows in.
        windows: in those, its own and others'.
    """

    embedding: NightEmbedding | EpochEmbedding
    seconds: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    windows: int = 0


@dataclass(frozen=True, slots=True)
class HeardShare:
    """What one Encoder has heard of a night that several hear.

    Attributes:
        rows: of each hearing of the night.
        heard_by: weights and how they were run: shares that differ in it are no night.
        seconds: by stage: queued, encoding.
        batches: as of Encoded.
        windows: as of Encoded.
    """

    rows: tuple[HeardRows, ...]
    heard_by: tuple[object, ...]
    seconds: dict[str, float]
    batches: int
    windows: int


@dataclass(frozen=True, slots=True)
class OtherWeights:
    """Shares of a night were heard by another model than this one: the service is changing."""


class ToLoad(NamedTuple):
    """A recording for a Preprocessor, and the model's settings as `to_dict` gives them."""

    recording: SharedRecording
    settings: Mapping[str, Any]  # Any: JSON values
    request_id: str


class ToHear(NamedTuple):
    """A night for an Encoder, and whether vectors of seconds are wanted."""

    loaded: Preprocessed
    request_id: str
    second: bool


class ToEncode(NamedTuple):
    """Windows for an Encoder."""

    windows: WindowBatch
    request_id: str


@dataclass(frozen=True, slots=True)
class OtherSettings:
    """The night was made with other settings than the model's: the bundle has just changed.

    Attributes:
        preprocess: the settings that are wanted, as `to_dict` gives them.
    """

    preprocess: dict[str, Any]  # Any: JSON values


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """A model and how its recordings are preprocessed."""

    model: ModelInfo
    preprocess: dict[str, Any]  # Any: JSON values


def settings_key(config: PreprocessConfig) -> str:
    """Equal for equal settings."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def shared(recording: Recording) -> SharedRecording:
    """The recording as it travels."""
    return recording if isinstance(recording, str) else np.frombuffer(recording, np.uint8)


def readable(recording: SharedRecording) -> str | memoryview:
    """The recording as the reader takes it, without a copy."""
    return recording if isinstance(recording, str) else recording.data
