"""Untrained weights as a bundle: the baseline that every later command takes like a trained one."""

from __future__ import annotations

import json

from pipelines.progress import console
from pipelines.run_folder import remember_run, require_same_run
from sleepmami import storage
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig, PreprocessConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import ConfigError
from sleepmami.tables import lance_io
from sleepmami.training.checkpoint import bundle_exists, load_bundle, save_bundle
from sleepmami.training.untrained import micro_alone, untrained_bundle


def random_bundle(
    corpus: str, run: str, micro: MicroPretrainConfig, macro: MacroPretrainConfig, seed: int
) -> str:
    """RUN and RUN/micro, as both trainings leave them, with the weights they start from.

    RUN remembers that it was not trained: `pretrain` refuses to go on in it.

    Args:
        corpus: whose preprocessing the bundle asks of recordings.
        run: a new folder, or one that this made with the same settings.
        micro: settings of the model; those of its training have no effect.
        macro: the same.
        seed: of the weights.

    Raises:
        TableError: the corpus is missing.
        ConfigError: RUN holds a training, or other weights.
    """
    metadata = lance_io.metadata(storage.join(corpus, "recordings.lance"))
    preprocess = from_dict(PreprocessConfig, json.loads(metadata["config"])["preprocess"])
    whole = untrained_bundle(micro, macro, preprocess, seed)
    settings = {"micro": to_dict(whole.micro), "macro": to_dict(whole.macro)}
    for name, own in settings.items():
        require_same_run(run, name, {**own, "untrained": True})
    places = ((storage.join(run, "micro"), micro_alone(whole)), (run, whole))
    for place, bundle in places:
        if bundle_exists(place) and load_bundle(place).weights_sha256 != bundle.weights_sha256:
            raise ConfigError(
                f"{place}: found {load_bundle(place).model_id}; expected no bundle, or "
                f"{bundle.model_id}: use a new folder"
            )
    for name, own in settings.items():
        remember_run(run, name, {**own, "untrained": True})
    for place, bundle in places:
        if bundle_exists(place):
            console.print(f"random-bundle: {place} is already complete")
            continue
        save_bundle(place, bundle)
        console.print(f"random-bundle: {place}: {bundle.model_id}, never trained")
    return run
