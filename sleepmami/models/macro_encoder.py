"""Macro-Encoder, section 3.2, Figure 3 and the lower half of Table 8.

Micro embeddings of a whole night go through a linear projection into two stacks of Mamba blocks:
the forward stack reads the night from its start, the backward stack from its end.

Shapes: B nights, L epochs of the longest night, M modalities, D width of what is passed on (the
micro width in, `config.dim` inside), C cycles, one L per night in `length_B`.

Choices where the paper is silent: the input is the concatenation of the six modalities' epoch
embeddings; a missing modality is replaced by a learned vector, and so is every modality of an
epoch that has none; a block is x + PostNorm(Mamba(PreNorm(x))); each stack ends in an RMSNorm; the
night's vector is the mean over the states at the ends of its complete cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sleepmami.config import MacroEncoderConfig
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


class MambaBlock(nn.Module):
    """x + PostNorm(Mamba(PreNorm(x))), the PreNorm-Mamba-PostNorm of Table 8."""

    def __init__(self, config: MacroEncoderConfig) -> None:
        super().__init__()
        self.pre_norm = nn.RMSNorm(config.dim, eps=NORM_EPS)
        self.mamba = Mamba(config.dim, config.state_dim, config.conv_kernel, config.expand)
        self.post_norm = nn.RMSNorm(config.dim, eps=NORM_EPS)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]; causal."""
        update_BLD: Tensor = self.post_norm(self.mamba(self.pre_norm(hidden_BLD)))
        return hidden_BLD + update_BLD

    def resume(
        self, hidden_BLD: Tensor, state: MambaState | None, length_B: Tensor
    ) -> tuple[Tensor, MambaState]:
        """`forward` on the next piece of each night: `Mamba.resume`."""
        update_BLD, state = self.mamba.resume(self.pre_norm(hidden_BLD), state, length_B)
        return hidden_BLD + self.post_norm(update_BLD), state


class MacroEncoder(nn.Module):
    """From the micro embeddings of whole nights to embeddings that know the whole night.

    Args:
        config: widths and depths.
        micro_dim: width of one modality's micro embedding, the Micro-Encoder's `higher_dim`.
    """

    def __init__(self, config: MacroEncoderConfig, micro_dim: int) -> None:
        super().__init__()
        self.missing_MD = nn.Parameter(torch.empty(len(MODALITIES), micro_dim))
        nn.init.normal_(self.missing_MD, std=MISSING_STD)
        self.projection = nn.Linear(len(MODALITIES) * micro_dim, config.dim)
        self.forward_stack = _stack(config, config.forward_depth)
        self.backward_stack = _stack(config, config.backward_depth)

    def forward(
        self, micro_BLMD: Tensor, modality_valid_BLM: Tensor, length_B: Tensor
    ) -> MacroOutput:
        """States of both directions.

        Args:
            micro_BLMD: micro embeddings, padded at the end with anything.
            modality_valid_BLM: bool, where `micro_BLMD` holds an embedding.
            length_B: epochs of each night, 1..L.
        """
        hidden_BLD = self._project(micro_BLMD, modality_valid_BLM, length_B)
        return MacroOutput(
            forward_BLD=self.forward_stack(hidden_BLD),
            backward_BLD=self.backward_stack(reverse_nights(hidden_BLD, length_B)),
        )

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

    def _project(self, micro_BLMD: Tensor, modality_valid_BLM: Tensor, length_B: Tensor) -> Tensor:
        """What both stacks read [B, L, D]; learned vectors where there is no embedding."""
        inside_BL = torch.arange(micro_BLMD.shape[1], device=length_B.device) < length_B[:, None]
        known_BLM = modality_valid_BLM & inside_BL.unsqueeze(2)
        micro_BLMD = micro_BLMD.to(self.missing_MD.dtype)  # tables hold float16
        input_BLMD = torch.where(known_BLM.unsqueeze(3), micro_BLMD, self.missing_MD)
        hidden_BLD: Tensor = self.projection(input_BLMD.flatten(2))
        return hidden_BLD

    def embed(
        self,
        micro_BLMD: Tensor,
        modality_valid_BLM: Tensor,
        length_B: Tensor,
        *,
        cycle_epochs: int = CYCLE_EPOCHS,
    ) -> tuple[Tensor, Tensor]:
        """One vector per epoch and one per night.

        Returns:
            macro_BLD [B, L, 2 x dim], both directions in the order of time, and night_BD
            [B, 2 x dim], per direction the mean of the states at the ends of complete cycles, or
            the last state of a night shorter than one cycle. Rows of padding mean nothing.
        """
        output = self(micro_BLMD, modality_valid_BLM, length_B)
        backward_BLD = reverse_nights(output.backward_BLD, length_B)
        macro_BLD = torch.cat([output.forward_BLD, backward_BLD], dim=2)
        index_BC, present_BC = cycle_ends(length_B, micro_BLMD.shape[1], cycle_epochs)
        last_B1 = length_B[:, None] - 1
        index_BC = torch.cat([index_BC, last_B1], dim=1)  # one more, for nights without a cycle
        present_BC = torch.cat([present_BC, last_B1 + 1 < cycle_epochs], dim=1)
        night_BD = torch.cat([_mean_at(d, index_BC, present_BC) for d in output], dim=1)
        return macro_BLD, night_BD


def reverse_nights(hidden_BLD: Tensor, length_B: Tensor) -> Tensor:
    """Turn each night around within its own length; padding stays at the end."""
    index_L = torch.arange(hidden_BLD.shape[1], device=length_B.device)
    mirrored_BL = length_B[:, None] - 1 - index_L
    source_BL = torch.where(mirrored_BL >= 0, mirrored_BL, index_L)
    return hidden_BLD.gather(1, source_BL.unsqueeze(2).expand_as(hidden_BLD))


def cycle_ends(length_B: Tensor, max_length: int, cycle_epochs: int) -> tuple[Tensor, Tensor]:
    """Where the complete cycles of each night end, for either direction.

    Returns:
        index_BC: last epoch of cycle c = 1..C, cycle_epochs * c - 1, below `max_length`.
        present_BC: bool, the night is long enough for the cycle. A rest shorter than a cycle is
            left out.
    """
    num_cycles = max_length // cycle_epochs
    end_C = torch.arange(1, num_cycles + 1, device=length_B.device) * cycle_epochs
    present_BC = end_C <= length_B[:, None]
    return (end_C - 1).expand_as(present_BC), present_BC


def states_at(hidden_BLD: Tensor, index_BC: Tensor) -> Tensor:
    """[B, C, D]: the states at some epochs of each night."""
    return hidden_BLD.gather(1, index_BC.unsqueeze(2).expand(-1, -1, hidden_BLD.shape[2]))


def _mean_at(hidden_BLD: Tensor, index_BC: Tensor, present_BC: Tensor) -> Tensor:
    states_BCD = states_at(hidden_BLD, index_BC) * present_BC.unsqueeze(2)
    return states_BCD.sum(1) / present_BC.sum(1, keepdim=True)


def _stack(config: MacroEncoderConfig, depth: int) -> nn.Sequential:
    blocks = [MambaBlock(config) for _ in range(depth)]
    return nn.Sequential(*blocks, nn.RMSNorm(config.dim, eps=NORM_EPS))
