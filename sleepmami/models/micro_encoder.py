"""The Micro-Encoder: 60 s of any subset of six modalities to tokens (section 3.1, Fig. 2, Table 8).

Shapes: S streams, B segments, T samples (6000), P patches (120), V visible patches (60),
W samples of a patch (50), M merged tokens (24, of 2.5 s each), E epochs per segment (2), D width.

How the masks meet the merge of 5 patches is `merge_scheme`; at inference all three are the same:
    grid    visible tokens return to the grid of 120 patches before they are merged: 24 tokens.
    packed  visible tokens are merged side by side: 12 tokens of 5 s in pretraining (so M is 12).
            Their slots are of 30 visible patches, within 1 s of 30 s.
    dense   mask tokens stand for hidden patches from the lower encoder on: 24 tokens.

A stream is one signal; `modality_S` says which modality's private weights it uses. A stream that
is not there (`valid_SB` False) is read as silence whatever its samples, is hidden from the shared
encoder's attention, and is not counted by the experts: masking it gives what dropping it gives.

Section 3.1 forwards the merged tokens "both to the next private encoder layer and to the shared
encoder". With `shared_input` private the shared encoder hears them after the higher private blocks.

With `contrastive_view` blocked the shared encoder runs twice: its tokens for fusion attend across
modalities as ever, those that eq. 2 and KoLeo compare only within their own, with the same weights.
The experts' load is then that of both passes, since both go through the same experts. Inference
compares nothing and runs once.

Choices where the paper is silent: no modality embedding in the shared encoder, whose tokens are
to be modality-agnostic (`modality_embedding` adds one); in fusion the private tokens ask (and carry
the residual) and the shared tokens of the same modality answer, with one set of weights for all; a
final RMSNorm after each pre-norm stack; the learned mask token replaces hidden positions after the
decoder's embedding.
"""

from __future__ import annotations

import copy
import itertools
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from sleepmami.config import ContrastiveView, MicroEncoderConfig, SharedView
from sleepmami.models.attention import CrossAttentionBlock, Rotary, SelfAttentionBlock, rotary
from sleepmami.models.layers import INIT_STD, Linear, RMSNorm, per_stream
from sleepmami.models.masking import NUM_PATCHES, Masks
from sleepmami.models.moe import ExpertLoad, MoEBlock
from sleepmami.models.patching import PatchEmbed, PatchMerge
from sleepmami.models.tap_merge import put_on_grid
from sleepmami.psg import MODALITIES, PATCH_SAMPLES, SEGMENT_EPOCHS


class MicroOutput(NamedTuple):
    """What pretraining reads.

    Attributes:
        reconstruction_SBPT: float32 [S, B, 120, 50], every patch, hidden or not.
        shared_SBMD: float32, what eq. 2 compares: output of the shared encoder, of its blocked pass
            where that is asked for; without a shared encoder, the private tokens.
        private_SBMD: float32, output of the higher private encoder.
        expert_counts: int64 [shared layers, experts], tokens of valid streams per expert, of all
            passes of the shared encoder.
        expert_probability: of the same tokens, the mean of the router's softmax.
    """

    reconstruction_SBPT: Tensor
    shared_SBMD: Tensor
    private_SBMD: Tensor
    expert_counts: Tensor
    expert_probability: Tensor


class ContrastTokens(NamedTuple):
    """What eq. 2 compares: the tokens of `MicroOutput`, made without the others."""

    shared_SBMD: Tensor
    private_SBMD: Tensor


class PrivateTokens(NamedTuple):
    """What each stream's own encoders say of it, whichever other streams there are.

    Attributes:
        merged_SBMD: output of the lower private encoder.
        private_SBMD: of the higher one.
    """

    merged_SBMD: Tensor
    private_SBMD: Tensor


class _Encoded(NamedTuple):
    private_SBMD: Tensor
    shared_SBMD: Tensor  # of `MicroOutput`: fusion may have read others
    fused_SBMD: Tensor
    expert_load: ExpertLoad


