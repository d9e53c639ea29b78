"""Settings of the matrix of missing modalities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sleepmami.config.embedding import EmbedConfig
from sleepmami.config.probe import ProbeConfig
from sleepmami.errors import ConfigError

MISSING_TASK_ONLY = ("apnea", "few_shot", "outcomes", "level")


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingConfig:
    """Staging by probes of whole vectors, from vectors of fewer modalities."""

    # what stands in the block of a modality that is not there when a Micro vector is classified:
    # the fit set's mean of it, which says nothing, or the zeros that the vector has there
    fill: Literal["mean", "zero"] = "mean"
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)  # precision, halves: of the cohort

    def __post_init__(self) -> None:
        default = ProbeConfig()
        for name in MISSING_TASK_ONLY:
            if getattr(self.probe, name) != getattr(default, name):
                raise ConfigError(f"probe.{name} has no effect on staging of missing modalities")
        if self.embed.cohorts:
            raise ConfigError("embed.cohorts has no effect: give probe.cohorts, who is tested")
        if self.embed.nights_per_commit != EmbedConfig().nights_per_commit:
            raise ConfigError(
                "embed.nights_per_commit has no effect: each night is kept as it ends"
            )
