"""The client for programs that wait for each answer."""

import os
from collections.abc import Iterator, Mapping
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
from sleepmami.client.drivers import Driver, checked_url
from sleepmami.client.flows import Flows, Level, job_wanted, neighbors_wanted
from sleepmami.client.folder import FolderSummary, embed_folder
from sleepmami.client.progress import bar
from sleepmami.client.steps import Flow
from sleepmami.client.tls import Verify, context_of
from sleepmami.client.uploading import PART_BYTES, Recording, Upload

T = TypeVar("T")


class Client:
    """One embedding service, asked from one program; may be shared by threads.

        with Client("http://127.0.0.1:8000", key=KEY) as client:
            night = client.embed("night.edf")

    A request is sent again when the connection breaks and for 423, 429, 502, 503 and 504, after a
    pause that grows and that Retry-After lengthens. Every method raises ApiError when the service
    refuses or goes on failing, ClientError tls_refused, at once, when its certificate is not one
    that is trusted, ConfigError for an argument that cannot be, and OSError for a file that cannot
    be read or written.

    Args:
        url: of the service.
        key: of the service, if it asks for one.
        timeout: seconds for the next byte of a usual answer.
        night_timeout: of an answer that takes computing.
        retries: how often, or when; Retries.
        part_bytes: of one part of an upload, at most the service's 8 MB; a recording no larger goes
            in one body.
        verify: file or folder of the authorities whose certificates are trusted, alone, or a
            context of ssl; None trusts what httpx does: certifi's authorities, or SSL_CERT_FILE.
        transport: of httpx, in place of the network.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = checked_url(url)
        again = Retries(count=retries) if isinstance(retries, int) else retries
        caller = Caller(key=key, retries=again, timeout_s=timeout, night_timeout_s=night_timeout)
        self._flows = Flows(caller=caller, url=self.url, part_bytes=part_bytes)
        trusted = context_of(verify, self.url)
        self._http = httpx.Client(base_url=self.url, transport=transport, verify=trusted)
        self._driver = Driver(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def info(self) -> dict[str, Any]:  # Any: JSON values
        """Models, versions and limits of the service: GET /info."""
        return self._run(self._flows.info())

    def inspect(self, recording: Recording) -> Inspection:
        """What would be used of a recording, without embedding it."""
        return self._run(self._flows.inspect(recording))

    def embed(
        self,
        recording: Recording,
        level: Level = "all",
        *,
        dtype: str = "float32",
        model: str | None = None,
        progress: bool = False,
    ) -> Night:
        """The embedding of one recording.

        Up to 8 MB go in one body; a larger recording is uploaded in parts that survive a cut, and
        deleted from the service once it is answered.

        Args:
            recording: path of an EDF or BDF file, or its bytes.
            level: micro, macro, night, second, all (the first three), or several of them.
            dtype: float32 or float16.
            model: a name of `info`; without it the default one.
            progress: draw a bar of the upload.
        """
        with bar(progress, "upload", "bytes") as tell:
            return self._run(self._flows.embed(recording, level, dtype, model, tell))

    def upload(
        self,
        recording: Recording,
        *,
        progress: bool = True,
        record: str | os.PathLike[str] | None = None,
    ) -> Upload:
        """Upload a recording in parts of 8 MB; after a cut it goes on where the service has it.

        Args:
            recording: path or bytes.
            progress: draw a bar.
            record: a file that this call keeps while the upload is not whole; the same call in a
                later process goes on with it. It holds no name and no key.
        """
        with bar(progress, "upload", "bytes") as tell:
            return self._run(self._flows.upload(recording, record, tell))

    def delete_upload(self, upload: Upload) -> None:
        """Delete an upload and its bytes; one that is gone is no error."""
        self._run(self._flows.delete_upload(upload))

    def submit(
        self,
        what: Recording | Upload,
        *,
        model: str | None = None,
        second: bool = False,
        progress: bool = True,
    ) -> "Job":
        """Embed in the background.

        Args:
            what: path or bytes, which are uploaded and deleted with the job, or an upload, which
                stays.
            model: a name of `info`.
            second: also one vector per second.
            progress: draw a bar of the upload.
        """
        with bar(progress, "upload", "bytes") as tell:
            status, upload = self._run(self._flows.submit(what, model, second, tell))
        return Job(self, status.id, upload)

    def job(self, job_id: str) -> "Job":
        """A job that was submitted before."""
        return Job(self, job_id)

    def neighbors(
        self,
        night: "Night | Job | str | ArrayLike",
        k: int = 10,
        *,
        weights_sha256: str | None = None,
    ) -> Neighbors:
        """The nights of the service's cohort that are most like one night.

        Args:
            night: an embedding with its night vector, a job that is done, the id of a recording of
                the cohort, or a night vector.
            k: how many.
            weights_sha256: of what made a vector; with a vector only.
        """
        if isinstance(night, Job):
            wanted = job_wanted(night.id, weights_sha256)
        else:
            wanted = neighbors_wanted(night, weights_sha256)
        return self._run(self._flows.neighbors(wanted, k))

    def recording(
        self, recording_id: str, level: Level = "all", *, dtype: str = "float32"
    ) -> Night:
        """The embedding of a recording of the service's cohort."""
        return self._run(self._flows.recording(recording_id, level, dtype))

    def encode(
        self, windows: Mapping[str, ArrayLike], *, model: str | None = None
    ) -> EncodedWindows:
        """Vectors of windows of 60 s that are preprocessed already.

        Args:
            windows: arrays by name, as sleepmami.inference.windows.night_windows makes them: per
                modality float32[B, samples], and `valid`, bool[B, 6, 2] or bool[B, 6].
            model: a name of `info`.
        """
        return self._run(self._flows.encode(windows, model))

    def embed_folder(
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
        """Embed every EDF and BDF file in a folder and below it; what is done is skipped.

        Results are OUT/NAME.EDF.npz (`Night.load`), written whole or not at all, and summary.json.
        A file that fails does not end the run; what every file would meet does, and the summary
        says so. Vectors of different weights never come into one folder.

        Args:
            folder: of the recordings.
            out: of the results.
            level: as of `embed`.
            dtype: the same.
            model: the same; one model for the whole run.
            at_once: files in flight.
            progress: draw a bar.

        Raises:
            ClientError: weights_mixed or folder_mismatch when `out` holds vectors of other weights,
                level or dtype.
        """
        with bar(progress, "embed", "files") as tell:
            return self._run(
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

    def _run(self, flow: Flow[T]) -> T:
        return self._driver.run(flow)


class Job:
    """A job at the service.

    Attributes:
        id: for `Client.job` in a later process.
        upload: that was made for it, and is deleted with it.
    """

    def __init__(self, client: Client, job_id: str, upload: Upload | None = None) -> None:
        self._client = client
        self._flows = client._flows
        self._run = client._run
        self.id = job_id
        self.upload = upload

    def status(self) -> JobStatus:
        """How it is now."""
        return self._run(self._flows.job(self.id))

    def events(self) -> Iterator[JobStatus]:
        """How it is now and after each change, up to and with the last one."""
        return self._client._driver.iterate(job_events.events(self._flows.caller, self.id))

    def wait(self, *, progress: bool = True) -> JobStatus:
        """Until it is done; ApiError with the job's code when it failed, or job_cancelled."""
        with bar(progress, "embed", "steps") as tell:
            return self._run(job_events.wait(self._flows.caller, self.id, tell))

    def embeddings(self, level: Level | None = None, *, dtype: str = "float32") -> Night:
        """Its embedding, once it is done; without `level` all that it has."""
        return self._run(self._flows.job_embeddings(self.id, level, dtype))

    def hypnogram(self) -> Hypnogram:
        """Stages by the bundle's probe; ApiError no_staging_probe when it has none."""
        return self._run(self._flows.hypnogram(self.id))

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a page about the night to a file."""
        self._run(self._flows.report(self.id, path))

    def delete(self) -> None:
        """Cancel it, and delete its results and the upload that was made for it."""
        self._run(self._flows.delete_job(self.id, self.upload))