class Decoder(nn.Module):
    """Upsampled tokens to samples, private to each modality."""

    def __init__(self, config: MicroEncoderConfig) -> None:
        super().__init__()
        num_modalities, dim = len(MODALITIES), config.decoder_dim
        self.packed = config.merge_scheme == "packed"
        self.head_dim = dim // config.decoder_heads
        self.embed = Linear(config.upsample_dim, dim, num_modalities=num_modalities, bias=True)
        self.mask_token = nn.Parameter(torch.empty(num_modalities, dim))
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(dim, config.decoder_heads, num_modalities=num_modalities)
            for _ in range(config.decoder_depth)
        )
        self.norm = RMSNorm(dim, num_modalities=num_modalities)
        self.project = Linear(dim, PATCH_SAMPLES, num_modalities=num_modalities, bias=True)
        nn.init.normal_(self.mask_token, std=INIT_STD)

    def forward(self, x_SBPD: Tensor, modality_S: Tensor, masks: Masks) -> Tensor:
        """Tokens [S, B, 120 or packed 60, upsample_dim] -> samples [S, B, 120, 50]."""
        x_SBPD = self.embed(x_SBPD, modality_S)
        token_SD = per_stream(self.mask_token, modality_S)
        if self.packed:
            x_SBPD = put_on_grid(x_SBPD, masks.visible_SBV, NUM_PATCHES, token_SD)
        else:
            token_S11D = token_SD[:, None, None].to(x_SBPD.dtype)
            x_SBPD = torch.where(masks.hidden_SBP[..., None], token_S11D, x_SBPD)
        angles = rotary(torch.arange(x_SBPD.shape[2], device=x_SBPD.device), self.head_dim)
        for block in self.blocks:
            x_SBPD = block(x_SBPD, modality_S, angles)
        sample_SBPT: Tensor = self.project(self.norm(x_SBPD, modality_S), modality_S)
        return sample_SBPT


