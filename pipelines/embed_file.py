"""One EDF -> one file of embeddings, in this process."""

from __future__ import annotations

from pathlib import Path

from sleepmami import storage
from sleepmami.config import EmbedConfig
from sleepmami.errors import ConfigError
from sleepmami.inference.embedder import Embedder, NightEmbedding
from sleepmami.inference.export import to_arrow_bytes, to_npz_bytes, to_parquet_bytes
from sleepmami.signals.preprocess import load_night

WRITERS = {".npz": to_npz_bytes, ".arrow": to_arrow_bytes, ".parquet": to_parquet_bytes}


def embed_file(edf: str, bundle: str, output: str, config: EmbedConfig) -> NightEmbedding:
    """Embed a recording and write it; the file appears only when it is complete.

    Args:
        edf: path or URI of the recording.
        bundle: folder or URI written by `pretrain macro`.
        output: ends in .npz, .arrow or .parquet.
        config: batch size and device.

    Raises:
        ConfigError: another ending.
        RecordingError: the recording cannot be used.
        CheckpointError: the bundle is missing, incomplete or altered.
    """
    suffix = Path(output).suffix
    if suffix not in WRITERS:
        raise ConfigError(f"{output}: found ending {suffix!r}; expected one of {sorted(WRITERS)}")
    device = "cuda" if config.use_gpu else "cpu"
    embedder = Embedder.from_checkpoint(
        bundle, windows_per_batch=config.windows_per_batch, device=device
    )
    source = edf if storage.is_local(edf) else storage.read_bytes(edf)
    recording_id = Path(edf).stem
    night = load_night(source, embedder.bundle.preprocess, recording_id=recording_id, name=edf)
    embedding = embedder.night(night)
    storage.write_bytes(output, WRITERS[suffix](embedding))
    return embedding
