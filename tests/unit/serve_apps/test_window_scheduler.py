"""Windows of several requests in one batch: the same numbers, in turns, each on its own."""

import asyncio
import dataclasses
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from serve_apps.window_scheduler import Job, WindowScheduler, choose, even_shares
from sleepmami.inference.embedder import Embedder, EpochEmbedding
from sleepmami.inference.hearing import Hearing, Piece, hearing_of, hearing_of_windows
from sleepmami.psg import MODALITIES, STORED_SCALE, Modality, Night
from sleepmami.training.checkpoint import Bundle
from tests.bundles import random_bundle
from tests.preprocessed import noise_night

SUBSETS = [s for n in range(1, 7) for s in itertools.combinations(MODALITIES, n)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return random_bundle()


class Recorder(Embedder):
    """Notes how many windows of how many requests each batch has, and may wait or fail."""

    def __init__(self, bundle: Bundle, windows_per_batch: int) -> None:
        super().__init__(bundle, windows_per_batch=windows_per_batch)
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.poison: Hearing | None = None

    def hear(self, pieces: Sequence[Piece]) -> None:
        self.go.wait(20)
        if any(piece.hearing is self.poison for piece in pieces):
            raise MemoryError("JANE-DOE")
        self.batches.append([piece.num_windows for piece in pieces])
        super().hear(pieces)


@pytest.fixture
def recorder(bundle: Bundle) -> Recorder:
    return Recorder(bundle, windows_per_batch=8)


@pytest.fixture
def scheduler(recorder: Recorder) -> Iterator[WindowScheduler]:
    made = WindowScheduler(recorder, threads=1, wait_s=0.0)
    yield made
    recorder.go.set()
    made.close()


async def embed(embedder: Embedder, scheduler: WindowScheduler, night: Night) -> EpochEmbedding:
    hearings = embedder.hearings(night)
    answer, _ = await scheduler.run(hearings, lambda: embedder.heard(hearings))
    assert isinstance(answer, EpochEmbedding)
    return answer


async def together(
    recorder: Recorder, scheduler: WindowScheduler, nights: Sequence[Night]
) -> list[EpochEmbedding]:
    """All in hand before the first batch is formed but for one window that opens the queue."""
    recorder.go.clear()
    opener = asyncio.ensure_future(embed(recorder, scheduler, noise_night(2)))
    await asyncio.sleep(0.05)
    works = [asyncio.ensure_future(embed(recorder, scheduler, night)) for night in nights]
    await asyncio.sleep(0.05)
    recorder.go.set()
    await opener
    return list(await asyncio.gather(*works))


def assert_same(found: EpochEmbedding, expected: EpochEmbedding) -> None:
    np.testing.assert_allclose(found.micro_LMD, expected.micro_LMD, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.modality_valid_LM, expected.modality_valid_LM)
    np.testing.assert_array_equal(found.epoch_valid_L, expected.epoch_valid_L)


def test_all_63_subsets_at_once_are_each_what_they_are_alone(
    recorder: Recorder, scheduler: WindowScheduler
) -> None:
    nights = [noise_night(3, subset, seed=i) for i, subset in enumerate(SUBSETS)]
    answers = asyncio.run(together(recorder, scheduler, nights))
    alone = Embedder(recorder.bundle, windows_per_batch=1)
    assert max(map(len, recorder.batches)) > 1  # they did share batches
    for subset, night, answer in zip(SUBSETS, nights, answers, strict=True):
        there_M = np.array([modality in subset for modality in MODALITIES])
        assert (answer.modality_valid_LM == there_M).all()
        assert np.isfinite(answer.micro_LMD).all()
        assert not answer.micro_LMD[:, ~there_M].any()
        assert_same(answer, alone.epochs(night))


def test_a_request_that_lacks_one_modality_shares_the_batch(
    recorder: Recorder, scheduler: WindowScheduler
) -> None:
    nights = [noise_night(4, seed=1), noise_night(4, MODALITIES[1:], seed=2)]
    answers = asyncio.run(together(recorder, scheduler, nights))
    assert recorder.batches[1:] == [[2, 2]]
    for night, answer in zip(nights, answers, strict=True):
        assert_same(answer, Embedder(recorder.bundle, windows_per_batch=1).epochs(night))


def test_both_halves_of_several_nights_share_batches(bundle: Bundle) -> None:
    twice = Embedder(bundle, windows_per_batch=4, both_halves=True)
    scheduler = WindowScheduler(twice, threads=1, wait_s=0.05)
    nights = [noise_night(count, seed=count) for count in (5, 6, 7)]

    async def all_of_them() -> list[EpochEmbedding]:
        return list(await asyncio.gather(*(embed(twice, scheduler, n) for n in nights)))

    answers = asyncio.run(all_of_them())
    scheduler.close()
    for night, answer in zip(nights, answers, strict=True):
        assert_same(answer, twice.epochs(night))


def test_one_window_does_not_wait_behind_a_whole_night(
    recorder: Recorder, scheduler: WindowScheduler
) -> None:
    """Of the night's 40 windows 4 are heard by then: its half of the first shared batch."""
    order: list[str] = []

    async def named(name: str, night: Night) -> None:
        await embed(recorder, scheduler, night)
        order.append(name)

    async def race() -> None:
        recorder.go.clear()
        works = [asyncio.ensure_future(named("night", noise_night(80)))]
        await asyncio.sleep(0.05)  # its first batch is in hand
        works.append(asyncio.ensure_future(named("window", noise_night(2))))
        await asyncio.sleep(0.05)
        recorder.go.set()
        await asyncio.gather(*works)

    asyncio.run(race())
    assert order == ["window", "night"]
    assert recorder.batches[0] == [8]
    assert sorted(recorder.batches[1]) == [1, 7]


def test_a_request_that_fails_fails_alone(recorder: Recorder, scheduler: WindowScheduler) -> None:
    async def both() -> list[EpochEmbedding | BaseException]:
        recorder.go.clear()
        opener = asyncio.ensure_future(embed(recorder, scheduler, noise_night(2)))
        await asyncio.sleep(0.05)
        bad = recorder.hearings(noise_night(20))
        recorder.poison = bad[0]
        works = [
            asyncio.ensure_future(scheduler.run(bad, lambda: recorder.heard(bad))),
            asyncio.ensure_future(embed(recorder, scheduler, noise_night(20, seed=3))),
        ]
        await asyncio.sleep(0.05)
        recorder.go.set()
        await opener
        return list(await asyncio.gather(*works, return_exceptions=True))

    failed, answer = asyncio.run(both())
    assert isinstance(failed, MemoryError)
    assert isinstance(answer, EpochEmbedding)
    expected = Embedder(recorder.bundle, windows_per_batch=1).epochs(noise_night(20, seed=3))
    assert_same(answer, expected)
    assert scheduler.alive


def test_windows_of_a_client_that_hung_up_are_not_encoded(
    recorder: Recorder, scheduler: WindowScheduler
) -> None:
    async def hang_up() -> EpochEmbedding:
        recorder.go.clear()
        gone = asyncio.ensure_future(embed(recorder, scheduler, noise_night(200)))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        recorder.go.set()
        return await embed(recorder, scheduler, noise_night(2))

    asyncio.run(hang_up())
    assert sum(map(sum, recorder.batches)) == 8 + 1  # the batch in hand, and the window


def test_windows_given_as_numbers_have_the_vectors_of_their_night(bundle: Bundle) -> None:
    night = noise_night(6, MODALITIES[:5], seed=7)
    usable = {m: u.copy() for m, u in night.usable.items()}
    usable[Modality.EMG][2:4] = False
    night = dataclasses.replace(night, usable=usable)
    embedder = Embedder(bundle, windows_per_batch=2)
    signals = {m: (s / STORED_SCALE).astype(np.float32) for m, s in night.signals.items()}
    signals[Modality.EMG][1] = np.nan  # not valid: may hold anything
    valid_BM = np.ones((3, 6), np.bool_)
    valid_BM[:, 5] = False
    valid_BM[1, MODALITIES.index(Modality.EMG)] = False
    hearing = hearing_of_windows(signals, valid_BM, embedder.dim)
    embedder.hear([hearing.take(2)])
    embedder.hear([hearing.take(2)])
    assert_same(embedder.heard([hearing]), embedder.epochs(night))


def test_a_night_with_seconds_shares_batches_with_one_without(bundle: Bundle) -> None:
    embedder = Embedder(bundle, windows_per_batch=8)
    with_seconds = embedder.hearings(noise_night(4, seed=1), seconds=True)
    without = embedder.hearings(noise_night(4, seed=2))
    embedder.hear([with_seconds[0].take(8), without[0].take(8)])
    found, plain = embedder.heard(with_seconds), embedder.heard(without)
    expected = embedder.epochs(noise_night(4, seed=1), seconds=True)
    np.testing.assert_allclose(found.tokens(), expected.tokens(), atol=1e-5, rtol=0)
    assert_same(found, expected)
    assert plain.token_LMTD is None
    assert_same(plain, embedder.epochs(noise_night(4, seed=2)))


@pytest.mark.parametrize(
    ("waiting", "limit", "shares"),
    [
        ([100], 8, [8]),
        ([100, 100], 8, [4, 4]),
        ([1, 100], 8, [1, 7]),
        ([100, 1, 2], 8, [5, 1, 2]),
        ([5, 5, 5], 2, [1, 1, 0]),
        ([1, 1], 8, [1, 1]),
        ([3, 3, 3], 8, [3, 3, 2]),
    ],
)
def test_places_are_shared_evenly(waiting: list[int], limit: int, shares: list[int]) -> None:
    assert even_shares(waiting, limit) == shares


def test_who_has_much_that_others_lack_waits_for_a_batch_of_its_own() -> None:
    """EEG alone beside all six would be computed six times for one: 5 wasted of 7 wanted."""

    def job(modalities: Sequence[Modality]) -> Job:
        hearing = hearing_of(noise_night(2, modalities), 16)
        loop = asyncio.new_event_loop()
        made = Job([hearing], lambda: None, loop, loop.create_future())
        loop.close()
        return made

    everything, eeg, five = job(MODALITIES), job(MODALITIES[:1]), job(MODALITIES[:5])
    assert choose([everything, eeg, five], 8) == [(everything, 1), (five, 1)]
    assert choose([eeg, five], 8) == [(eeg, 1)]


def test_requests_of_all_kinds_at_once_get_their_own_numbers_and_leave_nothing(
    recorder: Recorder, scheduler: WindowScheduler
) -> None:
    """Random lengths, modalities and times of arrival; a third hang up, and one fails."""
    rng = np.random.default_rng(11)
    nights = [
        noise_night(int(rng.integers(2, 14)), SUBSETS[rng.integers(len(SUBSETS))], seed=i)
        for i in range(36)
    ]
    waits_s = rng.uniform(0, 0.2, (len(nights), 2))
    left: list[weakref.ref[Hearing]] = []

    async def one(index: int) -> EpochEmbedding | None:
        await asyncio.sleep(waits_s[index, 0])
        hearings = recorder.hearings(nights[index])
        left.extend(weakref.ref(hearing) for hearing in hearings)
        if index == 7:
            recorder.poison = hearings[0]
        work = asyncio.ensure_future(scheduler.run(hearings, lambda: recorder.heard(hearings)))
        if index % 3 == 1 and index != 7:
            await asyncio.sleep(waits_s[index, 1] / 10)
            work.cancel()
        try:
            return (await work)[0]
        except (asyncio.CancelledError, MemoryError):
            return None

    async def all_of_them() -> list[EpochEmbedding | None]:
        return list(await asyncio.gather(*(one(index) for index in range(len(nights)))))

    answers = asyncio.run(all_of_them())
    alone = Embedder(recorder.bundle, windows_per_batch=1)
    assert max(map(len, recorder.batches)) > 1
    assert answers[7] is None
    for index, (night, answer) in enumerate(zip(nights, answers, strict=True)):
        assert answer is not None or index % 3 == 1
        if answer is not None:
            assert_same(answer, alone.epochs(night))
    recorder.poison = None
    deadline = time.monotonic() + 10  # the thread may still be at the end of the last batch
    while any(ref() is not None for ref in left) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert [ref for ref in left if ref() is not None] == []
