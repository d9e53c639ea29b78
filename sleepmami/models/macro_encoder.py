"""Macro-Encoder, section 3.2, Figure 3 and the lower half of Table 8.

Micro embeddings of a whole night go through a linear projection into two stacks of Mamba blocks:
the forward stack reads the night from its start, the backward stack from its end.

Shapes: B nights, L epochs of the longest night, M modalities, D width of what is passed on (the
micro width in, `config.dim` inside), C cycles, one L per night in `length_B`.

Choices where the paper is silent: the input is the concatenation of the six modalities' epoch
embeddings, each feature standardized over the training nights (`config.input_scale`; why:
docs/departures.md), a missing one replaced by a learned vector (`config.input="mean"`: their mean,
with one learned vector for epochs that have none); a block is x + PostNorm(Mamba(PreNorm(x))), and
each stack ends in an RMSNorm (`config.post_norm="residual"`: PostNorm(x + Mamba(PreNorm(x))), the
last of which ends the stack); the night's vector is the mean of the states of its valid epochs
(docs/macro.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from sleepmami.config import MacroEncoderConfig, PartialCycle, Reads, half_cycle
from sleepmami.models.ssm import Mamba, MambaState
from sleepmami.psg import CYCLE_EPOCHS, MODALITIES

NORM_EPS = 1e-6
MISSING_STD = 0.02  # of the learned vectors at the start


class MacroOutput(NamedTuple):
    """Both stacks' states, padding at the end of both.

    `backward_BLD` is in the order it was read: index 0 is the last epoch of the night, so that
    cycle c ends at index 180 c - 1 in either direction.
    """

    forward_BLD: Tensor
    backward_BLD: Tensor


class NightVectors(NamedTuple):
    """What the Macro-Encoder says of nights, both directions side by side.

    `cycle_BCD` holds states: of cycle c the forward one at the end of the c-th 90 minutes from the
    start, the backward one after reading the c-th 90 minutes from the end. DGCL compares them, or
    with `dgcl.reads="running_mean"` what `compared` gives. Rows of padding, and cycles that are not
    present, mean nothing.
    """

    macro_BLD: Tensor  # [B, L, 2 x dim], in the order of time
    cycle_BCD: Tensor  # [B, C, 2 x dim]
    present_BC: Tensor  # bool
    night_BD: Tensor  # [B, 2 x dim], the mean over valid epochs; without any, the last states


class MambaBlock(nn.Module):
    """The PreNorm-Mamba-PostNorm of Table 8, in one of its two readings."""

    def __init__(self, config: MacroEncoderConfig) -> None:
        super().__init__()
        self.pre_norm = nn.RMSNorm(config.dim, eps=NORM_EPS)
        self.mamba = Mamba(config.dim, config.state_dim, config.conv_kernel, config.expand)
        self.post_norm = nn.RMSNorm(config.dim, eps=NORM_EPS)
        self._norm_update = config.post_norm == "update"

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]; causal."""
        update_BLD: Tensor = self.mamba(self.pre_norm(hidden_BLD))
        return self._join(hidden_BLD, update_BLD)

    def _join(self, hidden_BLD: Tensor, update_BLD: Tensor) -> Tensor:
        if self._norm_update:
            return hidden_BLD + cast(Tensor, self.post_norm(update_BLD))
        return cast(Tensor, self.post_norm(hidden_BLD + update_BLD))

    def resume(
        self, hidden_BLD: Tensor, state: MambaState | None, length_B: Tensor
    ) -> tuple[Tensor, MambaState]:
        """`forward` on the next piece of each night: `Mamba.resume`."""
        update_BLD, state = self.mamba.resume(self.pre_norm(hidden_BLD), state, length_B)
        return self._join(hidden_BLD, update_BLD), state


