"""The one way from a night to vectors; batch jobs, HTTP and the command line all call it.

Shapes: S streams of a batch, B segments of a batch, E epochs per segment (2),
L epochs of the night, M modalities (6, in the order of MODALITIES), D width of the Micro-Encoder.

Precision is the Micro-Encoder's. bfloat16 has 8 bits: in the models measured each epoch vector
keeps a cosine of at least 0.9999 with float32's (benchmarks/README.md says how to check another),
and numbers may follow the shape of a batch within that. The Macro-Encoder is float32 always: its
states add up over a night, and it costs little.

Eq. 2 makes the two epochs of a segment negatives of each other, and place in the segment alone
tells them apart, so vectors can say which half an epoch was (docs/log.md). With `both_halves` the
night is heard twice, cut 30 s later the second time, and an epoch has the mean of its two vectors,
but for the first and last, which have one place only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import sleepmami
from sleepmami.config import EmbedConfig, MacroPretrainConfig, Precision, ServeConfig
from sleepmami.errors import CheckpointError, ConfigError, RecordingCode, RecordingError
from sleepmami.inference.hearing import (
    Hearing,
    Piece,
    hear,
    hearing_of,
    pieces_of,
    usable_epochs,
)
from sleepmami.inference.second_look import from_second_epoch
from sleepmami.models.macro_encoder import MacroEncoder
from sleepmami.models.masking import NUM_PATCHES
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import (
    MODALITIES,
    SEGMENT_EPOCHS,
    Decision,
    Night,
)
from sleepmami.tables.cycle_vectors import NIGHT_VECTOR
from sleepmami.tables.second_vectors import seconds_from_tokens
from sleepmami.training.checkpoint import Bundle, load_bundle

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochEmbedding:
    """What the Micro-Encoder says of each epoch of one night.

    Attributes:
        micro_LMD: float32[L, 6, D]; exactly zero where modality_valid_LM is False.
        modality_valid_LM: bool[L, 6]: the modality had a usable signal in this epoch.
        epoch_valid_L: bool[L]: at least one modality had.
        token_LMTD: float32[L, 6, T, D], of which each epoch's vector is the mean; only on request.
        info: what made these numbers, where they leave the process; plain JSON types.
    """

    micro_LMD: NDArray[np.float32]
    modality_valid_LM: NDArray[np.bool_]
    epoch_valid_L: NDArray[np.bool_]
    token_LMTD: NDArray[np.float32] | None = None
    info: dict[str, Any] = field(default_factory=dict)  # Any: JSON values

    def tokens(self) -> NDArray[np.float32]:
        """Modalities side by side: [L, T, 6 * D], of which tables/second_vectors.py makes seconds.

        Raises:
            ConfigError: they were not asked for.
        """
        if self.token_LMTD is None:
            raise ConfigError("found no tokens; expected epochs(night, seconds=True)")
        num_epochs, _, num_tokens, _ = self.token_LMTD.shape
        return self.token_LMTD.transpose(0, 2, 1, 3).reshape(num_epochs, num_tokens, -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class NightEmbedding:
    """Everything a bundle says of one night.

    Attributes:
        micro: float32[L, 6 * D], one block of D per modality in the order of MODALITIES; a block is
            exactly zero where modality_valid is False.
        macro: float32[L, 2 * macro_dim]: each epoch in the context of its night.
        cycles: float32[C, 2 * macro_dim]: the states at the ends of the night's cycles that DGCL
            compares; none in a night under 90 minutes.
        night: float32[2 * macro_dim], the mean of `macro` over valid epochs (docs/macro.md).
        epoch_valid: bool[L].
        modality_valid: bool[L, 6].
        info: what made these numbers; plain JSON types.
        second: float32[30 * L, 6 * D], one vector per second, blocks as in micro and zero where
            their modality is not valid in the epoch; only on request.
    """

    micro: NDArray[np.float32]
    macro: NDArray[np.float32]
    cycles: NDArray[np.float32]
    night: NDArray[np.float32]
    epoch_valid: NDArray[np.bool_]
    modality_valid: NDArray[np.bool_]
    info: dict[str, Any] = field(default_factory=dict)  # Any: JSON values
    second: NDArray[np.float32] | None = None


class Embedder:
    """A bundle's models, ready for inference on one device.

    Args:
        bundle: weights and the configs they were made with.
        windows_per_batch: segments one forward pass takes; changes speed and memory, not results.
        device: where the models run.
        precision: see the module docstring.
        both_halves: the same; costs twice as much.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        windows_per_batch: int,
        device: str = "cpu",
        precision: Precision = "float32",
        both_halves: bool = False,
    ) -> None:
        if windows_per_batch < 1:
            raise ConfigError(f"windows_per_batch must be >= 1, got {windows_per_batch}")
        self.bundle = bundle
        self.windows_per_batch = windows_per_batch
        self.device = torch.device(device)
        self.precision = precision
        self.both_halves = both_halves
        self.dim = bundle.micro.model.higher_dim
        self.epoch_tokens = NUM_PATCHES // SEGMENT_EPOCHS // bundle.micro.model.merge_stride
        micro = MicroEncoder(bundle.micro.model)
        self._prepare(micro, bundle.micro_state, "micro")
        self.micro = micro.for_inference(DTYPES[precision])
        self._macro: MacroEncoder | None = None
        if bundle.macro is not None:
            self._macro = MacroEncoder(bundle.macro.model, self.dim)
            self._prepare(self._macro, bundle.macro_state or {}, "macro")

    @classmethod
    def from_checkpoint(
        cls,
        uri: str,
        *,
        windows_per_batch: int,
        device: str = "cpu",
        precision: Precision = "float32",
        both_halves: bool = False,
    ) -> Embedder:
        """Load the bundle at `uri`; CheckpointError when it is missing or altered."""
        return cls(
            load_bundle(uri),
            windows_per_batch=windows_per_batch,
            device=device,
            precision=precision,
            both_halves=both_halves,
        )

    @classmethod
    def configured(cls, uri: str, config: EmbedConfig | ServeConfig) -> Embedder:
        """As `from_checkpoint`, by the settings of a batch job or of the service."""
        return cls.from_checkpoint(
            uri,
            windows_per_batch=config.windows_per_batch,
            device="cuda" if config.use_gpu else "cpu",
            precision=config.precision,
            both_halves=config.both_halves,
        )

    def epochs(self, night: Night, *, seconds: bool = False) -> EpochEmbedding:
        """Micro vectors of every epoch.

        Args:
            night: the recording.
            seconds: also the tokens that vectors of seconds are made of.

        Raises:
            RecordingError: no modality is usable anywhere in the night.
        """
        hearings = self.hearings(night, seconds=seconds)
        for hearing in hearings:
            for piece in pieces_of(hearing, self.windows_per_batch):
                self.hear([piece])
        return self.heard(hearings)

    def hearings(self, night: Night, *, seconds: bool = False) -> list[Hearing]:
        """The night as it is to be heard: once, or twice with `both_halves`.

        Raises:
            RecordingError: no modality is usable anywhere in the night.
        """
        if not usable_epochs(night).any():
            raise RecordingError(
                RecordingCode.SIGNAL_UNUSABLE,
                file=night.recording_id,
                found="no usable epoch of any modality",
                expected="at least one",
            )
        tokens = self.epoch_tokens if seconds else 0
        hearings = [hearing_of(night, self.dim, tokens)]
        if self.both_halves and night.num_epochs > SEGMENT_EPOCHS:
            hearings.append(hearing_of(from_second_epoch(night), self.dim, tokens))
        return hearings

    def hear(self, pieces: Sequence[Piece]) -> None:
        """Encode windows of any hearings of this embedder in one batch."""
        hear(pieces, self._embed)

    def heard(self, hearings: Sequence[Hearing]) -> EpochEmbedding:
        """What all hearings of one night, each to its end, say of its epochs."""
        found, *later = hearings
        found_LMRD = found.found_LMRD
        for hearing in later:
            # An epoch is valid in one hearing if it is in the other: `usable` alone decides.
            found_LMRD[1:] = (found_LMRD[1:] + hearing.found_LMRD) / 2
        return EpochEmbedding(
            micro_LMD=found_LMRD[:, :, 0],
            token_LMTD=found_LMRD[:, :, 1:] if found.num_tokens else None,
            modality_valid_LM=found.valid_LM,
            epoch_valid_L=np.asarray(found.valid_LM.any(axis=1)),
        )

    def night(self, night: Night, *, seconds: bool = False) -> NightEmbedding:
        """Micro, macro and night vectors.

        Args:
            night: the recording.
            seconds: also vectors of seconds.

        Raises:
            CheckpointError: the bundle has no Macro-Encoder.
            RecordingError: no modality is usable anywhere in the night.
        """
        self._require_macro()
        return self.in_context(night, self.epochs(night, seconds=seconds))

    def in_context(self, night: Night, epochs: EpochEmbedding) -> NightEmbedding:
        """`night` from its epochs, which may know of fewer modalities; `second` of their tokens.

        Raises:
            CheckpointError: the bundle has no Macro-Encoder.
        """
        macro, config = self._require_macro()
        with torch.inference_mode():
            vectors = macro.night_vectors(
                torch.from_numpy(epochs.micro_LMD)[None].to(self.device),
                torch.from_numpy(epochs.modality_valid_LM)[None].to(self.device),
                torch.tensor([night.num_epochs], device=self.device),
                cycle_epochs=config.dgcl.cycle_epochs,
                partial_cycle=config.dgcl.partial_cycle,
            )
        return NightEmbedding(
            micro=epochs.micro_LMD.reshape(night.num_epochs, -1),
            macro=vectors.macro_BLD[0].float().cpu().numpy(),
            cycles=vectors.cycle_BCD[0, vectors.present_BC[0]].float().cpu().numpy(),
            night=vectors.night_BD[0].float().cpu().numpy(),
            epoch_valid=epochs.epoch_valid_L,
            modality_valid=epochs.modality_valid_LM,
            info=self._info(night),
            second=None if epochs.token_LMTD is None else seconds_from_tokens(epochs.tokens()),
        )

    def _require_macro(self) -> tuple[MacroEncoder, MacroPretrainConfig]:
        if self._macro is None or self.bundle.macro is None:
            raise CheckpointError(
                f"bundle {self.bundle.model_id} has no Macro-Encoder; "
                "expected one that `sleepmami pretrain macro` made"
            )
        return self._macro, self.bundle.macro

    def _embed(
        self, signal_SBT: Tensor, streams: Tensor, valid_SB: Tensor, seconds: bool
    ) -> NDArray[np.float32]:
        inputs = [part.to(self.device) for part in (signal_SBT, streams, valid_SB)]
        with torch.inference_mode():
            if seconds:
                found_SBERD = self.micro.embed_with_tokens(*inputs)
            else:
                found_SBERD = self.micro.embed(*inputs)[:, :, :, None]
        array: NDArray[np.float32] = found_SBERD.float().cpu().numpy()
        return array

    def _prepare(self, model: nn.Module, state: Mapping[str, Tensor], part: str) -> None:
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"bundle {self.bundle.model_id}: {part} weights do not fit the config: {error}"
            ) from error
        model.to(self.device).eval().requires_grad_(False)

    def _info(self, night: Night) -> dict[str, Any]:  # Any: JSON values
        return {
            "recording_id": night.recording_id,
            "model_id": self.bundle.model_id,
            "weights_sha256": self.bundle.weights_sha256,
            "code_version": sleepmami.__version__,
            "precision": self.precision,
            "both_halves": self.both_halves,
            "night_vector": NIGHT_VECTOR,
            "num_epochs": night.num_epochs,
            "channels_used": channels_used(night),
            "modalities_missing": [m.value for m in night.missing],
        }


def channels_used(night: Night) -> list[dict[str, str]]:
    """Modality, label and derivation of each channel that became a signal, in MODALITIES order.

    The derivation is "rereferenced" when another channel was subtracted, else "as_recorded".
    """
    used = [c for c in night.channels if c.decision is Decision.USED and c.modality is not None]
    return [
        {
            "modality": channel.modality.value,
            "label": channel.label,
            "derivation": "as_recorded" if channel.reference is None else "rereferenced",
        }
        for modality in MODALITIES
        for channel in used
        if channel.modality is modality
    ]
