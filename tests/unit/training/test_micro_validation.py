from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sleepmami.models.masking import Masks
from sleepmami.models.micro_encoder import MicroEncoder
from sleepmami.psg import MODALITIES
from sleepmami.training.batches import SegmentBatch
from sleepmami.training.engine import build_engine
from sleepmami.training.loop import Schedule, run
from sleepmami.training.micro_validation import VALIDATION_SEED, validate_micro
from sleepmami.training.objectives import MicroObjective, retrieval_accuracy, slot_means
from tests.unit.training import two_workers
from tests.unit.training.two_workers import OPTIMIZER, PLAIN, drawn_masks_objective, segment_rows


def validation_of(objective: MicroObjective, *batches: SegmentBatch) -> dict[str, float]:
    engine = build_engine(objective, PLAIN, OPTIMIZER, 10, 1)
    return validate_micro(engine, objective, lambda: iter([[batch] for batch in batches]))


class ValidationMasks(MicroObjective):
    """Trains with the masks that validation uses."""

    def draw_masks(self, num_segments: int, step: int, lane: int) -> Masks:
        return self.seeded_masks(num_segments, (VALIDATION_SEED, step, lane))


def test_of_the_same_segments_and_masks_it_is_the_training_loss() -> None:
    objective = drawn_masks_objective()
    twin = ValidationMasks(objective.model, objective.config, seed=0)
    found = validation_of(objective, segment_rows(0))
    _, expected = twin(segment_rows(0), 0)
    for name in ("total", "reconstruction", "contrastive", "koleo", "reconstruction_EEG"):
        assert found[f"validation/{name}"] == pytest.approx(expected[f"loss/{name}"].item())
    accuracy = expected["contrast/accuracy"].item()
    assert found["validation/contrast_accuracy"] == pytest.approx(accuracy)


def test_each_segment_that_has_a_modality_counts_once() -> None:
    objective = drawn_masks_objective()
    batches = [segment_rows(0), segment_rows(1)]
    batches[0].valid_SBE[0, 1:] = False  # the EEG of one segment against that of four
    expected = 0.0
    for index, (batch, weight) in enumerate(zip(batches, (1 / 5, 4 / 5), strict=True)):
        masks = objective.seeded_masks(4, (VALIDATION_SEED, index, 0))
        expected += weight * objective.reconstruct(batch, masks).of_stream(0).loss("masked").item()
    found = validation_of(objective, *batches)
    assert found["validation/reconstruction_EEG"] == pytest.approx(expected)


def test_a_modality_that_no_segment_has_is_left_out() -> None:
    batch = segment_rows(0)
    batch.valid_SBE[MODALITIES.index("SPO2")] = False
    found = validation_of(drawn_masks_objective(), batch)
    assert "validation/reconstruction_SPO2" not in found
    assert "validation/reconstruction_RESP" in found


def test_two_workers_measure_what_one_measures_in_two_micro_batches(
    seen: list[dict[str, Any]],
) -> None:
    alone = two_workers.validated(2)
    assert len(alone) == 6 + len(MODALITIES)
    for worker in seen:
        assert worker["validated"] == pytest.approx(alone, rel=1e-6)


def blocked_by_hand(objective: MicroObjective, batch: SegmentBatch) -> float:
    """Retrieval among the tokens of the same weights in a model without attention across."""
    config = replace(objective.config.model, shared_view="blocked")
    alone = MicroEncoder(config).eval()
    alone.load_state_dict(objective.model.state_dict())
    masks = objective.seeded_masks(batch.num_rows, (VALIDATION_SEED, 0, 0))
    with torch.no_grad():
        output = alone(batch.signal_SBT, torch.arange(6), masks, batch.valid_SB)
    return retrieval_accuracy(slot_means(output)[0], batch.valid_SBE.flatten(1)).item()


@pytest.mark.parametrize("view", ["same", "blocked"])
def test_retrieval_of_a_modality_by_its_own_signal_is_said_whatever_eq_2_reads(view: str) -> None:
    objective = drawn_masks_objective(**{"loss.contrastive_view": view})
    with torch.no_grad():
        for name, weight in objective.model.named_parameters():
            if name.startswith("shared") and weight.ndim > 1:
                weight.mul_(20.0)  # so that attention across modalities changes what is retrieved
    batch = segment_rows(0)
    found = validation_of(objective, batch)
    expected = blocked_by_hand(objective, batch)
    assert found["validation/contrast_accuracy_blocked"] == pytest.approx(expected)
    read = found["validation/contrast_accuracy"]
    assert (read == pytest.approx(expected)) is (view == "blocked")


def test_a_model_that_is_blocked_itself_has_one_accuracy() -> None:
    found = validation_of(
        drawn_masks_objective(**{"model.shared_view": "blocked"}), segment_rows(0)
    )
    assert "validation/contrast_accuracy" in found
    assert "validation/contrast_accuracy_blocked" not in found


def trained(*, validates: bool) -> tuple[dict[str, Tensor], list[float], Tensor]:
    """Weights and buffers, losses and the state of torch's generator after four steps."""
    torch.manual_seed(7)
    objective = drawn_masks_objective()
    engine = build_engine(objective, PLAIN, OPTIMIZER, 4, 2)
    plan = Schedule(total_steps=4, log_every=1, checkpoint_every=100)
    losses = []

    def batches(start: int) -> Iterator[list[SegmentBatch]]:
        for step in range(start, 4):
            yield two_workers.lanes(segment_rows(step), 2)

    def held_out() -> Iterator[list[SegmentBatch]]:
        yield two_workers.lanes(segment_rows(99), 2)

    run(
        engine,
        batches,
        replace(plan, validate_every=1) if validates else plan,
        lambda metrics, save: losses.append(metrics["loss/total"]),
        (lambda: validate_micro(engine, objective, held_out)) if validates else None,
    )
    assert objective.training
    return objective.state_dict(), losses, torch.get_rng_state()


def test_training_is_bit_equal_with_and_without_validation() -> None:
    with_it, without = trained(validates=True), trained(validates=False)
    assert with_it[1] == without[1]
    assert torch.equal(with_it[2], without[2])
    for name, value in without[0].items():
        assert torch.equal(with_it[0][name], value), name
