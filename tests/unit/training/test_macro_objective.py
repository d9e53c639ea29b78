import math

import pytest
import torch
from torch import Tensor

from sleepmami.config import (
    DGCLConfig,
    EngineConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    OptimizerConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.errors import TrainingError
from sleepmami.losses.dgcl import demographic_distance, dgcl
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.training.batches import MacroBatch
from sleepmami.training.engine import build_engine
from sleepmami.training.macro_objective import MacroObjective, dgcl_floor

MACRO = MacroPretrainConfig(
    model=MacroEncoderConfig(dim=16, forward_depth=1, backward_depth=1, state_dim=4),
    dgcl=DGCLConfig(cycle_epochs=4),
    max_epochs=12,
)


def macro_objective(config: MacroPretrainConfig = MACRO) -> MacroObjective:
    torch.manual_seed(0)
    return MacroObjective(MacroEncoder(config.model, micro_dim=8), config)


def nights(lengths: list[int], padded_to: int | None = None, padding: float = 0.0) -> MacroBatch:
    generator = torch.Generator().manual_seed(2)
    num = len(lengths)
    micro_BLMD = torch.full((num, padded_to or max(lengths), 6, 8), padding)
    for index, length in enumerate(lengths):
        micro_BLMD[index, :length] = torch.randn(length, 6, 8, generator=generator)
    return MacroBatch(
        micro_BLMD=micro_BLMD,
        modality_valid_BLM=torch.ones(micro_BLMD.shape[:3], dtype=torch.bool),
        length_B=torch.tensor(lengths),
        age_B=torch.linspace(-1, 1, num),
        bmi_B=torch.linspace(0, 1, num) ** 2,
        female_B=(torch.arange(num) % 2 == 0).float(),
    )


def test_forward_and_backward_add_to_the_total_and_the_floor_is_below() -> None:
    loss, metrics = macro_objective()(nights([12, 9, 8, 12]), step=0)
    torch.testing.assert_close(loss, metrics["loss/dgcl_forward"] + metrics["loss/dgcl_backward"])
    torch.testing.assert_close(metrics["loss/excess"], loss - metrics["loss/floor"])
    assert metrics["loss/excess"] > 0
    assert metrics["loss/floor"] > 0


def test_cycles_end_where_eq_4_says_in_both_directions() -> None:
    objective = macro_objective()
    batch = nights([8, 8, 8])
    _, metrics = objective(batch, step=0)
    output = objective.model(batch.micro_BLMD, batch.modality_valid_BLM, batch.length_B)
    distance_KK = (batch.age_B[:, None] - batch.age_B).abs()
    distance_KK += (batch.bmi_B[:, None] - batch.bmi_B).abs()
    distance_KK = distance_KK / 2 + (batch.female_B[:, None] != batch.female_B).float()
    for name, hidden_BLD in zip(("forward", "backward"), output, strict=True):
        z_CKD = torch.stack([hidden_BLD[:, 3], hidden_BLD[:, 7]])
        present_CK = torch.ones(2, 3, dtype=torch.bool)
        expected = dgcl(
            z_CKD, distance_KK, present_CK, rho=0.1, v=0.5, include_self=False, reduction="mean"
        )
        torch.testing.assert_close(metrics[f"loss/dgcl_{name}"], expected)


def test_padding_changes_nothing() -> None:
    plain, _ = macro_objective()(nights([8, 5, 9]), step=0)
    padded, _ = macro_objective()(nights([8, 5, 9], padded_to=12, padding=1e3), step=0)
    torch.testing.assert_close(plain, padded)


def test_nights_shorter_than_max_epochs_are_taken() -> None:
    loss, _ = macro_objective()(nights([4, 5]), step=0)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)  # one pair: nothing to tell apart


def test_fewer_than_two_complete_cycles_stop_with_numbers() -> None:
    with pytest.raises(
        TrainingError, match="step 3: found 1 of 2 nights with a complete cycle of 4"
    ):
        macro_objective()(nights([3, 4]), step=3)


def test_a_long_nights_middle_changes_no_loss() -> None:
    whole = nights([30, 12, 12, 9])  # max_epochs is 12
    expected, _ = macro_objective()(whole, step=0)
    whole.micro_BLMD[0, 12:18] = 7.0
    assert macro_objective()(whole, step=0)[0].item() == expected.item()
    whole.micro_BLMD[0, 18:] = 7.0
    assert macro_objective()(whole, step=0)[0].item() != expected.item()


