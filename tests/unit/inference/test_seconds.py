"""Vectors of seconds from the Embedder: whose tokens, which halves, what is zero."""

import dataclasses

import numpy as np
import pytest
import torch

from sleepmami.errors import CheckpointError, ConfigError
from sleepmami.inference.embedder import Embedder
from sleepmami.inference.second_look import from_second_epoch
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import MODALITIES, Modality
from sleepmami.tables.second_vectors import seconds_from_tokens
from sleepmami.training.batches import night_batch
from sleepmami.training.checkpoint import Bundle
from tests.unit.inference.conftest import MakeNight
from tests.unit.inference.test_embedder import unusable


@pytest.fixture
def embedder(bundle: Bundle) -> Embedder:
    return Embedder(bundle, windows_per_batch=3)


def fused_tokens(bundle: Bundle, batch: object) -> torch.Tensor:
    model = MicroEncoder(bundle.micro.model)
    model.load_state_dict(bundle.micro_state)
    signal_SBT, valid_SBE = batch  # type: ignore[misc]
    with torch.no_grad():
        return model.eval()._encode(signal_SBT, torch.arange(6), valid_SBE.any(-1), None).fused_SBMD


def test_seconds_are_those_of_the_segments_own_fused_tokens(
    bundle: Bundle, embedder: Embedder, make_night: MakeNight
) -> None:
    night = make_night(4)
    fused_SMD = fused_tokens(bundle, night_batch(night, 1, 2))[:, 0].numpy()  # epochs 2 and 3
    second = embedder.night(night, seconds=True).second
    assert second is not None
    assert (second.shape, second.dtype) == ((120, 6 * 16), np.float32)
    for epoch, part in ((2, slice(0, 12)), (3, slice(12, 24))):
        tokens = fused_SMD[:, part].transpose(1, 0, 2).reshape(1, 12, -1)
        expected = seconds_from_tokens(tokens)
        np.testing.assert_allclose(second[30 * epoch : 30 * epoch + 30], expected, atol=1e-5)


@pytest.mark.parametrize("both_halves", [False, True])
@pytest.mark.parametrize("num_epochs", [2, 5, 6])
def test_an_epochs_vector_is_the_mean_of_its_tokens_and_not_changed_by_asking(
    bundle: Bundle, make_night: MakeNight, num_epochs: int, both_halves: bool
) -> None:
    embedder = Embedder(bundle, windows_per_batch=2, both_halves=both_halves)
    night = unusable(make_night(num_epochs), Modality.EMG, slice(1, 2))
    found, plain = embedder.epochs(night, seconds=True), embedder.epochs(night)
    assert found.token_LMTD is not None
    assert plain.token_LMTD is None
    np.testing.assert_allclose(found.token_LMTD.mean(2), plain.micro_LMD, atol=1e-5)
    np.testing.assert_array_equal(found.micro_LMD, plain.micro_LMD)
    assert not found.token_LMTD[~found.modality_valid_LM].any()


def test_both_halves_is_the_mean_of_a_seconds_two_places(
    bundle: Bundle, make_night: MakeNight
) -> None:
    night = make_night(6)
    second = fused_tokens(bundle, night_batch(night, 1, 2))[:, 0, 12:]  # epoch 3 as second half
    first = fused_tokens(bundle, night_batch(from_second_epoch(night), 1, 2))[:, 0, :12]
    assert (first - second).abs().max() > 1e-3
    found = Embedder(bundle, windows_per_batch=2, both_halves=True).epochs(night, seconds=True)
    assert found.token_LMTD is not None
    np.testing.assert_allclose(found.token_LMTD[3], (first + second) / 2, atol=1e-5)


def test_seconds_of_a_modality_that_is_not_valid_are_zero(
    embedder: Embedder, make_night: MakeNight
) -> None:
    night = unusable(make_night(4), Modality.EEG, slice(1, 2))
    second = embedder.night(night, seconds=True).second
    assert second is not None
    blocks = second.reshape(4, 30, len(MODALITIES), -1)
    assert not blocks[1, :, 0].any()
    assert blocks[1, :, 1:].any(-1).all()
    assert blocks[[0, 2, 3]].any(-1).all()


def test_seconds_tell_one_from_the_next(embedder: Embedder, make_night: MakeNight) -> None:
    second = embedder.night(make_night(2), seconds=True).second
    assert second is not None
    steps = np.abs(np.diff(second[1:29], axis=0)).max(1)
    assert steps.min() > 1e-4


def test_they_are_there_on_request_alone(bundle: Bundle, make_night: MakeNight) -> None:
    embedder = Embedder(bundle, windows_per_batch=3)
    assert embedder.night(make_night(2)).second is None
    with pytest.raises(ConfigError, match="seconds=True"):
        embedder.epochs(make_night(2)).tokens()
    half = Embedder(dataclasses.replace(bundle, macro=None, macro_state=None), windows_per_batch=3)
    with pytest.raises(CheckpointError, match="no Macro-Encoder"):
        half.night(make_night(2), seconds=True)
