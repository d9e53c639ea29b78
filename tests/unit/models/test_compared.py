"""What DGCL compares: states at the ends of cycles, or their means up to there."""

import pytest
import torch

from sleepmami.models.macro_encoder import MacroEncoder, MacroOutput, compared, cycle_ends
from tests.unit.models.test_macro_encoder import SMALL, nights


@pytest.fixture
def encoder() -> MacroEncoder:
    torch.manual_seed(0)
    return MacroEncoder(SMALL, micro_dim=8)


def counted(forward: list[float], backward: list[float]) -> MacroOutput:
    return MacroOutput(*(torch.tensor(states).view(1, -1, 1) for states in (forward, backward)))


def test_a_running_mean_is_of_the_valid_epochs_read_so_far_from_either_end() -> None:
    output = counted([1, 2, 4, 8, 16], [32, 64, 128, 256, 512])  # of epochs 0..4, and of 4..0
    valid = torch.ones(1, 5, 6, dtype=torch.bool)
    valid[0, 1] = False
    valid[0, 3, 1:] = False  # one modality makes an epoch valid
    index = torch.tensor([[1, 3, 4]])
    found = compared(output, valid, torch.tensor([5]), index, "running_mean")
    forward = [1, (1 + 4 + 8) / 3, (1 + 4 + 8 + 16) / 4]
    backward = [(32 + 64) / 2, (32 + 64 + 128) / 3, (32 + 64 + 128 + 512) / 4]
    assert torch.allclose(found[0], torch.tensor([forward, backward]).T)
    states = compared(output, valid, torch.tensor([5]), index, "state")
    assert states[0].tolist() == [[2, 64], [8, 256], [16, 512]]


def test_before_the_first_valid_epoch_a_running_mean_is_the_state_there() -> None:
    output = counted([1, 2, 4, 8], [16, 32, 64, 128])
    valid = torch.zeros(1, 4, 6, dtype=torch.bool)
    valid[0, 2] = True
    index = torch.tensor([[0, 1, 2, 3]])
    found = compared(output, valid, torch.tensor([4]), index, "running_mean")
    assert found[0].tolist() == [[1, 16], [2, 32], [4, 32], [4, 32]]


def test_running_means_of_a_capped_long_night_are_of_what_each_direction_reads() -> None:
    # max_epochs is 2 of a night of 5: forward reads epochs 0 and 1, backward 4 and 3.
    output = counted([1, 2], [16, 8])
    valid = torch.ones(1, 5, 6, dtype=torch.bool)
    valid[0, 3] = False
    found = compared(output, valid, torch.tensor([5]), torch.tensor([[1]]), "running_mean")
    assert found[0].tolist() == [[1.5, 16]]


def test_running_means_do_not_know_what_padding_holds(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(20, 12)
    output = encoder(micro, valid, length)
    index, _ = cycle_ends(length, 20, 6)
    before = compared(output, valid, length, index, "running_mean")
    for part in output:
        part[1, 12:] = torch.nan
    valid[1, 12:] = True
    after = compared(output, valid, length, index, "running_mean")
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, :2], before[1, :2])


def test_the_running_mean_up_to_the_last_epoch_is_the_night_vector(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(25, 19, 9)
    valid[0, 3:8] = False
    valid[2] = False
    output = encoder(micro, valid, length)
    found = compared(output, valid, length, length[:, None] - 1, "running_mean")
    _, night = encoder.embed(micro, valid, length)
    assert torch.allclose(found[:, 0], night, rtol=0, atol=1e-6)


def test_a_running_mean_of_bfloat16_states_is_summed_in_float32() -> None:
    states = torch.ones(1, 1080, 1, dtype=torch.bfloat16)  # in bfloat16 the sum would stay at 256
    valid = torch.ones(1, 1080, 6, dtype=torch.bool)
    index = torch.tensor([[1079]])
    found = compared(
        MacroOutput(states, states), valid, torch.tensor([1080]), index, "running_mean"
    )
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == [1, 1]
