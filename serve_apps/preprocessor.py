"""The preprocessor of one process: an EDF in, the windows of its night out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from serve_apps.backend import Inspection, Progress, Refusal
from serve_apps.http_errors import INTERNAL, log_failure
from serve_apps.inspection import redacted_inspection
from serve_apps.progress import while_running
from serve_apps.stages import Preprocessed, SharedRecording, ToLoad, readable, settings_key
from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import from_dict
from sleepmami.errors import RecordingError
from sleepmami.models.cpu import prepare_cpu
from sleepmami.report.night_overview import Overview, night_overview
from sleepmami.signals.inspect import inspect_file
from sleepmami.signals.preprocess import load_night

UPLOAD = "upload"  # stands for file name and recording id, neither of which a client sends
Settings = Mapping[str, Any]  # of a PreprocessConfig, as `to_dict` gives them; Any: JSON values


class LocalPreprocessor:
    """Reads one recording at a time on a thread, inspects another on a second.

    The event loop stays free.

    The settings come with each recording: they are the model's, and models may differ. Raises
    nothing, quotes nothing.
    """

    def __init__(self) -> None:
        # One worker each: a cancelled request's work ends before the next begins, so memory in use
        # does not depend on how many clients hang up. Who only asks what would be used does not
        # wait behind whole nights.
        self._worker, self._inspector = (
            ThreadPoolExecutor(
                max_workers=1,
                thread_name_prefix=name,
                initializer=prepare_cpu,
                initargs=(1,),
            )
            for name in ("preprocessor", "inspector")
        )

    async def load_steps(
        self,
        recording: SharedRecording,
        settings: Settings,
        request_id: str,
        overview: bool = False,
    ) -> AsyncGenerator[Progress | Overview | Preprocessed | Refusal]:
        """How far it is, its overview if that is wanted, then the night or why there is none."""
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[Progress] = asyncio.Queue()

        def tell(done: int, total: int) -> None:
            step = Progress("preprocessing", done, total)
            loop.call_soon_threadsafe(steps.put_nowait, step)

        work = loop.run_in_executor(self._worker, self._load, recording, settings, request_id, tell)
        async with aclosing(while_running(work, steps)) as told:
            async for step in told:
                yield step
        loaded = await work
        if overview and isinstance(loaded, Preprocessed):
            yield await loop.run_in_executor(self._worker, night_overview, loaded.night)
        yield loaded

    async def load_many(self, asked: Sequence[ToLoad]) -> list[Preprocessed | Refusal]:
        """Each night, or why there is none, of recordings so short that nobody asks how far."""
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._worker, self._load, *item) for item in asked]

    async def inspect(
        self, recording: SharedRecording, settings: Settings, request_id: str
    ) -> Inspection | Refusal:
        """What would be used of it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._inspector, self._inspect, recording, settings, request_id
        )

    def _load(
        self,
        recording: SharedRecording,
        settings: Settings,
        request_id: str,
        tell: Callable[[int, int], None] | None = None,
    ) -> Preprocessed | Refusal:
        started_s = time.perf_counter()
        try:
            config = from_dict(PreprocessConfig, settings)
            night = load_night(
                readable(recording), config, recording_id=UPLOAD, name=UPLOAD, progress=tell
            )
        except RecordingError as error:
            return Refusal(error.code)
        except Exception as error:  # its text may quote the header: it must not leave this process
            log_failure(error, request_id)
            return Refusal(INTERNAL)
        return Preprocessed(night, settings_key(config), time.perf_counter() - started_s)

    def _inspect(
        self, recording: SharedRecording, settings: Settings, request_id: str
    ) -> Inspection | Refusal:
        try:
            config = from_dict(PreprocessConfig, settings)
            return redacted_inspection(inspect_file(readable(recording), config, name=UPLOAD))
        except Exception as error:  # as above
            log_failure(error, request_id)
            return Refusal(INTERNAL)
