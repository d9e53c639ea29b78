"""Complete configurations by name: paper() is Tables 8 and 9, tiny() walks on two CPU cores."""

from dataclasses import dataclass, field

from sleepmami.config import (
    EmbedConfig,
    EngineConfig,
    IngestConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    MicroEncoderConfig,
    MicroPretrainConfig,
    OptimizerConfig,
    ServeConfig,
    SimulateConfig,
)
from sleepmami.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """One config per stage."""

    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    micro: MicroPretrainConfig = field(default_factory=MicroPretrainConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    macro: MacroPretrainConfig = field(default_factory=MacroPretrainConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)


def paper() -> Preset:
    """Tables 8 and 9 exactly: the defaults of every config."""
    return Preset()


def tiny() -> Preset:
    """The same architecture an eighth as wide, for tests, demos and laptops; trains in minutes."""
    return Preset(
        simulate=SimulateConfig(num_subjects=12, duration_h=3.2),
        micro=MicroPretrainConfig(
            model=MicroEncoderConfig(
                patch_channels=(16, 32, 32),
                lower_dim=32,
                lower_depth=1,
                higher_dim=64,
                higher_depth=1,
                num_heads=4,
                shared_depth=2,
                fusion_depth=1,
                upsample_dim=32,
                decoder_dim=32,
                decoder_depth=1,
            ),
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_fraction=0.05),
            batch_size=32,  # 64: twice as long, same total loss after 200 steps, better retrieval
            shuffle_buffer=512,
            # 12 subjects may leave none to validate on
            loop=LoopConfig(num_passes=8, max_steps=200, log_every=5, checkpoint_every=50),
            engine=EngineConfig(micro_batch=16),
        ),
        macro=MacroPretrainConfig(
            model=MacroEncoderConfig(dim=64, forward_depth=1, backward_depth=1, state_dim=8),
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_fraction=0.05),
            batch_subjects=8,
            loop=LoopConfig(num_passes=20, log_every=1, checkpoint_every=10),
            engine=EngineConfig(micro_batch=4),
        ),
    )


PRESETS = {"paper": paper, "tiny": tiny}


def preset(name: str) -> Preset:
    """The preset of that name; ConfigError when there is none."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are {sorted(PRESETS)}")
    return PRESETS[name]()
