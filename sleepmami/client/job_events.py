"""A job as it goes on: its server-sent events, over as many connections as it takes.

The format is that of html.spec.whatwg.org, section 9.2, as far as the service uses it.
"""

from dataclasses import dataclass, field

from sleepmami.client.answers import JobStatus, job_status_of
from sleepmami.client.calls import Caller, api_error, may_pass
from sleepmami.client.flows import job_path
from sleepmami.client.steps import (
    Answer,
    Flow,
    Listen,
    Listening,
    NextLine,
    NoAnswer,
    Pause,
    Tell,
    told,
)
from sleepmami.client.uploading import Progress
from sleepmami.errors import ApiError


@dataclass(slots=True)
class EventParser:
    """Lines of a stream to events.

    Attributes:
        last_id: of the last event that was whole.
    """

    last_id: str | None = None
    _fields: dict[str, str] = field(default_factory=dict)

    def feed(self, line: str) -> str | None:
        """The data of the event that ends with this line; None when none does."""
        if line:
            name, _, value = line.partition(":")
            if name:  # a comment has none
                self._fields[name] = value.removeprefix(" ")
            return None
        found, self._fields = self._fields, {}
        if "data" not in found:
            return None
        self.last_id = found.get("id", self.last_id)
        return found["data"]


def events(caller: Caller, job_id: str) -> Flow[None]:
    """Tells a JobStatus now and after each change, up to and with the last one.

    Raises:
        ApiError: there is no such job, or the service went on being silent.
    """
    path = f"{job_path(job_id)}/events"
    seen: str | None = None
    failures = 0
    while True:
        headers = {"accept": "text/event-stream"}
        headers |= {} if seen is None else {"last-event-id": seen}
        request = caller.request("GET", path, headers=headers)
        outcome: Listening | Answer | NoAnswer = yield Listen(request)
        if isinstance(outcome, Listening):
            parser = EventParser(seen)
            line: str | NoAnswer | None = ""
            while isinstance(line := (yield NextLine(outcome)), str):
                data = parser.feed(line)
                if data is None:
                    continue
                failures = 0
                if parser.last_id != seen or seen is None:
                    seen = parser.last_id
                    status = job_status_of(Answer(200, content=data.encode()))
                    yield Tell(status)
                    if status.has_ended:
                        return
            outcome = line if isinstance(line, NoAnswer) else NoAnswer("the stream ended")
        elif isinstance(outcome, Answer) and outcome.status == 204:
            return  # nothing more will come
        failures += 1
        pause_s = caller.retries.pause_s(failures, outcome) if may_pass(outcome) else None
        if pause_s is None:
            raise api_error(outcome, request)
        yield Pause(pause_s)


def wait(caller: Caller, job_id: str, tell: Progress) -> Flow[JobStatus]:
    """The job once it is done; `tell` is of the channels or epochs of the stage it is in.

    Raises:
        ApiError: with the job's own code when it failed, job_cancelled when it was cancelled, and
            as `events`.
    """
    last: list[JobStatus] = []

    def see(status: JobStatus) -> None:
        last[:] = [status]
        tell(status.done, status.total)

    yield from told(events(caller, job_id), see)
    status = last[0] if last else job_status_of((yield from caller.ask("GET", job_path(job_id))))
    if status.state == "done":
        return status
    error = status.error or {"code": "job_cancelled", "message": "The job was cancelled."}
    raise ApiError(error["code"], None, error["message"], status.id)
