"""How well the Micro-Encoder does on held-out segments: eqs. 1-3 without a trace in its training.

A validation step is dealt out like a training step, over workers and micro batches, and eq. 2 runs
over all of it: its value compares with that of training, and is the same on any number of workers.

`contrast_accuracy` is of the tokens that eq. 2 reads. With attention across modalities they can be
copies of each other (docs/learning.md), so `contrast_accuracy_blocked` says how often a modality
finds its slot by its own signal alone, whatever eq. 2 reads.

Choices where the paper is silent: the masks are the same for every run, whatever its seed.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sleepmami.psg import MODALITIES
from sleepmami.training import collectives
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.engine import Engine
from sleepmami.training.objectives import MicroObjective, retrieval_accuracy, slot_means
from sleepmami.training.prefetch import prefetched

VALIDATION_SEED = 8  # of masks and of the choice of rows


def validate_micro(
    engine: Engine,
    objective: MicroObjective,
    steps: Callable[[], Iterator[Sequence[SegmentBatch]]],
) -> dict[str, float]:
    """Means over all segments of `steps`, of all workers; a modality that is nowhere is left out.

    Args:
        engine: trains `objective`.
        objective: left as it is found.
        steps: this worker's micro batches of each validation step; as many steps on every worker.
    """
    totals = _Totals()
    with engine.evaluating(), contextlib.closing(prefetched(steps())) as batches:
        for index, micro_batches in enumerate(batches):
            _measure(objective, [batch.to(engine.device) for batch in micro_batches], index, totals)
    means = totals.means()
    loss = objective.config.loss
    means["validation/total"] = (
        means["validation/reconstruction"]
        + loss.lambda_cl * means.get("validation/contrastive", 0.0)
        + loss.lambda_koleo * means.get("validation/koleo", 0.0)
    )
    return means


class _Totals:
    """Weighted sums by name."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, weight: Tensor | int = 1) -> None:
        weight = torch.as_tensor(weight, device=value.device).double()
        pair = torch.stack([torch.where(weight > 0, value.double() * weight, 0.0), weight])
        self._sums[name] = self._sums.get(name, torch.zeros_like(pair)) + pair

    def means(self) -> dict[str, float]:
        names = sorted(self._sums)
        sums = collectives.sum_over_workers(torch.stack([self._sums[name] for name in names]))
        return {
            f"validation/{name}": total / weight
            for name, (total, weight) in zip(names, sums.tolist(), strict=True)
            if weight
        }


def _measure(
    objective: MicroObjective, micro_batches: Sequence[SegmentBatch], index: int, totals: _Totals
) -> None:
    config = objective.config
    over = config.loss.reconstruction_over
    joint = config.model.shared_depth > 0 and config.model.shared_view == "joint"
    first_lane = collectives.rank() * len(micro_batches)
    slots, blocked = [], []
    for lane, batch in enumerate(micro_batches, first_lane):
        masks = objective.seeded_masks(batch.num_rows, (VALIDATION_SEED, index, lane))
        seen = objective.reconstruct(batch, masks)
        totals.add("reconstruction", seen.loss(over), batch.valid_SB.sum())
        for stream, modality in enumerate(MODALITIES):
            loss = seen.of_stream(stream).loss(over)
            totals.add(f"reconstruction_{modality}", loss, batch.valid_SB[stream].sum())
        slots.append((torch.cat(slot_means(seen.output), dim=-1), batch.valid_SBE.flatten(1)))
        if joint and config.contrastive_view == "same":
            blocked.append(objective.slots(batch, masks, "blocked"))
    if config.model.shared_depth:
        _compare(objective, slots, totals)
    if joint:
        accuracy = _accuracy(*_of_all(blocked or slots))
        totals.add("contrast_accuracy_blocked", accuracy, accuracy.isfinite())


def _compare(
    objective: MicroObjective, slots: Sequence[tuple[Tensor, Tensor]], totals: _Totals
) -> None:
    """What reads the shared encoder: eq. 2 over all slots of the step, KoLeo in micro batches."""
    for features_SND, valid_SN in slots:
        totals.add("koleo", objective.koleo(features_SND.chunk(2, dim=-1)[0], valid_SN))
    features_SND, valid_SN = _of_all(slots)
    totals.add("contrastive", objective.contrastive(features_SND, valid_SN))
    accuracy = _accuracy(features_SND, valid_SN)
    totals.add("contrast_accuracy", accuracy, accuracy.isfinite())


def _of_all(slots: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The slots of all micro batches and workers: shared beside private, and which are there."""
    features_SND, valid_SN = (
        collectives.gather_rows(torch.cat(parts, dim=1), dim=1)
        for parts in zip(*slots, strict=True)
    )
    return features_SND, valid_SN


def _accuracy(features_SND: Tensor, valid_SN: Tensor) -> Tensor:
    return retrieval_accuracy(features_SND.chunk(2, dim=-1)[0], valid_SN)
