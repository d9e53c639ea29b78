"""Subsets from private tokens are the nights that the recorder would have made without the rest."""

import dataclasses

import numpy as np
import pytest
import torch

from sleepmami.config_edit import replace_at
from sleepmami.inference.embedder import Embedder
from sleepmami.inference.modality_subsets import SubsetNight
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import Modality, Night
from sleepmami.training.checkpoint import Bundle
from tests.unit.inference.conftest import MakeNight
from tests.unit.inference.test_embedder import SUBSETS, unusable


def without_others(night: Night, subset: tuple[Modality, ...]) -> Night:
    return dataclasses.replace(
        night,
        signals={m: s for m, s in night.signals.items() if m in subset},
        usable={m: u for m, u in night.usable.items() if m in subset},
    )


def changed(bundle: Bundle, **settings: object) -> Bundle:
    """The bundle with other settings of its model, and weights for them."""
    names = {f"model.{name}": value for name, value in settings.items()}
    if settings.get("shared_depth") == 0:  # which leaves eq. 2 nothing to compare
        names |= {"loss.lambda_cl": 0.0, "loss.lambda_koleo": 0.0}
    micro = replace_at(bundle.micro, names)
    torch.manual_seed(1)
    return dataclasses.replace(
        bundle, micro=micro, micro_state=MicroEncoder(micro.model).state_dict()
    )


@pytest.mark.parametrize("both_halves", [False, True])
def test_every_subset_is_what_the_embedder_says_of_such_a_night(
    bundle: Bundle, make_night: MakeNight, both_halves: bool
) -> None:
    embedder = Embedder(bundle, windows_per_batch=2, both_halves=both_halves)
    night = unusable(make_night(5), Modality.EMG, slice(0, 3))
    subsets = SubsetNight(embedder, night)
    for subset in SUBSETS[::3]:
        found, expected = subsets.epochs(subset), embedder.epochs(without_others(night, subset))
        np.testing.assert_allclose(found.micro_LMD, expected.micro_LMD, atol=1e-5, err_msg=subset)
        assert np.array_equal(found.modality_valid_LM, expected.modality_valid_LM)
        assert np.array_equal(found.epoch_valid_L, expected.epoch_valid_L)


@pytest.mark.parametrize(
    "settings",
    [
        {"shared_view": "blocked"},
        {"shared_input": "private"},
        {"shared_depth": 0, "fusion_depth": 0},
    ],
    ids=["blocked", "private", "no shared encoder"],
)
def test_other_architectures_are_fused_as_they_are(
    bundle: Bundle, make_night: MakeNight, settings: dict[str, object]
) -> None:
    embedder = Embedder(changed(bundle, **settings), windows_per_batch=2)
    night = make_night(4)
    subsets = SubsetNight(embedder, night)
    for subset in SUBSETS[::7]:
        expected = embedder.epochs(without_others(night, subset))
        np.testing.assert_allclose(
            subsets.epochs(subset).micro_LMD, expected.micro_LMD, atol=1e-5, err_msg=subset
        )


def test_a_modality_sounds_otherwise_without_the_others_unless_they_are_kept_apart(
    bundle: Bundle, make_night: MakeNight
) -> None:
    for apart in (False, True):
        used = changed(bundle, shared_view="blocked" if apart else "joint")
        subsets = SubsetNight(Embedder(used, windows_per_batch=2), make_night(4))
        alone = subsets.epochs([Modality.EEG]).micro_LMD[:, 0]
        together = subsets.epochs(list(Modality)).micro_LMD[:, 0]
        assert np.array_equal(alone, together) == apart


def test_the_private_encoders_run_once(
    bundle: Bundle, make_night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    private = MicroEncoder.private_tokens

    def counted(self: MicroEncoder, *arguments: object) -> object:
        calls.append(1)
        return private(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(MicroEncoder, "private_tokens", counted)
    subsets = SubsetNight(Embedder(bundle, windows_per_batch=2), make_night(8))
    for subset in SUBSETS[::9]:
        subsets.epochs(subset)
    assert len(calls) == 2  # batches of two segments


def test_a_subset_that_the_night_has_nothing_of_is_not_valid_anywhere(
    bundle: Bundle, make_night: MakeNight
) -> None:
    embedder = Embedder(bundle, windows_per_batch=2)
    night = make_night(4, [Modality.EEG, Modality.ECG])
    found = SubsetNight(embedder, night).epochs([Modality.SPO2])
    assert not found.epoch_valid_L.any()
    assert not found.micro_LMD.any()
    in_context = embedder.in_context(night, found)
    assert np.isfinite(in_context.macro).all()
    assert np.isfinite(in_context.night).all()
