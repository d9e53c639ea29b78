"""The encoder of one process: the bytes of an EDF in, a redacted embedding out."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from serve_apps.backend import Refusal
from serve_apps.http_errors import INTERNAL, log_failure
from serve_apps.wire import ModelInfo, redacted
from sleepmami.errors import CheckpointError, RecordingError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.models.cpu import prepare_cpu
from sleepmami.psg import MODALITIES
from sleepmami.signals.preprocess import load_night

UPLOAD = "upload"  # stands for file name and recording id, neither of which a client sends


class LocalEncoder:
    """Embeds one recording at a time on a thread of its own; the event loop stays free.

    Args:
        embedder: its bundle has a Macro-Encoder.
        threads: torch threads of the one worker.

    Raises:
        CheckpointError: the bundle has no Macro-Encoder.
    """

    def __init__(self, embedder: Embedder, *, threads: int) -> None:
        macro = embedder.bundle.macro
        if macro is None:
            raise CheckpointError(
                f"bundle {embedder.bundle.model_id} has no Macro-Encoder; "
                "expected one that `sleepmami pretrain macro` made"
            )
        self._embedder = embedder
        self._info = ModelInfo(
            model_id=embedder.bundle.model_id,
            weights_sha256=embedder.bundle.weights_sha256,
            modalities=[m.value for m in MODALITIES],
            micro_dim=len(MODALITIES) * embedder.dim,
            macro_dim=2 * macro.model.dim,
            night_dim=2 * macro.model.dim,
        )
        # One worker: a cancelled request's work ends before the next begins, so memory and threads
        # in use do not depend on how many clients hang up.
        self._worker = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="encoder",
            initializer=prepare_cpu,
            initargs=(threads,),
        )

    async def embed(self, body: bytes, request_id: str) -> NightEmbedding | Refusal:
        """The redacted embedding, or why there is none; raises nothing, quotes nothing."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._embed, body, request_id)

    async def model(self) -> ModelInfo:
        """The loaded model."""
        return self._info

    def _embed(self, body: bytes, request_id: str) -> NightEmbedding | Refusal:
        try:
            config = self._embedder.bundle.preprocess
            night = load_night(body, config, recording_id=UPLOAD, name=UPLOAD)
            return redacted(self._embedder.night(night))
        except RecordingError as error:
            return Refusal(error.code)
        except Exception as error:  # its text may quote the header: it must not leave this process
            log_failure(error, request_id)
            return Refusal(INTERNAL)
