"""Arguments of the Serve application, checked before anything is started."""

import re

from pydantic import BaseModel, ConfigDict, model_validator

from sleepmami.config import Precision, ServeConfig
from sleepmami.errors import ConfigError

DEFAULTS = ServeConfig()
ADDRESS = ("host", "port", "ssl_certfile", "ssl_keyfile")  # of ServeConfig: http_options to Serve
DEFAULT_MODEL = "default"  # the name of `bundle`
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class EmbeddingAppArgs(BaseModel):
    """Arguments of `build`: the bundles and ServeConfig but for the address, which Serve sets.

    `models` are further bundles by name; `canary` is the share of the requests without a name that
    each of them gets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    models: dict[str, str] = {}
    canary: dict[str, float] = {}
    num_replicas: int = DEFAULTS.num_replicas
    max_replicas: int | None = DEFAULTS.max_replicas
    cpus_per_replica: float = DEFAULTS.cpus_per_replica
    threads_per_replica: int = DEFAULTS.threads_per_replica
    use_gpu: bool = DEFAULTS.use_gpu
    num_preprocessors: int = DEFAULTS.num_preprocessors
    max_preprocessors: int | None = DEFAULTS.max_preprocessors
    cpus_per_preprocessor: float = DEFAULTS.cpus_per_preprocessor
    max_body_mb: int = DEFAULTS.max_body_mb
    max_ongoing_requests: int = DEFAULTS.max_ongoing_requests
    max_queued_requests: int = DEFAULTS.max_queued_requests
    windows_per_batch: int = DEFAULTS.windows_per_batch
    batch_wait_ms: float = DEFAULTS.batch_wait_ms
    precision: Precision = DEFAULTS.precision
    both_halves: bool = DEFAULTS.both_halves
    keys_file: str | None = DEFAULTS.keys_file
    behind_gateway: bool = DEFAULTS.behind_gateway
    state_dir: str | None = DEFAULTS.state_dir
    retention_h: float = DEFAULTS.retention_h
    max_uploads_gb: float = DEFAULTS.max_uploads_gb
    max_jobs: int = DEFAULTS.max_jobs
    cohort: str | None = DEFAULTS.cohort

    @model_validator(mode="after")
    def _require_known_models(self) -> "EmbeddingAppArgs":
        require_models(self.models, self.canary)
        return self

    def config(self) -> ServeConfig:
        """The settings as a ServeConfig, whose ranges hold here too; ConfigError."""
        return ServeConfig(**self.model_dump(exclude={"bundle", "models", "canary"}))

    @property
    def bundles(self) -> dict[str, str]:
        """Every bundle by the name of its model, the default one first."""
        return {DEFAULT_MODEL: self.bundle} | self.models


def require_models(models: dict[str, str], canary: dict[str, float]) -> None:
    """ConfigError unless names can be used in a URL and shares are shares of known models."""
    for name in models:
        if name == DEFAULT_MODEL or not _NAME.fullmatch(name):
            raise ConfigError(
                f"models: found the name {name!r}; expected letters, digits, '.', '_' and '-', and "
                f"not {DEFAULT_MODEL!r}, which is the first bundle's"
            )
    for name, share in canary.items():
        if name not in models:
            raise ConfigError(
                f"canary: found a share for {name!r}; expected one of {sorted(models)}"
            )
        if not 0 < share <= 1:
            raise ConfigError(f"canary.{name} must be in (0, 1], got {share!r}")
    if sum(canary.values()) > 1:
        raise ConfigError(f"canary: found shares of {sum(canary.values()):g}; expected at most 1")
