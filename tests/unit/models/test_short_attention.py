"""The attention kernel against its plain twin: values, gradients, masks, positions, precision."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from sleepmami.models import cpu_kernels, short_attention
from sleepmami.models.attention import Attention, Rotary, attend, rotary, rotate

# bfloat16 keeps 8 bits: the twin rounds after every operator, the kernel once at the end
TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (0.03, 0.06)}


@pytest.fixture(autouse=True)
def one_thread_and_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    if not cpu_kernels.available():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def twin(
    query_NTD: Tensor, key_value_NTE: Tensor, angles: Rotary, mask_NT: Tensor | None, heads: int
) -> Tensor:
    query = query_NTD.unflatten(-1, (heads, -1))
    key, value = key_value_NTE.unflatten(-1, (2, heads, -1)).unbind(2)
    return attend(rotate(query, angles), rotate(key, angles), value, mask_NT).flatten(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("own_positions", [True, False])
# the paper's shapes, of lower and shared encoder, and none of whole vectors
@pytest.mark.parametrize(("tokens", "width"), [(60, 16), (144, 48), (7, 12), (17, 70)])
def test_values_and_gradients(
    dtype: torch.dtype, masked: bool, own_positions: bool, tokens: int, width: int
) -> None:
    torch.manual_seed(0)
    sequences, heads = 3, 2
    dim = heads * width
    query = torch.randn(sequences, tokens, dim).to(dtype)
    key_value = torch.randn(sequences, tokens, 2 * dim).to(dtype)
    position = torch.randint(0, 120, (sequences, tokens) if own_positions else (tokens,))
    angles = rotary(position, width)
    mask = torch.rand(sequences, tokens) < 0.6 if masked else None
    if mask is not None:
        mask[:, 1] = True
    assert short_attention.usable(query, key_value, angles.cos, heads)
    gradient = torch.randn(sequences, tokens, dim).to(dtype)
    results = []
    for kernel in (True, False):
        leaves = [x.clone().requires_grad_() for x in (query, key_value)]
        if kernel:
            out = short_attention.attend_turned(*leaves, *angles, mask, heads)
        else:
            out = twin(*leaves, angles, mask, heads)
        results.append([out, *torch.autograd.grad(out, leaves, gradient)])
    rtol, atol = TOLERANCE[dtype]
    for found, expected in zip(*results, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def test_large_scores_choose_one_key() -> None:
    query = torch.full((1, 3, 2), 1e4)
    key_value = torch.tensor([[[1.0, 0, 1, 10], [-1, 0, 2, 20], [0, 0, 3, 30]]])
    angles = rotary(torch.zeros(3, dtype=torch.int64), 2)
    out = short_attention.attend_turned(query, key_value, *angles, None, 1)
    assert out.tolist() == [[[1.0, 10.0]] * 3]


def test_a_hidden_key_has_no_effect_and_no_gradient() -> None:
    torch.manual_seed(0)
    query, key_value = torch.randn(1, 5, 16), torch.randn(1, 5, 32)
    angles, mask = rotary(torch.arange(5), 8), torch.tensor([[True, True, False, True, True]])
    before = short_attention.attend_turned(query, key_value, *angles, mask, 2)
    key_value[:, 2] = 1e4
    key_value.requires_grad_()
    after = short_attention.attend_turned(query, key_value, *angles, mask, 2)
    assert torch.equal(after, before)
    after.square().sum().backward()
    assert key_value.grad is not None
    assert not key_value.grad[:, 2].any()
    assert key_value.grad[:, 3].any()


def test_what_is_not_a_number_is_not_hidden() -> None:
    query, key_value = torch.randn(2, 3, 4), torch.randn(2, 3, 8)
    query[0, 1, 2] = torch.nan
    out = short_attention.attend_turned(query, key_value, *rotary(torch.arange(3), 4), None, 1)
    assert out[0, 1].isnan().all()
    assert out[0, [0, 2]].isfinite().all()
    assert out[1].isfinite().all()


def test_a_layer_computes_the_same_in_training_and_without_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer = Attention(32, 2, num_modalities=None)
    x, angles, one = torch.randn(2, 9, 32), rotary(torch.arange(9), 16), torch.tensor([0])
    trained = layer(x, x, one, angles)
    with torch.no_grad():
        assert torch.equal(layer.eval()(x, x, one, angles), trained)
    monkeypatch.setattr(short_attention, "usable", lambda *_: False)
    torch.testing.assert_close(layer(x, x, one, angles), trained)


def test_long_sequences_other_positions_and_double_precision_go_to_the_twin() -> None:
    query, key_value = torch.randn(2, 6, 8), torch.randn(2, 6, 16)
    cos = rotary(torch.arange(6), 4).cos
    assert short_attention.usable(query, key_value, cos, 2)
    assert not short_attention.usable(query.double(), key_value.double(), cos, 2)
    assert not short_attention.usable(query, key_value[:, :5], cos, 2)
    assert not short_attention.usable(query, key_value, cos[:5], 2)
    assert not short_attention.usable(query, key_value, cos.double(), 2)
    assert not short_attention.usable(query[:, :0], key_value[:, :0], cos[:0], 2)
    long = torch.randn(1, short_attention.MAX_TOKENS + 1, 8)
    cos = rotary(torch.arange(long.shape[1]), 4).cos
    assert not short_attention.usable(long, torch.cat([long, long], dim=-1), cos, 2)


def test_a_first_call_imports_no_compiler() -> None:
    """torch's own takes a second, in every process that embeds."""
    code = (
        "import sys, torch; from sleepmami.models import attention, short_attention;"
        "query, key_value = torch.ones(1, 6, 8, requires_grad=True), torch.ones(1, 6, 16);"
        "angles = attention.rotary(torch.arange(6), 4);"
        "short_attention.attend_turned(query, key_value, *angles, None, 2).sum().backward();"
        "print(query.grad.shape, 'torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "torch.Size([1, 6, 8]) False\n"
