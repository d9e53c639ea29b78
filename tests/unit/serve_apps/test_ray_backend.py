"""The way of a recording through the deployments while a bundle changes; handles are fakes."""

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from serve_apps import call_batcher, ray_backend
from serve_apps.backend import EmbedOptions, Progress
from serve_apps.ray_backend import RayBackend
from serve_apps.stages import (
    Encoded,
    HeardShare,
    OtherSettings,
    OtherWeights,
    Preprocessed,
    settings_key,
)
from sleepmami.config import PreprocessConfig, ServeConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.inference.embedder import NightEmbedding
from sleepmami.psg import Night
from tests.preprocessed import noise_night
from tests.unit.serve_apps.fake_handles import FakeHandle, run

OLD, NEW = (to_dict(PreprocessConfig(notch_hz=hz)) for hz in (50.0, 60.0))
SECONDS = {"queued": 0.25, "encoding": 1.0, "night": 0.5}


@pytest.fixture(autouse=True)
def put(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_backend.ray, "put", lambda recording: recording)


@pytest.fixture
def night() -> Night:
    return dataclasses.replace(noise_night(2), num_epochs=960)


class Service:
    """A Preprocessor, and Encoders that answer each call with the next of `outcomes`."""

    def __init__(self, night: Night, embedding: NightEmbedding, *outcomes: Any) -> None:
        self.night, self.embedding = night, embedding
        self.outcomes = list(outcomes)
        self.preprocessor = FakeHandle(load_steps=self.load_steps, load_many=self.load_many)
        self.encoder = FakeHandle(
            info=self.info,
            night_steps=self.night_steps,
            share_steps=self.share_steps,
            joined=self.joined,
            nights=self.nights,
            windows=self.nights,
        )
        config = ServeConfig(num_replicas=2)
        encoders: Any = {"default": self.encoder}
        preprocessor: Any = self.preprocessor
        self.backend = RayBackend(preprocessor, encoders, {}, config)
        self.observed: list[Mapping[str, float]] = []
        self.backend.observe = lambda seconds, *_: self.observed.append(seconds)

    def loaded(self, settings: Mapping[str, Any]) -> Preprocessed:
        return Preprocessed(self.night, settings_key(from_dict(PreprocessConfig, settings)), 2.0)

    def next_outcome(self) -> Any:
        outcome = self.outcomes.pop(0)
        return Encoded(self.embedding, SECONDS) if outcome == "encoded" else outcome

    async def load_steps(
        self, recording: Any, settings: Mapping[str, Any], request_id: str, overview: bool
    ) -> AsyncIterator[Any]:
        yield Progress("preprocessing", 1, 1)
        yield self.loaded(settings)

    async def load_many(self, asked: Sequence[Any]) -> AsyncIterator[Any]:
        yield [self.loaded(item.settings) for item in asked]

    async def info(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(preprocess=OLD)

    async def night_steps(self, loaded: Any, request_id: str, second: bool) -> AsyncIterator[Any]:
        yield self.next_outcome()

    async def share_steps(
        self, loaded: Any, request_id: str, index: int, num_shares: int
    ) -> AsyncIterator[Any]:
        if self.outcomes[0] == OtherSettings(NEW):
            yield self.next_outcome()
        else:
            yield HeardShare((), ("weights",), {"queued": 0.0, "encoding": 1.0}, 1, 1)

    async def joined(self, loaded: Any, request_id: str, *shares: Any) -> AsyncIterator[Any]:
        yield self.next_outcome()

    async def nights(self, asked: Sequence[Any]) -> AsyncIterator[Any]:
        yield [self.next_outcome() for _ in asked]

    def embed(self, recording: bytes | str, *, second: bool = False) -> Any:
        return run(self.backend.embed(recording, "r-1", EmbedOptions(second=second)))

    def calls(self) -> list[str]:
        return [call.method for call in self.encoder.calls if call.method != "info"]


def test_a_long_night_is_heard_in_shares(night: Night, embedding: NightEmbedding) -> None:
    service = Service(night, embedding, "encoded")
    assert service.embed("/upload") is embedding
    assert service.calls() == ["share_steps", "share_steps", "joined"]
    assert service.observed[0].items() >= ({"preprocessing": 2.0} | SECONDS).items()


def test_with_vectors_of_seconds_one_encoder_hears_it(
    night: Night, embedding: NightEmbedding
) -> None:
    service = Service(night, embedding, "encoded")
    assert service.embed("/upload", second=True) is embedding
    assert service.calls() == ["night_steps"]


def test_shares_of_two_models_are_heard_again_by_one_and_not_preprocessed_again(
    night: Night, embedding: NightEmbedding
) -> None:
    service = Service(night, embedding, OtherWeights(), "encoded")
    assert service.embed("/upload") is embedding
    assert service.calls() == ["share_steps", "share_steps", "joined", "night_steps"]
    assert len(service.preprocessor.calls) == 1


def test_a_share_that_wants_other_settings_is_preprocessed_by_them_and_heard_by_one(
    night: Night, embedding: NightEmbedding
) -> None:
    """Of two Encoders in a rolling update both have to be new for shares to succeed."""
    service = Service(night, embedding, OtherSettings(NEW), OtherSettings(OLD), "encoded")
    assert service.embed("/upload") is embedding
    assert service.calls()[-2:] == ["night_steps", "night_steps"]
    assert [call.args[1] for call in service.preprocessor.calls] == [OLD, NEW, OLD]


def test_a_service_that_never_agrees_is_not_asked_for_ever(
    night: Night, embedding: NightEmbedding
) -> None:
    service = Service(night, embedding, *[OtherSettings(NEW)] * 20)
    assert service.embed("/upload").code == "model_not_ready"
    assert len(service.preprocessor.calls) == ray_backend.MAX_TRIES


def test_a_small_recording_goes_by_its_own_way_and_tells_its_waits(
    night: Night, embedding: NightEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(100))  # a second passes whenever anybody looks: one in each of two queues
    monkeypatch.setattr(call_batcher, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    service = Service(night, embedding, OtherSettings(NEW), "encoded")
    assert service.embed(b"no EDF, so it is small") is embedding
    assert service.calls() == ["nights", "nights"]
    assert [call.args[0][0].settings for call in service.preprocessor.calls] == [OLD, NEW]
    assert service.observed[0]["queued"] == SECONDS["queued"] + 4
    assert service.observed[0]["preprocessing"] == 2.0
