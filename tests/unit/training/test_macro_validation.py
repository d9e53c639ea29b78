from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from sleepmami.errors import TrainingError
from sleepmami.training.batches import MacroBatch
from sleepmami.training.engine import build_engine
from sleepmami.training.loop import Schedule, run
from sleepmami.training.macro_objective import MacroObjective
from tests.unit.training.two_workers import (
    OPTIMIZER,
    PLAIN,
    PROBED,
    macro_objective,
    macro_validated,
    night_rows,
)

NAMES = {"age_r2", "sex_auroc", "probe", "stage_macro_f1", "dgcl_excess"}


def silent_objective() -> MacroObjective:
    """One whose vectors are the same for every night and epoch."""
    objective = macro_objective()
    torch.nn.init.zeros_(objective.model.projection.weight)
    return objective


def test_vectors_that_know_age_sex_and_stage_score() -> None:
    found = macro_validated(macro_objective())
    assert found.keys() == {f"validation/{name}" for name in NAMES}
    assert found["validation/age_r2"] > 0.3
    assert found["validation/sex_auroc"] > 0.75
    assert found["validation/stage_macro_f1"] > 0.5
    age_r2, sex_auroc = found["validation/age_r2"], found["validation/sex_auroc"]
    assert found["validation/probe"] == pytest.approx((age_r2 + 2 * sex_auroc - 1) / 2)


def test_a_model_that_says_nothing_of_its_input_scores_as_chance() -> None:
    found = macro_validated(silent_objective())
    assert found["validation/age_r2"] == pytest.approx(0, abs=0.25)  # epochs still count
    assert found["validation/sex_auroc"] == pytest.approx(0.5, abs=0.25)
    assert found["validation/stage_macro_f1"] < 0.3


def test_vectors_that_are_not_finite_are_said_to_be_so() -> None:
    objective = macro_objective()
    torch.nn.init.constant_(objective.model.forward_stack[-1].weight, torch.inf)
    with pytest.raises(TrainingError, match="found vectors of validation nights that are not"):
        macro_validated(objective)


def test_the_excess_is_that_of_training_on_the_same_nights() -> None:
    objective = macro_objective()
    expected = [objective(night_rows(n), 0)[1]["loss/excess"].item() for n in range(2)]
    found = macro_validated(objective)["validation/dgcl_excess"]
    assert found == pytest.approx(sum(expected) / 2)


def test_twice_the_same_bits_and_no_trace_in_generator_model_or_mode() -> None:
    objective = macro_objective()
    before, weights = (
        torch.get_rng_state(),
        {n: v.clone() for n, v in objective.state_dict().items()},
    )
    first, second = macro_validated(objective), macro_validated(objective)
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert objective.training
    assert all(torch.equal(weights[n], v) for n, v in objective.state_dict().items())


def test_two_workers_say_what_one_says(seen: list[dict[str, Any]]) -> None:
    alone = macro_validated(macro_objective())
    assert seen[0]["macro_validated"] == seen[1]["macro_validated"]
    assert seen[0]["macro_validated"] == pytest.approx(alone, rel=1e-5)


def test_training_is_bit_for_bit_the_same_with_and_without_validation() -> None:
    def weights(validates: bool) -> list[torch.Tensor]:
        objective = macro_objective()
        engine = build_engine(objective, PLAIN, OPTIMIZER, 4, 1)

        def batches(start: int) -> Iterator[list[MacroBatch]]:
            for step in range(start, 4):
                yield [night_rows(step)]

        schedule = Schedule(
            total_steps=4, log_every=1, checkpoint_every=9, validate_every=2 * validates
        )
        validate = (lambda: macro_validated(objective)) if validates else None
        run(engine, batches, schedule, lambda metrics, save: None, validate)
        return [p.detach().clone() for p in objective.parameters()]

    pairs = zip(weights(True), weights(False), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_fit": 55}, "found 5 subjects of the validation split .* at least 8"),
        ({"num_fit": 3}, "found 3 subjects of the train split"),
        ({"female": [True] * 60}, "found 40 subjects of the train split .* 40 of them women"),
        ({"age_years": [50.0] * 60}, "of 1 different ages"),
    ],
)
def test_too_few_people_to_say_anything_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(PROBED, **changes)
