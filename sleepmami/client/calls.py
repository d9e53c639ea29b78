"""One request to the service: how it looks, when it is sent again, and what an error becomes.

Every request of the client may be sent twice: reading changes nothing, the same recording has the
same embedding, what makes an upload or a job carries an Idempotency-Key, and what deletes finds
nothing the second time.
"""

import email.utils
import json
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sleepmami import __version__
from sleepmami.client.steps import Answer, Ask, Flow, NoAnswer, Pause
from sleepmami.client.tls import TLS_REFUSED
from sleepmami.errors import ApiError, ClientError, require

PASSING = (423, 429, 502, 503, 504)  # statuses that pass by themselves
STALLED = "upload_stalled"  # 408 of ours; the 408 of Serve's proxy is half an hour of work
NO_ANSWER, ANSWER_INVALID = "no_answer", "answer_invalid"  # codes of the client's own


@dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """When a request is sent again: exponential back-off with full jitter.

    Attributes:
        count: further attempts after the first.
        first_s: the first pause is at most this; each further one at most twice as long.
        most_s: no pause is longer, but for what Retry-After adds.
        longest_wait_s: a Retry-After above this is not waited for; the error comes at once.
        chance: a number from 0 to 1.
    """

    count: int = 8
    first_s: float = 0.5
    most_s: float = 30.0
    longest_wait_s: float = 120.0
    chance: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        require(self.count >= 0, "retries.count", self.count, ">= 0")
        for name in ("first_s", "most_s", "longest_wait_s"):
            require(getattr(self, name) >= 0, f"retries.{name}", getattr(self, name), ">= 0")

    def pause_s(self, attempt: int, outcome: Answer | NoAnswer) -> float | None:
        """Seconds before the next attempt; None when there is to be none.

        Args:
            attempt: how many have failed, from 1.
            outcome: of the last of them.
        """
        after_s = retry_after_s(outcome) or 0.0
        if attempt > self.count or after_s > self.longest_wait_s:
            return None
        return after_s + self.chance() * min(self.most_s, self.first_s * 2.0 ** (attempt - 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Sends requests of one client.

    Attributes:
        key: of the service; None for a service without keys.
        timeout_s: for the next byte of a usual answer.
        night_timeout_s: of one that takes computing.
    """

    key: str | None = field(default=None, repr=False)
    retries: Retries = Retries()
    timeout_s: float = 60.0
    night_timeout_s: float = 1860.0  # the service gives up after 1800

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Sequence[tuple[str, str]] = (),
        content: bytes = b"",
        slow: bool = False,
    ) -> Ask:
        """One request; `slow`: its answer takes computing."""
        sent = {"user-agent": f"sleepmami/{__version__}", "x-request-id": uuid.uuid4().hex}
        if self.key is not None:
            sent["authorization"] = f"Bearer {self.key}"
        return Ask(
            method=method,
            path=path,
            headers=sent | dict(headers or {}),
            params=params,
            content=content,
            timeout_s=self.night_timeout_s if slow else self.timeout_s,
        )

    def ask(self, method: str, path: str, **parts: Any) -> Flow[Answer]:  # Any: of `request`
        """The answer of a request, sent again while what hinders it may pass.

        Raises:
            ApiError: the service refused it, or there was no answer.
            ClientError: tls_refused.
        """
        request = self.request(method, path, **parts)
        attempt = 0
        while True:
            outcome: Answer | NoAnswer = yield request
            attempt += 1
            if isinstance(outcome, Answer) and outcome.status < 300:  # a redirect is none of ours
                return outcome
            pause_s = self.retries.pause_s(attempt, outcome) if may_pass(outcome) else None
            if pause_s is None:
                raise api_error(outcome, request)
            yield Pause(pause_s)

    def ask_json(self, method: str, path: str, **parts: Any) -> Flow[dict[str, Any]]:  # Any: JSON
        """The same, of a JSON answer."""
        answer = yield from self.ask(method, path, **parts)
        return json_of(answer)

    def post_json(self, path: str, body: Mapping[str, Any], **parts: Any) -> Flow[Answer]:
        """POST of a JSON body."""
        headers = {"content-type": "application/json"} | parts.pop("headers", {})
        content = json.dumps(body).encode()
        return (yield from self.ask("POST", path, headers=headers, content=content, **parts))


def may_pass(outcome: Answer | NoAnswer) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(outcome, NoAnswer):
        return outcome.tls is None
    if outcome.status in PASSING:
        return True
    return outcome.status == 408 and _error_of(outcome).get("code") == STALLED


def api_error(outcome: Answer | NoAnswer, request: Ask) -> ApiError | ClientError:
    """The error of a request that failed; ClientError tls_refused before there was one."""
    request_id = request.headers["x-request-id"]
    if isinstance(outcome, NoAnswer):
        if outcome.tls is not None:
            wanted = "https, and a certificate for this name by an authority that is trusted"
            return ClientError(TLS_REFUSED, f"{outcome.tls}; expected {wanted}: see verify")
        message = f"The service did not answer ({outcome.reason})."
        return ApiError(NO_ANSWER, None, message, request_id)
    told = _error_of(outcome)
    return ApiError(
        told.get("code", f"http_{outcome.status}"),
        outcome.status,
        told.get("message", "The answer is not of the service's form; is there a proxy before it?"),
        told.get("request_id") or outcome.headers.get("x-request-id", request_id),
        retry_after_s=retry_after_s(outcome),
    )


def answer_invalid(answer: Answer, what: str) -> ApiError:
    """The error of an answer that is not what this client understands."""
    request_id = answer.headers.get("x-request-id", "")
    message = f"The answer holds no {what}; client and service may be of different releases."
    return ApiError(ANSWER_INVALID, answer.status, message, request_id)


def json_of(answer: Answer) -> dict[str, Any]:  # Any: JSON values
    """The JSON object of an answer; ApiError answer_invalid."""
    try:
        found = json.loads(answer.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise answer_invalid(answer, "JSON object")
    return found


def retry_after_s(outcome: Answer | NoAnswer) -> float | None:
    """Seconds of Retry-After, which is a number or a date (RFC 9110, section 10.2.3)."""
    text = "" if isinstance(outcome, NoAnswer) else outcome.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _error_of(answer: Answer) -> dict[str, str]:
    try:
        error = json.loads(answer.content)["error"]
        return {name: error[name] for name in ("code", "message", "request_id")}
    except (ValueError, TypeError, KeyError):
        return {}
