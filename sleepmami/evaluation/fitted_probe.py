"""A fitted probe of epochs as a file: what makes probabilities of classes of vectors.

    probe.safetensors    mean_F, scale_F, weight_FK, bias_K, and in its metadata, as JSON, whose
                         vectors it reads, how its classes are called and how good it was

It only means something on vectors of the weights it was fitted on: `load_probe` and
`FittedProbe.require_encoder` refuse others. Shapes: L epochs, F features, K classes.

Probabilities are those the loss fits. With Table 10's class weights rare classes are taken for more
frequent than they are; `class_weights=none` gives shares that fit a night.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sleepmami import __version__, storage
from sleepmami.errors import CheckpointError, TableError
from sleepmami.evaluation.linear_probe import LinearProbe
from sleepmami.evaluation.metrics import Floats

if TYPE_CHECKING:
    from types import ModuleType

    from sleepmami.evaluation.results import ProbeResult

EpochLevel = Literal["micro", "macro"]
KeptTask = Literal["staging", "apnea"]
FORMAT = "sleepmami-probe"
FORMAT_VERSION = 1
_ARRAYS = ("mean_F", "scale_F", "weight_FK", "bias_K")


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A linear probe of epochs that is to be used again.

    Attributes:
        task: what it tells.
        level: which vectors of an epoch it reads.
        classes: names, in the order of `probabilities`' columns.
        model_id: of the encoder whose vectors it was fitted on.
        weights_sha256: of the same.
        probe: weights on vectors that are not z-scored.
        about: how it was fitted and how good it was on people it had not seen; JSON values.
    """

    task: KeptTask
    level: EpochLevel
    classes: tuple[str, ...]
    model_id: str
    weights_sha256: str
    probe: LinearProbe
    about: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values

    def probabilities(self, features_LF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of each class, float32[L, K]; a class the fit set did not have is never it.

        Args:
            features_LF: vectors of valid epochs, as exported. The zeros of an epoch without
                signal are no vector: leave them out.

        Raises:
            TableError: another width, or numbers that are not finite.
        """
        width = len(self.probe.mean_F)
        if features_LF.ndim != 2 or features_LF.shape[1] != width:
            raise TableError(
                f"{self.task} probe: found vectors of shape {list(features_LF.shape)}; expected "
                f"[epochs, {width}], the {self.level} vectors of {self.model_id}"
            )
        if not np.isfinite(features_LF).all():
            raise TableError(f"{self.task} probe: found vectors that are not finite")
        return softmax(self.probe.scores(features_LF.astype(np.float32))).astype(np.float32)

    def require_encoder(self, weights_sha256: str) -> None:
        """CheckpointError unless it was fitted on vectors of these weights."""
        if self.weights_sha256 != weights_sha256:
            raise CheckpointError(
                f"{self.task} probe: found one fitted on vectors of {self.model_id} (weights "
                f"{self.weights_sha256[:12]}); expected one of weights {weights_sha256[:12]}: to "
                "other vectors its numbers mean nothing"
            )


def result_probe(result: ProbeResult, classes: tuple[str, ...], linear: LinearProbe) -> FittedProbe:
    """The one probe of a result of epochs, with the figures that it had."""
    assert result.task in get_args(KeptTask)
    assert result.level in get_args(EpochLevel)
    (fold,) = result.folds
    plain = result.to_dict()
    return FittedProbe(
        task=result.task,  # type: ignore[arg-type]  # asserted, which mypy does not follow
        level=result.level,  # type: ignore[arg-type]
        classes=classes,
        model_id=result.model_id,
        weights_sha256=result.weights_sha256,
        probe=linear,
        about={
            "figures": plain["figures"],
            "num_fit_subjects": fold.num_fit_subjects,
            "num_test_subjects": fold.num_test_subjects,
            "penalty": fold.penalty,
            "class_weights": result.config.class_weights,
            "notes": list(result.notes),
        },
    )


def softmax(score_NK: Floats) -> Floats:
    """Over the last axis; minus infinity is never chosen."""
    shifted = np.exp(score_NK - score_NK.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def save_probe(uri: str, probe: FittedProbe) -> None:
    """Write a probe as one safetensors file; the same probe gives the same bytes."""
    storage.write_bytes(uri, probe_bytes(probe))


def probe_bytes(probe: FittedProbe) -> bytes:
    """The file of `save_probe`."""
    own = probe.probe
    arrays = (own.mean_F, own.scale_F, own.weight_FO, own.bias_O)
    tensors = {name: np.ascontiguousarray(a) for name, a in zip(_ARRAYS, arrays, strict=True)}
    says = {
        item.name: getattr(probe, item.name)
        for item in dataclasses.fields(probe)
        if item.name != "probe"
    }
    header = {"format_version": FORMAT_VERSION, "code_version": __version__, "probe": says}
    # one entry: the library writes several in an order that changes from one run to the next
    metadata = {FORMAT: json.dumps(header, sort_keys=True)}
    data: bytes = _safetensors(probe.task).save(tensors, metadata)
    return data


def load_probe(uri: str, *, weights_sha256: str | None = None) -> FittedProbe:
    """Read a probe.

    Args:
        uri: what `sleepmami probe --save` wrote.
        weights_sha256: of the encoder it is to be used with; None leaves that to the caller.

    Raises:
        CheckpointError: no such file, no probe of this format, or one of another encoder.
    """
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError as error:
        raise CheckpointError(f"{uri}: found no such file; expected a probe") from error
    return probe_from_bytes(data, uri, weights_sha256=weights_sha256)


def probe_from_bytes(data: bytes, uri: str, *, weights_sha256: str | None = None) -> FittedProbe:
    """A probe from the bytes of its file; see `load_probe`."""
    module = _safetensors(uri)
    try:
        tensors = module.load(data)
        length = int.from_bytes(data[:8], "little")  # the format: length, JSON header, numbers
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        header = dict(json.loads(metadata.get(FORMAT, "{}")))
        says = dict(header.get("probe", {}))
    except Exception as error:  # the library's own error, and what a torn header may raise
        raise CheckpointError(
            f"{uri}: found {error}; expected the safetensors of a probe"
        ) from error
    version = header.get("format_version")
    if version != FORMAT_VERSION or set(tensors) != set(_ARRAYS):
        raise CheckpointError(
            f"{uri}: found {FORMAT} of format {version} with {sorted(tensors)}; expected "
            f"format {FORMAT_VERSION} with {sorted(_ARRAYS)}"
        )
    probe = _from_parts(uri, tensors, says)
    if weights_sha256 is not None:
        probe.require_encoder(weights_sha256)
    return probe


def _from_parts(uri: str, tensors: Mapping[str, NDArray[Any]], says: dict[str, Any]) -> FittedProbe:
    # Any: arrays of either width of float; JSON values
    weight_FK = tensors["weight_FK"]
    shapes = {
        "mean_F": weight_FK.shape[:1],
        "scale_F": weight_FK.shape[:1],
        "bias_K": weight_FK.shape[1:],
    }
    classes = tuple(says.get("classes", ()))
    fits = weight_FK.ndim == 2 and all(tensors[n].shape == shape for n, shape in shapes.items())
    known = says.get("level") in get_args(EpochLevel) and says.get("task") in get_args(KeptTask)
    if not fits or not known or len(classes) != weight_FK.shape[1]:
        raise CheckpointError(
            f"{uri}: found a {says.get('level')} probe of {says.get('task')} with {len(classes)} "
            f"classes and weights {list(weight_FK.shape)}; expected arrays that agree"
        )
    for name, tensor in tensors.items():
        # minus infinity: a class that is never the answer
        sound = np.isfinite(tensor) | ((tensor == -np.inf) if name == "bias_K" else False)
        if not sound.all() or (name == "scale_F" and not (tensor > 0).all()):
            raise CheckpointError(
                f"{uri}: found {name} with numbers that no fit gives; expected finite ones, and "
                "deviations above 0"
            )
    linear = LinearProbe(
        mean_F=tensors["mean_F"],
        scale_F=tensors["scale_F"],
        weight_FO=weight_FK,
        bias_O=tensors["bias_K"],
    )
    try:
        return FittedProbe(**says | {"classes": classes}, probe=linear)
    except TypeError as error:
        raise CheckpointError(f"{uri}: found {error}; expected what a probe says") from error


def _safetensors(what: str) -> ModuleType:
    try:
        import safetensors.numpy as module
    except ModuleNotFoundError as error:
        raise TableError(
            f"{what}: found no safetensors to keep a probe with; this needs: "
            "pip install 'sleepmami[probe]'"
        ) from error
    return module
