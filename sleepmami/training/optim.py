"""AdamW's parameter groups and the learning rate of every step, Table 9.

Departures from the paper: Table 9 excludes SSM parameters from weight decay and says nothing of
biases and norm scales; they are excluded too, as in the masked-autoencoder recipe the
Micro-Encoder follows: pulling a scale towards zero shrinks activations instead of weights.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sleepmami.config import OptimizerConfig


def decays(owner: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether AdamW decays `parameter`, which `owner` holds under `name`.

    Not those that a module marked with `_no_weight_decay` (the SSM parameters of Table 9), and
    neither biases nor norm scales. Names decide, not dimensions: per-modality weights are stacked,
    which makes a bias two-dimensional.
    """
    if getattr(parameter, "_no_weight_decay", False):
        return False
    is_norm = "Norm" in type(owner).__name__
    return not is_norm and not (name == "bias" or name.endswith("_bias"))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters of `module`, decayed first, undecayed second; no empty group."""
    decayed: list[Tensor] = []
    undecayed: list[Tensor] = []
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.requires_grad:
                (decayed if decays(owner, name, parameter) else undecayed).append(parameter)
    groups: list[dict[str, Any]] = [  # Any: torch's type of a group
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over `module`; the learning rate is set before each step by the engine."""
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,  # one pass over weights, gradients and moments instead of a dozen
    )


def learning_rate(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """Learning rate of the `step`-th update (from 0): linear warm-up, then half a cosine.

    The first step after the warm-up has exactly `learning_rate` ("initial" in Table 9) and the
    last of `total_steps` exactly `final_learning_rate`. Steps beyond stay at the final rate.
    """
    num_warmup = int(config.warmup_fraction * total_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / (num_warmup + 1)
    progress = min(1.0, (step - num_warmup) / max(1, total_steps - 1 - num_warmup))
    cosine = (1.0 + math.cos(math.pi * progress)) / 2.0
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * cosine
