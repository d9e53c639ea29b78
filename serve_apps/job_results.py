"""What a finished job answers with: files made from the one embedding it kept."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from serve_apps.formats import SUFFIXES, choose, from_npz, to_file
from serve_apps.http_errors import HttpError
from serve_apps.hypnogram import Hypnogram, hypnogram_of
from serve_apps.job_runner import EMBEDDING_FILE, OVERVIEW_FILE
from serve_apps.job_store import Job, JobStore
from serve_apps.service import Service
from serve_apps.wire import DType, Level
from sleepmami.inference.embedder import NightEmbedding

REPORT_FILE = "report.html"


class JobResults:
    """Results of one service's jobs."""

    def __init__(self, service: Service) -> None:
        self._store: JobStore = service.runner.store
        self._probes = service.probes
        self._drawing = asyncio.Lock()  # one report at a time: pictures take a second of a core

    def names(self, job: Job) -> list[str]:
        """Paths of the results below the job's own."""
        if job.state != "done":
            return []
        found = [f"embeddings.{suffix}" for suffix in SUFFIXES] + [REPORT_FILE]
        if self._store.has_result(job, OVERVIEW_FILE):
            found.append(OVERVIEW_FILE)
        if job.weights_sha256 in self._probes:
            found += ["hypnogram.json", "hypnogram.tsv"]
        return found

    def embedding(self, job: Job) -> NightEmbedding:
        """What the job kept; HttpError("job_not_done")."""
        data = self._store.read_result(job, EMBEDDING_FILE) if job.state == "done" else None
        if data is None:
            raise HttpError("job_not_done")
        return from_npz(data)

    def file(self, job: Job, suffix: str, levels: Sequence[Level], dtype: DType) -> bytes:
        """The embedding as a file; HttpError as `embedding` and `choose`."""
        embedding = self.embedding(job)
        if not levels:
            levels = ("all", "second") if job.second else ("all",)
        return to_file(choose(embedding, levels, dtype), suffix)

    def overview(self, job: Job) -> bytes:
        """JSON; HttpError job_not_done, no_overview."""
        if job.state != "done":
            raise HttpError("job_not_done")
        data = self._store.read_result(job, OVERVIEW_FILE)
        if data is None:
            raise HttpError("no_overview")
        return data

    def hypnogram(self, job: Job) -> tuple[Hypnogram, Mapping[str, Any]]:  # Any: JSON values
        """The stages, and what made the vectors; HttpError job_not_done, no_staging_probe."""
        embedding = self.embedding(job)
        probe = self._probes.get(embedding.info["weights_sha256"])
        if probe is None:
            raise HttpError("no_staging_probe")
        return hypnogram_of(embedding, probe), embedding.info

    async def report(self, job: Job) -> bytes:
        """A page about the night, drawn when it is first asked for; HttpError("job_not_done")."""
        async with self._drawing:
            return await asyncio.to_thread(self._report, job)

    def _report(self, job: Job) -> bytes:
        kept = self._store.read_result(job, REPORT_FILE)
        if kept is not None:
            return kept
        # matplotlib: 60 MB that a service without reports does not need
        from sleepmami.report.recording_report import RecordingReport, render_recording

        embedding = self.embedding(job)
        stages, confidence = None, None
        if embedding.info["weights_sha256"] in self._probes:
            hypnogram, _ = self.hypnogram(job)
            stages, confidence = hypnogram.codes(), hypnogram.confidence
        page = render_recording(
            RecordingReport(
                micro=embedding.micro,
                macro=embedding.macro,
                epoch_valid=embedding.epoch_valid,
                modality_valid=embedding.modality_valid,
                info=embedding.info,
                overview=self._store.read_result(job, OVERVIEW_FILE),
                stages=stages,
                confidence=confidence,
            )
        ).encode()
        self._store.write_result(job, REPORT_FILE, page)
        return page
