"""What the HTTP side asks of whatever embeds: one protocol, and the values that cross it.

The routes know nothing of Ray; `serve_apps.embedding_app` puts the deployments behind this
protocol, and tests put one process behind it. Nothing that crosses it back quotes a recording's
header.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from serve_apps.wire import ModelInfo
from sleepmami.inference.embedder import EpochEmbedding, NightEmbedding
from sleepmami.psg import Modality
from sleepmami.report.night_overview import Overview

Recording = bytes | str  # the bytes of an EDF, or the path of an upload that both sides can read
Stage = Literal["queued", "preprocessing", "encoding", "night"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that could not be served: a code of http_errors.ERRORS, and no text."""

    code: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one recording is.

    Attributes:
        stage: what is being done.
        done: of `total`: channels in "preprocessing", 30-s epochs in "encoding", else 0 or 1.
        total: at least `done`; 0 where it is not known yet.
    """

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """What is wanted of a recording.

    Attributes:
        model: a name of `Backend.models`; None is the default model, or its canary by share.
        second: also one vector per second; unknown to a model whose `second_dim` is None.
        overview: also an Overview of the signals among the steps.
    """

    model: str | None = None
    second: bool = False
    overview: bool = False


@dataclass(frozen=True, slots=True)
class InspectedChannel:
    """One channel, without what its header says in free text.

    Attributes:
        label: the label's known words, None when it has none (signals.label_privacy.safe_label).
        modality: None when it is none of ours.
        unit: "?" when it is no known unit.
        sample_rate_hz: the file's.
        decision: "used", "spare", "reference", "ignored" or "rejected".
        confidence: "certain", "likely" or "guess"; None when the modality is.
        reason: a code: used_as_recorded, used_rereferenced, outranked, subtracted, unknown_label,
            not_a_modality, rate_too_low, rate_too_high, no_scale, wrong_unit or unused.
    """

    label: str | None
    modality: str | None
    unit: str
    sample_rate_hz: float
    decision: str
    confidence: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What would be used of a recording, without reading its signals.

    Attributes:
        ok: the header speaks against nothing; the signals themselves may still.
        code: a code of http_errors.ERRORS when not ok.
        duration_s: None when the file could not be opened.
        gaps: (start_s, stop_s) of stretches without data.
        modalities: those that a channel was found for.
        channels: in file order.
    """

    ok: bool
    code: str | None
    duration_s: float | None
    gaps: tuple[tuple[float, float], ...]
    modalities: tuple[str, ...]
    channels: tuple[InspectedChannel, ...]


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """B windows of 60 s that are preprocessed already.

    Attributes:
        signals: per present modality float32[B, SEGMENT_S * STORED_RATE_HZ[modality]], z-scores
            (Night.signals / STORED_SCALE); an absent modality is an absent key.
        valid: bool[B, 6] in the order of MODALITIES: the window has a usable signal; False where
            the modality is absent.
    """

    signals: Mapping[Modality, NDArray[np.float32]]
    valid: NDArray[np.bool_]


class Backend(Protocol):
    """What the application needs of whatever embeds recordings.

    Nothing is raised for a request that cannot be served but `HttpError("model_not_ready")` by
    `models`; the others answer a Refusal. Codes a backend adds to those of recordings:
    `model_not_ready`, `model_unknown`, `overloaded`, `request_invalid`, `internal_error`.
    """

    async def embed(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> NightEmbedding | Refusal:
        """The redacted embedding of one EDF."""

    def embed_steps(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncIterator[Progress | Overview | NightEmbedding | Refusal]:
        """As `embed`, telling how far it is; ends with one of the last two."""

    async def inspect(self, recording: Recording, request_id: str) -> Inspection | Refusal:
        """What would be used of one EDF; a bad file is an Inspection that is not ok."""

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        """Micro vectors of the two epochs of each window, in order: L = 2 B."""

    async def models(self) -> list[ModelInfo]:
        """The loaded models, the default one first; HttpError("model_not_ready") without that."""


Observe = Callable[[Mapping[str, float], int, int], None]


@runtime_checkable
class Observed(Protocol):
    """A backend that tells where the time of each answer went.

    Attributes:
        observe: called once per answer with seconds by stage, the batches that the request had
            windows in, and the windows in those batches, its own and others'. The application
            sets it.
    """

    observe: Observe


@runtime_checkable
class Several(Protocol):
    """A backend of several models, of which some may be away.

    Attributes:
        names: of all, also of those that `models` leaves out because they are away.
    """

    names: tuple[str, ...]
