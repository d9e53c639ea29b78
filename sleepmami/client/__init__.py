"""A client of the embedding service: `from sleepmami.client import Client, AsyncClient`.

Needs numpy, pyarrow and httpx alone; rich for progress bars. The names are gathered here because
other people's programs import them, and no file of this package is heavy.
"""

from sleepmami.client.answers import (
    EncodedWindows,
    Hypnogram,
    Inspection,
    JobStatus,
    Neighbor,
    Neighbors,
    Night,
)
from sleepmami.client.async_client import AsyncClient, AsyncJob
from sleepmami.client.calls import Retries
from sleepmami.client.folder import FolderSummary
from sleepmami.client.sync_client import Client, Job
from sleepmami.client.uploading import Upload

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "EncodedWindows",
    "FolderSummary",
    "Hypnogram",
    "Inspection",
    "Job",
    "JobStatus",
    "Neighbor",
    "Neighbors",
    "Night",
    "Retries",
    "Upload",
]
