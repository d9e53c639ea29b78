"""What /metrics shows, in the registry of one app so that two apps in a process do not meet."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve_apps.http_errors import ERRORS
from serve_apps.request_log import note_stages
from sleepmami.errors import RecordingCode
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.psg import MODALITIES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGES = ("preprocessing", "queued", "encoding", "night", "total")
BATCH_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BAD_STATUSES = ("401", "429", "500", "503")  # shown as 0 before the first: see `expect_routes`
SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one ingress process.

    Args:
        admitted: tells how many requests hold a recording or wait to send one.
    """

    def __init__(self, admitted: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        Gauge(
            "sleepmami_requests_admitted",
            "Requests that hold a recording or wait for their turn to send one.",
            registry=self.registry,
        ).set_function(admitted)
        self._requests = Counter(
            "sleepmami_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "sleepmami_request_seconds",
            "Time from the request's header to its whole answer, by class: a refusal is quick and "
            "says nothing of how long a night takes.",
            ["route", "class"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "sleepmami_recordings_refused",
            "Recordings not embedded, by error code.",
            ["code"],
            registry=self.registry,
        )
        self._nights = Counter(
            "sleepmami_nights_embedded", "Recordings embedded.", registry=self.registry
        )
        self._epochs = Counter(
            "sleepmami_epochs_embedded", "30-s epochs embedded.", registry=self.registry
        )
        self._missing = Counter(
            "sleepmami_modality_missing",
            "Embedded recordings without a signal of the modality.",
            ["modality"],
            registry=self.registry,
        )
        self._uploaded = Counter(
            "sleepmami_upload_bytes", "Bytes of uploads that were kept.", registry=self.registry
        )
        self._stages = Histogram(
            "sleepmami_stage_seconds",
            "Where the time of an answer went: preprocessing, queued (for a call and its first "
            "window), encoding (to its last window, other requests' windows between), night; total "
            "is of a recording, from the request's body to its embedding.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "sleepmami_batch_windows",
            "Windows per forward pass, own and other requests', as the mean over one request.",
            buckets=BATCH_WINDOWS,
            registry=self.registry,
        )
        for modality in MODALITIES:
            self._missing.labels(modality.value)  # a series that is 0 is better than none
        for stage in STAGES:
            self._stages.labels(stage)
        for code in ERRORS.keys() & {code.value for code in RecordingCode}:
            self._refused.labels(code)

    def expect_routes(self, routes: Iterable[str]) -> None:
        """Show that nothing was answered on these yet, and that nothing went wrong.

        A series that begins at 1 has not increased, as Prometheus sees it: without the 0 before it
        the first failure of a route, and the time its first answers took, would be in no graph and
        no alert.
        """
        for route in routes:
            self._seconds.labels(route, "2xx")
            for status in BAD_STATUSES:
                self._requests.labels(route, status)

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Show how many requests wait for their turn."""
        Gauge(
            "sleepmami_requests_waiting",
            "Requests that wait for their turn, with their body unread.",
            registry=self.registry,
        ).set_function(waiting)

    def watch_jobs(self, waiting: Callable[[], int], most: int) -> None:
        """Show how many jobs wait or run, and how many may."""
        Gauge("sleepmami_jobs", "Jobs that wait or run.", registry=self.registry).set_function(
            waiting
        )
        Gauge("sleepmami_jobs_most", "Jobs that may wait or run.", registry=self.registry).set(most)

    def observe_upload(self, num_bytes: int) -> None:
        """Count the bytes of one part."""
        self._uploaded.inc(num_bytes)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route, f"{status // 100}xx").observe(seconds)

    def observe_embedding(self, embedding: NightEmbedding) -> None:
        """Count one embedded recording."""
        self._nights.inc()
        self._epochs.inc(len(embedding.epoch_valid))
        for modality in embedding.info["modalities_missing"]:
            self._missing.labels(modality).inc()

    def observe_stages(self, seconds: Mapping[str, float], batches: int, windows: int) -> None:
        """Note where the time of one answer went; see `backend.Observed`."""
        for stage, spent_s in seconds.items():
            self._stages.labels(stage).observe(spent_s)
        if batches:
            self._batches.observe(windows / batches)
        note_stages(seconds)

    def observe_refusal(self, code: str) -> None:
        """Count one recording that could not be embedded."""
        self._refused.labels(code).inc()

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