def test_factors_decide_what_the_floor_is_made_of() -> None:
    batch = nights([12, 9, 8, 12])
    alike = batch._replace(bmi_B=torch.full((4,), torch.nan))
    for factors in (("age", "sex"), ("sex",)):
        config = replace_at(MACRO, {"dgcl.factors": list(factors)})
        metrics = [macro_objective(config)(b, step=0)[1] for b in (batch, alike)]
        assert metrics[0]["loss/floor"] == metrics[1]["loss/floor"]
        assert metrics[0]["loss/total"] == metrics[1]["loss/total"]
        assert metrics[0]["loss/floor"].isfinite()


def test_a_night_with_unknown_values_moves_the_loss_and_keeps_it_finite() -> None:
    config = replace_at(MACRO, {"dgcl.missing": "available"})
    batch = nights([12, 9, 8, 12])
    batch.age_B[1], batch.bmi_B[2], batch.female_B[3] = (torch.nan,) * 3
    loss, metrics = macro_objective(config)(batch, step=0)
    assert loss.isfinite()
    assert metrics["loss/excess"] > 0
    # Nights 1 and 2 know only BMI and only age: no pair, so the floor is of fewer weights.
    distance_KK = demographic_distance(batch.age_B, batch.bmi_B, batch.female_B, lambda_sex=1.0)
    assert distance_KK.isinf().nonzero().tolist() == [[1, 2], [2, 1]]


def test_a_partial_cycle_counts_where_asked_for() -> None:
    config = replace_at(MACRO, {"dgcl.partial_cycle": "last", "dgcl.reduction": "sum"})
    dropped = replace_at(MACRO, {"dgcl.reduction": "sum"})
    whole, partial = nights([8, 8, 8]), nights([10, 10, 10])
    losses = [macro_objective(c)(b, step=0)[0] for c in (config, dropped) for b in (whole, partial)]
    assert losses[0].item() == losses[2].item()
    assert losses[1] > losses[3]  # a third cycle in the sum


def contrast_of_nights(batch: MacroBatch, config: MacroPretrainConfig) -> list[Tensor]:
    """Eqs. 4-6 with the night vectors for Z, of either direction."""
    objective = macro_objective(config)
    _, night_BD = objective.model.embed(batch.micro_BLMD, batch.modality_valid_BLM, batch.length_B)
    distance_KK = demographic_distance(batch.age_B, batch.bmi_B, batch.female_B, lambda_sex=1.0)
    present_CK = torch.ones(1, len(batch.age_B), dtype=torch.bool)
    return [
        dgcl(
            half_KD[None],
            distance_KK,
            present_CK,
            rho=0.1,
            v=0.5,
            include_self=False,
            reduction="mean",
        )
        for half_KD in night_BD.chunk(2, dim=1)
    ]


def test_with_one_cycle_of_the_whole_night_running_means_are_the_contrast_of_night_vectors() -> (
    None
):
    one_cycle = {"dgcl.cycle_epochs": 12, "dgcl.partial_cycle": "last"}
    config = replace_at(MACRO, one_cycle | {"dgcl.reads": "running_mean"})
    batch = nights([12, 9, 6, 11])
    batch.modality_valid_BLM[0, 2:5] = False
    _, metrics = macro_objective(config)(batch, step=0)
    forward, backward = contrast_of_nights(batch, config)
    torch.testing.assert_close(metrics["loss/dgcl_forward"], forward)
    torch.testing.assert_close(metrics["loss/dgcl_backward"], backward)
    _, of_states = macro_objective(replace_at(MACRO, one_cycle))(batch, step=0)
    assert abs(of_states["loss/dgcl_forward"] - forward) > 1e-3


def test_running_means_are_of_both_ends_of_a_long_night() -> None:
    config = replace_at(MACRO, {"dgcl.reads": "running_mean"})
    whole = nights([30, 12, 12, 9])  # max_epochs is 12
    expected, _ = macro_objective(config)(whole, step=0)
    whole.micro_BLMD[0, 12:18], whole.modality_valid_BLM[0, 12:18] = 7.0, False
    assert macro_objective(config)(whole, step=0)[0].item() == expected.item()
    whole.modality_valid_BLM[0, 18] = False  # the last that the backward stack reads
    assert macro_objective(config)(whole, step=0)[0].item() != expected.item()


