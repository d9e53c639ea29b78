"""The bundle: one folder (or object-store prefix) with the weights and all they were made with.

    config.json         settings of encoders and preprocessing, demographic statistics, lineage
    micro.safetensors   Micro-Encoder
    macro.safetensors   Macro-Encoder; absent from the bundle that `pretrain micro` leaves
    probes/*            fitted probes (`bundle_probes.py`); most bundles have none
    manifest.json       size and sha256 of each file, written last

A folder without a manifest is half-written. What the manifest does not name is not of the bundle.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from sleepmami import __version__, storage
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig, PreprocessConfig
from sleepmami.config_edit import from_dict, to_dict
from sleepmami.errors import CheckpointError, ConfigError
from sleepmami.psg import UNTRAINED
from sleepmami.tables.demographics import DemographicStatistics

FORMAT_VERSION = 2
LOSS_BEFORE_THERE_WAS_A_CHOICE = {"slot_negatives": "all", "contrastive_view": "same"}
PRIVATE_INPUT_VERSION = 1  # the shared encoder heard the private tokens, and no setting said so
CONFIG_FILE = "config.json"
MICRO_FILE = "micro.safetensors"
MACRO_FILE = "macro.safetensors"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model ready to be shipped.

    Attributes:
        micro: config of the Micro-Encoder's pretraining.
        micro_state: its weights.
        preprocess: how its recordings were preprocessed; inference must do the same.
        macro: config of the Macro-Encoder's pretraining; None, with its state and demographics,
            before that stage.
        macro_state: its weights.
        demographics: training-set statistics that z-scored age and BMI (eq. 5).
        lineage: tables, their versions and code that made the weights; plain JSON types. What was
            never trained is said here, see `untrained`.
    """

    micro: MicroPretrainConfig
    micro_state: Mapping[str, Tensor]
    preprocess: PreprocessConfig
    macro: MacroPretrainConfig | None = None
    macro_state: Mapping[str, Tensor] | None = None
    demographics: DemographicStatistics | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values

    def __post_init__(self) -> None:
        if (self.macro is None) != (self.macro_state is None):
            found = "its config" if self.macro_state is None else "its weights"
            raise CheckpointError(
                f"a bundle's Macro-Encoder: found only {found}, expected config and weights"
            )

    @cached_property
    def weights_sha256(self) -> str:
        """sha256 of micro.safetensors followed by macro.safetensors, if there is one.

        Of a loaded bundle, that of the files it was read from: another version of safetensors
        would lay the same tensors out in other bytes.
        """
        return _weights_sha256(self._weight_files())

    @property
    def untrained(self) -> tuple[str, ...]:
        """The encoders whose weights are as they were drawn: of "micro" and "macro"."""
        return tuple(self.lineage.get("untrained", {}).get("encoders", ()))

    @property
    def model_id(self) -> str:
        """A short name that changes whenever a weight does, and says if one was never trained."""
        return _model_id(self.weights_sha256, self.untrained)

    def _weight_files(self) -> dict[str, bytes]:
        files = {MICRO_FILE: _tensor_bytes(self.micro_state)}
        if self.macro_state is not None:
            files[MACRO_FILE] = _tensor_bytes(self.macro_state)
        return files


def bundle_exists(uri: str) -> bool:
    """Whether a finished bundle lies at `uri`; `load_bundle` says whether it is intact."""
    return storage.exists(storage.join(uri, storage.MANIFEST))


def save_bundle(folder: str, bundle: Bundle) -> None:
    """Write the bundle; an older one in the same place stops being one before the first byte."""
    manifest_uri = storage.join(folder, storage.MANIFEST)
    storage.delete(manifest_uri)
    config = {
        "format_version": FORMAT_VERSION,
        "micro": to_dict(bundle.micro),
        "preprocess": to_dict(bundle.preprocess),
        "macro": to_dict(bundle.macro) if bundle.macro else None,
        "demographics": to_dict(bundle.demographics) if bundle.demographics else None,
        "lineage": dict(bundle.lineage),
    }
    weights = bundle._weight_files()
    weights_sha256 = _weights_sha256(weights)
    files = {CONFIG_FILE: _json_bytes(config), **weights}
    for name, data in files.items():
        storage.write_bytes(storage.join(folder, name), data)
    manifest = {
        "format_version": FORMAT_VERSION,
        "model_id": _model_id(weights_sha256, bundle.untrained),
        "weights_sha256": weights_sha256,
        "untrained": list(bundle.untrained),
        "code_version": __version__,
        "files": {name: _entry(data) for name, data in files.items()},
    }
    storage.write_bytes(manifest_uri, _json_bytes(manifest))


