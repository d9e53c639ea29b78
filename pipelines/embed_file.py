"""One EDF -> one file of embeddings, in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sleepmami import storage
from sleepmami.config import EmbedConfig
from sleepmami.errors import ConfigError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.inference.export import to_arrow_file_bytes, to_npz_bytes, to_parquet_bytes
from sleepmami.models.cpu import prepare_cpu
from sleepmami.signals.preprocess import load_night

NIGHT_BY_NIGHT = ("num_actors", "cpus_per_actor", "nights_per_commit")  # of `embed cohort` alone
WRITERS = {".npz": to_npz_bytes, ".arrow": to_arrow_file_bytes, ".parquet": to_parquet_bytes}


def embed_file(
    edf: str,
    bundle: str,
    output: str,
    config: EmbedConfig,
    *,
    channels: tuple[tuple[str, str], ...] = (),
    seconds: bool = False,
) -> NightEmbedding:
    """Embed a recording and write it; the file appears only when it is complete.

    Args:
        edf: path or URI of the recording.
        bundle: folder or URI written by `pretrain macro`.
        output: ends in .npz, .arrow or .parquet.
        config: batch size, threads of this process and device.
        channels: what labels of this recording mean, from a channel file.
        seconds: also a vector for each second.

    Raises:
        ConfigError: another ending, or a setting that says how many nights are worked on.
        RecordingError: the recording cannot be used.
        CheckpointError: the bundle is missing, incomplete or altered.
    """
    suffix = Path(output).suffix
    if suffix not in WRITERS:
        raise ConfigError(f"{output}: found ending {suffix!r}; expected one of {sorted(WRITERS)}")
    _refuse_without_effect(config)
    prepare_cpu(config.threads_per_actor)
    embedder = Embedder.configured(bundle, config)
    source = edf if storage.is_local(edf) else storage.read_bytes(edf)
    recording_id = Path(edf).stem
    preprocess = replace(embedder.bundle.preprocess, channels=channels)
    night = load_night(source, preprocess, recording_id=recording_id, name=edf)
    embedding = embedder.night(night, seconds=seconds)
    storage.write_bytes(output, WRITERS[suffix](embedding))
    return embedding


def _refuse_without_effect(config: EmbedConfig) -> None:
    default = EmbedConfig()
    for name in NIGHT_BY_NIGHT:
        found, expected = getattr(config, name), getattr(default, name)
        if found != expected:
            raise ConfigError(
                f"{name}={found!r} has no effect on embed file; leave it out (default {expected!r})"
            )
