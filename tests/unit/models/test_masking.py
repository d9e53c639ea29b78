"""Masks hold what section 3.1 promises; the numbers are those measured for the two placements."""

import pytest
import torch
from torch import Tensor

from sleepmami.config import MaskingConfig
from sleepmami.models.masking import NUM_PATCHES, NUM_VISIBLE, Masks, draw_masks
from sleepmami.psg import MODALITIES, Modality

FAST, SLOW = Modality.EEG, Modality.SPO2


def draw(modality: Modality, placement: str = "periodic", batch: int = 200) -> Masks:
    config = MaskingConfig(placement=placement)  # type: ignore[arg-type]  # parametrised
    return draw_masks(config, [modality], batch, torch.Generator().manual_seed(0))


def run_lengths(hidden_P: Tensor) -> list[int]:
    lengths, current = [], 0
    for hidden in [*hidden_P.tolist(), False]:
        if not hidden and current:
            lengths.append(current)
        current = current + 1 if hidden else 0
    return lengths


@pytest.mark.parametrize(
    ("modality", "run"),
    [("EEG", 1), ("EOG", 1), ("EMG", 1), ("ECG", 1), ("RESP", 4), ("SPO2", 4)],
)
def test_every_hidden_run_is_one_patch_or_four(modality: str, run: int) -> None:
    hidden_BP = draw(Modality(modality)).hidden_SBP[0]
    assert {length for row in hidden_BP for length in run_lengths(row)} == {run}


@pytest.mark.parametrize("placement", ["periodic", "jitter"])
@pytest.mark.parametrize("modality", [FAST, SLOW])
def test_four_of_each_eight_patches_are_hidden(modality: Modality, placement: str) -> None:
    hidden_BP = draw(modality, placement).hidden_SBP[0]
    assert hidden_BP.unflatten(1, (15, 8)).sum(-1).unique().tolist() == [4]


@pytest.mark.parametrize("placement", ["periodic", "jitter"])
@pytest.mark.parametrize("modality", [FAST, SLOW])
def test_visible_indices_are_the_rest_in_time_order(modality: Modality, placement: str) -> None:
    masks = draw(modality, placement, batch=20)
    assert masks.visible_SBV.shape == (1, 20, NUM_VISIBLE)
    for hidden_P, visible_V in zip(masks.hidden_SBP[0], masks.visible_SBV[0], strict=True):
        rest = [p for p in range(NUM_PATCHES) if not hidden_P[p]]
        assert visible_V.tolist() == rest


@pytest.mark.parametrize("modality", [FAST, SLOW])
def test_periodic_masks_repeat_over_the_segment(modality: Modality) -> None:
    hidden_BP = draw(modality).hidden_SBP[0]
    assert torch.equal(hidden_BP[:, 8:], hidden_BP[:, :-8])


@pytest.mark.parametrize(("modality", "num_phases"), [(FAST, 2), (SLOW, 5)])
def test_every_phase_is_drawn(modality: Modality, num_phases: int) -> None:
    assert len(draw(modality).hidden_SBP[0].unique(dim=0)) == num_phases


@pytest.mark.parametrize(
    ("modality", "placement", "fewest", "most"),
    [
        (FAST, "periodic", 5, 5),
        (SLOW, "periodic", 4, 6),
        (FAST, "jitter", 4, 6),
        (SLOW, "jitter", 2, 8),
    ],
)
def test_visible_patches_under_a_merged_token(
    modality: Modality, placement: str, fewest: int, most: int
) -> None:
    visible_BP = (~draw(modality, placement, batch=2000).hidden_SBP[0]).int()
    under_token = visible_BP[:, 3:-2].unfold(1, 10, 5).sum(-1)  # windows of merged tokens 1..22
    assert (under_token.min(), under_token.max()) == (fewest, most)


def test_five_visible_patches_span_nine_when_periodic() -> None:
    for modality in (FAST, SLOW):
        visible_BV = draw(modality).visible_SBV[0]
        five = visible_BV.unflatten(1, (12, 5))
        assert (five[..., -1] - five[..., 0] + 1).unique().tolist() == [9]


def test_phases_differ_between_streams_and_segments() -> None:
    masks = draw_masks(MaskingConfig(), MODALITIES, 8, torch.Generator().manual_seed(0))
    assert masks.hidden_SBP.shape == (6, 8, NUM_PATCHES)
    assert len(masks.hidden_SBP[:4].flatten(0, 1).unique(dim=0)) == 2
    assert not torch.equal(masks.hidden_SBP[0], masks.hidden_SBP[1])


def test_the_same_seed_draws_the_same_masks() -> None:
    first, second = draw(SLOW), draw(SLOW)
    assert torch.equal(first.hidden_SBP, second.hidden_SBP)
    assert torch.equal(first.visible_SBV, second.visible_SBV)


def test_masks_move_together() -> None:
    moved = draw(FAST, batch=2).to("meta")
    assert {mask.device.type for mask in moved} == {"meta"}
