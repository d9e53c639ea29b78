"""Fitted probes in a bundle: BUNDLE/probes/TASK.safetensors, named and vouched for by its manifest.

A probe does not change whose vectors a bundle makes: `model_id` and `weights_sha256` are of the
encoders alone.
"""

from __future__ import annotations

from sleepmami import storage
from sleepmami.evaluation.fitted_probe import (
    FittedProbe,
    KeptTask,
    load_probe,
    probe_bytes,
    probe_from_bytes,
)
from sleepmami.training.checkpoint import add_file, manifest_of, read_file

FOLDER = "probes"


def probe_file(task: KeptTask) -> str:
    """Where in a bundle the probe of a task lies."""
    return f"{FOLDER}/{task}.safetensors"


def add_probe(bundle: str, probe: FittedProbe | str) -> str:
    """Put a probe into a bundle, in the place of an older one of the same task; returns its URI.

    Args:
        bundle: folder or URI of a finished bundle.
        probe: a probe, or the file that it is in.

    Raises:
        CheckpointError: no finished bundle, no probe, or one of another encoder.
    """
    if isinstance(probe, str):
        probe = load_probe(probe)
    probe.require_encoder(manifest_of(bundle)["weights_sha256"])
    return add_file(bundle, probe_file(probe.task), probe_bytes(probe))


def read_probe(bundle: str, task: KeptTask) -> FittedProbe | None:
    """The probe of a task that a bundle has, checked against its manifest; None without one.

    Raises:
        CheckpointError: no finished bundle, an altered file, or a probe of another encoder.
    """
    name = probe_file(task)
    manifest = manifest_of(bundle)
    if name not in manifest["files"]:
        return None
    data = read_file(bundle, name, manifest)
    sha256 = manifest["weights_sha256"]
    return probe_from_bytes(data, storage.join(bundle, name), weights_sha256=sha256)
