"""What a preprocessor and an encoder make of recordings and windows, each in this process."""

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_apps import preprocessor
from serve_apps.backend import Progress, Refusal, WindowBatch
from serve_apps.encoder import LocalEncoder, warm_up
from serve_apps.preprocessor import LocalPreprocessor
from serve_apps.stages import (
    Encoded,
    HeardShare,
    OtherSettings,
    OtherWeights,
    Preprocessed,
    ToEncode,
    ToHear,
    ToLoad,
    settings_key,
    shared,
)
from sleepmami.config import PreprocessConfig
from sleepmami.config_edit import to_dict
from sleepmami.errors import CheckpointError
from sleepmami.inference.embedder import Embedder, EpochEmbedding, NightEmbedding
from sleepmami.inference.hearing import Piece
from sleepmami.psg import MODALITIES, STORED_SCALE, Modality
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.preprocess import load_night
from tests.bundles import random_bundle
from tests.preprocessed import noise_night

SECRET = b"JANE-DOE"
SETTINGS = to_dict(PreprocessConfig())


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(random_bundle(), windows_per_batch=2)


@pytest.fixture
def encoder(embedder: Embedder) -> Iterator[LocalEncoder]:
    made = LocalEncoder(embedder, threads=1, name="new")
    yield made
    made.close()


