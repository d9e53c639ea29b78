"""The grouped mixture of experts against a loop over experts, its counts and its balance."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sleepmami.models.attention import rotary
from sleepmami.models.moe import BALANCE_RATE, ExpertLoad, MixtureOfExperts, MoEBlock

DIM = 32


def make_experts(num_experts: int = 4, num_active: int = 2) -> MixtureOfExperts:
    torch.manual_seed(0)
    experts = MixtureOfExperts(DIM, num_experts, num_active)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return experts


def everyone(x_ND: Tensor) -> Tensor:
    return torch.ones(len(x_ND), dtype=torch.bool)


def expert_loop(experts: MixtureOfExperts, x_ND: Tensor) -> Tensor:
    """Each token through its two best experts, gates renormalised over the two."""
    rows = []
    for x_D in x_ND:
        probability_E = (experts.router @ x_D).softmax(0)
        top = probability_E.topk(experts.num_active)
        row = torch.zeros(DIM)
        for gate, expert in zip(top.values / top.values.sum(), top.indices, strict=True):
            gate_F, up_F = (experts.gate_up[expert] @ x_D).chunk(2)
            row = row + gate * (experts.down[expert] @ (functional.silu(gate_F) * up_F))
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("num_active", [1, 2, 4])
def test_grouped_experts_equal_a_loop_over_tokens(num_active: int) -> None:
    experts = make_experts(num_active=num_active)
    x_ND = torch.randn(50, DIM)
    torch.testing.assert_close(experts(x_ND, everyone(x_ND))[0], expert_loop(experts, x_ND))


def test_gradients_equal_those_of_the_loop() -> None:
    experts = make_experts()
    twin = copy.deepcopy(experts)
    x_ND = torch.randn(50, DIM)
    target_ND = torch.randn(50, DIM)
    (experts(x_ND, everyone(x_ND))[0] * target_ND).sum().backward()
    (expert_loop(twin, x_ND) * target_ND).sum().backward()
    for ours, theirs in zip(experts.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_a_token_does_not_depend_on_the_others() -> None:
    experts = make_experts()
    x_ND = torch.randn(200, DIM)
    alone = experts(x_ND[:3], everyone(x_ND[:3]))[0]
    torch.testing.assert_close(experts(x_ND, everyone(x_ND))[0][:3], alone)


def test_counts_are_two_per_counted_token() -> None:
    experts = make_experts()
    x_ND = torch.randn(30, DIM)
    counted_N = torch.arange(30) < 11
    counts_E = experts(x_ND, counted_N)[1].count_E
    chosen_Nk, *_ = experts.route(x_ND)
    assert counts_E.sum() == 2 * 11
    assert counts_E.tolist() == [int((chosen_Nk[:11] == e).sum()) for e in range(4)]


def test_bias_moves_the_choice_but_not_the_gates() -> None:
    experts = make_experts()
    x_ND = torch.randn(20, DIM)
    experts.balance_bias += torch.tensor([0.0, 100.0, 0.0, 100.0])
    chosen_Nk, gate_Nk, _ = experts.route(x_ND)
    assert set(chosen_Nk.flatten().tolist()) == {1, 3}
    expected_Nk = (x_ND @ experts.router.T).gather(1, chosen_Nk).softmax(1)
    torch.testing.assert_close(gate_Nk, expected_Nk)


def test_an_expert_without_tokens_gets_a_zero_gradient() -> None:
    experts = make_experts()
    experts.balance_bias[2] = -100.0
    x_ND = torch.randn(20, DIM)
    mixed_ND, load = experts(x_ND, everyone(x_ND))
    mixed_ND.square().sum().backward()
    assert load.count_E[2] == 0
    for weight in (experts.gate_up, experts.down):
        assert weight.grad is not None
        assert not weight.grad[2].any()
        assert weight.grad[0].any()


def test_balance_moves_towards_the_starved_by_one_rate() -> None:
    experts = make_experts()
    experts.balance(torch.tensor([8, 0, 4, 4]))
    expected = [-BALANCE_RATE, BALANCE_RATE, 0, 0]
    assert experts.balance_bias.tolist() == pytest.approx(expected)


def test_balancing_evens_out_a_lopsided_router() -> None:
    experts = make_experts()
    x_ND = torch.randn(400, DIM)
    experts.balance_bias += torch.tensor([0.5, 0.0, 0.0, -0.5])
    before = experts(x_ND, everyone(x_ND))[1].count_E
    for _ in range(600):
        chosen_Nk, *_ = experts.route(x_ND)
        experts.balance(torch.bincount(chosen_Nk.flatten(), minlength=4))
    after = experts(x_ND, everyone(x_ND))[1].count_E
    assert before.max() - before.min() > 50
    assert after.max() - after.min() <= 8  # of 200 each


def test_an_even_load_costs_one_and_a_collapsed_one_as_much_as_there_are_experts() -> None:
    even = ExpertLoad(torch.tensor([[5, 5, 5, 5]]), torch.full((1, 4), 0.25))
    collapsed = ExpertLoad(torch.tensor([[20, 0, 0, 0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert even.balancing_loss().item() == pytest.approx(1.0)
    assert collapsed.balancing_loss().item() == pytest.approx(4.0)


def test_the_probability_is_the_mean_softmax_of_the_counted_tokens() -> None:
    experts = make_experts()
    x_ND = torch.randn(30, DIM)
    counted_N = torch.arange(30) < 11
    probability_E = experts(x_ND, counted_N)[1].probability_E
    expected_E = (x_ND[:11] @ experts.router.T).softmax(-1).mean(0)
    torch.testing.assert_close(probability_E, expected_E)


def test_descending_the_balancing_loss_evens_out_a_lopsided_router() -> None:
    experts = make_experts()
    x_ND = torch.randn(400, DIM) + 0.3  # a mean that the router turns into a preference
    optimizer = torch.optim.SGD([experts.router], lr=0.3)
    first = experts(x_ND, everyone(x_ND))[1]
    for _ in range(60):
        optimizer.zero_grad()
        experts(x_ND, everyone(x_ND))[1].balancing_loss().backward()
        optimizer.step()
    last = experts(x_ND, everyone(x_ND))[1]
    assert last.balancing_loss() - 1 < (first.balancing_loss() - 1) / 4
    assert last.count_E.max() - last.count_E.min() < first.count_E.max() - first.count_E.min()


def test_forward_leaves_the_module_as_it_was() -> None:
    experts = make_experts()
    before = copy.deepcopy(experts.state_dict())
    x_ND = torch.randn(20, DIM)
    experts(x_ND, everyone(x_ND))
    assert all(torch.equal(value, before[name]) for name, value in experts.state_dict().items())


def test_bfloat16_autocast_routes_in_float32_and_stays_close() -> None:
    experts = make_experts()
    x_ND = torch.randn(64, DIM)
    exact_ND, exact_load = experts(x_ND, everyone(x_ND))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_ND, load = experts(x_ND, everyone(x_ND))
    assert load.count_E.tolist() == exact_load.count_E.tolist()
    assert (half_ND - exact_ND).norm() / exact_ND.norm() < 0.01


def test_block_adds_attention_and_experts_to_its_input() -> None:
    torch.manual_seed(0)
    block = MoEBlock(DIM, 4, 4, 2)
    block.attention.out.weight.data.zero_()
    x_BTD = torch.randn(2, 6, DIM)
    counted_BT = torch.ones(2, 6, dtype=torch.bool)
    angles = rotary(torch.arange(6), DIM // 4)
    out_BTD, load = block(x_BTD, torch.tensor([0]), angles, counted_BT, None)
    normed_ND = functional.rms_norm(x_BTD, (DIM,), eps=1e-6).flatten(0, 1)
    expected = x_BTD + expert_loop(block.experts, normed_ND).view_as(x_BTD)
    torch.testing.assert_close(out_BTD, expected)
    assert load.count_E.sum() == 24
