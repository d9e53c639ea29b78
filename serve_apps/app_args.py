"""Arguments of the Serve application, checked before anything is started."""

from pydantic import BaseModel, ConfigDict

from sleepmami.config import Precision, ServeConfig

DEFAULTS = ServeConfig()


class EmbeddingAppArgs(BaseModel):
    """Arguments of `build`: the bundle and ServeConfig but for the address, which Serve sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    num_replicas: int = DEFAULTS.num_replicas
    cpus_per_replica: float = DEFAULTS.cpus_per_replica
    threads_per_replica: int = DEFAULTS.threads_per_replica
    use_gpu: bool = DEFAULTS.use_gpu
    max_body_mb: int = DEFAULTS.max_body_mb
    max_ongoing_requests: int = DEFAULTS.max_ongoing_requests
    max_queued_requests: int = DEFAULTS.max_queued_requests
    windows_per_batch: int = DEFAULTS.windows_per_batch
    precision: Precision = DEFAULTS.precision
    both_halves: bool = DEFAULTS.both_halves
    keys_file: str | None = DEFAULTS.keys_file
    behind_gateway: bool = DEFAULTS.behind_gateway

    def config(self) -> ServeConfig:
        """The settings as a ServeConfig, whose ranges hold here too; ConfigError."""
        return ServeConfig(**self.model_dump(exclude={"bundle"}))
