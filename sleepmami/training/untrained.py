"""A bundle whose weights were never trained: what an architecture gives before it learns."""

from __future__ import annotations

from dataclasses import replace

import torch

from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig, PreprocessConfig
from sleepmami.config_edit import replace_at
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.training.checkpoint import Bundle


def untrained_bundle(
    micro: MicroPretrainConfig,
    macro: MacroPretrainConfig,
    preprocess: PreprocessConfig,
    seed: int,
) -> Bundle:
    """The weights that a training with `loop.seed=seed` starts from.

    Its Macro-Encoder reads Micro vectors as they are (`input_scale=raw`): there were no training
    nights to take means and deviations from.

    Args:
        micro: of its model.
        macro: of its model, and the cycles of the night vector.
        preprocess: of the recordings it is for.
        seed: of the weights, of each encoder by itself.
    """
    micro = replace_at(micro, {"loop.seed": seed})
    macro = replace_at(macro, {"loop.seed": seed, "model.input_scale": "raw"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        micro_state = MicroEncoder(micro.model).state_dict()
        torch.manual_seed(seed)
        macro_state = MacroEncoder(macro.model, micro.model.higher_dim).state_dict()
    return Bundle(
        micro=micro,
        micro_state=micro_state,
        preprocess=replace(preprocess, channels=(), truncated="reject"),
        macro=macro,
        macro_state=macro_state,
        lineage={"untrained": {"encoders": ["micro", "macro"], "seed": seed}},
    )


def micro_alone(bundle: Bundle) -> Bundle:
    """The bundle without its Macro-Encoder, as `pretrain micro` would leave it."""
    said = bundle.lineage["untrained"]
    return replace(
        bundle,
        macro=None,
        macro_state=None,
        lineage={"untrained": {**said, "encoders": ["micro"]}},
    )
