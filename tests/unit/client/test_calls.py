"""Which failures are met with another attempt, after which pause, and what an error says."""

import email.utils
import pickle
import time

import httpx
import pytest

from sleepmami.client import Client, Retries
from sleepmami.client import drivers as driver_module
from sleepmami.client.calls import retry_after_s
from sleepmami.client.steps import Answer
from sleepmami.errors import ApiError, ClientError, ConfigError
from tests.unit.client.fake_service import URL, FakeService, client_of, error, faults_of, npz

EDF = b"an edf"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(driver_module.time, "sleep", found.append)
    return found


def failure(service: FakeService, retries: Retries | None = None) -> ApiError:
    with (
        client_of(service, retries=retries or Retries(count=2, first_s=0.0)) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.embed(EDF)
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [
        error(429, "overloaded", retry_after="0"),
        error(503, "model_not_ready", retry_after="0"),
        httpx.Response(503, text="no Ingress is running"),
        httpx.Response(502, text="Bad gateway"),
        httpx.Response(504, text="Gateway timeout"),
        error(408, "upload_stalled"),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("a replica died"),
        httpx.ReadTimeout("silent"),
    ],
    ids=lambda fault: getattr(fault, "status_code", type(fault).__name__),
)
def test_what_passes_is_asked_again(fault: httpx.Response | Exception) -> None:
    service = FakeService(faults_of(fault, fault))
    with client_of(service) as client:
        night = client.embed(EDF)
    assert night.night is not None
    assert night.night[0] == len(EDF)
    assert len(service.seen) == 3
    assert len({request.headers["x-request-id"] for request in service.seen}) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (error(400, "not_an_edf"), "not_an_edf"),
        (error(401, "unauthorized"), "unauthorized"),
        (error(422, "recording_too_short"), "recording_too_short"),
        (error(500, "internal_error"), "internal_error"),
        (httpx.Response(408, text="Request timed out"), "http_408"),
        (httpx.Response(500, json=["no object"]), "http_500"),
        (httpx.Response(301, headers={"location": "https://elsewhere/"}), "http_301"),
        (httpx.Response(404, json={"error": {"code": "half"}}), "http_404"),
    ],
)
def test_what_does_not_pass_is_told_at_once(fault: httpx.Response, code: str) -> None:
    service = FakeService(faults_of(fault))
    told = failure(service)
    assert (told.code, told.status) == (code, fault.status_code)
    assert len(service.seen) == 1


def test_an_error_carries_what_the_service_said() -> None:
    told = failure(FakeService(faults_of(error(400, "not_an_edf"))))
    assert (told.message, told.request_id) == ("It is not_an_edf.", "r-1")
    assert str(told) == "not_an_edf: It is not_an_edf. (HTTP 400, request r-1)"


def test_attempts_end() -> None:
    service = FakeService(lambda request: error(429, "overloaded", retry_after="0"))
    told = failure(service)
    assert (told.code, told.status, len(service.seen)) == ("overloaded", 429, 3)


def test_silence_is_an_error_of_its_own_and_tells_no_address() -> None:
    told = failure(FakeService(lambda request: httpx.ConnectError("no route to 10.0.0.1")))
    assert (told.code, told.status) == ("no_answer", None)
    assert "ConnectError" in str(told)
    assert "10.0.0.1" not in str(told)


def test_pauses_double_up_to_a_bound_and_begin_after_retry_after(pauses: list[float]) -> None:
    busy = error(429, "overloaded", retry_after="5")
    faults = faults_of(*[httpx.ReadError("")] * 5, busy)
    retries = Retries(first_s=1.0, most_s=6.0, chance=lambda: 1.0)
    with client_of(FakeService(faults), retries=retries) as client:
        client.embed(EDF)
    assert pauses == [1.0, 2.0, 4.0, 6.0, 6.0, 11.0]


def test_pauses_differ_by_chance(pauses: list[float]) -> None:
    with client_of(
        FakeService(faults_of(*[httpx.ReadError("")] * 6)), retries=Retries(first_s=1.0, most_s=1.0)
    ) as client:
        client.embed(EDF)
    assert len(set(pauses)) == 6
    assert 0 <= min(pauses) < max(pauses) <= 1


def test_a_quota_of_the_day_is_not_waited_for() -> None:
    service = FakeService(lambda request: error(429, "quota_exceeded", retry_after="40000"))
    told = failure(service, Retries())
    assert (told.code, told.retry_after_s, len(service.seen)) == ("quota_exceeded", 40000.0, 1)


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7.0), ("", None), ("soon", None), ("-3", None), ("٣", None)]
)
def test_retry_after_is_a_number(text: str, expected: float | None) -> None:
    assert retry_after_s(Answer(503, {"retry-after": text})) == expected


def test_retry_after_is_a_date() -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after_s(Answer(503, {"retry-after": date})) == pytest.approx(60, abs=2)
    assert retry_after_s(Answer(503, {"retry-after": email.utils.formatdate(0, usegmt=True)})) == 0


def test_the_key_is_sent_and_shown_nowhere() -> None:
    service = FakeService()
    with Client(URL, "s3cret", transport=httpx.MockTransport(service)) as client:
        client.embed(EDF)
        assert "s3cret" not in repr(client._flows)
    assert service.seen[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("url", ["", "service", "ftp://service", "http://", "http://key@service", "http://s/?q=1"])  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Client(url)


@pytest.mark.parametrize("wrong", [{"level": "epoch"}, {"level": []}, {"dtype": "float64"}])
def test_a_wrong_argument_is_refused_before_anything_is_sent(wrong: dict[str, str]) -> None:
    service = FakeService()
    with client_of(service) as client, pytest.raises(ConfigError):
        client.embed(EDF, **wrong)
    assert service.seen == []


@pytest.mark.parametrize(
    "content", [b"", b"no npz", npz()[:-30], b"PK\x03\x04", npz(weights="x").replace(b"info", b"inf0")]
)  # fmt: skip
def test_an_answer_that_is_no_embedding_is_an_error(content: bytes) -> None:
    told = failure(FakeService(lambda request: httpx.Response(200, content=content)))
    assert told.code == "answer_invalid"


@pytest.mark.parametrize("name", ["../info", "a/b", "", "..", "ä", "a?b"])
def test_an_id_does_not_become_another_path(name: str) -> None:
    service = FakeService()
    with client_of(service) as client:
        with pytest.raises(ConfigError):
            client.recording(name)
        with pytest.raises(ConfigError):
            client.job(name).status()
    assert service.seen == []


def test_errors_survive_pickling() -> None:
    told = ApiError("overloaded", 429, "Wait.", "r-1", retry_after_s=5.0)
    copy = pickle.loads(pickle.dumps(told))
    assert (str(copy), vars(copy)) == (str(told), vars(told))
    mixed = pickle.loads(pickle.dumps(ClientError("weights_mixed", "two")))
    assert (mixed.code, mixed.message) == ("weights_mixed", "two")


def test_a_service_may_lie_below_a_path() -> None:
    service = FakeService(lambda request: httpx.Response(200, json={"models": []}))
    with Client("https://host/sleep/", transport=httpx.MockTransport(service)) as client:
        client.info()
    assert str(service.seen[0].url) == "https://host/sleep/info"
