import pytest
import torch

from sleepmami.config import EngineConfig, OptimizerConfig
from sleepmami.training.engine import build_engine
from sleepmami.training.throughput import known_peak, memory_metrics, peak_flops, step_flops
from tests.unit.training.toy import ToyObjective, toy_batch
from tests.unit.training.two_workers import drawn_masks_objective, segment_rows

PLAIN = EngineConfig(kind="plain", zero_stage=0)
CPU = torch.device("cpu")


def test_a_step_is_three_products_of_each_forward_product() -> None:
    engine = build_engine(ToyObjective(), PLAIN, OptimizerConfig(), 1, 2)
    forward = 2 * 16 * (3 * 8 + 8 * 1)  # 16 points through a net of 3, 8 and 1
    assert step_flops(engine, toy_batch(0)) == 3 * 2 * forward


def test_experts_and_attention_are_counted() -> None:
    objective = drawn_masks_objective()
    engine = build_engine(objective, PLAIN, OptimizerConfig(), 1, 1)
    model = objective.config.model
    dim, hidden = model.higher_dim, objective.model.shared[0].experts.down.shape[-1]
    tokens = 2 * 6 * 24  # of a segment in the shared encoder: it is read twice
    experts = 2 * tokens * model.num_active_experts * 3 * dim * hidden
    attention = 2 * 2 * ((6 * 24) ** 2 + 6 * 24**2) * dim  # across modalities, and apart
    with_one = step_flops(engine, segment_rows(0))
    objective.model.shared = torch.nn.ModuleList()
    without = step_flops(engine, segment_rows(0))
    router, projections = 2 * tokens * dim * model.num_experts, 2 * tokens * 4 * dim * dim
    rows = 4
    assert with_one - without == 3 * rows * (experts + attention + router + projections)


def test_counting_leaves_the_objective_as_it_was() -> None:
    objective = drawn_masks_objective()
    engine = build_engine(objective, PLAIN, OptimizerConfig(), 1, 1)
    state = torch.get_rng_state()
    step_flops(engine, segment_rows(0))
    objective.after_step()
    assert not objective.model.shared[0].experts.balance_bias.any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("NVIDIA H200", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H100 80GB HBM3", "float32", 67),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA L40S", "bfloat16", 362),
    ],
)
def test_known_devices_have_the_peak_of_their_data_sheet(
    name: str, precision: str, tflops: float
) -> None:
    assert known_peak(name, precision) == tflops * 1e12


def test_the_peak_of_an_unknown_device_is_not_made_up() -> None:
    assert known_peak("NVIDIA GeForce RTX 9090", "bfloat16") is None
    assert peak_flops(torch.device("meta"), "float32", 0.0) is None


def test_a_given_peak_decides() -> None:
    assert peak_flops(CPU, "float32", 2.5) == 2.5e12


def test_the_memory_is_that_of_a_process_with_torch() -> None:
    assert 0.1 < memory_metrics(CPU)["memory/peak_rss_gb"] < 100