class MicroEncoder(nn.Module):
    """Private encoders, shared mixture-of-experts encoder, fusion and decoder."""

    def __init__(self, config: MicroEncoderConfig) -> None:
        super().__init__()
        self.config = config
        private = len(MODALITIES)
        low, high, heads = config.lower_dim, config.higher_dim, config.num_heads
        self.patch_embed = PatchEmbed(
            config.patch_channels, config.patch_kernels, num_modalities=private
        )
        self.lower = nn.ModuleList(
            SelfAttentionBlock(low, heads, num_modalities=private)
            for _ in range(config.lower_depth)
        )
        if config.merge_scheme == "dense":
            self.lower_mask_token = nn.Parameter(torch.empty(private, low))
            nn.init.normal_(self.lower_mask_token, std=INIT_STD)
        self.merge = PatchMerge(low, high, config.merge_stride, num_modalities=private)
        self.higher = nn.ModuleList(
            SelfAttentionBlock(high, heads, num_modalities=private)
            for _ in range(config.higher_depth)
        )
        self.higher_norm = RMSNorm(high, num_modalities=private)
        self.shared = nn.ModuleList(
            MoEBlock(high, heads, config.num_experts, config.num_active_experts)
            for _ in range(config.shared_depth)
        )
        if config.modality_embedding:
            self.modality_embedding = nn.Parameter(torch.empty(private, high))
            nn.init.normal_(self.modality_embedding, std=INIT_STD)
        if config.shared_depth:
            self.shared_norm = RMSNorm(high, num_modalities=None)
        self.fusion = nn.ModuleList(
            CrossAttentionBlock(high, heads, num_modalities=None)
            for _ in range(config.fusion_depth)
        )
        if config.fusion_depth:
            self.fusion_norm = RMSNorm(high, num_modalities=None)
        # A transposed convolution with kernel = stride is a linear map to stride tokens.
        self.upsample = Linear(
            high, config.merge_stride * config.upsample_dim, num_modalities=private, bias=True
        )
        self.decoder = Decoder(config)

    def forward(
        self,
        signal_SBT: Tensor,
        modality_S: Tensor,
        masks: Masks,
        valid_SB: Tensor,
        contrastive_view: ContrastiveView = "same",
    ) -> MicroOutput:
        """Encode the visible patches and reconstruct all of them.

        Args:
            signal_SBT: z-scored samples at 100 Hz.
            modality_S: int64 indices into MODALITIES, in any order, also repeated or left out.
            masks: hidden and visible patches.
            valid_SB: False where a segment has no such stream.
            contrastive_view: whether what eq. 2 compares is what fusion reads, or blocked.
        """
        encoded = self._encode(
            signal_SBT, modality_S, valid_SB, masks.visible_SBV, contrastive_view
        )
        fine_SBMD = self.upsample(encoded.fused_SBMD, modality_S)
        fine_SBPD = fine_SBMD.unflatten(-1, (self.config.merge_stride, -1)).flatten(2, 3)
        reconstruction = self.decoder(fine_SBPD, modality_S, masks)
        return MicroOutput(
            reconstruction.float(),
            encoded.shared_SBMD.float(),
            encoded.private_SBMD.float(),
            *encoded.expert_load,
        )

    def contrast_tokens(
        self,
        signal_SBT: Tensor,
        modality_S: Tensor,
        masks: Masks,
        valid_SB: Tensor,
        contrastive_view: ContrastiveView = "same",
    ) -> ContrastTokens:
        """The private and shared tokens of `forward`, without fusion, its pass and decoder."""
        encoded = self._encode(
            signal_SBT, modality_S, valid_SB, masks.visible_SBV, contrastive_view, fuse=False
        )
        return ContrastTokens(encoded.shared_SBMD.float(), encoded.private_SBMD.float())

    def embed(self, signal_SBT: Tensor, modality_S: Tensor, valid_SB: Tensor) -> Tensor:
        """Fused embedding of each 30-s epoch, nothing masked: float32 [S, B, 2, D].

        Rows of streams that are not there are exactly 0.
        """
        tokens = self.private_tokens(signal_SBT, modality_S, valid_SB)
        return self.embed_tokens(tokens, modality_S, valid_SB)

    def embed_tokens(self, tokens: PrivateTokens, modality_S: Tensor, valid_SB: Tensor) -> Tensor:
        """`embed` from the `private_tokens` of the same streams, or of some of them."""
        fused_SBMD = self._fuse(tokens, modality_S, valid_SB, None).fused_SBMD
        return epoch_means(fused_SBMD).masked_fill(~valid_SB[..., None, None], 0.0)

    def embed_with_tokens(self, signal_SBT: Tensor, modality_S: Tensor, valid_SB: Tensor) -> Tensor:
        """`embed` of each epoch, then the T fused tokens it is the mean of: [S, B, 2, 1 + T, D]."""
        fused_SBMD = self._encode(signal_SBT, modality_S, valid_SB, None).fused_SBMD
        token_SBETD = torch.unflatten(fused_SBMD.float(), 2, (SEGMENT_EPOCHS, -1))
        both = torch.cat([epoch_means(fused_SBMD)[:, :, :, None], token_SBETD], dim=3)
        return both.masked_fill(~valid_SB[..., None, None, None], 0.0)

    def for_inference(self, dtype: torch.dtype) -> MicroEncoder:
        """A frozen copy that computes in `dtype`: its weights are cast once, not in every batch.

        Routing stays float32, as in training: a rounded logit can choose another expert. Use it
        without autocast.
        """
        copied = copy.deepcopy(self).eval().requires_grad_(False)
        for name, tensor in itertools.chain(copied.named_parameters(), copied.named_buffers()):
            if not name.endswith(("experts.router", "experts.balance_bias")):
                tensor.data = tensor.data.to(dtype)
        return copied

    @torch.no_grad()
    def balance_experts(self, expert_counts: Tensor) -> None:
        """After an optimizer step: counts [layers, experts] summed over all workers."""
        for block, counts_E in zip(self.shared, expert_counts, strict=True):
            cast(MoEBlock, block).experts.balance(counts_E)

    def _encode(
        self,
        signal_SBT: Tensor,
        modality_S: Tensor,
        valid_SB: Tensor,
        visible_SBV: Tensor | None,
        contrastive_view: ContrastiveView = "same",
        *,
        fuse: bool = True,
    ) -> _Encoded:
        tokens = self.private_tokens(signal_SBT, modality_S, valid_SB, visible_SBV)
        return self._fuse(tokens, modality_S, valid_SB, visible_SBV, contrastive_view, fuse=fuse)

    def private_tokens(
        self,
        signal_SBT: Tensor,
        modality_S: Tensor,
        valid_SB: Tensor,
        visible_SBV: Tensor | None = None,
    ) -> PrivateTokens:
        """The private encoders alone: [S, B, 24, D] each, where nothing is masked."""
        # Filled, not multiplied: an absent stream may hold NaN.
        signal_SBT = signal_SBT.masked_fill(~valid_SB[..., None], 0.0)
        signal_SBT = signal_SBT.to(self.upsample.weight.dtype)
        angles = self._merged_angles(visible_SBV, signal_SBT.device)
        merged_SBMD = self._encode_patches(signal_SBT, modality_S, visible_SBV)
        private_SBMD = merged_SBMD
        for block in self.higher:
            private_SBMD = block(private_SBMD, modality_S, angles)
        return PrivateTokens(merged_SBMD, self.higher_norm(private_SBMD, modality_S))

    def _fuse(
        self,
        tokens: PrivateTokens,
        modality_S: Tensor,
        valid_SB: Tensor,
        visible_SBV: Tensor | None,
        contrastive_view: ContrastiveView = "same",
        *,
        fuse: bool = True,
    ) -> _Encoded:
        merged_SBMD, private_SBMD = tokens
        angles = self._merged_angles(visible_SBV, merged_SBMD.device)
        heard_SBMD = merged_SBMD if self.config.shared_input == "merged" else private_SBMD
        own_view = self.config.shared_view
        view = own_view if contrastive_view == "same" else contrastive_view
        if self.shared:
            compared_SBMD, load = self._encode_shared(
                heard_SBMD, modality_S, valid_SB, angles, view
            )
        else:
            compared_SBMD = private_SBMD
            none = private_SBMD.new_zeros((0, self.config.num_experts))
            load = ExpertLoad(none.long(), none)
        if not fuse:
            return _Encoded(private_SBMD, compared_SBMD, private_SBMD, load)
        asked_SBMD = compared_SBMD
        if self.shared and view != own_view:
            asked_SBMD, asked_load = self._encode_shared(
                heard_SBMD, modality_S, valid_SB, angles, own_view
            )
            load = load.with_as_many(asked_load)
        fused_SBMD = private_SBMD
        for block in self.fusion:
            fused_SBMD = block(fused_SBMD, asked_SBMD, modality_S, angles)
        if self.fusion:
            fused_SBMD = self.fusion_norm(fused_SBMD, modality_S)
        return _Encoded(private_SBMD, compared_SBMD, fused_SBMD, load)

    def _merged_angles(self, visible_SBV: Tensor | None, device: torch.device) -> Rotary:
        # The same positions for all streams: same time, no rotation between modalities. They count
        # 2.5 s each, so packed tokens of the visible half count in twos.
        num_merged, step = NUM_PATCHES // self.config.merge_stride, 1
        if self.config.merge_scheme == "packed" and visible_SBV is not None:
            step = NUM_PATCHES // visible_SBV.shape[2]
        return rotary(
            torch.arange(0, num_merged, step, device=device),
            self.config.higher_dim // self.config.num_heads,
        )

    def _encode_patches(
        self, signal_SBT: Tensor, modality_S: Tensor, visible_SBV: Tensor | None
    ) -> Tensor:
        """The lower private encoder: samples [S, B, T] -> merged tokens [S, B, M, D]."""
        x = torch.unflatten(signal_SBT, 2, (NUM_PATCHES, PATCH_SAMPLES))
        position = torch.arange(NUM_PATCHES, device=x.device)
        if visible_SBV is not None:
            x = torch.take_along_dim(x, visible_SBV[..., None], dim=2)
            position = visible_SBV
        x = self.patch_embed(x, modality_S)
        if visible_SBV is not None and self.config.merge_scheme == "dense":
            token_SD = self.lower_mask_token.index_select(0, modality_S)
            x = put_on_grid(x, visible_SBV, NUM_PATCHES, token_SD)
            position = torch.arange(NUM_PATCHES, device=x.device)
        angles = rotary(position, self.config.lower_dim // self.config.num_heads)
        for block in self.lower:
            x = block(x, modality_S, angles)
        on_grid = visible_SBV if self.config.merge_scheme == "grid" else None
        merged_SBMD: Tensor = self.merge(x, modality_S, on_grid, NUM_PATCHES)
        return merged_SBMD

    def _encode_shared(
        self,
        token_SBMD: Tensor,
        modality_S: Tensor,
        valid_SB: Tensor,
        angles: Rotary,
        view: SharedView,
    ) -> tuple[Tensor, ExpertLoad]:
        """All streams of a segment attend to each other, or each to itself when blocked."""
        num_streams, _, num_merged, _ = token_SBMD.shape
        counted = valid_SB[..., None].expand(-1, -1, num_merged)
        key_mask = None
        x = token_SBMD
        if self.config.modality_embedding:
            name_SD = self.modality_embedding.index_select(0, modality_S)
            x = x + name_SD[:, None, None].to(x.dtype)
        if view == "joint":
            x = x.transpose(0, 1).flatten(1, 2)  # [B, S * M, D]
            counted = counted.transpose(0, 1).flatten(1, 2)
            angles = Rotary(*(angle.repeat(num_streams, 1, 1) for angle in angles))
            if not bool(valid_SB.all()):  # the unmasked kernels are the fast ones
                # A segment without any stream would have no key at all and give NaN.
                key_mask = counted | ~counted.any(dim=1, keepdim=True)
        loads = []
        for block in self.shared:
            x, load = block(x, modality_S, angles, counted, key_mask)
            loads.append(load)
        x = self.shared_norm(x, modality_S)
        if view == "joint":
            x = x.unflatten(1, (num_streams, num_merged)).transpose(0, 1)
        return x, ExpertLoad(*(torch.stack(parts) for parts in zip(*loads, strict=True)))


def epoch_means(token_SBMD: Tensor) -> Tensor:
    """Mean over the merged tokens of each 30-s epoch: float32 [S, B, 2, D]."""
    return torch.unflatten(token_SBMD.float(), 2, (SEGMENT_EPOCHS, -1)).mean(3)
