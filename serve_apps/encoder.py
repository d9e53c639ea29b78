"""The encoder of one process: nights and windows in, redacted embeddings out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from serve_apps.backend import Progress, Refusal, WindowBatch
from serve_apps.http_errors import INTERNAL, log_failure
from serve_apps.progress import while_running
from serve_apps.stages import (
    Encoded,
    EncoderInfo,
    HeardShare,
    OtherSettings,
    OtherWeights,
    Preprocessed,
    ToEncode,
    ToHear,
    settings_key,
)
from serve_apps.window_scheduler import StageTimes, WindowScheduler
from serve_apps.wire import ModelInfo, redacted
from sleepmami import __version__
from sleepmami.config_edit import to_dict
from sleepmami.errors import CheckpointError, RecordingError
from sleepmami.inference.embedder import Embedder, EpochEmbedding, NightEmbedding
from sleepmami.inference.hearing import Hearing, hearing_of_windows
from sleepmami.psg import MODALITIES, SEGMENT_S, STORED_RATE_HZ, Night

_Outcome = TypeVar("_Outcome")
PROGRESS_EVERY_S = 0.25  # at most; batches may be a hundredth of that, and each step is a message


def warm_up(embedder: Embedder) -> None:
    """Hear one silent window: the first forward pass loads parts of torch, which takes seconds."""
    windows = {
        modality: np.zeros((1, SEGMENT_S * STORED_RATE_HZ[modality]), np.float32)
        for modality in MODALITIES
    }
    hearing = hearing_of_windows(windows, np.ones((1, len(MODALITIES)), np.bool_), embedder.dim)
    embedder.hear([hearing.take(1)])


class LocalEncoder:
    """One model and the thread that encodes with it; raises nothing, quotes nothing.

    Args:
        embedder: its bundle has a Macro-Encoder.
        threads: torch threads of a batch.
        wait_s: how long an idle model waits for a batch to fill.
        name: what requests call the model.

    Raises:
        CheckpointError: the bundle has no Macro-Encoder.
    """

    def __init__(
        self, embedder: Embedder, *, threads: int, wait_s: float = 0.0, name: str = "default"
    ) -> None:
        bundle = embedder.bundle
        if bundle.macro is None:
            raise CheckpointError(
                f"bundle {bundle.model_id} has no Macro-Encoder; "
                "expected one that `sleepmami pretrain macro` made"
            )
        self._embedder = embedder
        self._settings_key = settings_key(bundle.preprocess)
        model = ModelInfo(
            name=name,
            model_id=bundle.model_id,
            weights_sha256=bundle.weights_sha256,
            modalities=[m.value for m in MODALITIES],
            micro_dim=len(MODALITIES) * embedder.dim,
            macro_dim=2 * bundle.macro.model.dim,
            night_dim=2 * bundle.macro.model.dim,
            second_dim=len(MODALITIES) * embedder.dim,
        )
        self._info = EncoderInfo(model, to_dict(bundle.preprocess))
        how = (embedder.precision, embedder.both_halves, __version__)
        self._heard_by = (bundle.weights_sha256, *how)
        self._scheduler = WindowScheduler(embedder, threads=threads, wait_s=wait_s)

    @property
    def alive(self) -> bool:
        """Whether it still encodes."""
        return self._scheduler.alive

    def close(self) -> None:
        """End its thread."""
        self._scheduler.close()

    async def info(self) -> EncoderInfo:
        """The loaded model."""
        return self._info

    async def night_steps(
        self, loaded: Preprocessed, request_id: str, second: bool
    ) -> AsyncGenerator[Progress | Encoded | OtherSettings | Refusal]:
        """How far the night is, in epochs, then its embedding or why there is none."""
        async with aclosing(self._steps(self._night, loaded, request_id, second)) as steps:
            async for step in steps:
                yield step

    async def share_steps(
        self, loaded: Preprocessed, request_id: str, index: int, num_shares: int
    ) -> AsyncGenerator[Progress | HeardShare | OtherSettings | Refusal]:
        """As `night_steps`, hearing one of equal shares of it; `joined` makes the night."""
        async with aclosing(
            self._steps(self._share, loaded, request_id, index, num_shares)
        ) as steps:
            async for step in steps:
                yield step

    async def joined(
        self, loaded: Preprocessed, request_id: str, *shares: HeardShare
    ) -> Encoded | OtherWeights | Refusal:
        """The night of all its shares."""
        if any(share.heard_by != self._heard_by for share in shares):
            return OtherWeights()
        try:
            hearings = self._embedder.hearings(loaded.night)
            for share in shares:
                for hearing, rows in zip(hearings, share.rows, strict=True):
                    hearing.adopt(rows)
            answer, times = await self._finished(loaded.night, hearings)
        except Exception as error:  # its text must not leave this process
            log_failure(error, request_id)
            return Refusal(INTERNAL)
        seconds = {
            stage: max(share.seconds[stage] for share in shares) for stage in ("queued", "encoding")
        }
        return Encoded(
            answer,
            seconds | {"night": times.night_s},
            sum(share.batches for share in shares),
            sum(share.windows for share in shares),
        )

    async def nights(self, asked: Sequence[ToHear]) -> list[Encoded | OtherSettings | Refusal]:
        """Each embedding, or why there is none, of nights so short that nobody asks how far."""
        return list(await asyncio.gather(*(self._short(*item) for item in asked)))

    async def windows(self, asked: Sequence[ToEncode]) -> list[Encoded | Refusal]:
        """`encode` of each."""
        return list(await asyncio.gather(*(self.encode(*item) for item in asked)))

    async def encode(self, windows: WindowBatch, request_id: str) -> Encoded | Refusal:
        """The micro vectors of windows that are preprocessed already."""
        try:  # all of it: what is raised here would be raised for others in the same call
            if not is_well_formed(windows):
                return Refusal("request_invalid")
            hearing = hearing_of_windows(windows.signals, windows.valid, self._embedder.dim)
            answer, times = await self._scheduler.run([hearing], lambda: self._windows([hearing]))
        except Exception as error:  # its text must not leave this process
            log_failure(error, request_id)
            return Refusal(INTERNAL)
        return _encoded(answer, times)

    async def _short(
        self, loaded: Preprocessed, request_id: str, second: bool
    ) -> Encoded | OtherSettings | Refusal:
        if loaded.settings_key != self._settings_key:
            return OtherSettings(self._info.preprocess)
        return await self._night(None, loaded, request_id, second)

    async def _steps(
        self, hear: Callable[..., Awaitable[_Outcome]], loaded: Preprocessed, *args: Any
    ) -> AsyncGenerator[Progress | _Outcome | OtherSettings]:
        if loaded.settings_key != self._settings_key:
            yield OtherSettings(self._info.preprocess)
            return
        steps: asyncio.Queue[Progress] = asyncio.Queue()
        work = asyncio.ensure_future(hear(steps, loaded, *args))
        async with aclosing(while_running(work, steps)) as told:
            async for step in told:
                yield step
        yield await work

    async def _night(
        self,
        steps: asyncio.Queue[Progress] | None,
        loaded: Preprocessed,
        request_id: str,
        second: bool,
    ) -> Encoded | Refusal:
        try:
            hearings = self._embedder.hearings(loaded.night, seconds=second)
            answer, times = await self._finished(loaded.night, hearings, steps)
        except RecordingError as error:
            return Refusal(error.code)
        except Exception as error:  # its text may quote the header: it must not leave this process
            log_failure(error, request_id)
            return Refusal(INTERNAL)
        return _encoded(answer, times)

    async def _share(
        self,
        steps: asyncio.Queue[Progress],
        loaded: Preprocessed,
        request_id: str,
        index: int,
        num_shares: int,
    ) -> HeardShare | Refusal:
        try:
            hearings = self._embedder.hearings(loaded.night)
            for hearing in hearings:
                hearing.only_share(index, num_shares)
            tell = _teller(steps, loaded.night.num_epochs // num_shares)
            rows, times = await self._scheduler.run(
                hearings, lambda: tuple(hearing.heard_rows() for hearing in hearings), tell
            )
        except RecordingError as error:
            return Refusal(error.code)
        except Exception as error:  # as above
            log_failure(error, request_id)
            return Refusal(INTERNAL)
        seconds = {"queued": times.queued_s, "encoding": times.encoding_s}
        return HeardShare(rows, self._heard_by, seconds, times.batches, times.windows)

    async def _finished(
        self,
        night: Night,
        hearings: Sequence[Hearing],
        steps: asyncio.Queue[Progress] | None = None,
    ) -> tuple[NightEmbedding, StageTimes]:
        """Hear what is left of the hearings, then the night in its context."""
        tell = None if steps is None else _teller(steps, night.num_epochs)
        return await self._scheduler.run(
            hearings,
            lambda: redacted(self._embedder.in_context(night, self._embedder.heard(hearings))),
            tell,
        )

    def _windows(self, hearings: Sequence[Hearing]) -> EpochEmbedding:
        model = self._info.model
        info = {
            "model_id": model.model_id,
            "weights_sha256": model.weights_sha256,
            "code_version": __version__,
            "precision": self._embedder.precision,
        }
        return replace(self._embedder.heard(hearings), info=info)


def _teller(steps: asyncio.Queue[Progress], num_epochs: int) -> Callable[[int, int], None]:
    """Puts windows heard as epochs of so many, now and then."""
    told_s = float("-inf")

    def tell(heard: int, of_all: int) -> None:
        nonlocal told_s
        if (now_s := time.monotonic()) - told_s < PROGRESS_EVERY_S:
            return
        told_s = now_s
        steps.put_nowait(Progress("encoding", num_epochs * heard // of_all, num_epochs))

    return tell


def _encoded(answer: NightEmbedding | EpochEmbedding, times: StageTimes) -> Encoded:
    seconds = {"queued": times.queued_s, "encoding": times.encoding_s, "night": times.night_s}
    return Encoded(answer, seconds, times.batches, times.windows)


def is_well_formed(windows: WindowBatch) -> bool:
    """Whether shapes, types and numbers are those that a WindowBatch promises."""
    valid_BM = windows.valid
    if valid_BM.dtype != np.bool_ or valid_BM.ndim != 2 or valid_BM.shape[1] != len(MODALITIES):
        return False
    if not len(valid_BM) or set(windows.signals) - set(MODALITIES):
        return False
    for column, modality in enumerate(MODALITIES):
        signal_BT = windows.signals.get(modality)
        if signal_BT is None:
            if valid_BM[:, column].any():
                return False
            continue
        if signal_BT.dtype != np.float32 or signal_BT.shape != (
            len(valid_BM),
            SEGMENT_S * STORED_RATE_HZ[modality],
        ):
            return False
        if not np.isfinite(signal_BT[valid_BM[:, column]]).all():
            return False
    return True
