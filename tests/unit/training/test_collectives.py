"""What two gloo processes saw is compared with one process and all rows."""

from typing import Any

import pytest
import torch

from sleepmami.training import collectives
from tests.unit.training import two_workers

Seen = list[dict[str, Any]]


def test_without_a_group_everything_is_the_identity() -> None:
    rows = torch.arange(4.0, requires_grad=True)
    assert collectives.gather_rows(rows) is rows
    assert collectives.sum_over_workers(rows).tolist() == [0, 1, 2, 3]
    assert collectives.mean_over_workers(rows).tolist() == [0, 1, 2, 3]
    assert collectives.all_true(True)
    assert not collectives.all_true(False)
    assert (collectives.num_workers(), collectives.rank()) == (1, 0)


def test_rows_are_gathered_in_rank_order(seen: Seen) -> None:
    expected = [[0, 1, 2, 10, 11, 12], [3, 4, 5, 13, 14, 15]]
    assert [worker["gather"]["rows"].tolist() for worker in seen] == [expected, expected]
    assert seen[0]["gather"]["bools"].tolist() == [False, True]


def test_the_gradient_of_own_rows_is_doubled_for_the_engine_that_halves_it(seen: Seen) -> None:
    coefficients = torch.arange(12.0).view(2, 6)
    assert torch.equal(seen[0]["gather"]["gradient"], 2 * coefficients[:, :3])
    assert torch.equal(seen[1]["gather"]["gradient"], 2 * coefficients[:, 3:])


def test_unequal_rows_are_an_error_on_both_workers(seen: Seen) -> None:
    for worker in seen:
        assert "found shapes from [2, 3] to [3, 3]" in worker["gather"]["error"]


def test_sums_means_and_verdicts_are_the_same_on_both_workers(seen: Seen) -> None:
    for worker in seen:
        assert worker["gather"]["sum"].tolist() == [2.0, 1.0]
        assert worker["gather"]["mean"].item() == 0.5
        assert worker["gather"]["all_true"] == [True, False]


@pytest.mark.parametrize("which", two_workers.STAGES)
def test_two_workers_have_the_gradient_of_one_with_all_rows(seen: Seen, which: str) -> None:
    alone = two_workers.train(which)
    assert len(alone["gradients"]) > 10
    for name, gradient in alone["gradients"].items():
        torch.testing.assert_close(
            seen[0][which]["gradients"][name], gradient, rtol=1e-5, atol=1e-6, msg=name
        )
    for name in ("loss/total", "optim/grad_norm"):  # after a step
        torch.testing.assert_close(
            seen[0][which]["metrics"][name], alone["metrics"][name], rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("which", ["macro", "macro_strange"])
def test_each_worker_has_the_loss_of_all_nights(seen: Seen, which: str) -> None:
    # The loss itself, not a share of it: K of eq. 4 is the global batch on every worker.
    alone = two_workers.train(which)
    for worker in seen:
        assert worker[which]["loss"] == pytest.approx(alone["loss"], rel=0, abs=1e-6)
        assert worker[which]["metrics"]["loss/floor"].item() == pytest.approx(
            alone["metrics"]["loss/floor"].item(), abs=1e-6
        )


@pytest.mark.parametrize("which", two_workers.STAGES)
def test_both_workers_end_with_the_same_weights(seen: Seen, which: str) -> None:
    for name, weight in seen[0][which]["weights"].items():
        assert torch.equal(weight, seen[1][which]["weights"][name])


def test_a_nan_on_one_worker_stops_both_before_the_step(seen: Seen) -> None:
    for rank, worker in enumerate(seen):
        assert worker["poisoned"]["step"] == 2
        assert (
            f"step 2: loss or gradients are not finite on at least one worker; worker {rank}"
            in (worker["poisoned"]["error"])
        )
    assert "loss/total=nan" in seen[1]["poisoned"]["error"]
    for left, right in zip(
        seen[0]["poisoned"]["weights"], seen[1]["poisoned"]["weights"], strict=True
    ):
        assert left.isfinite().all()
        assert torch.equal(left, right)


def test_data_that_ends_on_one_worker_stops_both(seen: Seen) -> None:
    for worker in seen:
        assert worker["uneven"]["step"] == 2
        assert "step 2: found too little data" in worker["uneven"]["error"]


def test_both_workers_report_the_same_means(seen: Seen) -> None:
    first, second = (worker["uneven"]["reports"] for worker in seen)
    assert len(first) == 2
    assert [row["loss/total"] for row in first] == [row["loss/total"] for row in second]
