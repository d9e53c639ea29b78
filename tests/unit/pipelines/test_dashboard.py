import pytest

from pipelines.dashboard import dashboard_line

METRICS = {
    "loss/total": 1.23456,
    "loss/reconstruction": 1.0,
    "loss/contrastive": 2.5,
    "validation/total": 1.5,
    "moe/min_share": 0.1,
    "optim/learning_rate": 4.9e-4,
    "data/segments_per_s": 98.7654,
    "data/wait_fraction": 0.0213,
    "compute/mfu": 0.4,
    "memory/peak_rss_gb": 1.25,
    "eta_s": 700.0,
    "step": 3,
}


def test_the_line_says_losses_rate_speed_waiting_mfu_memory_and_time_left() -> None:
    assert dashboard_line(METRICS) == (
        "loss 1.235  reconstruction 1  contrast 2.5  validation 1.5  lr 0.00049  98.77 segments/s  "
        "data wait 2.13 %  MFU 40 %  1.25 GB  12 min left"
    )


def test_what_was_not_measured_is_left_out() -> None:
    few = {key: METRICS[key] for key in ("loss/total", "data/segments_per_s")}
    assert dashboard_line(few) == "loss 1.235  98.77 segments/s"


def test_the_memory_of_a_gpu_counts_where_there_is_one() -> None:
    line = dashboard_line({"memory/peak_rss_gb": 1.25, "memory/peak_cuda_gb": 40.0})
    assert line == "40 GB"


@pytest.mark.parametrize(
    ("rate", "shown"), [(512.3456, "512.3 nights/s"), (0.12345, "0.1235 nights/s")]
)
def test_rows_of_any_kind_have_a_speed(rate: float, shown: str) -> None:
    assert dashboard_line({"data/nights_per_s": rate}) == shown
