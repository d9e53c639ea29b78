"""Shares of a night, heard apart and put together, are the night heard whole."""

import pickle

import numpy as np
import pytest

from sleepmami.inference.embedder import Embedder, EpochEmbedding
from sleepmami.inference.hearing import Hearing, hearing_of, pieces_of
from sleepmami.psg import MODALITIES, SEGMENT_EPOCHS, Modality, Night, segment_start_epochs
from sleepmami.training.checkpoint import Bundle
from tests.bundles import random_bundle
from tests.preprocessed import noise_night


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return random_bundle()


def share(embedder: Embedder, night: Night, index: int, num_shares: int) -> list[Hearing]:
    hearings = embedder.hearings(night)
    for hearing in hearings:
        hearing.only_share(index, num_shares)
        for piece in pieces_of(hearing, embedder.windows_per_batch):
            embedder.hear([piece])
        assert hearing.done
    return hearings


def put_together(embedder: Embedder, night: Night, num_shares: int) -> EpochEmbedding:
    whole = embedder.hearings(night)
    for index in range(num_shares):
        for hearing, part in zip(whole, share(embedder, night, index, num_shares), strict=True):
            hearing.adopt(pickle.loads(pickle.dumps(part.heard_rows())))
    assert all(hearing.done and not hearing.waiting for hearing in whole)
    return embedder.heard(whole)


def assert_same(found: EpochEmbedding, expected: EpochEmbedding) -> None:
    np.testing.assert_allclose(found.micro_LMD, expected.micro_LMD, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.modality_valid_LM, expected.modality_valid_LM)
    np.testing.assert_array_equal(found.epoch_valid_L, expected.epoch_valid_L)


@pytest.mark.parametrize("seed", range(6))
def test_any_night_in_any_shares_is_the_night_heard_whole(bundle: Bundle, seed: int) -> None:
    """Odd nights, more shares than windows, absent and unusable signals."""
    rng = np.random.default_rng(seed)
    num_epochs, num_shares = int(rng.integers(2, 10)), int(rng.integers(1, 7))
    there = [m for m in MODALITIES if rng.random() < 0.5] or [Modality.SPO2]
    night = noise_night(num_epochs, there, seed=seed)
    for modality in there:
        night.usable[modality][:] = rng.random(num_epochs) < 0.6
    night.usable[there[0]][rng.integers(num_epochs)] = True
    embedder = Embedder(
        bundle, windows_per_batch=int(rng.integers(1, 5)), both_halves=bool(seed % 2)
    )
    found = put_together(embedder, night, num_shares)
    assert_same(found, embedder.epochs(night))


@pytest.mark.parametrize("both_halves", [False, True])
def test_a_share_of_silence_alone_has_no_vectors_and_disturbs_none(
    bundle: Bundle, both_halves: bool
) -> None:
    night = noise_night(9, [Modality.EEG, Modality.RESP])
    for usable in night.usable.values():
        usable[3:6] = False
    embedder = Embedder(bundle, windows_per_batch=2, both_halves=both_halves)
    found = put_together(embedder, night, 3)
    assert_same(found, embedder.epochs(night))
    assert not found.micro_LMD[3:6].any()
    assert not found.epoch_valid_L[3:6].any()


def test_what_is_not_taken_over_is_heard_and_a_share_that_is_missing_is_an_error(
    bundle: Bundle,
) -> None:
    embedder = Embedder(bundle, windows_per_batch=8)
    night = noise_night(9, [Modality.EEG])
    first, second = (share(embedder, night, index, 3)[0].heard_rows() for index in (0, 1))
    [whole] = embedder.hearings(night)
    with pytest.raises(ValueError, match="found a share from epoch 2; expected the next, from 0"):
        whole.adopt(second)
    whole.adopt(first)
    with pytest.raises(ValueError, match="from epoch 0"):
        whole.adopt(first)
    whole.adopt(second)
    for piece in pieces_of(whole, 8):
        assert (piece.first, piece.stop) == (3, 5)
        embedder.hear([piece])
    assert_same(embedder.heard([whole]), embedder.epochs(night))


@pytest.mark.parametrize("num_epochs", range(2, 12))
def test_shares_part_the_epochs_among_them(num_epochs: int) -> None:
    night = noise_night(num_epochs, [Modality.SPO2])
    for num_shares in (1, 2, 3, 5):
        rows = []
        for index in range(num_shares):
            hearing = hearing_of(night, 2)
            hearing.only_share(index, num_shares)
            for piece in pieces_of(hearing, 8):
                shape = (1, piece.num_windows, SEGMENT_EPOCHS, 1, 2)
                hearing.put(piece, np.array(hearing.streams), np.ones(shape, np.float32))
            rows.append(hearing.heard_rows())
        epochs = [e for r in rows for e in range(r.first_epoch, r.first_epoch + len(r.found_LMRD))]
        assert epochs == list(range(num_epochs))
        assert all(r.found_LMRD[:, hearing.streams].all() for r in rows)
        assert sum(r.num_windows for r in rows) == len(segment_start_epochs(num_epochs))


def test_a_share_is_sent_without_the_rest_of_its_night(bundle: Bundle) -> None:
    """As Ray sends it: arrays out of band, which a view of a larger one would drag along."""
    embedder = Embedder(bundle, windows_per_batch=8)
    rows = share(embedder, noise_night(12, [Modality.EEG]), 1, 3)[0].heard_rows()
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(rows, protocol=5, buffer_callback=buffers.append)
    sent = len(head) + sum(len(buffer.raw()) for buffer in buffers)
    num_bytes = 4 * len(MODALITIES) * embedder.dim * np.dtype(np.float32).itemsize
    assert rows.found_LMRD.nbytes == num_bytes
    assert num_bytes <= sent < num_bytes + 1000
