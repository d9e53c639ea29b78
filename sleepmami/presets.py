"""Complete configurations by name: paper() is Tables 8 and 9, tiny() walks on two CPU cores.

paper_literal() is paper() with the contrast of eq. 2 as it is written.

A file names one of them and what it changes in it: what `sleepmami tune` writes as best.json.
"""

import json
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sleepmami import storage
from sleepmami.config import (
    EmbedConfig,
    EngineConfig,
    IngestConfig,
    LoopConfig,
    MacroEncoderConfig,
    MacroPretrainConfig,
    MicroEncoderConfig,
    MicroLossConfig,
    MicroPretrainConfig,
    OptimizerConfig,
    ServeConfig,
    SimulateConfig,
)
from sleepmami.config_edit import replace_at
from sleepmami.errors import ConfigError

LITERAL_EQ_2 = MicroLossConfig(contrastive_view="same", slot_negatives="all")


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
    """Tables 8 and 9 exactly: the defaults of every config.

    What eq. 2 compares is not the paper's, see `paper_literal` and docs/learning.md.
    """
    return Preset()


def paper_literal() -> Preset:
    """`paper` with eq. 2 as it is written, which simulated nights solve by copying."""
    return Preset(micro=MicroPretrainConfig(loss=LITERAL_EQ_2))


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


PRESETS = {"paper": paper, "paper_literal": paper_literal, "tiny": tiny}


FILE_KEYS = {"preset", "stage", "overrides", "about"}


def preset(name: str) -> Preset:
    """The preset of that name, or what a .json file makes of one.

    Raises:
        ConfigError: there is none, or the file is no preset file.
    """
    if name in PRESETS:
        return PRESETS[name]()
    if name.endswith(".json"):
        return _preset_of_file(name)
    raise ConfigError(
        f"unknown preset {name!r}; there are {sorted(PRESETS)}, and files whose name ends in .json"
    )


def preset_name(name: str) -> str:
    """The name that a preset file builds on; a name as it is. Errors as for `preset`."""
    if name.endswith(".json"):
        return str(_read_preset_file(name)["preset"])
    preset(name)
    return name


def _preset_of_file(uri: str) -> Preset:
    values = _read_preset_file(uri)
    stage, base = values["stage"], PRESETS[values["preset"]]()
    try:
        return replace(base, **{stage: replace_at(getattr(base, stage), values["overrides"])})
    except ConfigError as error:
        raise ConfigError(f"{uri}: {error}") from error


def _read_preset_file(uri: str) -> dict[str, Any]:  # Any: JSON values
    """`{"preset": NAME, "stage": "macro", "overrides": {"dgcl.rho": 0.2}}`; "about" is free."""
    if not storage.exists(uri):
        raise ConfigError(f"--preset {uri}: found no such file; presets are {sorted(PRESETS)}")
    try:
        values = json.loads(storage.read_bytes(uri))
    except IsADirectoryError as error:
        raise ConfigError(f"{uri}: found a folder, expected a preset file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{uri}: found no JSON ({error}), expected a preset file") from error
    keys = set(values) if isinstance(values, dict) else set()
    if keys | {"about"} != FILE_KEYS:
        raise ConfigError(f"{uri}: found keys {sorted(keys)}, expected {sorted(FILE_KEYS)}")
    base, stage, overrides = values["preset"], values["stage"], values["overrides"]
    if base not in list(PRESETS):  # a list has no hash
        raise ConfigError(f"{uri}: found preset {base!r}, expected one of {sorted(PRESETS)}")
    stages = [item.name for item in fields(Preset)]
    if stage not in stages or not isinstance(overrides, dict):
        raise ConfigError(
            f"{uri}: found stage {stage!r} with {type(overrides).__name__}, expected one of "
            f"{stages} with a group of settings"
        )
    return dict(values)