def test_a_partial_cycle_has_a_running_mean_up_to_the_last_epoch() -> None:
    changes = {"dgcl.partial_cycle": "last", "dgcl.reads": "running_mean"}
    objective = macro_objective(replace_at(MACRO, changes))
    batch = nights([10, 10, 10])
    _, metrics = objective(batch, step=0)
    output = objective.model(batch.micro_BLMD, batch.modality_valid_BLM, batch.length_B)
    distance_KK = demographic_distance(batch.age_B, batch.bmi_B, batch.female_B, lambda_sex=1.0)
    for name, hidden_BLD in zip(("forward", "backward"), output, strict=True):
        z_CKD = torch.stack([hidden_BLD[:, :end].mean(1) for end in (4, 8, 10)])
        present_CK = torch.ones(3, 3, dtype=torch.bool)
        expected = dgcl(
            z_CKD, distance_KK, present_CK, rho=0.1, v=0.5, include_self=False, reduction="mean"
        )
        torch.testing.assert_close(metrics[f"loss/dgcl_{name}"], expected)


@pytest.mark.parametrize("include_self", [False, True])
def test_the_floor_holds_where_every_distance_is_large_against_v(include_self: bool) -> None:
    distance = 5.0 * (1 - torch.eye(3))
    present = torch.ones(1, 3, dtype=torch.bool)
    config = DGCLConfig(v=0.005, include_self=include_self)  # exp(-1000) is 0
    expected = 0.0 if include_self else math.log(2)
    assert dgcl_floor(distance, present, config).item() == pytest.approx(expected)


def test_training_brings_the_loss_towards_its_floor() -> None:
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_fraction=0.0)
    engine = build_engine(
        macro_objective(), EngineConfig(kind="plain", zero_stage=0), optimizer, 40, 1
    )
    batch = nights([12, 9, 8, 12])
    excess = [engine.train_step([batch])["loss/excess"].item() for _ in range(40)]
    assert excess[-1] < excess[0] / 10
    assert excess[-1] > -1e-5


def floor(distance_KK: Tensor, config: DGCLConfig, cycles: int = 1) -> float:
    present_CK = torch.ones(cycles, len(distance_KK), dtype=torch.bool)
    return dgcl_floor(distance_KK, present_CK, config).item()


def test_three_alike_subjects_have_a_floor_of_log_two() -> None:
    assert floor(torch.zeros(3, 3), DGCLConfig()) == pytest.approx(math.log(2))


def test_with_itself_each_other_weight_is_a_third() -> None:
    value = floor(torch.zeros(3, 3), DGCLConfig(include_self=True))
    assert value == pytest.approx(2 / 3 * math.log(2))


def test_the_sum_runs_over_cycles_and_subjects() -> None:
    value = floor(torch.zeros(3, 3), DGCLConfig(reduction="sum"), cycles=2)
    assert value == pytest.approx(2 * 3 * math.log(2))


def test_a_far_third_subject_takes_the_choice_away() -> None:
    distance_KK = torch.tensor([[0.0, 0.0, 99.0], [0.0, 0.0, 99.0], [99.0, 99.0, 0.0]])
    assert floor(distance_KK, DGCLConfig()) == pytest.approx(math.log(2) / 3)


def test_an_absent_subject_is_not_in_the_floor() -> None:
    present_CK = torch.tensor([[True, True, True, False]])
    value = dgcl_floor(torch.zeros(4, 4), present_CK, DGCLConfig())
    assert value.item() == pytest.approx(math.log(2))


def test_equal_embeddings_of_alike_subjects_reach_the_floor() -> None:
    loss = dgcl(
        torch.ones(1, 5, 3),
        torch.zeros(5, 5),
        torch.ones(1, 5, dtype=torch.bool),
        rho=0.1,
        v=0.5,
        include_self=False,
        reduction="mean",
    )
    assert loss.item() == pytest.approx(floor(torch.zeros(5, 5), DGCLConfig()))
