"""The HTTP contract as a file: `python -m serve_apps.openapi` writes openapi.json beside this one.

A test holds the file equal to the application, so a change of the contract shows in review.
"""

import json
from pathlib import Path

from serve_apps.backend import Refusal
from serve_apps.http_app import Admission, create_app
from serve_apps.http_errors import HttpError
from serve_apps.wire import Limits, ModelInfo

PINNED = Path(__file__).with_name("openapi.json")


class NoModel:
    """An encoder that is not there; describing the routes needs none."""

    async def embed(self, body: bytes, request_id: str) -> Refusal:
        """Always model_not_ready."""
        return Refusal("model_not_ready")

    async def model(self) -> ModelInfo:
        """Always model_not_ready."""
        raise HttpError("model_not_ready")


def openapi_text() -> str:
    """The OpenAPI document of the application, as openapi.json holds it."""
    limits = Limits(max_body_mb=1, max_running=1, max_queued=1)  # none of them is in the document
    document = create_app(NoModel(), Admission(limits)).openapi()
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    PINNED.write_text(openapi_text())
