"""Table 11 as settings: each variant trains every weight it has, and embeds."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sleepmami.config import MicroPretrainConfig
from sleepmami.config_edit import parse_assignments, replace_at
from sleepmami.errors import ConfigError
from sleepmami.losses.reconstruction import reconstruction_loss, smooth_target
from sleepmami.models.micro_encoder import MicroEncoder, epoch_means
from sleepmami.presets import tiny
from sleepmami.psg import MODALITIES
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.objectives import MicroObjective

PAPER_MAP = Path(__file__).parents[3] / "docs" / "paper_map.md"
ALL = torch.arange(6)
ROW_1: dict[str, Any] = {  # private encoders, MAE
    "model.shared_depth": 0,
    "model.fusion_depth": 0,
    "loss.lambda_cl": 0,
    "loss.lambda_koleo": 0,
}
VIEW: dict[str, Any] = {"loss.contrastive_view": "blocked"}
LITERAL: dict[str, Any] = {"loss.contrastive_view": "same", "loss.slot_negatives": "all"}
WITHOUT_CONTRAST: dict[str, Any] = {"loss.lambda_cl": 0, "loss.lambda_koleo": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "row 1": ROW_1,
    "row 2": {},
    "row 2, eq. 2 as it is written": LITERAL,
    "row 2, private tokens shared": {"model.shared_input": "private"},
    "contrast of each modality alone": VIEW,
    "shared encoder for the contrast alone": {"model.fusion_depth": 0},
    "shared encoder trained by reconstruction": WITHOUT_CONTRAST,
    "no attention across modalities at all": {"model.shared_view": "blocked"},
}


def objective_of(changes: dict[str, Any]) -> MicroObjective:
    config = replace_at(tiny().micro, changes)
    torch.manual_seed(0)
    return MicroObjective(MicroEncoder(config.model), config, seed=5)


def segments() -> SegmentBatch:
    signal_SBT = torch.randn(6, 2, 6000, generator=torch.Generator().manual_seed(1))
    return SegmentBatch(signal_SBT, torch.ones(6, 2, 2, dtype=torch.bool))


def test_the_documented_settings_of_row_1_are_these() -> None:
    lines = re.findall(r"^--set .*$", PAPER_MAP.read_text(), re.MULTILINE)
    settings = [parse_assignments(line.removeprefix("--set ").split(" --set ")) for line in lines]
    assert settings == [ROW_1, LITERAL]


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({}, "blocked"),
        (VIEW, "blocked"),
        (LITERAL, "same"),
        (WITHOUT_CONTRAST, "same"),
        ({"loss.lambda_cl": 0}, "blocked"),  # for KoLeo
        ({"model.shared_view": "blocked"}, "same"),
        ({"model.fusion_depth": 0}, "same"),
        (ROW_1, "same"),
    ],
)
def test_a_second_pass_is_made_only_where_it_is_another_and_is_read(
    changes: dict[str, Any], view: str
) -> None:
    assert replace_at(MicroPretrainConfig(), changes).contrastive_view == view


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_of_a_variant_gets_a_gradient(variant: str) -> None:
    objective = objective_of(VARIANTS[variant])
    loss, _ = objective(segments(), step=0)
    loss.backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_embeds_epochs_and_leaves_absent_streams_zero(variant: str) -> None:
    model = objective_of(VARIANTS[variant]).model
    valid_SB = torch.tensor([[True], [False], [True], [True], [True], [True]]).expand(6, 2)
    with torch.no_grad():
        epoch_SBED = model.embed(segments().signal_SBT, ALL, valid_SB)
    assert epoch_SBED.shape == (6, 2, 2, 64)
    assert (epoch_SBED.abs().sum(-1) > 0).equal(valid_SB[..., None].expand(-1, -1, 2))


def test_row_1_is_the_reconstruction_alone() -> None:
    objective = objective_of(ROW_1)
    signal_SBT, valid_SBE = segments()
    loss, metrics = objective(SegmentBatch(signal_SBT, valid_SBE), step=0)
    assert set(metrics) == {"loss/total", "loss/reconstruction"} | {
        f"loss/reconstruction_{modality}" for modality in MODALITIES
    }
    masks = objective.draw_masks(2, 0, 0)
    output = objective.model(signal_SBT, ALL, masks, valid_SBE.any(-1))
    target = smooth_target(signal_SBT, 11).unflatten(2, (120, 50))
    everywhere = torch.ones_like(masks.hidden_SBP)
    expected = reconstruction_loss(
        output.reconstruction_SBPT, target, masks.hidden_SBP, everywhere, over="masked"
    )
    torch.testing.assert_close(loss, expected)
    objective.after_step()  # no experts to balance


def test_row_1_keeps_modalities_apart() -> None:
    model, batch = objective_of(ROW_1).model, segments()
    other_SBT = batch.signal_SBT.clone()
    other_SBT[0] = -other_SBT[0]
    with torch.no_grad():
        before = model.embed(batch.signal_SBT, ALL, batch.valid_SB)
        after = model.embed(other_SBT, ALL, batch.valid_SB)
    assert torch.equal(before[1:], after[1:])
    assert not torch.equal(before[0], after[0])


@pytest.mark.parametrize("changes", [ROW_1, {"model.fusion_depth": 0}])
def test_without_fusion_an_epoch_vector_is_the_mean_of_its_private_tokens(
    changes: dict[str, Any],
) -> None:
    model, batch = objective_of(changes).model, segments()
    with torch.no_grad():
        encoded = model._encode(batch.signal_SBT, ALL, batch.valid_SB, None)
        embedded = model.embed(batch.signal_SBT, ALL, batch.valid_SB)
    assert torch.equal(embedded, epoch_means(encoded.private_SBMD))


def test_row_1_has_the_weights_of_the_private_modules_alone() -> None:
    with torch.device("meta"):
        model = MicroEncoder(replace_at(MicroPretrainConfig(), ROW_1).model)
    num_parameters = sum(p.numel() for p in model.parameters())
    shared, fusion = 21_242_880 + 384, 7_082_496 + 384  # blocks and final norm
    assert num_parameters == 56_530_860 - shared - fusion


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.shared_depth": 0}, "model.fusion_depth"),
        (ROW_1 | {"loss.lambda_cl": 0.1}, "loss.lambda_cl"),
        (ROW_1 | {"loss.lambda_koleo": 0.01}, "loss.lambda_koleo"),
        (ROW_1 | {"model.fusion_depth": 4}, "model.fusion_depth"),
        (ROW_1 | {"model.shared_view": "blocked"}, "model.shared_view"),
        (ROW_1 | {"model.shared_input": "private"}, "model.shared_input"),
        (ROW_1 | {"model.modality_embedding": True}, "model.modality_embedding"),
        (ROW_1 | {"loss.contrastive_view": "blocked"}, "model.shared_depth=0"),
        (VIEW | {"model.shared_view": "blocked"}, "model.shared_view='blocked'"),
        (VIEW | {"loss.lambda_cl": 0, "loss.lambda_koleo": 0}, "(0.0, 0.0)"),
        (VIEW | {"model.fusion_depth": 0}, "model.fusion_depth=0"),  # nothing reads the joint pass
        (ROW_1 | {"model.shared_depth": 4}, "model.shared_depth"),  # nothing would read it
        ({"model.shared_depth": -1}, "model.shared_depth"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        replace_at(MicroPretrainConfig(), changes)