def load_bundle(uri: str) -> Bundle:
    """Read and verify a bundle.

    Raises:
        CheckpointError: there is none, it is incomplete, of another format, or a file was altered;
            the message names the file, what was found and what was expected.
    """
    manifest = _read_manifest(uri)
    files = {name: _read_verified(uri, name, entry) for name, entry in manifest["files"].items()}
    for name in (CONFIG_FILE, MICRO_FILE):
        if name not in files:
            raise CheckpointError(
                f"{storage.join(uri, storage.MANIFEST)}: found {sorted(files)}, expected {name} too"
            )
    config_uri = storage.join(uri, CONFIG_FILE)
    config = _parse_json(files[CONFIG_FILE], config_uri)
    has_macro = config.get("macro") is not None
    if has_macro != (MACRO_FILE in files):
        raise CheckpointError(
            f"{config_uri}: found {'a' if has_macro else 'no'} Macro-Encoder, expected what the "
            f"files {sorted(files)} hold"
        )
    try:
        if manifest["format_version"] == PRIVATE_INPUT_VERSION:
            config["micro"]["model"].setdefault("shared_input", "private")
        for name, value in LOSS_BEFORE_THERE_WAS_A_CHOICE.items():
            config["micro"]["loss"].setdefault(name, value)
        if has_macro:  # what it was before there was a choice
            config["macro"].setdefault("crop", "start")
            config["macro"]["model"].setdefault("input_scale", "raw")
        bundle = Bundle(
            micro=from_dict(MicroPretrainConfig, config["micro"]),
            micro_state=_tensors(files[MICRO_FILE], storage.join(uri, MICRO_FILE)),
            preprocess=from_dict(PreprocessConfig, config["preprocess"]),
            macro=from_dict(MacroPretrainConfig, config["macro"]) if has_macro else None,
            macro_state=(
                _tensors(files[MACRO_FILE], storage.join(uri, MACRO_FILE)) if has_macro else None
            ),
            demographics=(
                from_dict(DemographicStatistics, config["demographics"])
                if config.get("demographics")
                else None
            ),
            lineage=config.get("lineage", {}),
        )
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{config_uri}: found {error}, expected the settings of sleepmami {__version__}"
        ) from error
    weights_sha256 = _weights_sha256(files)
    _require(
        storage.join(uri, storage.MANIFEST),
        "weights_sha256",
        manifest.get("weights_sha256"),
        weights_sha256,
    )
    vars(bundle)["weights_sha256"] = weights_sha256  # where cached_property keeps it
    return bundle


def manifest_of(uri: str) -> dict[str, Any]:  # Any: JSON values
    """What a finished bundle says of itself: `model_id`, `weights_sha256`, `files` by name.

    Raises:
        CheckpointError: there is no finished bundle, or one of another format.
    """
    return _read_manifest(uri)


def read_file(uri: str, name: str, manifest: Mapping[str, Any]) -> bytes:
    """A file of a bundle; CheckpointError when it is not the one its manifest names."""
    return _read_verified(uri, name, manifest["files"][name])


def add_file(uri: str, name: str, data: bytes) -> str:
    """Put a file beside the weights of a finished bundle; returns its URI.

    An older file of that name is no part of the bundle from before the first byte until the last,
    so that an interruption leaves a whole bundle without the file.
    """
    manifest = _read_manifest(uri)
    manifest_uri, file_uri = storage.join(uri, storage.MANIFEST), storage.join(uri, name)
    if manifest["files"].pop(name, None) is not None:
        storage.write_bytes(manifest_uri, _json_bytes(manifest))
    storage.write_bytes(file_uri, data)
    manifest["files"][name] = _entry(data)
    storage.write_bytes(manifest_uri, _json_bytes(manifest))
    return file_uri


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _weights_sha256(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in (MICRO_FILE, MACRO_FILE):
        digest.update(files.get(name, b""))
    return digest.hexdigest()


def _model_id(weights_sha256: str, untrained: Sequence[str]) -> str:
    return f"{UNTRAINED if untrained else 'sleepmami-'}{weights_sha256[:12]}"


def _read_manifest(uri: str) -> dict[str, Any]:
    manifest_uri = storage.join(uri, storage.MANIFEST)
    if not bundle_exists(uri):
        state = "an unfinished bundle, without manifest.json" if storage.exists(uri) else "nothing"
        raise CheckpointError(
            f"{uri}: found {state}; expected a finished bundle, as `sleepmami pretrain` leaves it"
        )
    manifest = _parse_json(_read(manifest_uri), manifest_uri)
    if manifest.get("format_version") != PRIVATE_INPUT_VERSION:
        _require(manifest_uri, "format_version", manifest.get("format_version"), FORMAT_VERSION)
    if not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{manifest_uri}: found no list of files, expected one")
    return manifest


def _read_verified(uri: str, name: str, entry: Any) -> bytes:  # Any: a JSON value
    file_uri = storage.join(uri, name)
    if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
        raise CheckpointError(f"{file_uri}: manifest found {entry!r}, expected bytes and sha256")
    data = _read(file_uri)
    _require(file_uri, "bytes", len(data), entry["bytes"])
    _require(file_uri, "sha256", hashlib.sha256(data).hexdigest(), entry["sha256"])
    return data


def _read(file_uri: str) -> bytes:
    try:
        return storage.read_bytes(file_uri)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{file_uri}: found no such file, expected a part of the bundle"
        ) from error


def _require(file_uri: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckpointError(f"{file_uri}: found {what} {found!r}, expected {expected!r}")


def _parse_json(data: bytes, file_uri: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CheckpointError(f"{file_uri}: found {error}, expected JSON") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file_uri}: found {type(value).__name__}, expected a JSON object")
    return value


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _tensor_bytes(state: Mapping[str, Tensor]) -> bytes:
    return tensors_to_bytes({name: t.detach().cpu().contiguous() for name, t in state.items()})


def _tensors(data: bytes, file_uri: str) -> dict[str, Tensor]:
    try:
        return tensors_from_bytes(data)
    except SafetensorError as error:
        raise CheckpointError(f"{file_uri}: found {error}, expected safetensors") from error