@pytest.fixture(scope="module")
def edf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four minutes of an EEG and a chin channel; a name in the patient field."""
    path = tmp_path_factory.mktemp("edf") / "night.edf"
    rng = np.random.default_rng(2)
    channels = [
        WriteChannel(
            label=label,
            unit="uV",
            sample_rate_hz=100,
            samples=rng.normal(0, 30, 240 * 100),
            physical_min=-500.0,
            physical_max=500.0,
        )
        for label in ("C4-M1", "EMG chin", "JANE DOE")
    ]
    write_edf(Path(path), channels)
    data = path.read_bytes()
    return data[:8] + SECRET.ljust(80) + data[88:]


def load(recording: bytes | str) -> list[object]:
    async def steps() -> list[object]:
        loading = LocalPreprocessor().load_steps(shared(recording), SETTINGS, "r-1")
        return [step async for step in loading]

    return asyncio.run(steps())


def loaded(recording: bytes | str) -> Preprocessed:
    night = load(recording)[-1]
    assert isinstance(night, Preprocessed)
    return night


def night_steps(encoder: LocalEncoder, night: Preprocessed, second: bool = False) -> list[object]:
    async def steps() -> list[object]:
        return [step async for step in encoder.night_steps(night, "r-1", second)]

    return asyncio.run(steps())


# ------------------------------------------------------------------------------ the preprocessor


def test_bytes_and_a_path_give_the_librarys_night(edf: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "upload").write_bytes(edf)
    expected = load_night(edf, PreprocessConfig(), recording_id="x")
    for recording in (edf, str(path)):
        night = loaded(recording).night
        assert night.recording_id == "upload"
        for modality, stored in expected.signals.items():
            np.testing.assert_array_equal(night.signals[modality], stored)


def test_each_channel_is_told_as_it_is_done(edf: bytes) -> None:
    steps = load(edf)
    assert steps[:-1] == [Progress("preprocessing", 1, 2), Progress("preprocessing", 2, 2)]


def test_a_bad_recording_is_refused_by_code_alone() -> None:
    assert load(SECRET * 100) == [Refusal("not_an_edf")]
    assert load("/nothing/there") == [Refusal("unreadable")]


def test_an_inspection_does_not_wait_behind_a_night(
    edf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(*args: object, **kwargs: object) -> None:
        begun.set()
        assert may_end.wait(20)

    monkeypatch.setattr(preprocessor, "load_night", slow)

    async def run() -> None:
        both = LocalPreprocessor()
        steps = both.load_steps(shared(edf), SETTINGS, "r-1")
        night = asyncio.ensure_future(anext(steps))
        await asyncio.to_thread(begun.wait, 20)
        found = await both.inspect(shared(edf), SETTINGS, "r-2")
        assert not isinstance(found, Refusal)
        assert not night.done()
        may_end.set()
        await night

    asyncio.run(run())


def test_an_inspection_has_no_word_of_the_header(edf: bytes) -> None:
    found = asyncio.run(LocalPreprocessor().inspect(shared(edf), SETTINGS, "r-1"))
    assert "JANE" not in str(found)
    assert not isinstance(found, Refusal)
    assert (found.ok, found.duration_s, found.modalities) == (True, 240.0, ("EEG", "EMG"))
    assert [(c.label, c.decision, c.reason) for c in found.channels] == [
        ("C4-M1", "used", "used_as_recorded"),
        ("EMG chin", "used", "used_as_recorded"),
        (None, "ignored", "unknown_label"),
    ]


# ------------------------------------------------------------------------------------ the encoder


def test_a_night_is_the_librarys_without_its_labels(
    encoder: LocalEncoder, embedder: Embedder, edf: bytes
) -> None:
    *steps, answer = night_steps(encoder, loaded(edf))
    assert steps == [Progress("encoding", 4, 8)]
    assert isinstance(answer, Encoded)
    embedding = answer.embedding
    assert isinstance(embedding, NightEmbedding)
    expected = embedder.night(load_night(edf, PreprocessConfig(), recording_id="x"))
    for name in ("micro", "macro", "cycles", "night"):
        found = getattr(embedding, name)
        np.testing.assert_allclose(found, getattr(expected, name), atol=1e-5, rtol=0)
    assert embedding.info["channels_used"] == [
        {"modality": "EEG", "derivation": "as_recorded"},
        {"modality": "EMG", "derivation": "as_recorded"},
    ]
    assert set(embedding.info) == {
        "model_id",
        "weights_sha256",
        "code_version",
        "precision",
        "both_halves",
        "night_vector",
        "num_epochs",
        "modalities_missing",
        "channels_used",
    }
    assert (answer.batches, answer.windows) == (2, 4)
    assert set(answer.seconds) == {"queued", "encoding", "night"}


def test_a_night_made_with_other_settings_is_sent_back(encoder: LocalEncoder, edf: bytes) -> None:
    other = dataclasses.replace(PreprocessConfig(), notch_hz=50.0)
    night = dataclasses.replace(loaded(edf), settings_key=settings_key(other))
    assert night_steps(encoder, night) == [OtherSettings(SETTINGS)]


def test_vectors_per_second_come_when_they_are_asked_for(
    encoder: LocalEncoder, embedder: Embedder, edf: bytes
) -> None:
    night = load_night(edf, PreprocessConfig(), recording_id="x")
    expected = embedder.night(night, seconds=True).second
    answer = night_steps(encoder, loaded(edf), second=True)[-1]
    assert isinstance(answer, Encoded)
    assert isinstance(answer.embedding, NightEmbedding)
    assert answer.embedding.second is not None
    assert expected is not None
    assert answer.embedding.second.shape[1] == asyncio.run(encoder.info()).model.second_dim
    np.testing.assert_allclose(answer.embedding.second, expected, atol=1e-5, rtol=0)


async def in_shares(encoder: LocalEncoder, night: Preprocessed, num_shares: int) -> object:
    async def last(index: int) -> object:
        return [step async for step in encoder.share_steps(night, "r-1", index, num_shares)][-1]

    shares = await asyncio.gather(*(last(index) for index in range(num_shares)))
    heard = [share for share in shares if isinstance(share, HeardShare)]
    assert len(heard) == num_shares
    return await encoder.joined(night, "r-1", *heard)


@pytest.mark.parametrize(
    ("num_epochs", "num_shares", "both_halves"),
    [(8, 2, False), (7, 2, False), (9, 3, True), (5, 3, True)],
)
def test_a_night_heard_in_shares_is_the_night_heard_whole(
    num_epochs: int, num_shares: int, both_halves: bool
) -> None:
    """The last window of an odd night overlaps the one before it, which another share hears."""
    embedder = Embedder(random_bundle(), windows_per_batch=2, both_halves=both_halves)
    night = noise_night(num_epochs)
    night.usable[Modality.EMG][2:4] = False
    expected = embedder.night(night)
    encoder = LocalEncoder(embedder, threads=1)
    sent = Preprocessed(night, settings_key(PreprocessConfig()), 0.1)
    answer = asyncio.run(in_shares(encoder, sent, num_shares))
    encoder.close()
    assert isinstance(answer, Encoded)
    assert isinstance(answer.embedding, NightEmbedding)
    for name in ("micro", "macro", "cycles", "night", "epoch_valid", "modality_valid"):
        found = getattr(answer.embedding, name)
        np.testing.assert_allclose(found, getattr(expected, name), atol=1e-5, rtol=0)
    # both hearings cut the night into windows of two epochs; the second lacks its first epoch
    heard = (num_epochs + 1) // 2 + (num_epochs // 2 if both_halves else 0)
    assert answer.windows >= heard
    assert set(answer.seconds) == {"queued", "encoding", "night"}


@pytest.mark.parametrize(
    ("seed", "settings"),
    [(12, {}), (11, {"precision": "bfloat16"}), (11, {"both_halves": True})],
    ids=["weights", "precision", "halves"],
)
def test_shares_of_other_models_are_no_night(
    encoder: LocalEncoder, edf: bytes, seed: int, settings: dict[str, Any]
) -> None:
    """As while the service is replaced by one with another bundle or other settings."""
    embedder = Embedder(random_bundle(seed=seed), windows_per_batch=2, **settings)
    other = LocalEncoder(embedder, threads=1)
    night = loaded(edf)

    async def run() -> object:
        one = [step async for step in encoder.share_steps(night, "r-1", 0, 2)][-1]
        two = [step async for step in other.share_steps(night, "r-1", 1, 2)][-1]
        assert isinstance(one, HeardShare)
        assert isinstance(two, HeardShare)
        return await encoder.joined(night, "r-1", one, two)

    answer = asyncio.run(run())
    other.close()
    assert answer == OtherWeights()


def test_several_small_requests_in_one_call_are_answered_each_for_itself(
    encoder: LocalEncoder, embedder: Embedder, edf: bytes
) -> None:
    asked = [ToLoad(shared(body), SETTINGS, "r-1") for body in (edf, SECRET * 100, edf)]
    first, bad, last = asyncio.run(LocalPreprocessor().load_many(asked))
    assert bad == Refusal("not_an_edf")
    assert isinstance(first, Preprocessed)
    assert isinstance(last, Preprocessed)
    other = dataclasses.replace(last, settings_key="other")
    nights = [ToHear(first, "r-1", False), ToHear(other, "r-2", False), ToHear(last, "r-3", True)]
    found, sent_back, with_seconds = asyncio.run(encoder.nights(nights))
    expected = embedder.night(load_night(edf, PreprocessConfig(), recording_id="x")).micro
    assert sent_back == OtherSettings(SETTINGS)
    for answer, second in ((found, False), (with_seconds, True)):
        assert isinstance(answer, Encoded)
        assert isinstance(answer.embedding, NightEmbedding)
        np.testing.assert_allclose(answer.embedding.micro, expected, atol=1e-5, rtol=0)
        assert (answer.embedding.second is not None) == second


def test_several_windows_in_one_call_are_answered_each_for_itself(
    encoder: LocalEncoder, embedder: Embedder
) -> None:
    good = windows(1)
    bad = WindowBatch(good.signals, good.valid[:, :5])
    worse = WindowBatch({Modality.EEG: [0.0]}, good.valid)  # type: ignore[dict-item]  # no array
    asked = [ToEncode(item, "r-1") for item in (good, bad, good, worse)]
    found = asyncio.run(encoder.windows(asked))
    assert found[1] == Refusal("request_invalid")
    assert found[3] == Refusal("internal_error")
    expected = embedder.epochs(noise_night(2)).micro_LMD
    for answer in (found[0], found[2]):
        assert isinstance(answer, Encoded)
        assert isinstance(answer.embedding, EpochEmbedding)
        np.testing.assert_allclose(answer.embedding.micro_LMD, expected, atol=1e-5, rtol=0)


def test_an_unexpected_failure_keeps_its_text_to_itself(
    edf: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Embedder):
        def in_context(self, night: object, epochs: object) -> NightEmbedding:
            raise ValueError(SECRET.decode())

    broken = LocalEncoder(Broken(random_bundle(), windows_per_batch=4), threads=1)
    with caplog.at_level(logging.DEBUG):
        answer = night_steps(broken, loaded(edf))[-1]
    broken.close()
    assert answer == Refusal("internal_error")
    assert "r-1" in caplog.text
    assert SECRET.decode() not in caplog.text


def windows(num_windows: int) -> WindowBatch:
    night = noise_night(2 * num_windows)
    signals = {m: (s / STORED_SCALE).astype(np.float32) for m, s in night.signals.items()}
    return WindowBatch(signals, np.ones((num_windows, len(MODALITIES)), np.bool_))


def test_windows_have_the_vectors_of_their_night_and_name_the_weights(
    encoder: LocalEncoder, embedder: Embedder
) -> None:
    answer = asyncio.run(encoder.encode(windows(3), "r-1"))
    assert isinstance(answer, Encoded)
    found = answer.embedding
    assert isinstance(found, EpochEmbedding)
    expected = embedder.epochs(noise_night(6)).micro_LMD
    np.testing.assert_allclose(found.micro_LMD, expected, atol=1e-5, rtol=0)
    assert found.info["weights_sha256"] == embedder.bundle.weights_sha256


@pytest.mark.parametrize(
    "change",
    ["no windows", "short", "float64", "five columns", "not there but valid", "not finite"],
)
def test_windows_that_are_not_windows_are_refused(encoder: LocalEncoder, change: str) -> None:
    good = windows(2)
    signals, valid = dict(good.signals), good.valid.copy()
    if change == "no windows":
        signals = {modality: signal[:0] for modality, signal in signals.items()}
        valid = valid[:0]
    elif change == "short":
        signals[Modality.EEG] = signals[Modality.EEG][:, :-1]
    elif change == "float64":
        signals[Modality.EEG] = signals[Modality.EEG].astype(np.float64)
    elif change == "five columns":
        valid = valid[:, :5]
    elif change == "not there but valid":
        del signals[Modality.SPO2]
    else:
        signals[Modality.EEG][0, 0] = np.inf
    answer = asyncio.run(encoder.encode(WindowBatch(signals, valid), "r-1"))
    assert answer == Refusal("request_invalid")


def test_a_bundle_without_macro_is_refused_at_the_start() -> None:
    half = dataclasses.replace(random_bundle(), macro=None, macro_state=None)
    with pytest.raises(CheckpointError, match="no Macro-Encoder"):
        LocalEncoder(Embedder(half, windows_per_batch=4), threads=1)


def test_dimensions_are_those_of_an_answer(encoder: LocalEncoder, edf: bytes) -> None:
    answer = night_steps(encoder, loaded(edf))[-1]
    model = asyncio.run(encoder.info()).model
    assert isinstance(answer, Encoded)
    assert isinstance(answer.embedding, NightEmbedding)
    assert model.name == "new"
    assert answer.embedding.micro.shape[1] == model.micro_dim
    assert answer.embedding.macro.shape[1] == model.macro_dim
    assert answer.embedding.night.shape == (model.night_dim,)


def test_a_warm_encoder_has_heard_every_modality_once() -> None:
    class Noting(Embedder):
        heard: list[tuple[int, ...]] = []  # noqa: RUF012

        def hear(self, pieces: Sequence[Piece]) -> None:
            super().hear(pieces)
            self.heard += [piece.hearing.streams for piece in pieces]

    embedder = Noting(random_bundle(), windows_per_batch=2)
    warm_up(embedder)
    assert embedder.heard == [tuple(range(6))]
