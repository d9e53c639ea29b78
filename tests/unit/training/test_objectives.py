import pytest
import torch

from sleepmami.config import (
    MicroPretrainConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.losses.cross_modal import contrastive_loss
from sleepmami.losses.koleo import koleo_loss
from sleepmami.losses.reconstruction import smooth_target
from sleepmami.models.micro_encoder import MicroEncoder, MicroOutput
from sleepmami.models.moe import BALANCE_RATE, MoEBlock
from sleepmami.presets import tiny
from sleepmami.psg import MODALITIES
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.objectives import (
    MicroObjective,
    _expert_shares,
    retrieval_accuracy,
    slot_means,
)

DEFAULTS = replace_at(
    tiny().micro, {"model.shared_depth": 1, "model.higher_dim": 32, "loss.lambda_koleo": 0.02}
)
# eq. 2 as it is written
MICRO = replace_at(DEFAULTS, {"loss.contrastive_view": "same", "loss.slot_negatives": "all"})


def micro_objective(seed: int = 5, config: MicroPretrainConfig = MICRO) -> MicroObjective:
    torch.manual_seed(0)
    return MicroObjective(MicroEncoder(config.model), config, seed)


def segments(num: int = 2) -> SegmentBatch:
    generator = torch.Generator().manual_seed(1)
    signal_SBT = torch.randn(6, num, 6000, generator=generator)
    return SegmentBatch(signal_SBT, torch.ones(6, num, 2, dtype=torch.bool))


def test_the_total_is_eq_3_of_its_parts() -> None:
    loss, metrics = micro_objective()(segments(), step=0)
    parts = (metrics[f"loss/{name}"] for name in ("reconstruction", "contrastive", "koleo"))
    reconstruction, contrastive, koleo = parts
    expected = reconstruction + 0.1 * contrastive + 0.02 * koleo
    torch.testing.assert_close(loss, expected)
    assert metrics["loss/total"] == loss
    assert not metrics["loss/total"].requires_grad


def test_the_reconstruction_is_the_mean_of_its_modalities() -> None:
    _, metrics = micro_objective()(segments(), step=0)
    each = torch.stack([metrics[f"loss/reconstruction_{m}"] for m in MODALITIES])
    torch.testing.assert_close(each.mean(), metrics["loss/reconstruction"])


def test_a_resumed_run_draws_the_masks_of_its_step() -> None:
    first, resumed = micro_objective(), micro_objective()
    first.draw_masks(3, 0, 0)
    again = resumed.draw_masks(3, 7, 1)
    assert torch.equal(first.draw_masks(3, 7, 1).hidden_SBP, again.hidden_SBP)


@pytest.mark.parametrize(("seed", "step", "lane"), [(6, 7, 1), (5, 8, 1), (5, 7, 2)])
def test_seed_step_and_lane_each_change_the_masks(seed: int, step: int, lane: int) -> None:
    base = micro_objective().draw_masks(8, 7, 1)
    other = micro_objective(seed).draw_masks(8, step, lane)
    assert not torch.equal(base.hidden_SBP, other.hidden_SBP)


def test_what_an_absent_stream_holds_changes_nothing() -> None:
    signal_SBT, valid_SBE = segments()
    valid_SBE[3, 0] = False
    other_SBT = signal_SBT.clone()
    other_SBT[3, 0] = torch.nan
    loss, _ = micro_objective()(SegmentBatch(signal_SBT, valid_SBE), step=0)
    other, _ = micro_objective()(SegmentBatch(other_SBT, valid_SBE), step=0)
    assert loss == other


def test_an_unusable_epoch_beside_a_usable_one_is_no_target_and_no_slot() -> None:
    objective, batch = micro_objective(), segments()
    batch.valid_SBE[0, 0, 1] = False  # the EEG of the first segment's second epoch: slot 1
    batch.signal_SBT[0, 0, 3000:] = 0.0
    masks = objective.draw_masks(2, 0, 0)
    output = objective.model(batch.signal_SBT, torch.arange(6), masks, batch.valid_SB)
    _, metrics = objective(batch, step=0)

    smooth_SBT = smooth_target(batch.signal_SBT, MICRO.loss.smoothing_points)
    error_SBP = (output.reconstruction_SBPT - smooth_SBT.unflatten(-1, (120, 50))).square().mean(-1)
    one_epoch = error_SBP[0, 0, :60][masks.hidden_SBP[0, 0, :60]].mean()
    two_epochs = error_SBP[0, 1][masks.hidden_SBP[0, 1]].mean()
    torch.testing.assert_close(metrics["loss/reconstruction_EEG"], (one_epoch + two_epochs) / 2)

    slots = slot_means(output)
    valid_SN = torch.tensor([[True, False, True, True]] + 5 * [4 * [True]])
    expected = contrastive_loss(*slots, valid_SN, tau=MICRO.loss.tau)
    torch.testing.assert_close(metrics["loss/contrastive"], expected)
    torch.testing.assert_close(metrics["loss/koleo"], koleo_loss(slots[0], valid_SN))
    assert metrics["contrast/accuracy"] == retrieval_accuracy(slots[0], valid_SN)


def test_koleo_can_look_past_the_other_slot_of_the_segment() -> None:
    config = replace_at(MICRO, {"loss.own_segment_neighbours": False})
    objective, batch = micro_objective(config=config), segments()
    masks = objective.draw_masks(2, 0, 0)
    output = objective.model(batch.signal_SBT, torch.arange(6), masks, batch.valid_SB)
    _, metrics = objective(batch, step=0)
    shared_SND, valid_SN = slot_means(output)[0], batch.valid_SBE.flatten(1)
    expected = koleo_loss(shared_SND, valid_SN, slots_per_segment=2)
    torch.testing.assert_close(metrics["loss/koleo"], expected)
    assert expected < koleo_loss(shared_SND, valid_SN)


@pytest.mark.parametrize("which", ["other_segments", "same_place"])
def test_slots_of_the_own_segment_or_of_another_place_can_be_left_out(which: str) -> None:
    # at tau = 0.07 an untrained encoder's private part outweighs all slots
    config = replace_at(MICRO, {"loss.slot_negatives": which, "loss.tau": 1.0})
    objective, batch = micro_objective(config=config), segments()
    masks = objective.draw_masks(2, 0, 0)
    output = objective.model(batch.signal_SBT, torch.arange(6), masks, batch.valid_SB)
    _, metrics = objective(batch, step=0)
    slots, valid_SN = slot_means(output), batch.valid_SBE.flatten(1)
    expected = contrastive_loss(*slots, valid_SN, tau=1.0, slot_negatives=which)
    torch.testing.assert_close(metrics["loss/contrastive"], expected)
    assert expected < contrastive_loss(*slots, valid_SN, tau=1.0) - 0.1


def test_the_default_compares_modalities_apart_and_slots_of_one_place() -> None:
    objective, batch = micro_objective(config=DEFAULTS), segments()
    masks = objective.draw_masks(2, 0, 0)
    apart = objective.model(batch.signal_SBT, torch.arange(6), masks, batch.valid_SB, "blocked")
    slots, valid_SN = slot_means(apart), batch.valid_SBE.flatten(1)
    expected = contrastive_loss(
        *slots, valid_SN, tau=DEFAULTS.loss.tau, slot_negatives="same_place"
    )
    _, metrics = objective(batch, step=0)
    torch.testing.assert_close(metrics["loss/contrastive"], expected)
    together = objective.model(batch.signal_SBT, torch.arange(6), masks, batch.valid_SB, "same")
    assert not torch.allclose(slot_means(together)[0], slots[0], atol=1e-3)


def test_a_modality_no_segment_has_is_not_measured() -> None:
    batch = segments()
    batch.valid_SBE[5] = False
    loss, metrics = micro_objective()(batch, step=0)
    assert loss.isfinite()
    assert metrics["loss/reconstruction_SPO2"].isnan()
    assert metrics["loss/reconstruction_RESP"].isfinite()


def test_bfloat16_changes_the_loss_by_less_than_two_percent() -> None:
    full, _ = micro_objective()(segments(), step=0)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = micro_objective()(segments(), step=0)
    assert half.item() == pytest.approx(full.item(), rel=2e-2)


def test_experts_are_balanced_once_a_step_by_the_counts_of_all_its_micro_batches() -> None:
    objective = micro_objective()
    counts = []
    for index in range(2):
        objective(segments(), 0, index)
        assert objective._expert_counts is not None
        counts.append(objective._expert_counts)
    block = objective.model.shared[0]
    assert isinstance(block, MoEBlock)
    objective.after_step()
    total_E = counts[1][0].float()
    assert total_E.sum() == 2 * counts[0].sum()
    expected_E = BALANCE_RATE * torch.sign(total_E.mean() - total_E)
    torch.testing.assert_close(block.experts.balance_bias, expected_E)
    objective.after_step()  # nothing was routed since
    torch.testing.assert_close(block.experts.balance_bias, expected_E)


def test_without_balancing_no_bias_moves() -> None:
    config = replace_at(MICRO, {"model.balancing": "none"})
    objective = micro_objective(config=config)
    objective(segments(), 0)
    objective.after_step()
    block = objective.model.shared[0]
    assert isinstance(block, MoEBlock)
    assert not block.experts.balance_bias.any()


def test_the_balancing_loss_is_added_by_its_weight() -> None:
    plain, metrics = micro_objective()(segments(), 0)
    config = replace_at(MICRO, {"loss.lambda_balance": 0.5})
    weighed, _ = micro_objective(config=config)(segments(), 0)
    assert metrics["loss/balance"] >= 1 - 1e-3
    torch.testing.assert_close(weighed, plain + 0.5 * metrics["loss/balance"])


def test_an_expert_without_tokens_is_dead_and_lowers_the_entropy() -> None:
    count_LE = torch.tensor([[5, 5, 5, 5], [10, 10, 0, 0]])
    shares = {name: value.item() for name, value in _expert_shares(count_LE).items()}
    assert shares == pytest.approx(
        {
            "moe/min_share": 0.0,
            "moe/max_share": 0.5,
            "moe/min_entropy": 0.5,
            "moe/dead_experts": 2.0,
        }
    )


def test_a_slot_is_the_mean_of_its_twelve_tokens() -> None:
    token_SBMD = torch.arange(24.0).view(1, 1, 24, 1)
    output = MicroOutput(torch.empty(0), token_SBMD, 10 * token_SBMD, *torch.empty(2, 0))
    shared_SND, private_SND = slot_means(output)
    assert shared_SND.flatten().tolist() == [5.5, 17.5]
    assert private_SND.flatten().tolist() == [55.0, 175.0]


def test_slots_that_all_streams_agree_on_are_retrieved() -> None:
    shared_SND = torch.eye(4).expand(3, 4, 4)
    assert retrieval_accuracy(shared_SND, torch.ones(3, 4, dtype=torch.bool)) == 1.0


def test_slots_swapped_in_one_of_two_streams_are_not_retrieved() -> None:
    shared_SND = torch.stack([torch.eye(3), torch.eye(3)[[1, 0, 2]]])
    accuracy = retrieval_accuracy(shared_SND, torch.ones(2, 3, dtype=torch.bool))
    assert accuracy.item() == pytest.approx(1 / 3)


def test_slots_with_one_stream_cannot_be_retrieved() -> None:
    valid_SN = torch.tensor([[True, True], [False, False]])
    assert retrieval_accuracy(torch.ones(2, 2, 3), valid_SN).isnan()


def test_retrieval_tells_close_slots_apart_under_autocast() -> None:
    near_ND = torch.tensor([[1.0, 0.05], [1.0, 0.0]])  # a cosine of 0.9988, 1 in bfloat16
    shared_SND, valid_SN = near_ND.repeat(2, 1, 1), torch.ones(2, 2, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        assert retrieval_accuracy(shared_SND, valid_SN) == 1.0
