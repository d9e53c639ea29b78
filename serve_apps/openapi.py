"""The HTTP contract as a file: `python -m serve_apps.openapi` writes openapi.json beside this one.

A test holds the file equal to the application, so a change of the contract shows in review.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

from serve_apps.backend import (
    EmbedOptions,
    Inspection,
    Progress,
    Recording,
    Refusal,
    WindowBatch,
)
from serve_apps.http_app import Admission, create_app
from serve_apps.http_errors import HttpError
from serve_apps.state_folder import StateFolder
from serve_apps.wire import Limits, ModelInfo
from sleepmami.inference.embedder import EpochEmbedding, NightEmbedding
from sleepmami.report.night_overview import Overview

PINNED = Path(__file__).with_name("openapi.json")


class NoBackend:
    """Embeds nothing; describing the routes needs none."""

    async def embed(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> NightEmbedding | Refusal:
        """Always model_not_ready."""
        return Refusal("model_not_ready")

    async def embed_steps(
        self, recording: Recording, request_id: str, options: EmbedOptions
    ) -> AsyncIterator[Progress | Overview | NightEmbedding | Refusal]:
        """Always model_not_ready."""
        yield Refusal("model_not_ready")

    async def inspect(self, recording: Recording, request_id: str) -> Inspection | Refusal:
        """Always model_not_ready."""
        return Refusal("model_not_ready")

    async def encode(
        self, windows: WindowBatch, request_id: str, model: str | None
    ) -> EpochEmbedding | Refusal:
        """Always model_not_ready."""
        return Refusal("model_not_ready")

    async def models(self) -> list[ModelInfo]:
        """Always model_not_ready."""
        raise HttpError("model_not_ready")


def openapi_text() -> str:
    """The OpenAPI document of the application, as openapi.json holds it."""
    limits = Limits(max_body_mb=1, max_running=1, max_queued=1)  # none of them is in the document
    state = StateFolder(None)
    try:
        document = create_app(NoBackend(), Admission(limits), state).openapi()
    finally:
        state.close()
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    PINNED.write_text(openapi_text())
