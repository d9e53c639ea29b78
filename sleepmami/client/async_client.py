"""The client for an event loop: the calls of `sync_client`, awaited."""

import os
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from numpy.typing import ArrayLike

from sleepmami.client import job_events
from sleepmami.client.answers import (
    EncodedWindows,
    Hypnogram,
    Inspection,
    JobStatus,
    Neighbors,
    Night,
)
from sleepmami.client.calls import Caller, Retries
from sleepmami.client.drivers import AsyncDriver, checked_url
from sleepmami.client.flows import Flows, Level, job_wanted, neighbors_wanted
from sleepmami.client.folder import FolderSummary, embed_folder
from sleepmami.client.progress import bar
from sleepmami.client.steps import Flow
from sleepmami.client.tls import Verify, context_of
from sleepmami.client.uploading import PART_BYTES, Recording, Upload

T = TypeVar("T")


class AsyncClient:
    """One embedding service, asked from an event loop; files are read in threads.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            nights = await asyncio.gather(*(client.embed(path) for path in paths))

    Arguments, retries and errors are those of Client.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        night_timeout: float = 1860.0,
        retries: int | Retries = 8,
        part_bytes: int = PART_BYTES,
        verify: Verify = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = checked_url(url)
        again = Retries(count=retries) if isinstance(retries, int) else retries
        caller = Caller(key=key, retries=again, timeout_s=timeout, night_timeout_s=night_timeout)
        self._flows = Flows(caller=caller, url=self.url, part_bytes=part_bytes)
        trusted = context_of(verify, self.url)
        self._http = httpx.AsyncClient(base_url=self.url, transport=transport, verify=trusted)
        self._driver = AsyncDriver(self._http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def info(self) -> dict[str, Any]:  # Any: JSON values
        """As Client.info."""
        return await self._run(self._flows.info())

    async def inspect(self, recording: Recording) -> Inspection:
        """As Client.inspect."""
        return await self._run(self._flows.inspect(recording))

    async def embed(
        self,
        recording: Recording,
        level: Level = "all",
        *,
        dtype: str = "float32",
        model: str | None = None,
        progress: bool = False,
    ) -> Night:
        """As Client.embed."""
        with bar(progress, "upload", "bytes") as tell:
            return await self._run(self._flows.embed(recording, level, dtype, model, tell))

    async def upload(
        self,
        recording: Recording,
        *,
        progress: bool = True,
        record: str | os.PathLike[str] | None = None,
    ) -> Upload:
        """As Client.upload."""
        with bar(progress, "upload", "bytes") as tell:
            return await self._run(self._flows.upload(recording, record, tell))

    async def delete_upload(self, upload: Upload) -> None:
        """As Client.delete_upload."""
        await self._run(self._flows.delete_upload(upload))

    async def submit(
        self,
        what: Recording | Upload,
        *,
        model: str | None = None,
        second: bool = False,
        progress: bool = True,
    ) -> "AsyncJob":
        """As Client.submit."""
        with bar(progress, "upload", "bytes") as tell:
            status, upload = await self._run(self._flows.submit(what, model, second, tell))
        return AsyncJob(self, status.id, upload)

    def job(self, job_id: str) -> "AsyncJob":
        """As Client.job."""
        return AsyncJob(self, job_id)

    async def neighbors(
        self,
        night: "Night | AsyncJob | str | ArrayLike",
        k: int = 10,
        *,
        weights_sha256: str | None = None,
    ) -> Neighbors:
        """As Client.neighbors."""
        if isinstance(night, AsyncJob):
            wanted = job_wanted(night.id, weights_sha256)
        else:
            wanted = neighbors_wanted(night, weights_sha256)
        return await self._run(self._flows.neighbors(wanted, k))

    async def recording(
        self, recording_id: str, level: Level = "all", *, dtype: str = "float32"
    ) -> Night:
        """As Client.recording."""
        return await self._run(self._flows.recording(recording_id, level, dtype))

    async def encode(
        self, windows: Mapping[str, ArrayLike], *, model: str | None = None
    ) -> EncodedWindows:
        """As Client.encode."""
        return await self._run(self._flows.encode(windows, model))

    async def embed_folder(
        self,
        folder: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        level: Level = "all",
        dtype: str = "float32",
        model: str | None = None,
        at_once: int = 2,
        progress: bool = True,
    ) -> FolderSummary:
        """As Client.embed_folder."""
        with bar(progress, "embed", "files") as tell:
            return await self._run(
                embed_folder(
                    self._flows,
                    folder,
                    out,
                    level=level,
                    dtype=dtype,
                    model=model,
                    at_once=at_once,
                    tell=tell,
                )
            )

    async def _run(self, flow: Flow[T]) -> T:
        return await self._driver.run(flow)


class AsyncJob:
    """A job at the service; attributes and errors are those of Job."""

    def __init__(self, client: AsyncClient, job_id: str, upload: Upload | None = None) -> None:
        self._client = client
        self._flows = client._flows
        self._run = client._run
        self.id = job_id
        self.upload = upload

    async def status(self) -> JobStatus:
        """As Job.status."""
        return await self._run(self._flows.job(self.id))

    def events(self) -> AsyncIterator[JobStatus]:
        """As Job.events, for `async for`."""
        return self._client._driver.iterate(job_events.events(self._flows.caller, self.id))

    async def wait(self, *, progress: bool = True) -> JobStatus:
        """As Job.wait."""
        with bar(progress, "embed", "steps") as tell:
            return await self._run(job_events.wait(self._flows.caller, self.id, tell))

    async def embeddings(self, level: Level | None = None, *, dtype: str = "float32") -> Night:
        """As Job.embeddings."""
        return await self._run(self._flows.job_embeddings(self.id, level, dtype))

    async def hypnogram(self) -> Hypnogram:
        """As Job.hypnogram."""
        return await self._run(self._flows.hypnogram(self.id))

    async def report(self, path: str | os.PathLike[str]) -> None:
        """As Job.report."""
        await self._run(self._flows.report(self.id, path))

    async def delete(self) -> None:
        """As Job.delete."""
        await self._run(self._flows.delete_job(self.id, self.upload))
