"""What a Micro-Encoder knows: probes, health of its embeddings, and what it learnt to copy.

Shapes: S streams, B windows, E epochs of a window (2), N epochs or slots, F features, D width.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from learning_data import StudyNight, band_powers, joined, training_batch, windows
from learning_measures import (
    average_precision,
    effective_rank,
    explained_by,
    half_of_window,
    heard_from_others,
    linear_probe,
    modality_cosine,
    retrieval,
    staging_scores,
)
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import EPOCH_S, MODALITIES, SEGMENT_EPOCHS
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.objectives import MicroObjective, retrieval_accuracy, slot_means
from sleepmami.training.probes import auroc

Floats = NDArray[np.float64]
NUM_STAGES = 5
FEW = 2  # subjects whose labels a probe of `few_labels` sees
BLOCK_SEGMENTS, BLOCK_PERIOD = 5, 15  # five segments of every fifteen are embedded
EMBED_BATCH, HEALTH_BATCH, HEALTH_BATCHES = 60, 32, 2
MODALITY_S = torch.arange(len(MODALITIES))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSet:
    """Blocks of epochs of some subjects: labels, and windows that hold each epoch in either half.

    Attributes:
        plain: windows at the store's own boundaries, epochs in order.
        shifted: windows 30 s earlier and later, one more than `plain` per block: each epoch lies
            in the half in which it does not lie in `plain`.
        stage_N, apnea_N, group_N: labels and subject of each epoch.
        bands_NF: band powers, for scale.
    """

    plain: SegmentBatch
    shifted: SegmentBatch
    stage_N: NDArray[np.int64]
    apnea_N: NDArray[np.bool_]
    group_N: NDArray[np.int64]
    bands_NF: NDArray[np.float32]


def probe_set(nights: list[StudyNight]) -> ProbeSet:
    """Of each night five segments in fifteen, beginning with the second."""
    plain, shifted, stages, apneas, groups, bands = [], [], [], [], [], []
    for group, night in enumerate(nights):
        last = night.num_epochs // SEGMENT_EPOCHS - BLOCK_SEGMENTS - 1
        for first in range(1, last + 1, BLOCK_PERIOD):
            start = first * SEGMENT_EPOCHS
            epochs = np.arange(start, start + BLOCK_SEGMENTS * SEGMENT_EPOCHS)
            plain.append(windows(night, epochs[::SEGMENT_EPOCHS] * EPOCH_S))
            odd = np.arange(start - 1, epochs[-1] + 1, SEGMENT_EPOCHS)
            shifted.append(windows(night, odd * EPOCH_S))
            stages.append(night.stage_L[epochs])
            apneas.append(night.apnea_L[epochs])
            groups.append(np.full(len(epochs), group))
            bands.append(band_powers(night, epochs))
    return ProbeSet(
        plain=joined(plain),
        shifted=joined(shifted),
        stage_N=np.concatenate(stages).astype(np.int64),
        apnea_N=np.concatenate(apneas),
        group_N=np.concatenate(groups),
        bands_NF=np.concatenate(bands),
    )


# ---------------------------------------------------------------------------------------- probes


def probe_scores(fit: ProbeSet, test: ProbeSet, fit_NF: Floats, test_NF: Floats) -> dict[str, Any]:
    """Staging and apnea by logistic regression, fitted on other subjects than it is tested on.

    `few_labels` is staging by probes that see the labels of FEW subjects each, averaged over as
    many such probes as there are subjects for.
    """
    stage_NC = linear_probe(fit_NF, fit.stage_N, fit.group_N, test_NF, NUM_STAGES)
    apnea_N2 = linear_probe(fit_NF, fit.apnea_N.astype(np.int64), fit.group_N, test_NF, 2)
    score_N = apnea_N2[:, 1] - apnea_N2[:, 0]
    few = []
    for first in range(0, fit.group_N.max() + 2 - FEW, FEW):
        some_N = (fit.group_N >= first) & (fit.group_N < first + FEW)
        few_NC = linear_probe(
            fit_NF[some_N], fit.stage_N[some_N], fit.group_N[some_N], test_NF, NUM_STAGES
        )
        few.append(staging_scores(test.stage_N, few_NC.argmax(1), NUM_STAGES))
    return {
        "few_labels": {name: float(np.mean([f[name] for f in few])) for name in few[0]},
        "staging": staging_scores(test.stage_N, stage_NC.argmax(1), NUM_STAGES),
        "apnea": {
            "auroc": auroc(test.apnea_N, score_N),
            "average_precision": average_precision(test.apnea_N, score_N),
        },
    }


@torch.inference_mode()
def embedded(model: MicroEncoder, batch: SegmentBatch) -> Floats:
    """Fused vectors of each window's epochs, modalities side by side: [B, E, S * D]."""
    parts = []
    for first in range(0, batch.num_rows, EMBED_BATCH):
        rows = slice(first, first + EMBED_BATCH)
        epoch_SBED = model.embed(batch.signal_SBT[:, rows], MODALITY_S, batch.valid_SB[:, rows])
        parts.append(epoch_SBED.permute(1, 2, 0, 3).flatten(2))
    vectors: Floats = torch.cat(parts).double().numpy()
    return vectors


