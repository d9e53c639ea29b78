import math

import pytest
import torch
from torch import nn

from sleepmami.config import MacroEncoderConfig, OptimizerConfig
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.training.optim import build_optimizer, learning_rate, parameter_groups


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4, 4))
        self.bias = nn.Parameter(torch.ones(3, 4))  # stacked per modality: two-dimensional
        self.out_bias = nn.Parameter(torch.ones(4))
        self.norm = nn.Sequential(nn.RMSNorm(4))
        self.A_log = nn.Parameter(torch.ones(4, 2))
        self.A_log._no_weight_decay = True  # type: ignore[attr-defined]
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.mask_token = nn.Parameter(torch.ones(4))


def names(module: nn.Module, tensors: list[torch.Tensor]) -> set[str]:
    return {n for n, p in module.named_parameters() if any(p is t for t in tensors)}


def test_only_weights_and_tokens_decay() -> None:
    module = Parts()
    decayed, undecayed = parameter_groups(module, 0.05)
    assert decayed["weight_decay"] == 0.05
    assert names(module, decayed["params"]) == {"weight", "mask_token"}
    assert undecayed["weight_decay"] == 0.0
    assert names(module, undecayed["params"]) == {"bias", "out_bias", "norm.0.weight", "A_log"}


def test_no_ssm_parameter_of_the_macro_encoder_decays() -> None:
    config = MacroEncoderConfig(dim=8, forward_depth=1, backward_depth=1, state_dim=4)
    model = MacroEncoder(config, micro_dim=4)
    decayed, undecayed = (names(model, g["params"]) for g in parameter_groups(model, 0.05))
    ssm = {f"{side}_stack.0.mamba.{name}" for side in ("forward", "backward") for name in ("A_log", "D", "dt_proj.bias")}  # fmt: skip
    assert ssm <= undecayed
    assert {name for name in undecayed - ssm if "norm" not in name and "bias" not in name} == {
        "forward_stack.1.weight",  # the stacks' own norms
        "backward_stack.1.weight",
    }
    assert {"projection.weight", "forward_stack.0.mamba.in_proj.weight"} <= decayed


def test_a_step_with_zero_gradient_shrinks_weights_and_nothing_else() -> None:
    module = Parts()
    optimizer = build_optimizer(module, OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert module.weight[0, 0, 0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert module.A_log[0, 0].item() == 1.0
    assert module.norm[0].weight[0].item() == 1.0


def test_the_betas_of_table_9_reach_adamw() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimizerConfig())
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.99)}


CONFIG = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_fraction=0.2)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1 / 3),  # two of ten steps warm up: thirds of the initial rate
        (1, 2 / 3),
        (2, 1.0),  # the first step after the warm-up
        (3, 0.1 + 0.9 * (1 + math.cos(math.pi / 7)) / 2),  # seven steps down
        (9, 0.1),  # the last step
        (10, 0.1),
    ],
)
def test_warm_up_then_cosine_worked_by_hand(step: int, expected: float) -> None:
    assert learning_rate(step, 10, CONFIG) == pytest.approx(expected, rel=1e-12)


def test_half_way_down_is_the_mean_of_initial_and_final() -> None:
    config = OptimizerConfig(warmup_fraction=0.0)
    assert learning_rate(50, 101, config) == pytest.approx((5e-4 + 1e-8) / 2)


def test_without_warm_up_the_first_step_has_the_initial_rate() -> None:
    assert learning_rate(0, 100, OptimizerConfig(warmup_fraction=0.0)) == 5e-4


def test_a_training_of_one_step_uses_the_initial_rate() -> None:
    assert learning_rate(0, 1, OptimizerConfig()) == 5e-4
