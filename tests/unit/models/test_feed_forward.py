"""Does the feed-forward layer in blocks compute what the layer as a whole does?"""

import pytest
import torch

from sleepmami.models import cpu_kernels, feed_forward
from sleepmami.models.layers import SwiGLU
from sleepmami.models.moe import MixtureOfExperts

pytestmark = pytest.mark.skipif(not cpu_kernels.available(), reason="needs a C compiler")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ends", [[5, 5, 23], [0, 8, 23], [23, 23, 23]])
def test_blocks_equal_the_plain_twin(
    ends: list[int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups that are empty, shorter than a block and no multiple of it."""
    monkeypatch.setattr(feed_forward, "BLOCK_ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    inputs = [
        (0.5 * torch.randn(shape, generator=generator)).to(dtype)
        for shape in ((23, 16), (3, 48, 16), (3, 16, 24))
    ]
    tolerance = 1e-5 if dtype == torch.float32 else 0.03  # as in test_fused.py
    for base_AD in (None, inputs[0].flip(0)):
        found = feed_forward.feed_forward(*inputs, ends, base_AD)
        expected = feed_forward.plain_feed_forward(*inputs, ends, base_AD)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_modalities", [None, 3])
def test_swiglu_infers_what_it_trains_on(num_modalities: int | None) -> None:
    layer = SwiGLU(16, num_modalities=num_modalities)
    x_SXD, modality_S = torch.randn(2, 5, 7, 16), torch.tensor([2, 0])
    expected = layer(x_SXD, modality_S)
    with torch.no_grad():
        assert feed_forward.usable(x_SXD)
        torch.testing.assert_close(layer(x_SXD, modality_S), expected)


def test_experts_infer_what_they_train_on() -> None:
    experts = MixtureOfExperts(16, 4, 2)
    x_ND, counted_N = torch.randn(11, 16), torch.ones(11, dtype=torch.bool)
    expected, _ = experts(x_ND, counted_N)
    with torch.no_grad():
        torch.testing.assert_close(experts(x_ND, counted_N)[0], expected)