def plain_vectors(model: MicroEncoder, data: ProbeSet) -> Floats:
    """As the embedder cuts a night: [N, F]."""
    vector_BEF = embedded(model, data.plain)
    return vector_BEF.reshape(-1, vector_BEF.shape[-1])


def other_half_vectors(model: MicroEncoder, data: ProbeSet) -> Floats:
    """The same epochs, each in the other half of its window: [N, F]."""
    vector_BEF = embedded(model, data.shifted)
    block_KBEF = vector_BEF.reshape(-1, BLOCK_SEGMENTS + 1, SEGMENT_EPOCHS, vector_BEF.shape[-1])
    # window j of a block holds epochs 2j - 1 and 2j of it; the outermost two are not in the block
    return block_KBEF.reshape(len(block_KBEF), -1, vector_BEF.shape[-1])[:, 1:-1].reshape(
        -1, vector_BEF.shape[-1]
    )


def evaluate(model: MicroEncoder, fit: ProbeSet, test: ProbeSet, *, deep: bool) -> dict[str, Any]:
    """Probes and collapse; `deep` also embeds each epoch in the other half of its window."""
    fit_NF, test_NF = plain_vectors(model, fit), plain_vectors(model, test)
    by_modality = np.split(test_NF, len(MODALITIES), axis=1)
    second_N = np.arange(len(test_NF)) % SEGMENT_EPOCHS
    result = {
        "probe": probe_scores(fit, test, fit_NF, test_NF),
        "effective_rank": {
            m.value: effective_rank(x_NF) for m, x_NF in zip(MODALITIES, by_modality, strict=True)
        },
        "parity_explains": explained_by(second_N, test_NF),
        "stage_explains": explained_by(test.stage_N, test_NF),
    }
    if deep:
        fit_other_NF, other_NF = other_half_vectors(model, fit), other_half_vectors(model, test)
        in_first_NF = np.where(second_N[:, None] == 0, test_NF, other_NF)
        in_second_NF = np.where(second_N[:, None] == 0, other_NF, test_NF)
        result["half"] = half_of_window(in_first_NF, in_second_NF)
        fit_NF, test_NF = (fit_NF + fit_other_NF) / 2, (test_NF + other_NF) / 2
        result["probe_mean_of_halves"] = probe_scores(fit, test, fit_NF, test_NF)
    return result


# ---------------------------------------------------------------------------- contrast and health


def health_batches(nights: list[StudyNight]) -> list[SegmentBatch]:
    """The same random windows of held-out nights for every model."""
    rng = np.random.default_rng(0)
    return [training_batch(nights, HEALTH_BATCH, 60, rng) for _ in range(HEALTH_BATCHES)]