class MacroEncoder(nn.Module):
    """From the micro embeddings of whole nights to embeddings that know the whole night.

    Args:
        config: widths and depths.
        micro_dim: width of one modality's micro embedding, the Micro-Encoder's `higher_dim`.
    """

    def __init__(self, config: MacroEncoderConfig, micro_dim: int) -> None:
        super().__init__()
        blocks = len(MODALITIES) if config.input == "concat" else 1
        self.missing_MD = nn.Parameter(torch.empty(blocks, micro_dim))
        nn.init.normal_(self.missing_MD, std=MISSING_STD)
        self.projection = nn.Linear(blocks * micro_dim, config.dim)
        self._mean = config.input == "mean"
        self._standardized = config.input_scale == "standardized"
        if self._standardized:
            shape = len(MODALITIES), micro_dim
            self.register_buffer("input_mean_MD", torch.zeros(shape))
            self.register_buffer("input_deviation_MD", torch.ones(shape))
        self.forward_stack = _stack(config, config.forward_depth)
        self.backward_stack = _stack(config, config.backward_depth)

    def forward(
        self,
        micro_BLMD: Tensor,
        modality_valid_BLM: Tensor,
        length_B: Tensor,
        *,
        max_epochs: int | None = None,
    ) -> MacroOutput:
        """States of both directions.

        Args:
            micro_BLMD: micro embeddings, padded at the end with anything.
            modality_valid_BLM: bool, where `micro_BLMD` holds an embedding.
            length_B: epochs of each night, 1..L.
            max_epochs: the forward stack reads no more than the first, the backward stack no more
                than the last of each night; None reads all.
        """
        hidden_BLD = self._project(micro_BLMD, modality_valid_BLM, length_B)
        return MacroOutput(
            forward_BLD=self.forward_stack(hidden_BLD[:, :max_epochs]),
            backward_BLD=self.backward_stack(reverse_nights(hidden_BLD, length_B)[:, :max_epochs]),
        )

    def standardize(self, mean_MD: Tensor, deviation_MD: Tensor) -> None:
        """Set what every micro feature is centred and scaled by; both travel with the weights.

        Args:
            mean_MD: of each feature, over the epochs of the training nights that have it.
            deviation_MD: the same, above 0.

        Raises:
            ValueError: `config.input_scale` is "raw".
        """
        if not self._standardized:
            raise ValueError("found model.input_scale='raw', expected 'standardized'")
        with torch.no_grad():
            self.get_buffer("input_mean_MD").copy_(mean_MD)
            self.get_buffer("input_deviation_MD").copy_(deviation_MD)

    def _project(self, micro_BLMD: Tensor, modality_valid_BLM: Tensor, length_B: Tensor) -> Tensor:
        """What both stacks read [B, L, D]; learned vectors where there is no embedding."""
        inside_BL = torch.arange(micro_BLMD.shape[1], device=length_B.device) < length_B[:, None]
        known_BLM = modality_valid_BLM & inside_BL.unsqueeze(2)
        micro_BLMD = micro_BLMD.to(self.missing_MD.dtype)  # tables hold float16
        if self._standardized:
            names = "input_mean_MD", "input_deviation_MD"
            mean_MD, deviation_MD = map(self.get_buffer, names)
            micro_BLMD = (micro_BLMD - mean_MD) / deviation_MD
        if self._mean:
            micro_BLMD, known_BLM = _mean_of_known(micro_BLMD, known_BLM)
        input_BLMD = torch.where(known_BLM.unsqueeze(3), micro_BLMD, self.missing_MD)
        hidden_BLD: Tensor = self.projection(input_BLMD.flatten(2))
        return hidden_BLD

    def forward_piece(
        self,
        micro_BLMD: Tensor,
        modality_valid_BLM: Tensor,
        length_B: Tensor,
        states: Sequence[MambaState] | None = None,
    ) -> tuple[Tensor, list[MambaState]]:
        """The forward stack's states of the next piece of each night, while it is being recorded.

        The pieces side by side are `forward`'s `forward_BLD`, however the night is cut. The
        backward stack has no such method: it reads from the end and needs the whole night.

        Args:
            micro_BLMD: micro embeddings of the piece.
            modality_valid_BLM: bool, where `micro_BLMD` holds an embedding.
            length_B: epochs of the piece in each night, 0..L.
            states: what the piece before gave, one per block; None at the start of the nights.

        Returns:
            forward_BLD [B, L, dim], whose rows of padding mean nothing, and the next `states`.

        Raises:
            ValueError: there are not as many states as blocks, or one does not fit.
        """
        *blocks, norm = self.forward_stack
        if states is not None and len(states) != len(blocks):
            raise ValueError(
                f"found {len(states)} states, expected one for each of {len(blocks)} blocks"
            )
        hidden_BLD = self._project(micro_BLMD, modality_valid_BLM, length_B)
        last = []
        for index, block in enumerate(blocks):
            assert isinstance(block, MambaBlock)
            hidden_BLD, after = block.resume(
                hidden_BLD, states[index] if states else None, length_B
            )
            last.append(after)
        return norm(hidden_BLD), last

    def embed(
        self, micro_BLMD: Tensor, modality_valid_BLM: Tensor, length_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`macro_BLD` and `night_BD` of `night_vectors`."""
        vectors = self.night_vectors(micro_BLMD, modality_valid_BLM, length_B)
        return vectors.macro_BLD, vectors.night_BD

    def night_vectors(
        self,
        micro_BLMD: Tensor,
        modality_valid_BLM: Tensor,
        length_B: Tensor,
        *,
        cycle_epochs: int = CYCLE_EPOCHS,
        partial_cycle: PartialCycle = "drop",
    ) -> NightVectors:
        """Vectors of every epoch, of every cycle and of the night; no cap on its length."""
        output = self(micro_BLMD, modality_valid_BLM, length_B)
        backward_BLD = reverse_nights(output.backward_BLD, length_B)
        macro_BLD = torch.cat([output.forward_BLD, backward_BLD], dim=2)
        index_BC, present_BC = cycle_ends(
            length_B, micro_BLMD.shape[1], cycle_epochs, partial_cycle
        )
        cycle_BCD = torch.cat([states_at(part_BLD, index_BC) for part_BLD in output], dim=2)
        last_B1 = length_B[:, None] - 1
        last_BD = torch.cat([states_at(part_BLD, last_B1) for part_BLD in output], dim=2)[:, 0]
        valid_BL1 = _valid_epochs(modality_valid_BLM, length_B)
        count_B1 = valid_BL1.sum(1)
        mean_BD = macro_BLD.masked_fill(~valid_BL1, 0.0).sum(1) / count_B1.clamp(min=1)
        night_BD = torch.where(count_B1 > 0, mean_BD, last_BD)
        return NightVectors(macro_BLD, cycle_BCD, present_BC, night_BD)


def reverse_nights(hidden_BLD: Tensor, length_B: Tensor) -> Tensor:
    """Turn each night around within its own length; padding stays at the end."""
    index_L = torch.arange(hidden_BLD.shape[1], device=length_B.device)
    mirrored_BL = length_B[:, None] - 1 - index_L
    source_BL = torch.where(mirrored_BL >= 0, mirrored_BL, index_L)
    return hidden_BLD.gather(1, source_BL.unsqueeze(2).expand_as(hidden_BLD))


def cycle_ends(
    length_B: Tensor, max_length: int, cycle_epochs: int, partial_cycle: PartialCycle = "drop"
) -> tuple[Tensor, Tensor]:
    """Where the cycles of each night end, for either direction.

    Args:
        length_B: epochs of each night; of a longer one the first `max_length` count.
        max_length: epochs that a direction reads at most; the same for every batch gives the same
            shapes.
        cycle_epochs: of one cycle.
        partial_cycle: "drop" leaves out a rest shorter than a cycle; with "last" the last epoch
            stands for the end of a rest of at least half a cycle.

    Returns:
        index_BC: last epoch of cycle c = 1..C, below `max_length`, and below the night's length
            where the cycle is present.
        present_BC: bool, the night is long enough for the cycle.
    """
    least = half_cycle(cycle_epochs) if partial_cycle == "last" else cycle_epochs
    num_cycles = (max_length + cycle_epochs - least) // cycle_epochs
    end_C = torch.arange(1, num_cycles + 1, device=length_B.device) * cycle_epochs
    length_B1 = length_B[:, None].clamp(max=max_length)
    present_BC = end_C - cycle_epochs + least <= length_B1
    index_BC = end_C.clamp(max=max_length).expand_as(present_BC)
    return torch.where(present_BC, index_BC.minimum(length_B1), index_BC) - 1, present_BC


def states_at(hidden_BLD: Tensor, index_BC: Tensor) -> Tensor:
    """[B, C, D]: the states at some epochs of each night."""
    return hidden_BLD.gather(1, index_BC.unsqueeze(2).expand(-1, -1, hidden_BLD.shape[2]))


def compared(
    output: MacroOutput,
    modality_valid_BLM: Tensor,
    length_B: Tensor,
    index_BC: Tensor,
    reads: Reads,
) -> Tensor:
    """Z of eq. 4 [B, C, 2 x dim], not normalised: both directions side by side.

    Each direction has read the night from its own end, so that a mean needs no epoch that is yet
    to be read. The mean up to the last epoch is the night vector, from which it may differ in
    rounding.

    Args:
        output: of the encoder, whatever its `max_epochs`.
        modality_valid_BLM: as the encoder was given it.
        length_B: the same.
        index_BC: ends of cycles, in the order in which epochs were read.
        reads: "state": what stands there. "running_mean": the mean of the valid epochs' states up
            to and with it; before the first valid epoch, the state there.
    """
    if reads == "state":
        return torch.cat([states_at(part_BLD, index_BC) for part_BLD in output], dim=2)
    valid_BL1 = _valid_epochs(modality_valid_BLM, length_B)
    of_each = valid_BL1, reverse_nights(valid_BL1, length_B)
    parts = [
        _means_until(part_BLD, of_part_BL1[:, : part_BLD.shape[1]], index_BC)
        for part_BLD, of_part_BL1 in zip(output, of_each, strict=True)
    ]
    return torch.cat(parts, dim=2)


def _means_until(hidden_BLD: Tensor, valid_BL1: Tensor, index_BC: Tensor) -> Tensor:
    """In float32 or more: a sum over a night has no place in bfloat16."""
    hidden_BLD = hidden_BLD.to(torch.promote_types(hidden_BLD.dtype, torch.float32))
    sum_BCD = states_at(hidden_BLD.masked_fill(~valid_BL1, 0.0).cumsum(1), index_BC)
    count_BC1 = states_at(valid_BL1.cumsum(1), index_BC)
    mean_BCD = sum_BCD / count_BC1.clamp(min=1)
    return torch.where(count_BC1 > 0, mean_BCD, states_at(hidden_BLD, index_BC))


def _valid_epochs(modality_valid_BLM: Tensor, length_B: Tensor) -> Tensor:
    """Whether an epoch lies in the night and has some modality; bool [B, L, 1]."""
    num_epochs = modality_valid_BLM.shape[1]
    inside_BL = torch.arange(num_epochs, device=length_B.device) < length_B[:, None]
    return (modality_valid_BLM.any(2) & inside_BL).unsqueeze(2)


def _mean_of_known(micro_BLMD: Tensor, known_BLM: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the modalities that are there [B, L, 1, D], and whether any is [B, L, 1]."""
    count_BL11 = known_BLM.sum(2)[..., None, None]
    sum_BL1D = micro_BLMD.masked_fill(~known_BLM.unsqueeze(3), 0.0).sum(2, keepdim=True)
    return sum_BL1D / count_BL11.clamp(min=1), known_BLM.any(2, keepdim=True)


def _stack(config: MacroEncoderConfig, depth: int) -> nn.Sequential:
    blocks = [MambaBlock(config) for _ in range(depth)]
    if config.post_norm == "residual":  # the last block's PostNorm ends the stack
        return nn.Sequential(*blocks, nn.Identity())
    return nn.Sequential(*blocks, nn.RMSNorm(config.dim, eps=NORM_EPS))
