"""A bundle with random weights, small enough for tests."""

import torch

from sleepmami.config import (
    EngineConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    MicroEncoderConfig,
    MicroPretrainConfig,
    PreprocessConfig,
)
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.training.checkpoint import Bundle

# every width as small as the architecture lets it be
SMALLEST_MICRO = MicroEncoderConfig(
    patch_channels=(4, 8, 8),
    lower_dim=8,
    lower_depth=1,
    higher_dim=16,
    higher_depth=1,
    num_heads=2,
    shared_depth=1,
    fusion_depth=1,
    upsample_dim=8,
    decoder_dim=8,
    decoder_heads=2,
    decoder_depth=1,
)


def random_bundle(*, seed: int = 11, notch_hz: float = 60.0) -> Bundle:
    """Random weights; every width as small as the architecture lets it be."""
    torch.manual_seed(seed)
    micro = MicroPretrainConfig(model=SMALLEST_MICRO)
    macro = MacroPretrainConfig(
        model=MacroEncoderConfig(dim=8, forward_depth=1, backward_depth=1, state_dim=4),
        batch_subjects=4,
        engine=EngineConfig(micro_batch=2),
    )
    return Bundle(
        micro=micro,
        micro_state=MicroEncoder(micro.model).state_dict(),
        preprocess=PreprocessConfig(notch_hz=notch_hz),
        macro=macro,
        macro_state=MacroEncoder(macro.model, micro.model.higher_dim).state_dict(),
        demographics=None,
        lineage={},
    )