@torch.inference_mode()
def health(objective: MicroObjective, batches: list[SegmentBatch]) -> dict[str, float]:
    """Held-out losses under masks, contrast with joint and with blocked attention, experts.

    Args:
        objective: not the one that is training, which would count these tokens to balance experts.
        batches: of `health_batches`.
    """
    runs = [_health(objective, batch, number) for number, batch in enumerate(batches)]
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def _health(objective: MicroObjective, batch: SegmentBatch, number: int) -> dict[str, float]:
    model = objective.model
    _, metrics = objective(batch, step=10**6 + number)  # masks that no training step draws
    result = {name: float(value) for name, value in metrics.items()}
    masks = objective.draw_masks(batch.num_rows, 10**6 + number, 0)
    valid_SN = batch.valid_SBE.flatten(1)
    trained_view = model.config
    for view in ("joint", "blocked") if trained_view.shared_depth else ():
        model.config = replace(trained_view, shared_view=view)
        output = model(batch.signal_SBT, MODALITY_S, masks, batch.valid_SB)
        shared_SND, private_SND = slot_means(output)
        result[f"contrast/accuracy_{view}"] = float(retrieval_accuracy(shared_SND, valid_SN))
        result[f"shared/modality_cosine_{view}"] = modality_cosine(shared_SND)
        cosine_SN = torch.cosine_similarity(shared_SND, private_SND, dim=-1)
        result[f"shared/private_cosine_{view}"] = float(cosine_SN.mean())
        ranks = [effective_rank(z_ND.double().numpy()) for z_ND in shared_SND]
        result[f"shared/effective_rank_{view}"] = float(np.mean(ranks))
    model.config = trained_view
    return result


def hearing(model: MicroEncoder, batch: SegmentBatch) -> float:
    """How much the fused vectors of a modality hear of the other modalities."""

    def embed(signal_SBT: Tensor, valid_SB: Tensor) -> Tensor:
        return model.embed(signal_SBT, MODALITY_S, valid_SB)

    return heard_from_others(embed, batch.signal_SBT, batch.valid_SB)


@torch.inference_mode()
def copying(objective: MicroObjective, batches: list[SegmentBatch]) -> dict[str, float]:
    """Whose slot a shared embedding shows when its signal comes from another window.

    In turn each modality's signal is replaced by that of the next window in the batch. `company` is
    how often its embedding finds the window that it now sits in, `signal` how often the one that it
    came from, among the means of the other modalities. A copied embedding follows the company.
    """
    view = objective.config.contrastive_view
    found: dict[str, list[float]] = {"company": [], "signal": []}
    for number, batch in enumerate(batches):
        masks = objective.draw_masks(batch.num_rows, 2 * 10**6 + number, 0)
        clean_SND, _ = slot_means(
            objective.model.contrast_tokens(
                batch.signal_SBT, MODALITY_S, masks, batch.valid_SB, view
            )
        )
        company_N = torch.arange(clean_SND.shape[1])
        signal_N = company_N.roll(-SEGMENT_EPOCHS)
        for stream in range(len(MODALITIES)):
            signal_SBT, valid_SB = batch.signal_SBT.clone(), batch.valid_SB.clone()
            for part_SB in (signal_SBT, valid_SB):
                part_SB[stream] = part_SB[stream].roll(-1, dims=0)
            tokens = objective.model.contrast_tokens(signal_SBT, MODALITY_S, masks, valid_SB, view)
            anchor_ND = slot_means(tokens)[0][stream]
            others = [s for s in range(len(MODALITIES)) if s != stream]
            key_ND = functional.normalize(clean_SND[others], dim=-1).mean(0)
            found["company"].append(retrieval(anchor_ND, key_ND, company_N))
            found["signal"].append(retrieval(anchor_ND, key_ND, signal_N))
    return {name: float(np.mean(values)) for name, values in found.items()}
