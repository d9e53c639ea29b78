"""Settings of the matrix of missing modalities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sleepmami.config.embedding import EmbedConfig
from sleepmami.config.probe import ProbeConfig
from sleepmami.errors import ConfigError, require

MISSING_TASK_ONLY = ("apnea", "few_shot", "outcomes", "level")


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingConfig:
    """Staging by probes of whole vectors, from vectors of fewer modalities."""

    # what stands in the block of a modality that is not there when a Micro vector is classified:
    # the fit set's mean of it, which says nothing, or the zeros that the vector has there
    fill: Literal["mean", "zero"] = "mean"
    refit: bool = False  # also by probes that are fitted on vectors of each subset's modalities
    # of each night that those are fitted on, at random: all 63 subsets' vectors of them are kept
    refit_epochs: int = 100
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)  # precision, halves: of the cohort

    def __post_init__(self) -> None:
        require(self.refit_epochs >= 1, "refit_epochs", self.refit_epochs, ">= 1")
        if not self.refit and self.refit_epochs != 100:
            raise ConfigError("refit_epochs has no effect with refit=false")
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
